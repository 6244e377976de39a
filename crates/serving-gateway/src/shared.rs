//! What all questions share: the views' database, the caches, the ways to the other layers.

use api::{
    batch::batch_service_client::BatchServiceClient, query::Layers,
    speed::speed_service_client::SpeedServiceClient,
};
use daemon::grpc::Line;
use identity::Grants;
use tokio::sync::watch;
use view_store::{ServerState, ViewStore};

use crate::{
    catalog::Catalog,
    config::{CohortLimits, DegradationBounds},
    freshness::Circumstances,
    hapi_clock::HapiClock,
    layer_health::LayerHealth,
    reads::Reads,
    sql::Sql,
    statistics::Statistics,
};

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Core {
    /// The primary.
    pub(crate) store: ViewStore,
    /// Where questions over view tables are read.
    pub(crate) reads: Reads,
    pub(crate) catalog: Catalog,
    pub(crate) speed: SpeedServiceClient<Line>,
    pub(crate) batch: BatchServiceClient<Line>,
    pub(crate) health: LayerHealth,
    pub(crate) hapi_clock: HapiClock,
    pub(crate) statistics: Statistics,
    /// Moves with each commit of this gateway's merger.
    pub(crate) applied: watch::Sender<u64>,
    pub(crate) use_speed_layer: bool,
    pub(crate) bounds: DegradationBounds,
    pub(crate) max_raw_bytes: usize,
    /// `None`: switched off.
    pub(crate) sql: Option<Sql>,
    pub(crate) cohort: CohortLimits,
    /// What whoever asks may read: the catalog shows no other views.
    pub(crate) grants: Grants,
}

impl Core {
    /// The same as whoever has these grants sees it.
    pub(crate) fn seen_by(&self, grants: Grants) -> Self {
        Self {
            catalog: self.catalog.seen_by(grants.clone()),
            grants,
            ..self.clone()
        }
    }

    /// What is known now.
    pub(crate) fn circumstances(&self, layers: Layers) -> Circumstances {
        Circumstances {
            now: self.hapi_clock.now(),
            use_speed_layer: self.use_speed_layer,
            layers,
            down: self.health.down(),
            read_only: self.store.pulse().state() == ServerState::Answers { read_only: true },
            bounds: self.bounds.clone(),
        }
    }
}
