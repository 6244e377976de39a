//! Metrics: what a run and a reading cost, and how near the watermark's margin was to not being enough.

use daemon::metrics::Metrics;
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Unit,
};

/// A resource type that some view needs: a small set.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ByType {
    pub(crate) r#type: String,
}

/// Type, kind and outcome of a run.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ByRun {
    pub(crate) r#type: String,
    pub(crate) kind: Kind,
}

/// Kind of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Kind {
    Incremental,
    Full,
    Join,
}

impl From<view_store::RunKind> for Kind {
    fn from(kind: view_store::RunKind) -> Self {
        match kind {
            view_store::RunKind::Incremental => Self::Incremental,
            view_store::RunKind::Full => Self::Full,
            view_store::RunKind::Join => Self::Join,
        }
    }
}

/// The daemon's metrics. Cheap to clone.
#[derive(Clone)]
pub struct Measures {
    pub(crate) refresh_duration: Family<ByRun, Histogram, fn() -> Histogram>,
    pub(crate) refresh_failures: Family<ByRun, Counter>,
    pub(crate) resources_read: Family<ByType, Counter>,
    pub(crate) resources_published: Family<ByType, Counter>,
    pub(crate) resources_failed: Family<ByType, Counter>,
    pub(crate) reading_duration: Histogram,
    pub(crate) readings: Counter,
    pub(crate) reading_failures: Counter,
    pub(crate) reading_states: Counter,
    pub(crate) batch_as_of: Family<ByType, Gauge<f64, std::sync::atomic::AtomicU64>>,
    pub(crate) margin_left: Gauge<f64, std::sync::atomic::AtomicU64>,
    pub(crate) invalid_views: Gauge,
}

fn run_buckets() -> Histogram {
    // 10 ms (nothing changed) to 3 hours (the first load of a large server)
    Histogram::new(exponential_buckets(0.01, 4.0, 11))
}

impl Measures {
    /// Registers all of them.
    pub fn new(metrics: &Metrics) -> Self {
        let this = Self {
            refresh_duration: Family::new_with_constructor(run_buckets as fn() -> Histogram),
            refresh_failures: Family::default(),
            resources_read: Family::default(),
            resources_published: Family::default(),
            resources_failed: Family::default(),
            reading_duration: Histogram::new(exponential_buckets(0.001, 2.0, 14)),
            readings: Counter::default(),
            reading_failures: Counter::default(),
            reading_states: Counter::default(),
            batch_as_of: Family::default(),
            margin_left: Gauge::default(),
            invalid_views: Gauge::default(),
        };
        metrics.register(|r| {
            let r = r.sub_registry_with_prefix("batch");
            r.register_with_unit("refresh_duration", "Duration of runs", Unit::Seconds, this.refresh_duration.clone());
            r.register("refresh_failures", "Runs that failed; what was shown before is still shown", this.refresh_failures.clone());
            r.register("resources_read", "Resources that runs read and evaluated", this.resources_read.clone());
            r.register("resources_published", "Resources whose rows runs published", this.resources_published.clone());
            r.register("resources_failed", "Resources that could not be evaluated for a view, each time they were read", this.resources_failed.clone());
            r.register_with_unit("reading_duration", "Duration of readings for the speed layer", Unit::Seconds, this.reading_duration.clone());
            r.register("readings", "Readings for the speed layer", this.readings.clone());
            r.register("reading_failures", "Readings for the speed layer that failed", this.reading_failures.clone());
            r.register("reading_states", "States sent to the speed layer", this.reading_states.clone());
            r.register_with_unit("as_of", "T of the watermark, as a Unix time", Unit::Seconds, this.batch_as_of.clone());
            r.register_with_unit(
                "watermark_margin_left",
                "How much earlier the oldest version that a reading found could have been dated and still be found; near 0, raise hapi.margin_seconds",
                Unit::Seconds,
                this.margin_left.clone(),
            );
            r.register("invalid_views", "Files of the folder of views that could not be used", this.invalid_views.clone());
        });
        this
    }
}
