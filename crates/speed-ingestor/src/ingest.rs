//! The daemon's own work: the parts, put together.

use std::{net::SocketAddr, sync::Arc};

use api::{Code, ServiceError};
use audit::Audit;
use daemon::{
    Clock, ConfigError, Context, Shutdown, announce::Announcement, grpc::channel, metrics::Metrics,
};
use tokio::net::TcpListener;
use tonic::service::Routes;

use crate::{
    accepted::Accepted,
    auth::SharedSecret,
    backup::Backups,
    batch::BatchLayer,
    body::Bodies,
    config::SpeedConfig,
    connections,
    gate::Gate,
    hapi::Hapi,
    measures::Measures,
    needed::Needed,
    put::Taking,
    rounds::{Rounds, TailState},
    routes,
    service::Speed,
    store::SpeedStore,
    subscriptions::Subscriptions,
    upkeep::{self, RedisUpkeep},
    webhook::Webhook,
};

const SERVICE: &str = "researchflow.speed.v1.SpeedService";

/// Starts everything: webhook, tail, upkeep, Subscription, gRPC. Nothing needs to be reachable yet but the sockets to bind.
pub async fn run(context: Context<SpeedConfig>) -> Result<(), ServiceError> {
    let Context {
        config,
        shutdown,
        metrics,
        readiness,
        clock,
        mut grpc,
        announcement,
    } = context;
    let audit = audit_of(&config, &metrics, clock.clone(), &shutdown).await?;
    let measures = Measures::register(&metrics);
    let (needed, tail, accepted) = (Needed::default(), TailState::default(), Accepted::default());
    let gate = Gate::closed("redis was not reached yet");
    let store = SpeedStore::open(config.store_settings())?;
    let batch = batch_of(&config)?;
    let (listener, bound) = bind(&config, &announcement).await?;
    let secret = secret_of(&config, &shutdown)?;
    let hapi = hapi_of(&config)?;
    let subscriptions = hapi.clone().map(|hapi| {
        let wanted = config.hapi.wanted_subscription(bound, secret.clone());
        Subscriptions::new(hapi, wanted, needed.clone(), measures.clone())
    });
    if let Some(subscriptions) = subscriptions.clone() {
        shutdown.spawn(subscriptions.run(config.hapi.check_interval(), shutdown.clone()));
    }
    let upkeep = RedisUpkeep {
        store: store.clone(),
        needed: needed.clone(),
        gate: gate.clone(),
        ready: readiness.latch("redis"),
        allow_volatile: config.allow_volatile(),
        accepted: accepted.clone(),
        silent_after: subscriptions.is_some().then(|| config.hapi.silent_after()),
        measures: measures.clone(),
        clock: clock.clone(),
    };
    shutdown.spawn(upkeep.run(shutdown.clone()));
    shutdown.spawn(upkeep::watch_views(
        batch.clone(),
        store.clone(),
        needed.clone(),
        tail.clone(),
        shutdown.clone(),
    ));
    let rounds = Rounds {
        reader: batch,
        store: store.clone(),
        needed: needed.clone(),
        state: tail.clone(),
        accepted: accepted.clone(),
        measures: measures.clone(),
        clock: clock.clone(),
        settings: config.round_settings(),
    };
    let backups = config
        .backup_settings()
        .map(|settings| Backups::start(settings, &rounds, &shutdown));
    shutdown.spawn(rounds.run(shutdown.clone()));

    let taking = Taking {
        gate,
        limits: config.webhook.limits(),
        measures: measures.clone(),
    };
    let webhook = Webhook {
        store: store.clone(),
        tail: tail.clone(),
        needed: needed.clone(),
        gate: taking.gate.clone(),
        secret,
        bodies: Bodies::new(taking.limits),
        hapi,
        accepted: accepted.clone(),
        measures: measures.clone(),
        clock: clock.clone(),
    };
    let router = move || {
        let store = webhook.store.on_this_runtime()?;
        Ok(routes::router(Webhook { store, ..webhook }))
    };
    let limits = config.webhook.connection_limits();
    let serving = connections::serve_apart(listener, router, limits, measures, shutdown.clone());
    shutdown.spawn_essential("webhook", serving);

    let speed = Speed {
        store,
        tail,
        needed,
        accepted,
        silent_after: config.hapi.silent_after(),
        taking,
        subscriptions,
        backups,
        shutdown: shutdown.clone(),
        clock,
    };
    let service = audit.around_grpc(&mut grpc, Routes::new(speed.server()));
    shutdown.spawn_essential("grpc", grpc.serve(SERVICE, service, shutdown.clone()));
    Ok(())
}

/// The batch layer, which need not be there yet.
fn batch_of(config: &SpeedConfig) -> Result<BatchLayer, ServiceError> {
    let unusable = |error: ConfigError| ServiceError::new(Code::Invalid, error.to_string());
    Ok(BatchLayer::new(
        channel("batch.url", config.batch_url()).map_err(unusable)?,
    ))
}

/// What is recorded of operations; a daemon that cannot record what it is to record does not start.
async fn audit_of(
    config: &SpeedConfig,
    metrics: &Metrics,
    clock: Arc<dyn Clock>,
    shutdown: &Shutdown,
) -> Result<Audit, ServiceError> {
    let about = audit::About {
        daemon: "speed-ingestor",
        version: env!("CARGO_PKG_VERSION"),
    };
    let audit = Audit::start(&config.audit, about, metrics, clock, shutdown).await;
    audit.map_err(|error| ServiceError::new(Code::Precondition, error.to_string()))
}

/// HAPI's REST, where it is known.
fn hapi_of(config: &SpeedConfig) -> Result<Option<Hapi>, ServiceError> {
    let rest = config.hapi.rest();
    rest.map(|(base, authorization)| Hapi::new(base, authorization))
        .transpose()
}

/// Binds the webhook's socket, and tells where.
async fn bind(
    config: &SpeedConfig,
    announcement: &Announcement,
) -> Result<(TcpListener, SocketAddr), ServiceError> {
    let listen = config.webhook.listen_address();
    let cannot_bind = |error| {
        ServiceError::new(
            Code::Unavailable,
            format!("webhook.listen {listen} cannot be bound: {error}"),
        )
    };
    let listener = TcpListener::bind(listen).await.map_err(cannot_bind)?;
    let bound = listener.local_addr().map_err(cannot_bind)?;
    announcement.bound("http", bound);
    announcement
        .publish()
        .map_err(|error| ServiceError::internal(&error))?;
    Ok((listener, bound))
}

/// The secrets; those of a file are kept as it says.
fn secret_of(config: &SpeedConfig, shutdown: &Shutdown) -> Result<SharedSecret, ServiceError> {
    let secret = config
        .webhook
        .shared_secret()
        .map_err(|error| ServiceError::new(Code::Invalid, format!("webhook.secret_file: {error}")))?;
    if let Some(file) = config.webhook.secret_file() {
        shutdown.spawn(secret.clone().follow(file.to_owned(), shutdown.clone()));
    }
    Ok(secret)
}
