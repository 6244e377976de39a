//! Cohorts: the distinct patients of rows in several views, found by one statement in one snapshot, and how fresh each of the views is in it.
//!
//! ```text
//! cohort(views) ─► lock, snapshot, definitions and freshness ─► find(select) ─► count, first ids ─► next() ... ─► none
//! ```
//!
//! Ids come through a cursor: the patients are counted and sorted by its first step, under the time-out, and whoever reads slowly is not cut off by it.

mod statement;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use fhir_core::view::CompiledView;
use sqlx::AssertSqlSafe;

use self::statement::{Seen, Statement};
use crate::driver::sqlstate;
use crate::error::during;
use crate::registry::unknown_view;
use crate::tables::Table;
use crate::{Condition, Snapshot, StoreError, TypeFreshness, ViewStore};

/// Ids of a page.
const PAGE: usize = 5_000;

/// A set of patients.
#[derive(Debug, Clone)]
pub enum Patients {
    /// Those of a view's rows.
    OfRows(PatientRows),
    /// In all of `of` (one or more), and in none of `without`.
    All {
        /// Sets.
        of: Vec<Patients>,
        /// Sets.
        without: Vec<Patients>,
    },
    /// In one of these or more.
    Any(Vec<Patients>),
}

/// Rows of a view, and how each says whose it is.
#[derive(Debug, Clone)]
pub struct PatientRows {
    /// Name of the view.
    pub view: String,
    /// The definition that `key` and `condition` were made for; they may mean something else in another one.
    pub hash: String,
    /// Whose a row is.
    pub key: PatientKey,
    /// Must hold of the row.
    pub condition: Option<Condition>,
}

/// How a row says whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PatientKey {
    /// The resource is a Patient: its own id (hidden column `_rid`).
    OwnId,
    /// By columns, one or more; of a collection by each member.
    Columns(Vec<KeyColumn>),
}

/// A column that holds patients' ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyColumn {
    /// Name.
    pub name: String,
    /// What it holds.
    pub form: KeyForm,
}

/// What a column of patients holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyForm {
    /// The id.
    Id,
    /// `Patient/id`; what is of another form is nobody's.
    Reference,
    /// Either.
    IdOrReference,
}

/// A question for patients.
#[derive(Debug, Clone)]
pub struct CohortSelect {
    /// Which.
    pub patients: Patients,
    /// Base and live rows; else base and shadowed ones.
    pub merged: bool,
    /// Only their number.
    pub count_only: bool,
    /// At most so many ids; the number is of all.
    pub limit: Option<i64>,
}

/// Why there is no cohort.
#[derive(Debug, thiserror::Error)]
pub enum CohortError {
    /// As for any question.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It took longer than it may.
    #[error("the cohort took longer than its time-out")]
    TimedOut,
}

/// One snapshot of the views of a cohort. Dropping it ends the transaction, and what runs in it.
pub struct CohortSnapshot {
    snapshot: Snapshot,
    views: BTreeMap<String, View>,
    /// There may be more ids.
    open: bool,
}

/// A view in the snapshot.
struct View {
    hash: String,
    compiled: Arc<CompiledView>,
    freshness: TypeFreshness,
    errors: i64,
}

impl ViewStore {
    /// Opens a snapshot over these materialised views, of which each statement may take so long.
    pub async fn cohort(
        &self,
        views: &BTreeSet<String>,
        timeout: Duration,
    ) -> Result<CohortSnapshot, CohortError> {
        const DOING: &str = "opening a cohort";
        let mut snapshot = self.snapshot(None).await?;
        // Neither this nor a lock takes the snapshot.
        let limit = format!("SET LOCAL statement_timeout = {}", timeout.as_millis());
        sqlx::raw_sql(AssertSqlSafe(limit))
            .execute(&mut *snapshot.connection)
            .await
            .map_err(|error| failed(DOING, error))?;
        // The locks before the first query: a table that is replaced or dropped in between would look empty in an older snapshot.
        for name in views {
            let tables = Table::ALL.map(|table| table.of(name)).join(", ");
            let lock = format!("LOCK TABLE {tables} IN ACCESS SHARE MODE");
            let locked = sqlx::raw_sql(AssertSqlSafe(lock))
                .execute(&mut *snapshot.connection)
                .await;
            match locked {
                Ok(_) => {}
                Err(error) if sqlstate(&error).as_deref() == Some("42P01") => {
                    drop(snapshot);
                    let mut connection = self.pool.acquire().await.map_err(during(DOING))?;
                    return Err(unknown_view(&mut connection, name).await.into());
                }
                Err(error) => return Err(failed(DOING, error)),
            }
        }
        settle(&mut snapshot).await?;
        let seen = self.views_in(&mut snapshot, views).await?;
        Ok(CohortSnapshot {
            snapshot,
            views: seen,
            open: false,
        })
    }

