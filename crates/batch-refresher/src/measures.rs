//! Metrics: what a run and a reading cost, and how near the watermark's margin was to not being enough.

use std::sync::atomic::AtomicU64;

use chrono::{DateTime, Utc};
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

use view_store::ScheduleState;

use crate::{
    hapi::{Cost, Excess, Hapi},
    progress::RunPhase,
    refresher::RunStatus,
};

type FloatGauge = Gauge<f64, AtomicU64>;

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

/// What rights that are not needed would allow.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByRight {
    kind: Right,
}

/// See [`ByRight`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
enum Right {
    Write,
    Read,
}

/// A type and one of its views.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ByView {
    pub(crate) view: String,
    pub(crate) r#type: String,
}

/// Type, and phase of the run that is under way.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ByPhase {
    r#type: String,
    phase: Phase,
}

/// Phase of a run that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
enum Phase {
    Waiting,
    Loading,
    CatchingUp,
    Publishing,
}

impl Phase {
    const ALL: [Self; 4] = [Self::Waiting, Self::Loading, Self::CatchingUp, Self::Publishing];

    fn of(phase: RunPhase) -> Option<Self> {
        match phase {
            RunPhase::Waiting => Some(Self::Waiting),
            RunPhase::Loading => Some(Self::Loading),
            RunPhase::CatchingUp => Some(Self::CatchingUp),
            RunPhase::Publishing => Some(Self::Publishing),
            RunPhase::Done | RunPhase::Failed => None,
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
    reading_statements: Counter,
    reading_rows: Counter,
    pub(crate) rows_made: Family<ByType, Counter>,
    pub(crate) bytes_read: Family<ByType, Counter>,
    pub(crate) reconciled_differences: Family<ByType, Counter>,
    reconciled: Family<ByType, FloatGauge>,
    pub(crate) evaluation_errors: Family<ByView, Gauge>,
    batch_as_of: Family<ByType, FloatGauge>,
    margin_left: Histogram,
    pub(crate) invalid_views: Gauge,
    excess_rights: Family<ByRight, Gauge>,
    run_phase: Family<ByPhase, Gauge>,
    run_read: Family<ByType, Gauge>,
    run_expected: Family<ByType, Gauge>,
    run_published: Family<ByType, Gauge>,
    run_rows: Family<ByType, Gauge>,
    run_bytes: Family<ByType, Gauge>,
    run_remaining: Family<ByType, FloatGauge>,
}

/// Around the margin, and around what is too little of it.
const MARGINS: [f64; 10] = [1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0];

fn unix_seconds(at: DateTime<Utc>) -> f64 {
    (at - DateTime::UNIX_EPOCH).as_seconds_f64()
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
            reading_statements: Counter::default(),
            reading_rows: Counter::default(),
            rows_made: Family::default(),
            bytes_read: Family::default(),
            reconciled_differences: Family::default(),
            reconciled: Family::default(),
            evaluation_errors: Family::default(),
            batch_as_of: Family::default(),
            margin_left: Histogram::new(MARGINS),
            invalid_views: Gauge::default(),
            excess_rights: Family::default(),
            run_phase: Family::default(),
            run_read: Family::default(),
            run_expected: Family::default(),
            run_published: Family::default(),
            run_rows: Family::default(),
            run_bytes: Family::default(),
            run_remaining: Family::default(),
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
            r.register("reading_statements", "Statements of these readings to HAPI's PostgreSQL", this.reading_statements.clone());
            r.register("reading_rows", "Rows that HAPI's PostgreSQL answered to them", this.reading_rows.clone());
            r.register_with_unit("as_of", "T of the watermark, as a Unix time", Unit::Seconds, this.batch_as_of.clone());
            r.register("rows_made", "Rows that runs made of resources, over all views", this.rows_made.clone());
            r.register_with_unit("read", "Bodies that runs read", Unit::Bytes, this.bytes_read.clone());
            r.register(
                "reconciled_differences",
                "Resources that a comparison of everything put right though nothing had told that they had changed; should stay 0",
                this.reconciled_differences.clone(),
            );
            r.register_with_unit("reconciled", "When the last comparison of everything began, as a Unix time", Unit::Seconds, this.reconciled.clone());
            r.register("evaluation_errors", "Resources that cannot be evaluated for a view and have no rows in it, after the last run", this.evaluation_errors.clone());
            r.register_with_unit(
                "watermark_margin_left",
                "For each reading that found changes, how much earlier the oldest of them could have been dated and still be found; near 0, raise hapi.margin_seconds",
                Unit::Seconds,
                this.margin_left.clone(),
            );
            r.register("invalid_views", "Files of the folder of views that could not be used", this.invalid_views.clone());
            r.register(
                "hapi_excess_rights",
                "Rights in HAPI's database that the login of hapi.url has and does not need, at the start",
                this.excess_rights.clone(),
            );
            r.register("run_phase", "1 for the phase of the run that is under way", this.run_phase.clone());
            r.register("run_resources_read", "Resources that the run has read so far", this.run_read.clone());
            r.register("run_resources_expected", "Resources that the run will have read, about", this.run_expected.clone());
            r.register("run_resources_published", "Resources that the run has published so far", this.run_published.clone());
            r.register("run_rows", "Rows that the run has made so far", this.run_rows.clone());
            r.register_with_unit("run_read", "Bodies that the run has read so far", Unit::Bytes, this.run_bytes.clone());
            r.register_with_unit("run_remaining", "How long the run goes on reading at its pace of the last half minute", Unit::Seconds, this.run_remaining.clone());
        });
        this
    }

    /// What was found of the login's rights.
    pub(crate) fn show_excess(&self, excess: &Excess) {
        for (kind, rights) in [(Right::Write, &excess.writes), (Right::Read, &excess.reads)] {
            let count = i64::try_from(rights.len()).unwrap_or(i64::MAX);
            self.excess_rights.get_or_create(&ByRight { kind }).set(count);
        }
    }

    /// A watermark has moved.
    pub(crate) fn show_as_of(&self, by_type: &ByType, as_of: DateTime<Utc>) {
        self.batch_as_of.get_or_create(by_type).set(unix_seconds(as_of));
    }

    /// What a type has behind it, in whichever replica.
    pub(crate) fn show_behind(&self, by_type: &ByType, behind: &ScheduleState) {
        if let Some(began) = behind.reconciled_as_of {
            self.reconciled.get_or_create(by_type).set(unix_seconds(began));
        }
        if let Some(as_of) = behind.published_as_of {
            self.show_as_of(by_type, as_of);
        }
    }

    /// What a reading has cost HAPI's PostgreSQL.
    pub(crate) fn note_cost(&self, cost: Cost) {
        self.reading_statements.inc_by(cost.statements);
        self.reading_rows.inc_by(cost.rows);
    }

    /// What the readings since the last call have left of the margin.
    pub(crate) fn note_margin(&self, hapi: &Hapi) {
        if let Some(margin) = hapi.take_margin_left() {
            self.margin_left.observe(margin.as_seconds_f64());
        }
    }

    /// Where the run of a type is; nothing is left of one that is over.
    pub(crate) fn show_run(&self, status: &RunStatus) {
        let by_type = ByType {
            r#type: status.resource_type.clone(),
        };
        let now = Phase::of(status.figures.phase);
        for phase in Phase::ALL {
            let by_phase = ByPhase {
                r#type: status.resource_type.clone(),
                phase,
            };
            if now.is_some() {
                let shown = i64::from(now == Some(phase));
                self.run_phase.get_or_create(&by_phase).set(shown);
            } else {
                self.run_phase.remove(&by_phase);
            }
        }
        let figures = &status.figures;
        for (gauges, value) in [
            (&self.run_read, Some(figures.read)),
            (&self.run_expected, figures.total),
            (&self.run_published, Some(figures.published)),
            (&self.run_rows, Some(figures.rows)),
            (&self.run_bytes, Some(figures.bytes)),
        ] {
            match value.filter(|_| now.is_some()) {
                Some(value) => {
                    let value = i64::try_from(value).unwrap_or(i64::MAX);
                    gauges.get_or_create(&by_type).set(value);
                }
                None => {
                    gauges.remove(&by_type);
                }
            }
        }
        match status.remaining.filter(|_| now.is_some()) {
            Some(remaining) => {
                self.run_remaining
                    .get_or_create(&by_type)
                    .set(remaining.as_secs_f64());
            }
            None => {
                self.run_remaining.remove(&by_type);
            }
        }
    }
}
