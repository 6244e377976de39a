//! The daemon's own work: the parts, put together.

use std::{net::SocketAddr, sync::Arc};

use api::{Code, ServiceError};
use audit::Audit;
use daemon::{
    Clock, Context, Shutdown,
    announce::Announcement,
    metrics::Metrics,
    tls::{Protocol, Tls},
};
use identity::Guard;
use tokio::net::TcpListener;
use tonic::service::Routes;

use crate::{
    accepted::Accepted,
    auth::SharedSecret,
    backup::Backups,
    batch::BatchLayer,
    body::Bodies,
    config::SpeedConfig,
    connections::{self, Listening},
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
        tls,
        announcement,
    } = context;
    let audit = audit_of(&config, &metrics, clock.clone(), &shutdown).await?;
    let measures = Measures::register(&metrics);
    let (needed, tail, accepted) = (Needed::default(), TailState::default(), Accepted::default());
    let gate = Gate::closed("redis was not reached yet");
    let store = SpeedStore::open(config.store_settings())?;
    let guard = Guard::start(&config.auth, clock.clone(), &metrics, &shutdown)?;
    let batch = BatchLayer::over(config.batch_line(&tls, &shutdown)?);
    let (listening, bound) = bind(&config, &tls, &announcement).await?;
    let secret = secret_of(&config, &shutdown)?;
    let hapi = hapi_of(&config, &tls)?;
    let subscriptions = hapi.clone().map(|hapi| {
        let wanted = config.wanted_subscription(bound, secret.clone());
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
    shutdown.spawn_essential("redis", upkeep.run(shutdown.clone()));
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
    let serving = connections::serve_apart(listening, router, measures, shutdown.clone());
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
    let guarded = guard.grpc(audit.around_grpc(&mut grpc, Routes::new(speed.server())));
    shutdown.spawn_essential("grpc", grpc.serve(SERVICE, guarded, shutdown.clone()));
    Ok(())
}

/// What is recorded of operations; a daemon that cannot record what it is to record does not start.
async fn audit_of(
    config: &SpeedConfig,
    metrics: &Metrics,
    clock: Arc<dyn Clock>,
    shutdown: &Shutdown,
) -> Result<Audit, ServiceError> {
    let audit = Audit::start(&config.audit, "speed-ingestor", metrics, clock, shutdown).await;
    audit.map_err(|error| ServiceError::new(Code::Precondition, error.to_string()))
}

/// HAPI's REST, where it is known.
fn hapi_of(config: &SpeedConfig, tls: &Tls) -> Result<Option<Hapi>, ServiceError> {
    let rest = config.hapi.rest();
    rest.map(|(base, authorization)| Ok(Hapi::over(config.hapi.http(tls)?, base, authorization)))
        .transpose()
}

/// Binds the webhook's socket, and tells where.
async fn bind(
    config: &SpeedConfig,
    tls: &Tls,
    announcement: &Announcement,
) -> Result<(Listening, SocketAddr), ServiceError> {
    let settings = config.webhook.tls();
    let tls = tls.listener("http", "webhook.tls", settings, Protocol::Http1)?;
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
    let listening = Listening {
        listener,
        tls,
        limits: config.webhook.connection_limits(),
    };
    Ok((listening, bound))
}

/// The secrets; those of a file are kept as it says.
fn secret_of(config: &SpeedConfig, shutdown: &Shutdown) -> Result<SharedSecret, ServiceError> {
    let (secret, read) = config
        .webhook
        .shared_secret()
        .map_err(|error| ServiceError::new(Code::Invalid, format!("webhook.secret_file: {error}")))?;
    if let (Some(file), Some(read)) = (config.webhook.secret_file(), read) {
        shutdown.spawn(secret.clone().follow(file.to_owned(), read, shutdown.clone()));
    }
    Ok(secret)
}
