//! The gateway's metrics. Labels are of small fixed sets.

use std::sync::atomic::AtomicI64;

use daemon::metrics::Metrics;
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum QuerySource {
    Merged,
    Batch,
    Raw,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct SourceLabel {
    pub(crate) source: QuerySource,
}

/// From what on the time until visible is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Event {
    /// A webhook was accepted.
    Webhook,
    /// A reading of HAPI's database began.
    Reading,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct EventLabel {
    pub(crate) event: Event,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct CallLabel {
    pub(crate) method: &'static str,
    pub(crate) code: &'static str,
}

/// All of them. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct ServingMetrics {
    pub(crate) queries: Family<SourceLabel, Counter>,
    pub(crate) rows: Counter,
    pub(crate) calls: Family<CallLabel, Counter>,
    pub(crate) applied: Family<EventLabel, Counter>,
    pub(crate) pages: Counter,
    pub(crate) merge_failures: Counter,
    pub(crate) event_to_visible: Family<EventLabel, Histogram, fn() -> Histogram>,
    pub(crate) leading: Gauge<i64, AtomicI64>,
    pub(crate) speed_reachable: Gauge<i64, AtomicI64>,
    pub(crate) batch_reachable: Gauge<i64, AtomicI64>,
    pub(crate) views_answer: Gauge<i64, AtomicI64>,
}

fn visible_buckets() -> Histogram {
    Histogram::new([
        0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 60.0, 600.0,
    ])
}

impl ServingMetrics {
    pub(crate) fn register(metrics: &Metrics) -> Self {
        let this = Self {
            queries: Family::default(),
            rows: Counter::default(),
            calls: Family::default(),
            applied: Family::default(),
            pages: Counter::default(),
            merge_failures: Counter::default(),
            event_to_visible: Family::new_with_constructor(visible_buckets),
            leading: Gauge::default(),
            speed_reachable: Gauge::default(),
            batch_reachable: Gauge::default(),
            views_answer: Gauge::default(),
        };
        metrics.register(|registry| {
            registry.register(
                "queries",
                "Queries by where they were answered",
                this.queries.clone(),
            );
            registry.register("rows", "Rows sent", this.rows.clone());
            registry.register("grpc_calls", "Calls by method and outcome", this.calls.clone());
            registry.register(
                "changes_applied",
                "Live changes shown, by what brought them",
                this.applied.clone(),
            );
            registry.register("merge_pages", "Transactions of the merger", this.pages.clone());
            registry.register(
                "merge_failures",
                "Answers of the speed layer that could not be applied",
                this.merge_failures.clone(),
            );
            registry.register(
                "event_to_visible_seconds",
                "From a webhook's receipt, or the clock of a reading, until its rows are committed",
                this.event_to_visible.clone(),
            );
            registry.register(
                "merge_leading",
                "1 if this gateway's merger is at work",
                this.leading.clone(),
            );
            registry.register(
                "speed_layer_reachable",
                "1 if SpeedService answers",
                this.speed_reachable.clone(),
            );
            registry.register(
                "batch_layer_reachable",
                "1 if BatchService answers",
                this.batch_reachable.clone(),
            );
            registry.register(
                "views_database_answers",
                "1 if the views' PostgreSQL answers, also where it takes no writes",
                this.views_answer.clone(),
            );
        });
        this
    }

    /// A change has become visible.
    pub(crate) fn visible(&self, event: Event, seconds: f64) {
        self.event_to_visible
            .get_or_create(&EventLabel { event })
            .observe(seconds.max(0.0));
    }
}
