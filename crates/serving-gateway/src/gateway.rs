//! The daemon's own work: from its configuration to its tasks.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use api::{
    Code, MAX_MESSAGE_BYTES, MAX_REQUEST_BYTES, ServiceError,
    batch::batch_service_client::BatchServiceClient,
    proto::serving::serving_service_server::{SERVICE_NAME, ServingServiceServer},
};
use audit::{Audit, AuditError, Audited};
use daemon::{
    ConfigError, Context, Shutdown,
    admin::Latch,
    announce::Announcement,
    config::span,
    grpc::{Line, Outward, Way, line},
    tls::{Protocol, Tls},
};
use identity::{Grants, Guard};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
};
use tonic::{codec::CompressionEncoding, service::Routes};
use view_store::{
    StoreError, StoreSettings, ViewStore,
    sql::{SqlReader, SqlSettings},
};

use crate::{
    catalog::Catalog,
    config::{Config, Services, Views},
    hapi_clock::HapiClock,
    http::{self, Http, HttpConfig, HttpMetrics},
    layer_health::LayerHealth,
    merge::{Follower, speed_client},
    metrics::ServingMetrics,
    reads::{ReadMetrics, Reads},
    service::Serving,
    shared::Core,
    sql::Sql,
    statistics::Statistics,
    views_watch::Ways,
};

/// Pauses between tries to reach the views' database.
const TRY_AGAIN: Duration = Duration::from_millis(500);

/// Why the gateway cannot start.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The views' database says no, and will say so again.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A URL cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The audit cannot be kept.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The address of HTTP cannot be bound.
    #[error("http.listen {listen} cannot be bound: {reason}")]
    Bind {
        /// As configured.
        listen: SocketAddr,
        /// Why.
        reason: std::io::Error,
    },
    /// The addresses that were bound cannot be announced.
    #[error("the addresses that were bound cannot be announced: {0}")]
    Announce(#[from] std::io::Error),
}

/// Starts everything. What is not there yet (the views' database, other services) is waited for: the health service says so meanwhile.
pub async fn run(context: Context<Config>) -> Result<(), GatewayError> {
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
    let secured = tls.listener("http", "http.tls", &config.http.tls, Protocol::Http1)?;
    let listener = bind(&config.http, &announcement).await?;
    announcement.publish()?;
    let ready = readiness.latch("the views' database");
    let audit = Audit::start(
        &config.audit,
        "serving-gateway",
        &metrics,
        clock.clone(),
        &shutdown,
    )
    .await?;
    let http_metrics = HttpMetrics::register(&metrics);
    let read_metrics = ReadMetrics::register(&metrics);
    let guard = Guard::start(&config.auth, clock.clone(), &metrics, &shutdown)?;
    let metrics = ServingMetrics::register(&metrics);
    let (batch, speed) = layers(&config.services, &tls, &shutdown)?;
    let batch = BatchServiceClient::new(batch).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let speed = speed_client(speed);
    let sql = sql(&config)?;
    let core = Arc::new(OnceLock::new());
    let serving = Serving::new(
        core.clone(),
        metrics.clone(),
        shutdown.clone(),
        config.query.clone(),
    );
    let routes = guard.grpc(audit.around_grpc(&mut grpc, Routes::new(service(serving))));
    shutdown.spawn_essential("grpc", grpc.serve(SERVICE_NAME, routes, shutdown.clone()));
    let http = Http {
        core: core.clone(),
        shutdown: shutdown.clone(),
        guard,
        limits: config.query.clone(),
        metrics: http_metrics,
        started: clock.now(),
        memory: Arc::new(Semaphore::new(
            config.http.max_body_memory_bytes / http::UNIT_BYTES,
        )),
        config: config.http.clone(),
        audit,
    };
    shutdown.spawn_essential("http", http::serve(listener, secured, http));

    let Some(store) = reach(&config.views, config.views.max_connections, &shutdown).await? else {
        return Ok(());
    };
    let Some(merge_store) = reach(&config.views, config.views.merge_connections, &shutdown).await? else {
        return Ok(());
    };
    let ways = Ways {
        questions: store,
        merger: merge_store,
        sql,
    };
    let ways = ways.watched(&config.degradation, metrics.clone(), &shutdown);
    let (store, merge_store) = (ways.questions, ways.merger);
    let reader = ways.sql.as_ref().map(|sql| sql.reader.clone());
    let servers = Reads::new(&config, store.clone(), merge_store.clone(), reader, read_metrics)?;
    servers.watch(&shutdown);
    let this = Core {
        // Beside the merger: long answers cannot keep it from looking.
        catalog: Catalog::new(merge_store.clone()),
        store,
        reads: servers,
        speed,
        batch,
        health: LayerHealth::new(metrics.clone()),
        hapi_clock: HapiClock::new(clock.clone()),
        statistics: Statistics::new(clock.now(), metrics.clone()),
        applied: watch::Sender::new(0),
        use_speed_layer: config.use_speed_layer,
        bounds: config.degradation,
        max_raw_bytes: config.query.max_raw_bytes,
        sql: ways.sql,
        cohort: config.cohort,
        grants: Grants::everything(),
    };
    let _set_once = core.set(this.clone());
    keep_views(&this, ready, &shutdown);
    merge(&this, merge_store, metrics, &shutdown);
    Ok(())
}

