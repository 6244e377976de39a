//! Apply: what the speed layer holds becomes visible (rules 8 to 10). Used by the gateway's merger; any replica may.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use fhir_core::merge::{Entry, Layer, Mark, outranks, shows_preview};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::driver::is_lock_timeout;
use crate::error::during;
use crate::freshness::TypeRow;
use crate::insert::put_rows;
use crate::registry::check_generation;
use crate::tables::{self, Table};
use crate::{EvaluatedState, StoreError, TypeViews, ViewStore, ledger, locks};

/// The type's `speed` as it was when the speed store was asked: applying goes on only while it still is so.
pub type Cursor = Option<Mark>;

/// A reading with its rows.
#[derive(Debug, Clone)]
pub struct ReadingAt {
    /// State and rows.
    pub state: EvaluatedState,
    /// Number.
    pub n: i64,
    /// T.
    pub as_of: DateTime<Utc>,
}

/// A preview with its rows.
#[derive(Debug, Clone)]
pub struct ReceivedPreview {
    /// State and rows.
    pub state: EvaluatedState,
    /// By the ingestor's clock.
    pub received: DateTime<Utc>,
}

/// What comes with the last page of an answer: the previews, and the mark to move to.
#[derive(Debug, Clone, Default)]
pub struct LastPage {
    /// In the order in which they came.
    pub previews: Vec<ReceivedPreview>,
    /// The store's mark if it is later than the cursor; else the cursor stays.
    pub mark: Option<Mark>,
}

/// What a page did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AppliedPage {
    /// Readings that outranked what was shown.
    pub readings: usize,
    /// Previews that were shown.
    pub previews: usize,
}

/// Rows and ledger entries that a page leaves behind, decided before anything is written.
struct Decided<'a> {
    /// By id: what is shown at last, and its entry.
    shown: HashMap<&'a str, (&'a EvaluatedState, Entry)>,
    applied: AppliedPage,
}

/// What rules 7 to 10 make of readings and previews, one after the other.
fn decide<'a>(
    mut entries: HashMap<String, Entry>,
    row: &TypeRow,
    readings: &'a [ReadingAt],
    previews: &'a [ReceivedPreview],
    skew: TimeDelta,
) -> Decided<'a> {
    let mut decided = Decided {
        shown: HashMap::new(),
        applied: AppliedPage::default(),
    };
    let mut apply = |entries: &mut HashMap<String, Entry>, state: &'a EvaluatedState, n, received| {
        let entry = Entry {
            n,
            version: state.version,
            layer: Layer::Live,
            received,
        };
        entries.insert(state.id.clone(), entry.clone());
        decided.shown.insert(&state.id, (state, entry));
    };
    for reading in readings {
        let (state, entry) = (&reading.state, entries.get(&reading.state.id));
        if outranks(
            entry,
            row.published_n(),
            reading.n,
            Some(reading.as_of),
            state.version,
            skew,
        ) {
            apply(&mut entries, state, reading.n, None);
            decided.applied.readings += 1;
        }
    }
    for preview in previews {
        let (state, entry) = (&preview.state, entries.get(&preview.state.id));
        if shows_preview(
            entry,
            row.published_as_of(),
            state.version,
            state.last_updated,
            skew,
        ) {
            let n = entry.map_or_else(|| row.published_n(), |e| e.n);
            apply(&mut entries, state, n, Some(preview.received));
            decided.applied.previews += 1;
        }
    }
    decided
}

/// Of a merger's transactions.
fn settings() -> String {
    format!(
        "SET LOCAL synchronous_commit = off; SET LOCAL lock_timeout = '{}'; \
         SET LOCAL idle_in_transaction_session_timeout = '{}'",
        locks::MERGER_WAIT,
        locks::MERGER_LEASE
    )
}

/// One page in one transaction on this connection.
pub(crate) async fn apply_page(
    connection: &mut PgConnection,
    skew: TimeDelta,
    views: &TypeViews,
    start: Cursor,
    readings: &[ReadingAt],
    last: Option<&LastPage>,
) -> Result<Option<AppliedPage>, StoreError> {
    let doing = during("applying live changes");
    let mut transaction = connection.begin().await.map_err(doing)?;
    // Rows, ledger and cursor commit together, so what a crash loses it loses of all three; the speed store has it still.
    sqlx::raw_sql(AssertSqlSafe(settings()))
        .execute(&mut *transaction)
        .await
        .map_err(doing)?;
    locks::lock_type(&mut transaction, &views.resource_type).await?;
    let row = TypeRow::read(&mut transaction, &views.resource_type).await?;
    check_generation(views, &row)?;
    if row.speed() != start {
        return Ok(None);
    }
    let previews = last.map_or(&[][..], |l| &l.previews);
    let ids: Vec<&str> = readings
        .iter()
        .map(|r| r.state.id.as_str())
        .chain(previews.iter().map(|p| p.state.id.as_str()))
        .collect();
    let entries = ledger::entries(&mut transaction, &views.resource_type, &ids).await?;
    let decided = decide(entries, &row, readings, previews, skew);
    show(&mut transaction, views, &decided).await?;
    if let Some(mark) = last.and_then(|l| l.mark) {
        move_cursor(&mut transaction, &views.resource_type, start, mark).await?;
    }
    transaction.commit().await.map_err(doing)?;
    Ok(Some(decided.applied))
}

