//! One snapshot of HAPI's PostgreSQL: what has changed since a position, and the current state of resources.

use std::{collections::HashMap, sync::atomic::Ordering, time::Duration};

use chrono::{DateTime, NaiveDateTime, Utc};
use fhir_core::{
    merge::Position,
    resource::{Content, State},
};
use sqlx::{AssertSqlSafe, PgConnection, Postgres, Row as _, Transaction};
use view_store::driver::begin;

use super::{Hapi, HapiError, TIMELINE, states::Current};

/// How a snapshot begins: it is that of the transaction's first query.
pub(super) const READ_ONLY: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
/// Resources whose states are read by one statement, at most.
pub(crate) const CHUNK: usize = 500;
/// Bodies that one statement should bring, about.
const CHUNK_BYTES: usize = 4 * 1024 * 1024;
/// Resources of the first statement, before it is known how large they are.
pub(crate) const FIRST_CHUNK: usize = 50;

/// How many resources the next statement reads, after one that brought these.
pub(crate) fn next_chunk(states: &[State]) -> usize {
    next_chunk_after(states.len(), states.iter().map(body_bytes).sum())
}

/// The same after so many bytes of so many resources: memory follows bytes, and bodies may have a kilobyte or many megabytes.
pub(super) fn next_chunk_after(resources: usize, bytes: usize) -> usize {
    let average = bytes / resources.max(1);
    (CHUNK_BYTES / average.max(1)).clamp(1, CHUNK)
}

/// Bytes of a state's body.
pub(crate) fn body_bytes(state: &State) -> usize {
    match &state.content {
        Content::Body(body) => body.len(),
        Content::Deleted | Content::Unreadable(_) => 0,
    }
}

/// What reading costs HAPI's PostgreSQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Statements, those that begin and end the snapshot and read the clock before it among them.
    pub statements: u64,
    /// Rows that they answered.
    pub rows: u64,
}

impl Cost {
    /// Clock, BEGIN, what the snapshot is, ROLLBACK.
    const OF_A_SNAPSHOT: Self = Self {
        statements: 4,
        rows: 2,
    };

    fn add(&mut self, rows: usize) {
        self.statements += 1;
        self.rows += rows as u64;
    }
}

/// An open snapshot (`REPEATABLE READ READ ONLY`). Dropping it ends the transaction.
pub struct HapiSnapshot {
    hapi: Hapi,
    transaction: Transaction<'static, Postgres>,
    /// Oldest transaction that was in progress, widened by its epoch.
    pub xmin: u64,
    /// First transaction that had not begun to write, widened by its epoch.
    pub xmax: u64,
    /// The timeline that the snapshot belongs to.
    pub timeline: String,
    cost: Cost,
}

impl Hapi {
    /// Opens a snapshot.
    pub async fn snapshot(&self) -> Result<HapiSnapshot, HapiError> {
        let doing = "opening a snapshot";
        let mut transaction = begin(&self.inner.pool, READ_ONLY)
            .await
            .map_err(HapiError::of(doing))?;
        let sql = format!(
            "SELECT pg_snapshot_xmin(s)::text, pg_snapshot_xmax(s)::text, ({TIMELINE}) FROM pg_current_snapshot() s"
        );
        let row = sqlx::query(AssertSqlSafe(sql))
            .fetch_one(&mut *transaction)
            .await
            .map_err(HapiError::of(doing))?;
        let xid = |i: usize| -> Result<u64, HapiError> {
            let text: String = row.try_get(i).map_err(HapiError::of(doing))?;
            text.parse().map_err(|_| HapiError::Database {
                doing,
                reason: "not a transaction number".to_owned(),
                transient: false,
            })
        };
        let (xmin, xmax) = (xid(0)?, xid(1)?);
        let timeline = row.try_get(2).map_err(HapiError::of(doing))?;
        Ok(HapiSnapshot {
            hapi: self.clone(),
            transaction,
            xmin,
            xmax,
            timeline,
            cost: Cost::OF_A_SNAPSHOT,
        })
    }
}

/// How many transaction numbers a row's xmin may lie below the snapshot's xmax to be new since `since_xmin` (rule 3).
///
/// A row carries 32 bits of its transaction's number. Every transaction that a snapshot sees lies below its xmax, so the distance to xmax,
/// modulo 2^32, says the whole number: at or above `since_xmin` exactly if the distance is at most this. After 2^32 transactions every row
/// counts as new; so does one whose number is older than an epoch, by chance: both are only read again.
pub(super) fn reach(xmax: u64, since_xmin: u64) -> i64 {
    const WHOLE_EPOCH: u64 = u32::MAX as u64;
    i64::try_from(
        xmax.checked_sub(since_xmin)
            .unwrap_or(WHOLE_EPOCH)
            .min(WHOLE_EPOCH),
    )
    .unwrap_or(i64::MAX)
}

impl HapiSnapshot {
    pub(super) fn hapi(&self) -> &Hapi {
        &self.hapi
    }

    /// What was read over it so far.
    pub(crate) fn cost(&self) -> Cost {
        self.cost
    }

    pub(super) fn connection(&mut self) -> &mut PgConnection {
        &mut self.transaction
    }

