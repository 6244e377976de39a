//! Configuration: the commented default file that is part of the binary, then a file, then variables of the environment; unknown keys are errors.

mod strangers;

use std::{net::SocketAddr, path::Path, time::Duration};

use chrono::TimeDelta;
use config::{Config, Environment, File, FileFormat};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use tonic::transport::Endpoint;

use crate::{
    grpc::GrpcManners,
    telemetry::{self, LogFormat, TracingConfig},
    tls::{ListenerTls, RELOAD_SECONDS},
};

/// A daemon's own configuration: a struct with `deny_unknown_fields` and a section `daemon`.
pub trait DaemonConfig: DeserializeOwned + std::fmt::Debug + Send + 'static {
    /// The section that all daemons have.
    fn common(&self) -> &CommonConfig;
    /// What cannot be said by types alone: all that is wrong, each with the key and what to do.
    fn validate(&self) -> Result<(), Vec<String>> {
        Ok(())
    }
    /// Whether whoever calls by gRPC must show who it is, other than by a certificate.
    fn authenticates(&self) -> bool {
        false
    }
    /// Variables without the prefix that stand for a key, such as `USE_SPEED_LAYER` for `use_speed_layer`.
    fn plain_variables() -> &'static [(&'static str, &'static str)] {
        &[]
    }
}

/// The section `[daemon]`: what all daemons are told.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommonConfig {
    /// Where gRPC is served.
    pub grpc_listen: SocketAddr,
    /// Where liveness, readiness and metrics are served.
    pub admin_listen: SocketAddr,
    /// What is logged: directives such as `info` or `warn,serving_gateway=debug`.
    pub log: String,
    /// Text or JSON.
    pub log_format: LogFormat,
    /// Whether gRPC reflection is served.
    pub reflection: bool,
    /// How long a stop may take before what is still open is cut.
    #[serde(with = "seconds")]
    pub shutdown_grace_seconds: Duration,
    /// How often files of TLS are looked at.
    #[serde(with = "seconds", default = "tls_reload_seconds")]
    pub tls_reload_seconds: Duration,
    /// `[daemon.grpc]`
    pub grpc: GrpcManners,
    /// `[daemon.tracing]`
    #[serde(default)]
    pub tracing: TracingConfig,
    /// `[daemon.grpc_tls]`
    #[serde(default)]
    pub grpc_tls: ListenerTls,
    /// `[daemon.admin_tls]`
    #[serde(default)]
    pub admin_tls: ListenerTls,
}

fn tls_reload_seconds() -> Duration {
    Duration::from_secs(RELOAD_SECONDS)
}

impl CommonConfig {
    /// What cannot be said by types alone. Who reads metrics and probes has no way to prove who it is, and gets no patient's data: the admin port may be open.
    /// `authenticated`: whoever calls must show who it is, other than by a certificate.
    fn check(&self, authenticated: bool, demands: &mut Demands) {
        self.grpc.check(demands);
        self.tracing.check(demands);
        demands.demand(
            (Duration::from_millis(10)..=Duration::from_hours(24)).contains(&self.tls_reload_seconds),
            "daemon.tls_reload_seconds: must be 0.01 to 86400",
        );
        self.grpc_tls.check("daemon.grpc_tls", demands);
        self.admin_tls.check("daemon.admin_tls", demands);
        demands.closed(
            ("daemon.grpc_listen", "daemon.grpc"),
            self.grpc_listen,
            authenticated || self.grpc_tls.requires_certificates(),
            self.grpc.allow_unauthenticated,
            "set [auth], or daemon.grpc_tls with client_certificates = \"required\"",
        );
    }
}

/// A list, or one text with blanks between its words, as a variable of the environment has it.
pub fn words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Words {
        Text(String),
        List(Vec<String>),
    }
    Ok(match Words::deserialize(deserializer)? {
        Words::List(list) => list,
        Words::Text(text) => text.split_whitespace().map(str::to_owned).collect(),
    })
}