/// Rule 10 for all views: base rows wait in shadowed, the live rows are those of the state that is shown.
async fn show(
    connection: &mut PgConnection,
    views: &TypeViews,
    decided: &Decided<'_>,
) -> Result<(), StoreError> {
    if decided.shown.is_empty() {
        return Ok(());
    }
    let doing = during("applying live changes");
    let mut shown: Vec<_> = decided.shown.iter().collect();
    shown.sort_unstable_by_key(|(id, _)| **id);
    let ids: Vec<&str> = shown.iter().map(|(id, _)| **id).collect();
    let mut failures = Vec::new();
    for (index, view) in views.views.iter().enumerate() {
        let (name, columns) = (view.name(), tables::all_columns(view.columns()));
        let [base, live, shadowed] = Table::ALL.map(|table| table.of(name));
        let shadow = format!(
            "WITH moved AS (DELETE FROM {base} WHERE _rid = ANY ($1) RETURNING {columns}) \
             INSERT INTO {shadowed} ({columns}) SELECT {columns} FROM moved"
        );
        for sql in [shadow, format!("DELETE FROM {live} WHERE _rid = ANY ($1)")] {
            sqlx::query(AssertSqlSafe(sql))
                .bind(&ids)
                .execute(&mut *connection)
                .await
                .map_err(doing)?;
        }
        let tuples: Vec<&[u8]> = shown.iter().map(|(_, (state, _))| state.rows_in(index)).collect();
        put_rows(connection, &live, view.columns(), &tuples).await?;
        failures.extend(
            shown
                .iter()
                .filter_map(|(_, (state, _))| state.failure_in(index, name)),
        );
    }
    let entries: Vec<(&str, &Entry)> = shown.iter().map(|(id, (_, entry))| (**id, entry)).collect();
    ledger::put(connection, &views.resource_type, &entries).await?;
    let names: Vec<&str> = views.views.iter().map(|v| v.name()).collect();
    ledger::replace_failures(connection, &views.resource_type, &names, &ids, &failures).await
}

/// Only from where it was read. A type without a row has no views, so there is nothing to move.
async fn move_cursor(
    connection: &mut PgConnection,
    resource_type: &str,
    start: Cursor,
    mark: Mark,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE sqlonfhir_meta.resource_type SET speed_n = $2, speed_as_of = $3 WHERE type = $1 \
         AND speed_n IS NOT DISTINCT FROM $4 AND speed_as_of IS NOT DISTINCT FROM $5",
    )
    .bind(resource_type)
    .bind(mark.n)
    .bind(mark.as_of)
    .bind(start.map(|m| m.n))
    .bind(start.map(|m| m.as_of))
    .execute(connection)
    .await
    .map_err(during("moving the cursor"))?;
    Ok(())
}

impl ViewStore {
    /// One transaction (asynchronous commit) under the type's lock: rows, ledger and, with `last`, the cursor. For answers of one page; the pages
    /// of a longer one go over one [`ApplySession`](crate::ApplySession).
    ///
    /// `Ok(None)`: the type's `speed` is no longer `start`: another replica has moved it; ask the speed store again.
    /// `StoreError::ViewsChanged`: load the views and evaluate again.
    pub async fn apply_page(
        &self,
        views: &TypeViews,
        start: Cursor,
        readings: &[ReadingAt],
        last: Option<&LastPage>,
    ) -> Result<Option<AppliedPage>, StoreError> {
        self.apply_session()
            .await?
            .apply_page(views, start, readings, last)
            .await
    }

    /// Moves the cursors of several types that have nothing but a later mark, in one transaction; types whose `speed` has moved are left out, and so
    /// are those whose lock another holds for long.
    pub async fn apply_marks(&self, marks: &[(String, Cursor, Mark)]) -> Result<(), StoreError> {
        let mut marks: Vec<_> = marks.iter().collect();
        // Locks of several types are always taken in one order.
        marks.sort_unstable_by_key(|(resource_type, _, _)| locks::key(resource_type));
        if self.move_cursors(&marks).await? {
            return Ok(());
        }
        for mark in marks {
            self.move_cursors(&[mark]).await?;
        }
        Ok(())
    }

    /// False: a lock was not to be had, and nothing was moved.
    async fn move_cursors(&self, marks: &[&(String, Cursor, Mark)]) -> Result<bool, StoreError> {
        let doing = during("moving the cursors");
        let mut transaction = self.begin().await?;
        sqlx::raw_sql(AssertSqlSafe(settings()))
            .execute(&mut *transaction)
            .await
            .map_err(doing)?;
        for (resource_type, _, _) in marks {
            match locks::lock_type_raw(&mut transaction, resource_type).await {
                Err(error) if is_lock_timeout(&error) => return Ok(false),
                locked => locked.map_err(doing)?,
            }
        }
        for (resource_type, start, mark) in marks {
            move_cursor(&mut transaction, resource_type, *start, *mark).await?;
        }
        transaction.commit().await.map_err(doing)?;
        Ok(true)
    }
}
