//! Cohorts: the distinct patients of rows in several views, found by one statement in one snapshot, and how fresh each of the views is in it.
//!
//! ```text
//! cohort(views) ─► lock, snapshot, definitions and freshness ─► find(select) ─► count, ids as they are read
//! ```
//!
//! All patients are found, counted and sorted before the first row comes, so the time-out is on that: whoever reads the rest slowly is not cut off by it. (A cursor would
//! allow the same, but PostgreSQL plans none with parallel workers: measured, three times as long.)

mod statement;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use fhir_core::view::CompiledView;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Postgres, Row as _};

use self::statement::{Seen, Statement};
use crate::driver::sqlstate;
use crate::error::during;
use crate::registry::unknown_view;
use crate::tables::Table;
use crate::{Condition, Snapshot, StoreError, TypeFreshness, ViewStore};

const FINDING: &str = "finding a cohort";

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
    timeout: Duration,
}

/// The patients that were found.
pub struct FoundPatients<'a> {
    /// How many there are, whatever the limit.
    pub count: i64,
    /// Ids in ascending order of their bytes; none where only their number was asked for.
    pub ids: BoxStream<'a, Result<String, CohortError>>,
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
        self.pulse
            .unless_silent(Box::pin(self.open_cohort(views, timeout)))
            .await
    }

    async fn open_cohort(
        &self,
        views: &BTreeSet<String>,
        timeout: Duration,
    ) -> Result<CohortSnapshot, CohortError> {
        const DOING: &str = "opening a cohort";
        let mut snapshot = self.snapshot(None).await?;
        // Neither this nor a lock takes the snapshot.
        limit_statements(&mut snapshot, timeout).await?;
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
            timeout,
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

/// Nothing is written.
async fn settle(snapshot: &mut Snapshot) -> Result<(), StoreError> {
    sqlx::raw_sql("SET TRANSACTION READ ONLY")
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

    /// Finds the patients.
    pub async fn find(&mut self, select: &CohortSelect) -> Result<FoundPatients<'_>, CohortError> {
        let pulse = self.snapshot.pulse();
        let found = pulse.unless_silent(self.find_now(select)).await?;
        Ok(FoundPatients {
            count: found.count,
            ids: pulse.watched(found.ids).boxed(),
        })
    }

    async fn find_now(&mut self, select: &CohortSelect) -> Result<FoundPatients<'_>, CohortError> {
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
        // From here on we look at the clock.
        limit_statements(&mut self.snapshot, Duration::ZERO).await?;
        let Snapshot {
            connection,
            streaming,
            ..
        } = &mut self.snapshot;
        // Whoever goes while it runs, or does not wait any longer, ends it with its connection.
        *streaming = true;
        let query = sqlx::query_with(AssertSqlSafe(statement.sql), arguments).persistent(false);
        let mut rows = query.fetch(&mut **connection);
        let first = tokio::time::timeout(self.timeout, rows.next()).await;
        let first = match first.map_err(|_| CohortError::TimedOut)? {
            None => None,
            Some(row) => Some(row.map_err(|error| failed(FINDING, error))?),
        };
        let count = match &first {
            // Every row knows of how many it is one: its last column.
            Some(row) => value(row, row.len() - 1)?,
            None => 0,
        };
        let first = first.filter(|_| !select.count_only);
        let rest = stream::unfold((rows, streaming), |(mut rows, streaming)| async move {
            let row = rows.next().await;
            if row.is_none() {
                *streaming = false;
            }
            Some((row?, (rows, streaming)))
        });
        let ids = stream::iter(first.map(Ok)).chain(rest).map(|row| {
            let row = row.map_err(|error| failed(FINDING, error))?;
            value(&row, 0)
        });
        Ok(FoundPatients {
            count,
            ids: ids.boxed(),
        })
    }
}

/// Zero is no limit.
async fn limit_statements(snapshot: &mut Snapshot, limit: Duration) -> Result<(), CohortError> {
    let sql = format!("SET LOCAL statement_timeout = {}", limit.as_millis());
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(&mut *snapshot.connection)
        .await
        .map(|_| ())
        .map_err(|error| failed("opening a cohort", error))
}

fn value<'r, T>(row: &'r PgRow, column: usize) -> Result<T, CohortError>
where
    T: sqlx::Decode<'r, Postgres> + sqlx::Type<Postgres>,
{
    row.try_get(column).map_err(|error| failed(FINDING, error))
}

fn failed(doing: &'static str, error: sqlx::Error) -> CohortError {
    match sqlstate(&error).as_deref() {
        Some("57014") => CohortError::TimedOut,
        _ => CohortError::Store(during(doing)(error)),
    }
}