/// How gRPC serves it.
fn service(serving: Serving) -> ServingServiceServer<Audited<Serving>> {
    ServingServiceServer::new(Audited(serving))
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(MAX_REQUEST_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

/// The ways to the batch layer and to the speed layer.
fn layers(services: &Services, tls: &Tls, shutdown: &Shutdown) -> Result<(Line, Line), ConfigError> {
    let outward = Outward::with_token_of("services.token_file", &services.token_file, shutdown)?;
    let tls = tls.client("services", "services.tls", &services.tls)?;
    let batch = Way {
        key: "services.batch",
        url: &services.batch,
        server_name: &services.batch_server_name,
        tls: &tls,
    };
    let speed = Way {
        key: "services.speed",
        url: &services.speed,
        server_name: &services.speed_server_name,
        tls: &tls,
    };
    Ok((line(batch, &outward)?, line(speed, &outward)?))
}

/// What is known of the views goes with the registry.
fn keep_views(core: &Core, ready: Latch, shutdown: &Shutdown) {
    let catalog = || core.catalog.clone();
    shutdown.spawn(catalog().keep(ready, core.reads.clone(), shutdown.clone()));
    shutdown.spawn(catalog().watch(core.batch.clone(), core.health.clone(), shutdown.clone()));
}

/// Live changes into the views, unless the speed layer is switched off.
fn merge(core: &Core, store: ViewStore, metrics: ServingMetrics, shutdown: &Shutdown) {
    if !core.use_speed_layer {
        tracing::info!("the speed layer is switched off: nothing live is merged or shown");
        return;
    }
    let follower = Follower {
        store,
        speed: core.speed.clone(),
        catalog: core.catalog.clone(),
        applied: core.applied.clone(),
        health: core.health.clone(),
        hapi_clock: core.hapi_clock.clone(),
        statistics: core.statistics.clone(),
        metrics,
    };
    shutdown.spawn(follower.run(shutdown.clone()));
}

/// Binds the socket of HTTP, and tells where.
async fn bind(config: &HttpConfig, announcement: &Announcement) -> Result<TcpListener, GatewayError> {
    let listen = config.listen;
    let cannot_bind = |reason| GatewayError::Bind { listen, reason };
    let listener = TcpListener::bind(listen).await.map_err(cannot_bind)?;
    announcement.bound("http", listener.local_addr().map_err(cannot_bind)?);
    Ok(listener)
}

/// The views' database, once it is reached and migrated; `None` at a stop.
async fn reach(
    views: &Views,
    max_connections: u32,
    shutdown: &Shutdown,
) -> Result<Option<ViewStore>, StoreError> {
    let skew = span(views.clock_skew_seconds);
    let mut said = None;
    loop {
        let settings = StoreSettings {
            url: views.url.expose().to_owned(),
            max_connections,
            skew,
        };
        let reached = async {
            let store = ViewStore::connect(settings).await?;
            store.check().await?;
            Ok(store)
        };
        match shutdown.unless_stopped(reached).await {
            None => return Ok(None),
            Some(Ok(store)) => return Ok(Some(store)),
            Some(Err(
                error @ (StoreError::Database { transient: true, .. } | StoreError::NotMigrated(_)),
            )) => {
                let reason = error.to_string();
                if said.as_ref() != Some(&reason) {
                    tracing::warn!(reason, "waiting for the views' database");
                    said = Some(reason);
                }
                if !shutdown.sleep(TRY_AGAIN).await {
                    return Ok(None);
                }
            }
            Some(Err(error)) => return Err(error),
        }
    }
}

/// The way of statements to the views' database, unless it is switched off. It connects when the first one comes.
fn sql(config: &Config) -> Result<Option<Sql>, StoreError> {
    let limits = config.sql.clone();
    if !limits.enabled {
        return Ok(None);
    }
    // A login for views may do more than read.
    let set_role = limits.url.expose().is_empty();
    let url = if set_role { &config.views.url } else { &limits.url };
    let reader = SqlReader::new(SqlSettings {
        url: url.expose().to_owned(),
        set_role,
        max_connections: limits.max_connections,
        timeout: limits.timeout_seconds,
        max_bytes: limits.max_bytes,
    })?;
    Ok(Some(Sql { reader, limits }))
}

/// What questions get before the views' database was reached.
pub(crate) fn not_ready() -> ServiceError {
    ServiceError::new(
        Code::Unavailable,
        "the views' database was not reached yet, or is not migrated: see this gateway's log",
    )
}