    /// Each statement from here on may take so long. For readings that others wait for: when they have gone, the driver does not cancel what runs.
    pub(crate) async fn limit_statements(&mut self, limit: Duration) -> Result<(), HapiError> {
        self.cost.add(0);
        let sql = format!("SET LOCAL statement_timeout = {}", limit.as_millis());
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&mut *self.transaction)
            .await
            .map(|_| ())
            .map_err(HapiError::of("limiting statements"))
    }

    /// Ids with a version that is visible here and may not have been at `since` (rule 3): its transaction, widened by the epoch, is not below
    /// `since.xmin`, and its `res_updated` not before `since.bound`. Sub-transactions of one still open lie above its xmin too.
    ///
    /// With `floor` no version dated earlier is looked at. At most `limit` ids.
    pub async fn changed_since(
        &mut self,
        resource_type: &str,
        since: &Position,
        floor: Option<DateTime<Utc>>,
        limit: Option<usize>,
    ) -> Result<Vec<String>, HapiError> {
        let schema = &self.hapi.inner.schema;
        let bound = floor.map_or(since.bound, |floor| floor.max(since.bound));
        let updated = self
            .hapi
            .inner
            .zone
            .floor(bound, since.as_of.max(bound) + self.hapi.inner.margin);
        let sql = format!(
            "SELECT {} AS id, min(v.res_updated) FROM hfj_res_ver v JOIN hfj_resource r ON r.res_id = v.res_id{}
             WHERE v.res_type = $1 AND v.res_updated >= $2 AND (($3 - v.xmin::text::bigint) & 4294967295) <= $4{} GROUP BY 1 LIMIT $5",
            schema.id, schema.id_join, schema.partition
        );
        let xmax = i64::try_from(self.xmax).unwrap_or(i64::MAX);
        let changed: Vec<(String, NaiveDateTime)> = sqlx::query_as(AssertSqlSafe(sql))
            .bind(resource_type)
            .bind(updated)
            .bind(xmax)
            .bind(reach(self.xmax, since.xmin))
            .bind(limit.map_or(i64::MAX, |l| i64::try_from(l).unwrap_or(i64::MAX)))
            .fetch_all(&mut *self.transaction)
            .await
            .map_err(HapiError::of("reading what has changed"))?;
        self.cost.add(changed.len());
        // What a limit has left out may be older.
        let all = floor.is_none() && limit.is_none_or(|limit| changed.len() < limit);
        if let (true, Some(oldest)) = (all, changed.iter().map(|(_, updated)| *updated).min()) {
            self.hapi
                .inner
                .margin_left
                .fetch_min((oldest - updated).num_milliseconds(), Ordering::Relaxed);
        }
        Ok(changed.into_iter().map(|(id, _)| id).collect())
    }

    /// The current states of at most some hundreds of resources, in the order of `ids` (sorted, without doubles). One that HAPI has no row of is gone, at
    /// `at`.
    pub(crate) async fn states(
        &mut self,
        resource_type: &str,
        ids: &[String],
        at: DateTime<Utc>,
    ) -> Result<Vec<State>, HapiError> {
        let hapi = self.hapi.clone();
        let rows = hapi.current(&mut self.transaction, resource_type, ids).await?;
        let states = self.states_of(rows).await?;
        let mut found: HashMap<String, State> = states.into_iter().map(|s| (s.id.clone(), s)).collect();
        Ok(ids
            .iter()
            .map(|id| found.remove(id).unwrap_or_else(|| State::gone(id, at)))
            .collect())
    }

    /// The same of versions, of which HAPI may have some no more.
    pub(crate) async fn versions(
        &mut self,
        resource_type: &str,
        wanted: &[(String, i64)],
        at: DateTime<Utc>,
    ) -> Result<Vec<State>, HapiError> {
        let hapi = self.hapi.clone();
        let rows = hapi
            .versions(&mut self.transaction, resource_type, wanted)
            .await?;
        let states = self.states_of(rows).await?;
        let mut found: HashMap<(String, i64), State> = states
            .into_iter()
            .map(|s| ((s.id.clone(), s.version), s))
            .collect();
        Ok(wanted
            .iter()
            .map(|key| found.remove(key).unwrap_or_else(|| State::gone(&key.0, at)))
            .collect())
    }

    async fn states_of(&mut self, rows: Vec<Current>) -> Result<Vec<State>, HapiError> {
        self.cost.add(rows.len());
        let hapi = self.hapi.clone();
        Ok(hapi.complete(&mut self.transaction, rows).await?.states())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the statement computes for a row.
    fn is_new(xmax: u64, since_xmin: u64, row_xmin: u64) -> bool {
        let low = i64::try_from(row_xmin & u64::from(u32::MAX)).unwrap();
        (i64::try_from(xmax).unwrap() - low) & 0xffff_ffff <= reach(xmax, since_xmin)
    }

    #[test]
    fn a_rows_number_is_widened_by_the_epoch_of_the_snapshot() {
        let epoch = 1 << 32;
        assert!(is_new(1_000, 900, 900));
        assert!(!is_new(1_000, 900, 899));
        // the snapshot has passed into the next epoch, the position has not
        let (since, xmax) = (3 * epoch - 5, 3 * epoch + 7);
        assert!(is_new(xmax, since, 3 * epoch - 5));
        assert!(is_new(xmax, since, 3 * epoch - 1));
        assert!(is_new(xmax, since, 3 * epoch + 4));
        assert!(!is_new(xmax, since, 3 * epoch - 6));
    }

    #[test]
    fn when_in_doubt_a_row_is_read_again() {
        let epoch: u64 = 1 << 32;
        assert!(
            is_new(5 * epoch, 3 * epoch, 4 * epoch + 1),
            "more than an epoch has passed"
        );
        assert!(is_new(100, 200, 50), "a position ahead of the snapshot");
        assert!(
            is_new(2 * epoch + 10, 2 * epoch + 5, epoch + 6),
            "a frozen row of an older epoch looks new"
        );
    }
}
