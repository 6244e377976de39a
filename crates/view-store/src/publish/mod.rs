//! Publish: a run of the batch (rules 11 to 14) over one dedicated connection, which holds the type's run lock.
//!
//! ```text
//! begin_run ─► Load: ranges … ─► finish_load ─► stage ─► stage_gone ─► publish_slice… (Finished)       incremental: stage only
//!          └─► Load: ranges … ─► finish_load ─► lock_for_join ─► stage ─► stage_gone ─► join            under the type's lock
//! ```
//!
//! States are staged beside what is shown; a slice decides by the ledger which of them are shown (`fhir_core::merge::live_stays`) and puts
//! their rows in place. The table that a joining view is loaded into becomes its base table. An incremental run stages in temporary tables, which
//! go with its session; a load has tables of its own, which the next run goes on with or clears away (see [`Load`]).

mod begin;
mod differences;
mod indexing;
mod join;
mod load;
mod loader;
mod slices;
mod staging;

pub use differences::Differing;
pub use load::{Load, RangeBounds};
pub use loader::Loader;

use std::time::Duration;

use chrono::TimeDelta;
use fhir_core::merge::Position;
use sqlx::PgConnection;
use tracing::warn;

use crate::error::during;
use crate::readings::LIVE_IDS;
use crate::{StoreError, TypeViews, ViewStore, tables};
use load::Stage;

/// How long a run that has failed or was cancelled waits for its connection.
const LEAVING: Duration = Duration::from_secs(1);

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

/// A run of one type. After an error it is of no more use: drop it.
pub struct Run {
    store: ViewStore,
    connection: PgConnection,
    skew: TimeDelta,
    kind: RunKind,
    views: TypeViews,
    /// One for each view, in the same order.
    targets: Vec<Target>,
    stage: Stage,
    /// Of a full or joining run.
    load: Option<Load>,
    /// The reading before the load, noted by an earlier run that was broken off.
    first: Option<Position>,
    staged: u64,
    published: u64,
    /// The staged rows have their indexes.
    indexed: bool,
    /// Staged states whose rows differ from what the batch shows are marked.
    compared: bool,
    /// The last id of the slices so far.
    after: String,
    /// All is published, and the connection fit for another run.
    finished: bool,
}

/// Where the rows of one view are staged.
struct Target {
    name: String,
    part: Part,
    /// Hidden and own columns, quoted, in the order of the tuples.
    columns: String,
    /// Qualified name of the table that the rows are staged in.
    table: String,
    /// Rows in it.
    rows: i64,
    /// Hash of the definition that the rows are made by: it must still be the registered one when the view joins.
    hash: String,
}

/// What a view does in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Materialised: its tables are changed by resources.
    Shown,
    /// Its base table is loaded from the start and becomes visible at the join.
    Joins,
    /// Materialised with another definition: all its rows are replaced at the join.
    Replaced,
}

impl Run {
    /// The views that states must be evaluated for, in order.
    pub fn views(&self) -> &TypeViews {
        &self.views
    }

    /// What the run does.
    pub fn kind(&self) -> RunKind {
        self.kind
    }

    /// Ids that are live now, on the run's connection.
    pub async fn live_ids(&mut self) -> Result<Vec<String>, StoreError> {
        sqlx::query_scalar(LIVE_IDS)
            .bind(&self.views.resource_type)
            .fetch_all(&mut self.connection)
            .await
            .map_err(during("reading the live ids"))
    }

    /// Resources staged, and published so far.
    pub fn progress(&self) -> (u64, u64) {
        (self.staged, self.published)
    }

    /// What a full or joining run puts its ranges into.
    pub fn load(&self) -> Option<&Load> {
        self.load.as_ref()
    }

    /// The reading before the load, if an earlier run has begun it: this one goes on with the ranges that are not done.
    pub fn first(&self) -> Option<&Position> {
        self.first.as_ref()
    }

    /// Notes the reading before the load, and into which ranges it is cut.
    pub async fn note_first(&mut self, first: &Position, ranges: &[RangeBounds]) -> Result<(), StoreError> {
        match &self.load {
            Some(load) => load::note_first(&mut self.connection, load.token(), first, ranges).await,
            None => Ok(()),
        }
    }

    /// Gives the run lock back, and leaves nothing staged. Dropping the run gives the lock back too; what was loaded is left for the next one.
    pub async fn end(mut self) -> Result<(), StoreError> {
        let doing = "ending a run";
        if let Some(load) = &self.load
            && let Err(error) = load::discard(&mut self.connection, load.token()).await
        {
            warn!(%error, "what was staged is left for the next run to clear away");
        }
        // At once, so that the next run may begin; the session's end, which PostgreSQL comes to a moment later, would give it back too.
        tables::execute(
            &mut self.connection,
            "SELECT pg_advisory_unlock_all()".into(),
            doing,
        )
        .await?;
        if !self.finished {
            return sqlx::Connection::close(self.connection)
                .await
                .map_err(during(doing));
        }
        self.store.keep_run_connection(self.connection).await
    }

    /// Gives the run lock back without an end, and leaves what was loaded for the next run. Dropping the run does the same, but PostgreSQL comes to it a
    /// moment later, and until then another run would find the type busy. What cannot be said at once, since the connection is lost or at work, is left
    /// to that.
    pub async fn leave(mut self) {
        let unlock = "ROLLBACK; SELECT pg_advisory_unlock_all()";
        let unlocked = tables::execute(&mut self.connection, unlock.into(), "leaving a run");
        if let Ok(Ok(())) = tokio::time::timeout(LEAVING, unlocked).await {
            // It ends either way.
            let _ = sqlx::Connection::close(self.connection).await;
        }
    }

    /// The views whose tables are changed by resources.
    fn shown(&self) -> impl Iterator<Item = &Target> {
        self.targets.iter().filter(|t| t.part == Part::Shown)
    }

    fn shown_names(&self) -> Vec<String> {
        self.shown().map(|t| t.name.clone()).collect()
    }
}
