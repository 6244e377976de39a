//! How far a run is: written by the run, read by whoever watches it; and how fast it goes.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use view_store::LoadBatch;

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum RunPhase {
    /// Waiting for another run of the type, or to be begun.
    #[default]
    Waiting,
    /// Reading HAPI and evaluating.
    Loading,
    /// Taking in what changed meanwhile, and what is live.
    CatchingUp,
    /// Publishing in slices.
    Publishing,
    /// Published.
    Done,
    /// Given up.
    Failed,
}

impl RunPhase {
    /// Whether resources are being read.
    fn reads(self) -> bool {
        matches!(self, Self::Loading | Self::CatchingUp)
    }
}

/// Counters of a run.
#[derive(Debug, Default)]
pub struct Progress {
    phase: Mutex<RunPhase>,
    /// 0: not known yet.
    total: AtomicU64,
    read: AtomicU64,
    rows: AtomicU64,
    bytes: AtomicU64,
    published: AtomicU64,
    failed: AtomicU64,
}

/// The counters at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Figures {
    /// Where the run stands.
    pub phase: RunPhase,
    /// About how many resources it will have read; `None`: not known yet.
    pub total: Option<u64>,
    /// Resources read and evaluated.
    pub read: u64,
    /// Rows made of them, over all views.
    pub rows: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
    /// Resources published.
    pub published: u64,
    /// Resources that could not be evaluated for at least one view.
    pub failed: u64,
}

impl Progress {
    /// All counters.
    pub fn figures(&self) -> Figures {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (total, read) = (get(&self.total), get(&self.read));
        Figures {
            phase: *self.phase.lock().unwrap_or_else(PoisonError::into_inner),
            // It is an estimate, and what changes during a load is read twice.
            total: (total > 0).then_some(total.max(read)),
            read,
            rows: get(&self.rows),
            bytes: get(&self.bytes),
            published: get(&self.published),
            failed: get(&self.failed),
        }
    }

    /// Moves on.
    pub fn set_phase(&self, phase: RunPhase) {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = phase;
    }

    /// About how many resources the run will have read at its end.
    pub fn set_total(&self, resources: u64) {
        self.total.store(resources, Ordering::Relaxed);
    }

    /// Resources were read and evaluated; `failed` of them not for every view.
    pub fn add_read(&self, resources: u64, failed: u64) {
        self.read.fetch_add(resources, Ordering::Relaxed);
        self.failed.fetch_add(failed, Ordering::Relaxed);
    }

    /// The same of what a load has read.
    pub(crate) fn add_loaded(&self, batch: &LoadBatch) {
        self.add_read(batch.resources, batch.failed);
        self.add_rows(batch.rows);
        self.add_bytes(batch.bytes);
    }

    /// Rows were made.
    pub fn add_rows(&self, rows: u64) {
        self.rows.fetch_add(rows, Ordering::Relaxed);
    }

    /// Bodies of so many bytes were read.
    pub fn add_bytes(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn set_published(&self, resources: u64) {
        self.published.store(resources, Ordering::Relaxed);
    }
}

/// A run's speed is that of so long before: even enough to be looked at, and soon told when it changes.
const WINDOW: Duration = Duration::from_secs(30);

/// How fast a run reads, from its counters at some moments.
#[derive(Debug, Default)]
pub struct Pace {
    /// Time since the beginning and resources read, in order; the first is the last before the window.
    moments: VecDeque<(Duration, u64)>,
}

impl Pace {
    /// Notes how much is read `at` a time since the beginning.
    pub fn note(&mut self, at: Duration, read: u64) {
        if self.moments.back().is_some_and(|(_, before)| *before > read) {
            // Another run of the same request.
            self.moments.clear();
        }
        self.moments.push_back((at, read));
        while self
            .moments
            .get(1)
            .is_some_and(|(second, _)| *second + WINDOW <= at)
        {
            self.moments.pop_front();
        }
    }

    /// Resources a second; `None` before two moments.
    pub fn per_second(&self) -> Option<f64> {
        let (first, last) = (self.moments.front()?, self.moments.back()?);
        let seconds = last.0.saturating_sub(first.0).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a speed need not be exact")]
        let read = (last.1 - first.1) as f64;
        (seconds > 0.0).then_some(read / seconds)
    }

    /// How long the reading goes on at this pace; `None` where nobody can tell.
    pub fn remaining(&self, figures: &Figures) -> Option<Duration> {
        let per_second = self.per_second().filter(|per_second| *per_second > 0.0)?;
        let left = figures.total.filter(|_| figures.phase.reads())? - figures.read;
        #[expect(
            clippy::cast_precision_loss,
            reason = "nobody waits for a fraction of a resource"
        )]
        let seconds = left as f64 / per_second;
        Duration::try_from_secs_f64(seconds).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn loading(total: u64, read: u64) -> Figures {
        let progress = Progress::default();
        progress.set_phase(RunPhase::Loading);
        progress.set_total(total);
        progress.add_read(read, 0);
        progress.figures()
    }

    #[test]
    fn what_is_added_is_told() {
        let progress = Progress::default();
        assert_eq!(progress.figures(), Figures::default());
        progress.set_total(10);
        progress.add_read(4, 1);
        progress.add_read(2, 0);
        progress.add_rows(9);
        progress.add_bytes(1000);
        progress.set_published(3);
        progress.set_phase(RunPhase::Publishing);
        let expected = Figures {
            phase: RunPhase::Publishing,
            total: Some(10),
            read: 6,
            rows: 9,
            bytes: 1000,
            published: 3,
            failed: 1,
        };
        assert_eq!(progress.figures(), expected);
        progress.add_read(6, 0);
        assert_eq!(progress.figures().total, Some(12), "never fewer than were read");
    }

    #[test]
    fn the_remaining_time_follows_from_the_pace_of_the_last_half_minute() {
        let mut pace = Pace::default();
        pace.note(seconds(0), 0);
        assert_eq!(
            (pace.per_second(), pace.remaining(&loading(100, 0))),
            (None, None)
        );
        pace.note(seconds(10), 1000);
        assert_eq!(pace.per_second(), Some(100.0));
        assert_eq!(pace.remaining(&loading(5000, 1000)), Some(seconds(40)));
        // slower since: what lies before the window no longer counts
        for at in 11..=60 {
            pace.note(seconds(at), 1000 + (at - 10) * 10);
        }
        assert_eq!(pace.per_second(), Some(10.0));
        assert_eq!(pace.remaining(&loading(5000, 1500)), Some(seconds(350)));
    }

    #[test]
    fn a_time_that_nobody_can_tell_is_not_told() {
        let mut pace = Pace::default();
        pace.note(seconds(0), 5);
        pace.note(seconds(10), 5);
        assert_eq!(pace.remaining(&loading(100, 5)), None, "it stands still");
        pace.note(seconds(11), 16);
        assert!(pace.remaining(&loading(100, 16)).is_some());
        assert_eq!(pace.remaining(&loading(0, 16)), None, "the total is not known");
        let publishing = Figures {
            phase: RunPhase::Publishing,
            ..loading(100, 16)
        };
        assert_eq!(pace.remaining(&publishing), None, "nothing is read any more");
        // a second run of the same request begins anew
        pace.note(seconds(12), 0);
        assert_eq!(pace.per_second(), None);
        pace.note(seconds(13), 7);
        assert_eq!(pace.per_second(), Some(7.0));
    }
}
