//! What operators see of the audit. Labels are of small fixed sets.

use std::sync::atomic::AtomicI64;

use daemon::metrics::Metrics;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct SinkLabel {
    /// `file`, `fhir` (HAPI), or `spool` (what waits for it).
    pub(crate) sink: &'static str,
}

/// All of them. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct AuditMetrics {
    pub(crate) records: Family<SinkLabel, Counter>,
    pub(crate) failures: Family<SinkLabel, Counter>,
    pub(crate) lost: Family<SinkLabel, Counter>,
    pub(crate) pending: Family<SinkLabel, Gauge<i64, AtomicI64>>,
    pub(crate) refused: Counter,
}

impl AuditMetrics {
    pub(crate) fn register(metrics: &Metrics) -> Self {
        let this = Self::default();
        drop(this.lost.get_or_create(&SinkLabel { sink: "queue" }));
        metrics.register(|registry| {
            registry.register(
                "audit_records",
                "Records that a sink of the audit has taken",
                this.records.clone(),
            );
            registry.register(
                "audit_failures",
                "Tries of a sink of the audit that have failed",
                this.failures.clone(),
            );
            registry.register(
                "audit_lost",
                "Records that a sink of the audit will never have",
                this.lost.clone(),
            );
            registry.register(
                "audit_pending",
                "Records that wait for a sink of the audit",
                this.pending.clone(),
            );
            registry.register(
                "audit_refused",
                "Operations that were refused as they could not be recorded",
                this.refused.clone(),
            );
        });
        this
    }

    /// So that an alert on it can tell none from not there.
    pub(crate) fn begin(&self, sink: &'static str) {
        let label = SinkLabel { sink };
        drop(self.records.get_or_create(&label));
        drop(self.failures.get_or_create(&label));
        drop(self.lost.get_or_create(&label));
        self.pending.get_or_create(&label).set(0);
    }
}
