//! How far a run is: written by the run, read by whoever watches it.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use view_store::LoadBatch;

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
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

/// Counters of a run.
#[derive(Debug, Default)]
pub struct Progress {
    phase: Mutex<RunPhase>,
    read: AtomicU64,
    published: AtomicU64,
    failed: AtomicU64,
}

impl Progress {
    /// Where the run stands.
    pub fn phase(&self) -> RunPhase {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves on.
    pub fn set_phase(&self, phase: RunPhase) {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = phase;
    }

    /// Resources read and evaluated.
    pub fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Resources published.
    pub fn published(&self) -> u64 {
        self.published.load(Ordering::Relaxed)
    }

    /// Resources that could not be evaluated for at least one view.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    pub(crate) fn add_read(&self, resources: u64, failed: u64) {
        self.read.fetch_add(resources, Ordering::Relaxed);
        self.failed.fetch_add(failed, Ordering::Relaxed);
    }

    pub(crate) fn add_loaded(&self, batch: &LoadBatch) {
        self.read.fetch_add(batch.resources, Ordering::Relaxed);
        self.failed.fetch_add(batch.failed, Ordering::Relaxed);
    }

    pub(crate) fn set_published(&self, resources: u64) {
        self.published.store(resources, Ordering::Relaxed);
    }
}
