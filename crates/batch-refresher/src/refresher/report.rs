//! How a run goes, for those who watch it: watchers, the status, the log and the metrics.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use tokio::{sync::mpsc, time::Instant};
use view_store::RunKind;

use super::{RunStatus, worker::Worker};
use crate::{
    progress::{Pace, Progress, RunPhase},
    reconciliation::Differences,
};

/// Tells of the runs that serve one cause, one after the other.
pub(super) struct Report<'a> {
    worker: &'a Worker,
    watchers: Vec<mpsc::UnboundedSender<RunStatus>>,
    begun: Instant,
    pub(super) kind: RunKind,
    progress: Arc<Progress>,
    pace: Pace,
    logged: Instant,
}

impl<'a> Report<'a> {
    pub(super) fn new(
        worker: &'a Worker,
        watchers: Vec<mpsc::UnboundedSender<RunStatus>>,
        kind: RunKind,
    ) -> Self {
        let now = Instant::now();
        Self {
            worker,
            watchers,
            begun: now,
            kind,
            progress: Arc::default(),
            pace: Pace::default(),
            logged: now,
        }
    }

    pub(super) fn is_watched(&self) -> bool {
        !self.watchers.is_empty()
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// A run has begun, which may be another than was wanted.
    pub(super) fn begin(&mut self, kind: RunKind, progress: Arc<Progress>) {
        self.kind = kind;
        self.progress = progress;
        self.pace.note(self.begun.elapsed(), 0);
    }

    /// The run goes on.
    pub(super) fn tick(&mut self) {
        let figures = self.progress.figures();
        self.pace.note(self.begun.elapsed(), figures.read);
        self.tell(figures.phase);
        let Some(interval) = self.worker.inner.log_interval else {
            return;
        };
        if self.logged.elapsed() < interval {
            return;
        }
        self.logged = Instant::now();
        let resource_type = &self.worker.resource_type;
        let resources_per_second = self.pace.per_second().unwrap_or_default().round();
        let remaining_seconds = self.pace.remaining(&figures).map(|remaining| remaining.as_secs());
        tracing::info!(
            %resource_type, kind = ?self.kind, phase = ?figures.phase, read = figures.read, total = figures.total, rows = figures.rows,
            bytes = figures.bytes, published = figures.published, resources_per_second, remaining_seconds, "refreshing"
        );
    }

    /// Where the run is.
    pub(super) fn tell(&self, phase: RunPhase) {
        self.send(self.status(phase));
    }

    /// It is published.
    pub(super) fn done(&self, as_of: DateTime<Utc>, differences: Option<Differences>) {
        self.send(RunStatus {
            batch_as_of: Some(as_of),
            differences,
            ..self.status(RunPhase::Done)
        });
    }

    /// It is given up.
    pub(super) fn failed(&self, reason: String) {
        self.send(RunStatus {
            reason: Some(reason),
            ..self.status(RunPhase::Failed)
        });
    }

    /// There was nothing to do here: nobody watches, and it is no run that ended.
    pub(super) fn leave(&self) {
        self.worker.inner.measures.show_run(&self.status(RunPhase::Done));
    }

    fn status(&self, phase: RunPhase) -> RunStatus {
        let mut figures = self.progress.figures();
        figures.phase = phase;
        RunStatus {
            figures,
            elapsed: self.begun.elapsed(),
            per_second: self.pace.per_second(),
            remaining: self.pace.remaining(&figures),
            ..RunStatus::waiting(&self.worker.resource_type, self.kind)
        }
    }

    fn send(&self, status: RunStatus) {
        self.worker.inner.measures.show_run(&status);
        for watcher in &self.watchers {
            // A watcher who has gone does not end the run.
            let _gone = watcher.send(status.clone());
        }
        if status.is_over() {
            *self.worker.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
        }
    }

    /// Adds up what a published run has done, and says so.
    pub(super) fn count(&self, as_of: DateTime<Utc>, differences: Option<Differences>) {
        let (measures, by_type) = (&self.worker.inner.measures, self.worker.by_type());
        let figures = self.progress.figures();
        for (counters, value) in [
            (&measures.resources_read, figures.read),
            (&measures.resources_published, figures.published),
            (&measures.resources_failed, figures.failed),
            (&measures.rows_made, figures.rows),
            (&measures.bytes_read, figures.bytes),
            (
                &measures.reconciled_differences,
                differences.map_or(0, Differences::total),
            ),
        ] {
            counters.get_or_create(&by_type).inc_by(value);
        }
        measures.show_as_of(&by_type, as_of);
        let resource_type = &self.worker.resource_type;
        let (kind, read, published, failed) = (self.kind, figures.read, figures.published, figures.failed);
        let duration_ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        // A run that found nothing to do comes every interval.
        if self.kind == RunKind::Incremental && published == 0 {
            tracing::debug!(%resource_type, ?kind, read, published, failed, duration_ms, "refreshed");
        } else {
            let (rows, bytes, differences) =
                (figures.rows, figures.bytes, differences.map(Differences::total));
            tracing::info!(%resource_type, ?kind, read, rows, bytes, published, failed, differences, duration_ms, "refreshed");
        }
        if let Some(Differences { gone, changed }) = differences.filter(|d| d.total() > 0) {
            tracing::warn!(
                %resource_type, gone, changed,
                "resources differed from what was shown though nothing had told that they had changed: they were expunged, their tags changed, or versions were missed"
            );
        }
    }
}