impl From<ConfigError> for api::ServiceError {
    fn from(error: ConfigError) -> Self {
        Self::new(api::Code::Invalid, error.to_string())
    }
}

/// Collects all that is wrong with a configuration.
#[derive(Debug, Default)]
pub struct Demands(Vec<String>);

impl Demands {
    /// Notes `message` unless `holds`.
    pub fn demand(&mut self, holds: bool, message: impl Into<String>) {
        if !holds {
            self.0.push(message.into());
        }
    }

    /// What [`DaemonConfig::validate`] answers.
    pub fn result(self) -> Result<(), Vec<String>> {
        if self.0.is_empty() { Ok(()) } else { Err(self.0) }
    }
}

/// A span as the stores reckon with it; one that is longer than they know is the longest.
pub fn span(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX)
}

/// Whether a text is a URL of HTTP that a client can try to connect to.
pub fn is_http_url(url: &str) -> bool {
    (url.starts_with("http://") || url.starts_with("https://"))
        && Endpoint::from_shared(url.to_owned()).is_ok()
}

/// Spans in whole or broken seconds.
pub mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, de::Error};

    /// Reads a number of seconds.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        Duration::try_from_secs_f64(seconds)
            .map_err(|_| D::Error::custom("must be a number of seconds that is not negative"))
    }
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read, a key is unknown or a value is not of its type.
    #[error("the configuration cannot be used: {0}")]
    Unusable(String),
    /// Rules that are broken.
    #[error("the configuration cannot be used:\n{}", .0.join("\n"))]
    Invalid(Vec<String>),
}

/// Loads: `defaults` (TOML), then `file`, then `PREFIX__SECTION__KEY` of the environment, then plain variables.
pub fn load<C: DaemonConfig>(
    defaults: &str,
    file: Option<&Path>,
    env_prefix: &str,
) -> Result<C, ConfigError> {
    load_from(defaults, file, environment(env_prefix))
}

/// `PREFIX__SECTION__KEY`. Values stay text until the type of their key is known: a secret of digits is no number.
fn environment(prefix: &str) -> Environment {
    Environment::with_prefix(prefix)
        .prefix_separator("__")
        .separator("__")
}

fn load_from<C: DaemonConfig>(
    defaults: &str,
    file: Option<&Path>,
    environment: Environment,
) -> Result<C, ConfigError> {
    let unusable = |error: config::ConfigError| ConfigError::Unusable(without_source(&error));
    let mut builder = Config::builder().add_source(File::from_str(defaults, FileFormat::Toml));
    if let Some(file) = file {
        builder = builder.add_source(File::from(file).format(FileFormat::Toml));
    }
    builder = builder.add_source(environment);
    for (variable, key) in C::plain_variables() {
        if let Ok(value) = std::env::var(variable) {
            builder = builder.set_override(*key, value).map_err(unusable)?;
        }
    }
    let config: C = builder
        .build()
        .map_err(unusable)?
        .try_deserialize()
        .map_err(unusable)?;
    let mut wrong: Vec<String> = telemetry::filter(&config.common().log)
        .err()
        .into_iter()
        .collect();
    let mut demands = Demands::default();
    config.common().check(config.authenticates(), &mut demands);
    for more in [demands.result(), config.validate()]
        .into_iter()
        .filter_map(Result::err)
    {
        wrong.extend(more);
    }
    if wrong.is_empty() {
        Ok(config)
    } else {
        Err(ConfigError::Invalid(wrong))
    }
}

