//! The one entry of all daemons: options, configuration, telemetry, sockets, the daemon's own work, the drain.

use std::{future::Future, net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use clap::{Arg, ArgAction, Command, value_parser};
use tokio::net::TcpListener;

use crate::{
    Clock, ConfigError, DaemonConfig, Shutdown, SystemClock,
    admin::{self, Readiness},
    announce::Announcement,
    config,
    connections::{self, ConnectionLimits},
    grpc::GrpcServer,
    metrics::Metrics,
    telemetry::{self, LogFormat, SpanCounts, Spans},
    tls::{Protocol, Tls},
};

/// Connections to the admin port: of a few who look every few seconds.
const ADMIN_CONNECTIONS: usize = 256;
/// How long the head of a request to it may take, and how long such a connection may be idle.
const ADMIN_HEAD_TIME: Duration = Duration::from_mins(1);
/// Exit code of a configuration that cannot be used.
const BAD_CONFIGURATION: u8 = 2;

/// What a daemon is.
#[derive(Debug, Clone, Copy)]
pub struct About {
    /// Name of the binary.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// What it does, in a sentence or two.
    pub about: &'static str,
    /// Prefix of its variables: `PREFIX__SECTION__KEY`.
    pub env_prefix: &'static str,
    /// The commented default configuration, in TOML: `include_str!` of the sample under `deploy/config`.
    pub defaults: &'static str,
}

/// What a daemon's work is given.
pub struct Context<C> {
    /// Its configuration.
    pub config: C,
    /// The stop signal, and where to start tasks.
    pub shutdown: Shutdown,
    /// The registry of metrics.
    pub metrics: Metrics,
    /// What readiness waits for.
    pub readiness: Readiness,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The gRPC socket, bound, with what serving needs: `context.grpc.serve(NAME, routes, shutdown)`.
    pub grpc: GrpcServer,
    /// How further listeners, and calls to others, are secured.
    pub tls: Tls,
    /// Where further sockets are noted; call [`Announcement::publish`] once all are bound.
    pub announcement: Announcement,
}

/// Runs a daemon: `run` returns once the daemon's tasks are started (by [`Shutdown::spawn_essential`]) or with the reason why they cannot be;
/// or it does its work itself and returns at the stop.
pub fn main<C, E, F>(about: About, run: impl FnOnce(Context<C>) -> F) -> ExitCode
where
    C: DaemonConfig,
    E: std::fmt::Display,
    F: Future<Output = Result<(), E>>,
{
    // The one implementation of cryptography; whoever else installs it finds it there.
    let _first = rustls::crypto::ring::default_provider().install_default();
    let options = command(about, C::plain_variables()).get_matches();
    let file = options.get_one::<PathBuf>("config").map(PathBuf::as_path);
    let loaded = config::load::<C>(about.defaults, file, about.env_prefix);
    let config = match loaded {
        Ok(config) => config,
        Err(error) => return bad_configuration(about.name, &error),
    };
    if options.get_flag("check-config") {
        complain(&format!("{}: the configuration is good", about.name));
        return ExitCode::SUCCESS;
    }
    let common = config.common().clone();
    let format = options
        .get_one::<LogFormat>("log-format")
        .copied()
        .unwrap_or(common.log_format);
    let counts = SpanCounts::default();
    let installed = telemetry::filter(&common.log)
        .and_then(|filter| telemetry::install(about, filter, format, &common.tracing, &counts));
    let spans = match installed {
        Ok(spans) => spans,
        Err(reason) => return bad_configuration(about.name, &ConfigError::Unusable(reason)),
    };
    telemetry::log_panics();
    let announce = options.get_one::<PathBuf>("announce").map(PathBuf::as_path);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "the runtime cannot be started");
            return ExitCode::FAILURE;
        }
    };
    let clean = runtime.block_on(live(
        about,
        config,
        Announcement::new(announce),
        (spans, counts),
        run,
    ));
    runtime.shutdown_timeout(Duration::from_millis(200));
    if clean {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// From the first socket to the last task. True if all went well.
async fn live<C, E, F>(
    about: About,
    config: C,
    announcement: Announcement,
    (spans, counts): (Option<Spans>, SpanCounts),
    run: impl FnOnce(Context<C>) -> F,
) -> bool
where
    C: DaemonConfig,
    E: std::fmt::Display,
    F: Future<Output = Result<(), E>>,
{
    let common = config.common().clone();
    let (shutdown, metrics, readiness) = (
        Shutdown::new().with_grace(common.shutdown_grace_seconds),
        Metrics::new(),
        Readiness::default(),
    );
    if let Err(error) = shutdown.listen_to_signals() {
        tracing::error!(%error, "signals cannot be listened to");
        return false;
    }
    counts.register(&metrics);
    let exporting = match spans.map(Spans::export).transpose() {
        Ok(exporting) => exporting,
        Err(error) => {
            tracing::error!(%error, "cannot go on");
            return false;
        }
    };
    let bind = async |key: &'static str, what: &'static str, address: SocketAddr| {
        let listener = TcpListener::bind(address)
            .await
            .inspect_err(|error| tracing::error!(key, %address, %error, "cannot bind"))
            .ok()?;
        announcement.bound(what, listener.local_addr().ok()?);
        Some(listener)
    };
    let Some(admin) = bind("daemon.admin_listen", "admin", common.admin_listen).await else {
        return false;
    };
    let Some(grpc) = bind("daemon.grpc_listen", "grpc", common.grpc_listen).await else {
        return false;
    };
    tracing::info!(daemon = about.name, version = about.version, "starting");
    let tls = Tls::new(common.tls_reload_seconds, &metrics, &shutdown);
    let secured = |name, section, settings, protocol| {
        tls.listener(name, section, settings, protocol)
            .inspect_err(|error| tracing::error!(%error, "cannot be secured"))
            .ok()
    };
    let Some(admin_tls) = secured("admin", "daemon.admin_tls", &common.admin_tls, Protocol::Http1) else {
        return false;
    };
    let Some(grpc_tls) = secured("grpc", "daemon.grpc_tls", &common.grpc_tls, Protocol::Http2) else {
        return false;
    };
    let routes = admin::router(metrics.clone(), readiness.clone(), shutdown.clone());
    let limits = ConnectionLimits {
        most: ADMIN_CONNECTIONS,
        head_time: ADMIN_HEAD_TIME,
        allowed: Vec::new(),
    };
    shutdown.spawn_essential(
        "admin",
        connections::serve(admin, admin_tls, routes, limits, |_| {}, shutdown.clone()),
    );
    let grpc = GrpcServer {
        listener: grpc,
        tls: grpc_tls,
        reflection: common.reflection,
        readiness: readiness.clone(),
        manners: common.grpc.clone(),
        around: Vec::new(),
    };
    let context = Context {
        config,
        shutdown: shutdown.clone(),
        metrics,
        readiness,
        clock: Arc::new(SystemClock),
        grpc,
        tls,
        announcement,
    };
    let result = shutdown.unless_stopped(run(context)).await;
    let started = match result {
        None | Some(Ok(())) => true,
        Some(Err(error)) => {
            tracing::error!(%error, "cannot go on");
            shutdown.stop();
            false
        }
    };
    shutdown.stopping().await;
    let stopping = tokio::time::Instant::now();
    let clean = shutdown.drain(common.shutdown_grace_seconds).await;
    if let Some(exporting) = exporting {
        let left = common.shutdown_grace_seconds.saturating_sub(stopping.elapsed());
        exporting.finish(left).await;
    }
    tracing::info!(daemon = about.name, "stopped");
    started && clean
}

fn command(about: About, plain_variables: &[(&str, &str)]) -> Command {
    let plain = plain_variables
        .iter()
        .fold(String::new(), |said, (variable, key)| {
            format!("{said} {variable} sets {key}.")
        });
    Command::new(about.name)
        .version(about.version)
        .about(about.about)
        .after_help(format!(
            "Every key of the configuration can also be set by a variable: {}__SECTION__KEY.{plain} \
             The defaults, with what each key means, are in deploy/config/{}.toml.",
            about.env_prefix, about.name
        ))
        .arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE")
                .help("Configuration in TOML, laid over the defaults")
                .value_parser(value_parser!(PathBuf)),
        )
        .arg(
            Arg::new("check-config")
                .long("check-config")
                .action(ArgAction::SetTrue)
                .help("Check the configuration and exit: 0 if it is good, 2 if not"),
        )
        .arg(
            Arg::new("log-format")
                .long("log-format")
                .value_name("FORMAT")
                .help("Form of log lines, in place of the configured one")
                .value_parser(value_parser!(LogFormat)),
        )
        .arg(
            Arg::new("announce")
                .long("announce")
                .value_name("FILE")
                .help("Write the addresses that were bound into this file, as JSON")
                .value_parser(value_parser!(PathBuf)),
        )
}

fn bad_configuration(name: &str, error: &ConfigError) -> ExitCode {
    complain(&format!("{name}: {error}"));
    ExitCode::from(BAD_CONFIGURATION)
}

/// Says something to the operator before logging is set up.
fn complain(text: &str) {
    use std::io::Write;
    let _unwritable = writeln!(std::io::stderr(), "{text}");
}