    /// Definitions and freshness of the views as the snapshot has them.
    async fn views_in(
        &self,
        snapshot: &mut Snapshot,
        names: &BTreeSet<String>,
    ) -> Result<BTreeMap<String, View>, StoreError> {
        type Row = (
            String,
            String,
            String,
            Option<DateTime<Utc>>,
            Option<DateTime<Utc>>,
            i64,
        );
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT v.name, v.hash, v.definition, t.published_as_of, t.speed_as_of, \
                    (SELECT count(*) FROM sqlonfhir_meta.error e WHERE e.view = v.name) \
             FROM sqlonfhir_meta.view v LEFT JOIN sqlonfhir_meta.resource_type t ON t.type = v.resource_type \
             WHERE v.name = ANY ($1) AND v.state IN ('active', 'stale')",
        )
        .bind(&names)
        .fetch_all(&mut *snapshot.connection)
        .await
        .map_err(during("reading the views of a cohort"))?;
        let mut seen = BTreeMap::new();
        for (name, hash, definition, batch_as_of, speed_as_of, errors) in rows {
            let compiled = self.cache.compiled(&name, &hash, &definition)?;
            let freshness = TypeFreshness {
                batch_as_of,
                speed_as_of,
            };
            let view = View {
                hash,
                compiled,
                freshness,
                errors,
            };
            seen.insert(name, view);
        }
        match names.iter().find(|name| !seen.contains_key(**name)) {
            Some(missing) => Err(unknown_view(&mut snapshot.connection, missing).await),
            None => Ok(seen),
        }
    }
}

/// Nothing is written, all of the cursor will be fetched, and PostgreSQL looks whether who asked is still there (from release 14 on).
async fn settle(snapshot: &mut Snapshot) -> Result<(), StoreError> {
    sqlx::query(
        "SELECT set_config('transaction_read_only', 'on', true), set_config('cursor_tuple_fraction', '1', true), \
                CASE WHEN current_setting('client_connection_check_interval', true) IS NOT NULL \
                     THEN set_config('client_connection_check_interval', '500ms', true) END",
    )
    .execute(&mut *snapshot.connection)
    .await
    .map(|_| ())
    .map_err(during("opening a cohort"))
}

impl CohortSnapshot {
    /// How fresh a view is in the snapshot, and how many resources could not be evaluated for it.
    pub fn freshness(&self, view: &str) -> Option<(&TypeFreshness, i64)> {
        self.views.get(view).map(|seen| (&seen.freshness, seen.errors))
    }

    /// Finds the patients: how many there are, and the first ids in ascending order of their bytes; [`Self::next`] has the others.
    pub async fn find(&mut self, select: &CohortSelect) -> Result<(i64, Vec<String>), CohortError> {
        let statement = Statement::build(select, |view| {
            let seen = self.views.get(view)?;
            Some(Seen {
                hash: &seen.hash,
                columns: seen.compiled.columns(),
                resource_type: seen.compiled.resource_type(),
            })
        })?;
        for check in &statement.checks {
            self.snapshot.check_values(check).await?;
        }
        let arguments = statement.bound()?;
        let doing = "finding a cohort";
        let sql = if select.count_only {
            statement.sql
        } else {
            format!("DECLARE cohort NO SCROLL CURSOR FOR {}", statement.sql)
        };
        // Whoever goes while a statement runs ends it with its connection.
        self.snapshot.streaming = true;
        let query = sqlx::query_with(AssertSqlSafe(sql), arguments).persistent(false);
        if select.count_only {
            let row = query.fetch_one(&mut *self.snapshot.connection).await;
            let row = row.map_err(|error| failed(doing, error))?;
            let count = sqlx::Row::try_get(&row, 0).map_err(|error| failed(doing, error))?;
            self.snapshot.streaming = false;
            return Ok((count, Vec::new()));
        }
        query
            .execute(&mut *self.snapshot.connection)
            .await
            .map_err(|error| failed(doing, error))?;
        self.open = true;
        let rows = self.fetch().await?;
        // Every row knows of how many it is one.
        let count = rows.first().map_or(0, |(_, count)| *count);
        Ok((count, rows.into_iter().map(|(id, _)| id).collect()))
    }

    /// The next ids; none: there are no more.
    pub async fn next(&mut self) -> Result<Vec<String>, CohortError> {
        if !self.open {
            return Ok(Vec::new());
        }
        let rows = self.fetch().await?;
        Ok(rows.into_iter().map(|(id, _)| id).collect())
    }

    async fn fetch(&mut self) -> Result<Vec<(String, i64)>, CohortError> {
        self.snapshot.streaming = true;
        let rows: Vec<(String, i64)> = sqlx::query_as(AssertSqlSafe(format!("FETCH {PAGE} FROM cohort")))
            .persistent(false)
            .fetch_all(&mut *self.snapshot.connection)
            .await
            .map_err(|error| failed("finding a cohort", error))?;
        self.snapshot.streaming = false;
        self.open = rows.len() == PAGE;
        Ok(rows)
    }
}

fn failed(doing: &'static str, error: sqlx::Error) -> CohortError {
    match sqlstate(&error).as_deref() {
        Some("57014") => CohortError::TimedOut,
        _ => CohortError::Store(during(doing)(error)),
    }
}
