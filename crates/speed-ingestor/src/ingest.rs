//! The daemon's own work: the parts, put together.

use std::{net::SocketAddr, sync::Arc};

use api::{Code, MAX_MESSAGE_BYTES, ServiceError, speed::speed_service_server::SpeedServiceServer};
use daemon::{ConfigError, Context, grpc::channel};
use tokio::{net::TcpListener, sync::Semaphore};
use tonic::service::Routes;

use crate::{
    accepted::Accepted,
    backup::Backups,
    batch::BatchLayer,
    config::SpeedConfig,
    gate::Gate,
    measures::Measures,
    needed::Needed,
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
        grpc,
        announcement,
    } = context;
    let measures = Measures::register(&metrics);
    let (needed, tail, accepted) = (Needed::default(), TailState::default(), Accepted::default());
    let gate = Gate::closed("redis was not reached yet");
    let store = SpeedStore::open(config.store_settings())?;
    let unusable = |error: ConfigError| ServiceError::new(Code::Invalid, error.to_string());
    let batch = BatchLayer::new(channel("batch.url", config.batch_url()).map_err(unusable)?);

    let (listener, bound) = bind(config.webhook_listen()).await?;
    announcement.bound("http", bound);
    announcement
        .publish()
        .map_err(|error| ServiceError::internal(&error))?;

    let subscriptions = match config.wanted_subscription(bound) {
        Some(wanted) => Some(Subscriptions::new(wanted, needed.clone(), measures.clone())?),
        None => None,
    };
    if let Some(subscriptions) = &subscriptions {
        shutdown.spawn(
            subscriptions
                .clone()
                .run(config.check_interval(), shutdown.clone()),
        );
    }
    let upkeep = RedisUpkeep {
        store: store.clone(),
        needed: needed.clone(),
        gate: gate.clone(),
        ready: readiness.latch("redis"),
        allow_volatile: config.allow_volatile(),
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
        measures: measures.clone(),
        clock: clock.clone(),
        settings: config.round_settings(),
    };
    let backups = config
        .backup_settings()
        .map(|settings| Backups::start(settings, &rounds, &shutdown));
    shutdown.spawn(rounds.run(shutdown.clone()));

    let webhook = Webhook {
        store: store.clone(),
        tail: tail.clone(),
        needed: needed.clone(),
        gate,
        secret: config.shared_secret(),
        limits: config.limits(),
        in_flight: Arc::new(Semaphore::new(config.max_in_flight())),
        accepted: accepted.clone(),
        measures,
        clock: clock.clone(),
    };
    shutdown.spawn_essential("webhook", routes::serve(listener, webhook, shutdown.clone()));

    let speed = Speed {
        store,
        tail,
        needed,
        accepted,
        subscriptions,
        backups,
        shutdown: shutdown.clone(),
        clock,
    };
    let service = SpeedServiceServer::new(speed)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    shutdown.spawn_essential(
        "grpc",
        grpc.serve(SERVICE, Routes::new(service), shutdown.clone()),
    );
    Ok(())
}

/// A socket for the webhook, and where it is.
async fn bind(listen: SocketAddr) -> Result<(TcpListener, SocketAddr), ServiceError> {
    let cannot_bind = |error| {
        ServiceError::new(
            Code::Unavailable,
            format!("webhook.listen {listen} cannot be bound: {error}"),
        )
    };
    let listener = TcpListener::bind(listen).await.map_err(cannot_bind)?;
    let bound = listener.local_addr().map_err(cannot_bind)?;
    Ok((listener, bound))
}
