//! Apply: what the speed layer holds becomes visible (rules 8 to 10). Used by the gateway's merger; any replica may.
//!
//! ```text
//! page ─begin, lock─► the type's row, ledger ─decide─► what is shown, entries ─show─► rows, ledger, cursor ─commit─► visible
//! ```
//!
//! Each arrow is one message to PostgreSQL and one answer. Beside readers that take all cores every answer waits for its turn on one, so the time until a change is
//! visible is the number of them.

mod show;

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use fhir_core::merge::{Entry, Layer, Mark, outranks, shows_preview};
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, PgConnection, Postgres, SqlSafeStr as _};

use crate::driver::is_lock_timeout;
use crate::error::during;
use crate::freshness::TypeRow;
use crate::registry::check_generation;
use crate::{EvaluatedState, StoreError, TypeViews, ViewStore, ledger, locks, transaction};

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
    // Rows, ledger and cursor commit together, so what a crash loses it loses of all three; the speed store has it still.
    let lock = locks::lock_type_sql(&views.resource_type);
    let begin = AssertSqlSafe(format!("BEGIN; {}; {lock}", settings())).into_sql_str();
    if let Err(error) = transaction::begin(connection, Some(begin)).await {
        // It may have begun and not got the lock, of which the driver knows nothing.
        let _lost = sqlx::raw_sql("ROLLBACK").execute(&mut *connection).await;
        return Err(during("taking the type's lock")(error));
    }
    let applied = apply_locked(connection, skew, views, start, readings, last).await;
    let ended = match applied {
        Ok(Some(_)) => transaction::commit(connection).await,
        _ => transaction::rollback(connection).await,
    };
    let applied = applied?;
    ended.map_err(doing)?;
    Ok(applied)
}

/// What is done under the type's lock.
async fn apply_locked(
    connection: &mut PgConnection,
    skew: TimeDelta,
    views: &TypeViews,
    start: Cursor,
    readings: &[ReadingAt],
    last: Option<&LastPage>,
) -> Result<Option<AppliedPage>, StoreError> {
    let previews = last.map_or(&[][..], |l| &l.previews);
    let ids: Vec<&str> = readings
        .iter()
        .map(|r| r.state.id.as_str())
        .chain(previews.iter().map(|p| p.state.id.as_str()))
        .collect();
    let (row, entries) = ledger::type_and_entries(connection, &views.resource_type, &ids).await?;
    check_generation(views, &row)?;
    if row.speed() != start {
        return Ok(None);
    }
    let decided = decide(entries, &row, readings, previews, skew);
    let mark = last.and_then(|last| last.mark);
    match mark {
        Some(mark) if decided.shown.is_empty() => {
            move_cursor(connection, &views.resource_type, start, mark).await?;
        }
        mark => show::show(connection, views, &decided, start, mark).await?,
    }
    Ok(Some(decided.applied))
}

/// Only from where it was read. A type without a row has no views, so there is nothing to move. Parameters: the type is `$1`; n and T of the mark, and of the
/// cursor before, are `first` and the next three.
fn move_cursor_sql(first: usize) -> String {
    let [n, as_of, start_n, start_as_of] = [0, 1, 2, 3].map(|i| first + i);
    format!(
        "UPDATE sqlonfhir_meta.resource_type SET speed_n = ${n}, speed_as_of = ${as_of} WHERE type = $1 \
         AND speed_n IS NOT DISTINCT FROM ${start_n} AND speed_as_of IS NOT DISTINCT FROM ${start_as_of}"
    )
}

/// Binds the parameters of [`move_cursor_sql`] but for the type.
fn bind_cursor(
    query: Query<'_, Postgres, PgArguments>,
    start: Cursor,
    mark: Mark,
) -> Query<'_, Postgres, PgArguments> {
    query
        .bind(mark.n)
        .bind(mark.as_of)
        .bind(start.map(|m| m.n))
        .bind(start.map(|m| m.as_of))
}

async fn move_cursor(
    connection: &mut PgConnection,
    resource_type: &str,
    start: Cursor,
    mark: Mark,
) -> Result<(), StoreError> {
    let query = sqlx::query(AssertSqlSafe(move_cursor_sql(2))).bind(resource_type);
    bind_cursor(query, start, mark)
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
