//! From a configuration to a running service.

use std::{sync::Arc, time::Duration};

use api::{MAX_MESSAGE_BYTES, MAX_REQUEST_BYTES, batch::batch_service_server::BatchServiceServer};
use audit::{Audit, AuditError, Audited};
use daemon::{ConfigError, Context};
use identity::Guard;
use tonic::{codec::CompressionEncoding, service::Routes};
use view_store::{StoreError, ViewStore};

use crate::{
    changes::Changes,
    config::Settings,
    folder,
    hapi::{Excess, Hapi, HapiError},
    measures::Measures,
    refresher::{Refresher, RefresherParts},
    service::Batch,
};

/// The service's full name, for health and reflection.
const SERVICE: &str = "researchflow.batch.v1.BatchService";
/// How long to wait before a server that cannot be reached is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Rights that are told by name: HAPI has a hundred tables.
const MOST_RIGHTS_TOLD: usize = 5;

/// Why the daemon cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// HAPI's side.
    #[error(transparent)]
    Hapi(#[from] HapiError),
    /// The views' side.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The audit cannot be kept.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The configuration, as it turns out at start.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The announcement of the bound addresses.
    #[error("the addresses that were bound cannot be announced: {0}")]
    Announce(#[from] std::io::Error),
}

/// Connects, brings the views' schema up to date, registers the folder, and starts the schedule and the service. A server that cannot be reached is waited
/// for; one that will not do ends the daemon with what to change.
pub async fn start(context: Context<Settings>) -> Result<(), StartError> {
    let Context {
        config: settings,
        shutdown,
        metrics,
        readiness,
        mut grpc,
        // It calls nobody, and serves nothing but gRPC.
        tls: _,
        clock,
        announcement,
    } = context;
    let guard = Guard::start(&settings.auth, clock.clone(), &metrics, &shutdown)?;
    let (hapi_there, views_there) = (
        readiness.latch("HAPI's PostgreSQL"),
        readiness.latch("the views' PostgreSQL"),
    );
    let audit = Audit::start(&settings.audit, "batch-refresher", &metrics, clock, &shutdown).await?;
    announcement.publish()?;
    let store = patiently("the views' PostgreSQL", async || {
        let store = ViewStore::connect(settings.store.clone()).await?;
        store.migrate().await?;
        Ok::<_, StartError>(store)
    })
    .await?;
    views_there.release();
    let measures = Measures::new(&metrics);
    let mut notes = Vec::new();
    if let Some(path) = &settings.folder {
        let outcome = folder::register(&store, path).await?;
        measures
            .invalid_views
            .set(i64::try_from(outcome.problems.len()).unwrap_or(i64::MAX));
        for problem in &outcome.problems {
            tracing::error!(problem, "a view is left out");
        }
        tracing::info!(
            registered = outcome.registered.len(),
            left_out = outcome.problems.len(),
            "views of the folder"
        );
        notes = outcome.problems;
    }
    let (hapi, excess) = patiently("HAPI's PostgreSQL", async || {
        let hapi = Hapi::connect(settings.hapi.clone()).await?;
        let excess = hapi.excess().await?;
        Ok::<_, StartError>((hapi, excess))
    })
    .await?;
    tell_excess(&excess, &measures);
    for note in &hapi.schema().notes {
        tracing::info!(note, "HAPI's schema");
    }
    hapi_there.release();
    let refresher = Refresher::new(RefresherParts {
        hapi: hapi.clone(),
        store: store.clone(),
        run: settings.run,
        refresh: settings.refresh,
        reconcile: settings.reconcile,
        parallel_types: settings.parallel_types,
        log_interval: settings.log_interval,
        measures: measures.clone(),
        shutdown: shutdown.clone(),
    });
    shutdown.spawn_essential("schedule", refresher.clone().supervise());
    let changes = Changes {
        hapi: hapi.clone(),
        store: store.clone(),
        refresher: refresher.clone(),
        max_changes: settings.max_changes,
        measures,
    };
    let run_view_limit = settings.run_view_limit;
    let notes = Arc::new(notes);
    let service = Batch {
        hapi,
        store,
        refresher,
        changes,
        run_view_limit,
        notes,
        shutdown: shutdown.clone(),
    };
    let service = BatchServiceServer::new(Audited(service))
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(MAX_REQUEST_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let routes = guard.grpc(audit.around_grpc(&mut grpc, Routes::new(service)));
    shutdown.spawn_essential("grpc", grpc.serve(SERVICE, routes, shutdown.clone()));
    Ok(())
}

/// Rights in HAPI's database that are not needed: a warning where something could be written.
fn tell_excess(excess: &Excess, measures: &Measures) {
    measures.show_excess(excess);
    let some = |rights: &[String]| {
        let more = rights.len().saturating_sub(MOST_RIGHTS_TOLD);
        let told = rights
            .iter()
            .take(MOST_RIGHTS_TOLD)
            .cloned()
            .collect::<Vec<_>>()
            .join(", ");
        if more > 0 {
            format!("{told} and {more} more")
        } else {
            told
        }
    };
    if !excess.writes.is_empty() {
        tracing::warn!(
            rights = some(&excess.writes),
            "the login of hapi.url may change what is in HAPI's database, and need not: deploy/sql/hapi-reader.sql takes that away"
        );
    }
    if !excess.reads.is_empty() {
        tracing::info!(
            rights = some(&excess.reads),
            "the login of hapi.url may read more of HAPI's database than is needed: deploy/sql/hapi-reader.sql takes that away"
        );
    }
}

/// Tries until it works, or fails in a way that no waiting mends.
async fn patiently<T>(
    what: &'static str,
    attempt: impl AsyncFn() -> Result<T, StartError>,
) -> Result<T, StartError> {
    let mut said = false;
    loop {
        match attempt().await {
            Ok(there) => return Ok(there),
            Err(error) if error.is_transient() => {
                if !said {
                    tracing::warn!(%error, "{what} cannot be used yet; trying again");
                }
                said = true;
            }
            Err(error) => return Err(error),
        }
        tokio::time::sleep(RETRY).await;
    }
}

impl StartError {
    fn is_transient(&self) -> bool {
        match self {
            Self::Hapi(error) => error.is_transient(),
            Self::Store(StoreError::Database { transient, .. }) => *transient,
            Self::Store(_) | Self::Audit(_) | Self::Config(_) | Self::Announce(_) => false,
        }
    }
}
