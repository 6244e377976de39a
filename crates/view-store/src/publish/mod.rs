//! Publish: a run of the batch (rules 11 to 14) over one dedicated connection, which holds the type's run lock and the staged rows as
//! temporary tables: a crash of either side ends the run and leaves nothing behind.
//!
//! ```text
//! begin_run ─► stage(Loaded)… ─► stage(Changed) ─► stage_gone ─► publish_slice… (Finished)       incremental: stage(Changed) only
//!          └─► stage(Loaded)… ─► lock_for_join ─► stage(Changed) ─► stage_gone ─► join            under the type's lock
//! ```
//!
//! States are staged beside what is shown; a slice decides by the ledger which of them are shown (`fhir_core::merge::live_stays`) and puts
//! their rows in place. A view that joins is loaded straight into its base table, which nobody sees before the join.

mod begin;
mod differences;
mod join;
mod slices;
mod staging;

pub use differences::Differing;

use chrono::TimeDelta;
use fhir_core::column::Column;
use sqlx::PgConnection;

use crate::error::during;
use crate::readings::LIVE_IDS;
use crate::{StoreError, TypeViews, ViewStore, tables};

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

/// A run of one type. After an error it is of no more use: drop it.
pub struct Run {
    store: ViewStore,
    connection: PgConnection,
    skew: TimeDelta,
    kind: RunKind,
    views: TypeViews,
    /// One for each view, in the same order.
    targets: Vec<Target>,
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

    /// Gives the run lock back, and leaves nothing staged; also done by dropping the run, which ends its session.
    pub async fn end(mut self) -> Result<(), StoreError> {
        let doing = "ending a run";
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
        tables::execute(&mut self.connection, "DISCARD TEMP; RESET ALL".into(), doing).await?;
        self.store.keep_run_connection(self.connection);
        Ok(())
    }

    /// The views whose tables are changed by resources.
    fn shown(&self) -> impl Iterator<Item = &Target> {
        self.targets.iter().filter(|t| t.part == Part::Shown)
    }

    fn shown_names(&self) -> Vec<String> {
        self.shown().map(|t| t.name.clone()).collect()
    }
}

impl Target {
    fn new(name: &str, part: Part, columns: &[Column], table: String, hash: String) -> Self {
        Self {
            name: name.to_owned(),
            part,
            columns: crate::tables::all_columns(columns),
            table,
            rows: 0,
            hash,
        }
    }
}