/// A message without the line of the file that an error of syntax quotes: it may hold a password.
fn without_source(error: &config::ConfigError) -> String {
    let config::ConfigError::FileParse { uri, cause } = error else {
        return error.to_string();
    };
    let cause = cause.to_string();
    // The parser's message: place, the line itself, marks under it, what was expected.
    let place = cause
        .lines()
        .next()
        .filter(|line| line.starts_with("TOML parse error at line"))
        .unwrap_or("it is not TOML");
    format!("{}: {place}", uri.as_deref().unwrap_or("the file"))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::Secret;

    const DEFAULTS: &str = r#"
        secret = ""
        share = 1.5
        [daemon]
        grpc_listen = "127.0.0.1:0"
        admin_listen = "127.0.0.1:0"
        log = "info"
        log_format = "text"
        reflection = true
        shutdown_grace_seconds = 4
        [daemon.grpc]
        keepalive_seconds = 30
        keepalive_timeout_seconds = 20
        max_connection_age_seconds = 1800
        connection_grace_seconds = 0
        max_connections = 1024
        max_calls_per_connection = 256
        request_seconds = 10
    "#;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        daemon: CommonConfig,
        secret: Secret,
        share: f64,
    }

    impl DaemonConfig for Sample {
        fn common(&self) -> &CommonConfig {
            &self.daemon
        }

        fn validate(&self) -> Result<(), Vec<String>> {
            if self.share > 0.0 {
                Ok(())
            } else {
                Err(vec!["share: must be above 0".into()])
            }
        }
    }

    fn with(variables: &[(&str, &str)]) -> Result<Sample, ConfigError> {
        let variables: HashMap<String, String> = variables
            .iter()
            .map(|(name, value)| (format!("RF_SAMPLE__{name}"), (*value).to_owned()))
            .collect();
        load_from(DEFAULTS, None, environment("RF_SAMPLE").source(Some(variables)))
    }

    #[test]
    fn a_variable_is_read_as_the_type_of_its_key_and_text_stays_as_it_is() {
        let config = with(&[
            ("SECRET", "007"),
            ("SHARE", "2"),
            ("DAEMON__REFLECTION", "false"),
            ("DAEMON__SHUTDOWN_GRACE_SECONDS", "0.5"),
        ])
        .expect("good values");
        assert_eq!(config.secret.expose(), "007");
        assert!((config.share - 2.0).abs() < f64::EPSILON);
        assert!(!config.daemon.reflection);
        assert_eq!(config.daemon.shutdown_grace_seconds, Duration::from_millis(500));
        assert_eq!(
            with(&[("SECRET", "true")]).expect("a text").secret.expose(),
            "true"
        );
    }

    #[test]
    fn a_url_of_http_has_its_scheme_and_a_host() {
        assert!(is_http_url("http://127.0.0.1:7401") && is_http_url("https://batch.internal/base"));
        for bad in ["", "127.0.0.1:7401", "redis://127.0.0.1", "http://", "http://a b"] {
            assert!(!is_http_url(bad), "{bad}");
        }
    }

    #[test]
    fn directives_of_the_log_that_cannot_be_read_are_said_with_all_else_that_is_wrong() {
        let error = with(&[
            ("DAEMON__LOG", "info,serving_gateway=loud"),
            ("DAEMON__GRPC__MAX_CONNECTIONS", "0"),
            ("SHARE", "0"),
        ])
        .expect_err("none is good")
        .to_string();
        for key in ["daemon.log", "daemon.grpc.max_connections", "share"] {
            assert!(error.contains(key), "{error}");
        }
    }

    #[test]
    fn an_error_of_syntax_is_told_by_its_place_alone() {
        let file = std::env::temp_dir().join(format!("daemon-syntax-{}.toml", std::process::id()));
        std::fs::write(&file, "share = 2.0\nsecret = \"planted\n").unwrap();
        let error = load_from::<Sample>(DEFAULTS, Some(&file), environment("RF_SYNTAX_TEST")).unwrap_err();
        std::fs::remove_file(&file).unwrap();
        let said = error.to_string();
        assert!(
            said.contains("daemon-syntax") && said.contains("line 2"),
            "{said}"
        );
        assert!(!said.contains("planted"), "{said}");
    }
}
