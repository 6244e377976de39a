//! Publish: a run of the batch (rules 11 to 14) over one dedicated connection, which holds the type's run lock and the staged rows as
//! temporary tables: a crash of either side ends the run and leaves nothing behind.

use fhir_core::merge::Position;

use crate::{EvaluatedState, StoreError, TypeViews, ViewStore};

/// What a run does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunKind {
    /// What changed since the watermark, and what is live.
    Incremental,
    /// Everything; differences are published.
    Full,
    /// A full run in which views that are being created or replaced join the type, under its lock.
    Join,
}

/// How a run publishes.
#[derive(Debug, Clone, Copy)]
pub struct SlicePlan {
    /// Resources a transaction.
    pub resources: i64,
    /// Whether resources without a difference make slices too (the model's slices do).
    pub unchanged_too: bool,
}

/// Which of the staged states must be published even if no row differs (rule 12).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Staged {
    /// Loaded from a range: published if its rows differ.
    Loaded,
    /// Read by the catch-up (or incremental) reading: always published.
    Changed,
}

/// Outcome of a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SliceOutcome {
    /// Published; more remain.
    More,
    /// The last slice: the watermark has moved.
    Finished,
    /// A newer run has published: this one has ended (rule 11).
    Fenced,
}

/// A run of one type.
pub struct Run {}

impl ViewStore {
    /// Begins a run: takes the type's run lock on a connection of its own. `None`: another run of the type is under way.
    ///
    /// [`Run::views`] are the type's materialised views, and for a join those that are to join too (then `creating` ones become `populating`).
    pub async fn begin_run(&self, _resource_type: &str, _kind: RunKind) -> Result<Option<Run>, StoreError> {
        unimplemented!()
    }
    /// Whether a view of the type waits to join.
    pub async fn needs_join(&self, _resource_type: &str) -> Result<bool, StoreError> {
        unimplemented!()
    }
}

impl Run {
    /// The views that states must be evaluated for, in order.
    pub fn views(&self) -> &TypeViews {
        unimplemented!()
    }
    /// Stages states, replacing what was staged of the same ids.
    pub async fn stage(&mut self, _states: &[EvaluatedState], _how: Staged) -> Result<(), StoreError> {
        unimplemented!()
    }
    /// Full and join: ids that are shown (rows of any view, or in the ledger) but not staged are staged as gone, with clock `at` (rule 12).
    pub async fn stage_gone(&mut self, _at: chrono::DateTime<chrono::Utc>) -> Result<(), StoreError> {
        unimplemented!()
    }
    /// Publishes the next slice, or the last (rules 11 to 13), of the reading at `position`, in one transaction with a synchronous commit.
    pub async fn publish_slice(&mut self, _position: &Position, _plan: SlicePlan) -> Result<SliceOutcome, StoreError> {
        unimplemented!()
    }
    /// Join (rule 14), step 1: takes the type's lock in a transaction that stays open until [`Run::join`] or until the run is dropped. The
    /// last reading, `stage` and `stage_gone` come between the two. Takes the lock with a short time-out and tries again.
    pub async fn lock_for_join(&mut self) -> Result<(), StoreError> {
        unimplemented!()
    }
    /// Join, step 2: publishes all, makes the joining views active, moves the watermark, commits.
    pub async fn join(&mut self, _position: &Position) -> Result<SliceOutcome, StoreError> {
        unimplemented!()
    }
    /// Ids that are live now, on the run's connection.
    pub async fn live_ids(&mut self) -> Result<Vec<String>, StoreError> {
        unimplemented!()
    }
    /// Resources staged, and published so far.
    pub fn progress(&self) -> (u64, u64) {
        unimplemented!()
    }
    /// Gives the run lock back; also done by dropping the run.
    pub async fn end(self) -> Result<(), StoreError> {
        unimplemented!()
    }
}
