//! Whether the other layers can be reached.

use std::sync::{Arc, PoisonError, RwLock};

use crate::metrics::ServingMetrics;

/// Whether the other layers answered when they were last asked. Cheap to clone.
#[derive(Clone)]
pub(crate) struct LayerHealth {
    metrics: ServingMetrics,
    /// Speed, batch: `None` until the first answer or failure.
    reachable: Arc<RwLock<[Option<bool>; 2]>>,
}

impl LayerHealth {
    pub(crate) fn new(metrics: ServingMetrics) -> Self {
        Self {
            metrics,
            reachable: Arc::default(),
        }
    }

    pub(crate) fn speed(&self, reachable: bool) {
        self.metrics.speed_reachable.set(i64::from(reachable));
        self.reachable.write().unwrap_or_else(PoisonError::into_inner)[0] = Some(reachable);
    }

    pub(crate) fn batch(&self, reachable: bool) {
        self.metrics.batch_reachable.set(i64::from(reachable));
        self.reachable.write().unwrap_or_else(PoisonError::into_inner)[1] = Some(reachable);
    }

    /// This gateway's merger leaves the speed layer to another gateway: it no longer knows.
    pub(crate) fn speed_unknown(&self) {
        self.reachable.write().unwrap_or_else(PoisonError::into_inner)[0] = None;
    }

    /// Known to be down: speed, batch.
    pub(crate) fn down(&self) -> [bool; 2] {
        self.reachable
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .map(|reachable| reachable == Some(false))
    }
}
