//! The resources of a type in a range of HAPI's row numbers, streamed in chunks out of one snapshot (rule 12).
//!
//! ```text
//! COPY resources ─► Heads: id, current version, time, by row number        COPY versions ─► text ─► meet(its head) ─► a chunk is full ─► Fetched
//!                   what no text has met: deleted, large objects, expunged versions ─► looked up by id ─────────────────────────────► Fetched
//! ```
//!
//! A range comes by COPY, which PostgreSQL writes and we read several times as fast as rows of a cursor, and as two plain scans: to join the tables takes
//! PostgreSQL longer than to read both, and us hardly anything. Only where many versions are old ones PostgreSQL is to leave them out. While a COPY streams,
//! its connection can be asked nothing else; large objects, unknown tags and lower versions are read over another one, in the same snapshot. A range of more
//! resources than is usual (what was written while others were loaded lies in the last one) is read in parts.

use std::fmt::Write as _;

use async_stream::try_stream;
use bytes::Bytes;
use futures::{Stream, TryStreamExt as _, stream::BoxStream};
use sqlx::{AssertSqlSafe, PgConnection, Postgres, Transaction, pool::PoolConnection};
use view_store::driver::begin;

use super::{
    Hapi, HapiError,
    heads::{Heads, Text},
    snapshot::{FIRST_CHUNK, READ_ONLY, next_chunk_after},
    states::{Current, Fetched, MetaRead},
    tuples::{Malformed, Tuples},
};

/// Bytes of text in a chunk of a range, about: enough that handing it on costs little, few enough that several fit into the memory.
const LOAD_BYTES: usize = 1024 * 1024;
/// Resources in one, at most.
const LOAD_ROWS: usize = 4_000;
/// Row numbers that are looked at for each range, about: of ranges of 20,000 resources one page in twenty.
const SAMPLES: u64 = 1_000;

pub(super) const DOING: &str = "loading a range";

/// A range of `res_id`: from `from` (inclusive) to `to` (exclusive); `None` is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    /// First.
    pub from: Option<i64>,
    /// One past the last.
    pub to: Option<i64>,
}

impl IdRange {
    /// Ranges between these bounds, the outer ones open.
    pub fn split_at(bounds: &[i64]) -> Vec<Self> {
        let ends = bounds.iter().copied().map(Some).chain([None]);
        let mut from = None;
        ends.map(|to| Self {
            from: std::mem::replace(&mut from, to),
            to,
        })
        .collect()
    }

    /// The condition, opening with AND, that a column lies within.
    pub(super) fn condition(self, column: &str) -> String {
        let mut condition = String::new();
        for (bound, operator) in [(self.from, ">="), (self.to, "<")] {
            if let Some(bound) = bound {
                let _ = write!(condition, " AND {column} {operator} {bound}");
            }
        }
        condition
    }
}

impl Hapi {
    /// Cuts the `count` resources of a type into ranges of about `size`, by a sample of their row numbers: those of a type may lie anywhere.
    pub async fn ranges(
        &self,
        resource_type: &str,
        count: u64,
        size: u64,
    ) -> Result<Vec<IdRange>, HapiError> {
        let ranges = count.div_ceil(size.max(1));
        if ranges <= 1 {
            return Ok(IdRange::split_at(&[]));
        }
        let doing = "looking for ranges";
        #[expect(clippy::cast_precision_loss, reason = "a share need not be exact")]
        let share = (100.0 * (ranges * SAMPLES) as f64 / count as f64).clamp(0.1, 100.0);
        let sql = format!(
            "SELECT r.res_id FROM hfj_resource r TABLESAMPLE SYSTEM ($2) WHERE r.res_type = $1{} ORDER BY r.res_id",
            self.inner.schema.partition
        );
        let sample: Vec<i64> = sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(resource_type)
            .bind(share)
            .fetch_all(&self.inner.pool)
            .await
            .map_err(HapiError::of(doing))?;
        let ranges = usize::try_from(ranges).unwrap_or(usize::MAX);
        let mut bounds: Vec<i64> = (1..ranges)
            .filter_map(|i| sample.get(i * sample.len() / ranges).copied())
            .collect();
        bounds.dedup();
        Ok(IdRange::split_at(&bounds))
    }

    /// Every resource of a range, deleted ones too, in chunks; one snapshot for the range. In memory are a chunk, and some 150 bytes for each resource of
    /// the range, of 50,000 at most.
    pub fn load(
        &self,
        resource_type: &str,
        range: IdRange,
        meta: MetaRead,
    ) -> impl Stream<Item = Result<Fetched, HapiError>> + Send + use<> {
        let (hapi, resource_type) = (self.clone(), resource_type.to_owned());
        try_stream! {
            let (mut snapshot, beside) = RangeSnapshot::begin(&hapi).await?;
            let schema = &hapi.inner.schema;
            let mut rest = Some(range);
            while let Some(part) = rest {
                let mut heads = Heads::read(snapshot.connection()?, schema.heads(&resource_type, part, meta)).await?;
                let (part, behind) = heads.part_of(part);
                rest = behind;
                let all = schema.partition.is_empty() && heads.have_few_old_versions();
                let sql = schema.texts(&resource_type, part, meta, all);
                {
                    let mut received = copy_out(snapshot.connection()?, &sql).await?;
                    let (mut tuples, mut rows, mut size) = (Tuples::default(), Vec::new(), 0);
                    while let Some(message) = received.try_next().await.map_err(HapiError::of(DOING))? {
                        tuples.take(message, |row| {
                            if let Some(text) = Text::of(row)?
                                && let Some(head) = heads.meet(&text)
                            {
                                size += text.body.len();
                                rows.push(Current::inline(head, text));
                            }
                            Ok::<_, Malformed>(())
                        })
                        .map_err(malformed)?;
                        if size >= LOAD_BYTES || rows.len() >= LOAD_ROWS {
                            size = 0;
                            yield hapi.fetched(std::mem::take(&mut rows), &beside).await?;
                        }
                    }
                    if !tuples.ended() {
                        Err(malformed(Malformed))?;
                    }
                    if !rows.is_empty() {
                        yield hapi.fetched(rows, &beside).await?;
                    }
                }
                let (mut ids, mut chunk) = (heads.without_text(), FIRST_CHUNK);
                while !ids.is_empty() {
                    let these = ids.split_off(ids.len().saturating_sub(chunk));
                    let fetched = hapi.looked_up(&resource_type, &these, &beside).await?;
                    chunk = next_chunk_after(fetched.len(), fetched.bytes());
                    yield fetched;
                }
            }
            snapshot.end().await?;
        }
    }

    /// Rows with what they refer to.
    async fn fetched(&self, rows: Vec<Current>, beside: &Beside) -> Result<Fetched, HapiError> {
        let rows = match self.complete_already(rows) {
            Ok(fetched) => return Ok(fetched),
            Err(rows) => rows,
        };
        let mut transaction = beside.transaction(self).await?;
        let fetched = self.complete(&mut transaction, rows).await?;
        transaction.rollback().await.map_err(HapiError::of(DOING))?;
        Ok(fetched)
    }

    /// Resources that came without a text.
    async fn looked_up(
        &self,
        resource_type: &str,
        ids: &[String],
        beside: &Beside,
    ) -> Result<Fetched, HapiError> {
        let mut transaction = beside.transaction(self).await?;
        let rows = self.current(&mut transaction, resource_type, ids).await?;
        let fetched = self.complete(&mut transaction, rows).await?;
        transaction.rollback().await.map_err(HapiError::of(DOING))?;
        Ok(fetched)
    }
}

pub(super) async fn copy_out<'c>(
    connection: &'c mut PgConnection,
    query: &str,
) -> Result<BoxStream<'c, Result<Bytes, sqlx::Error>>, HapiError> {
    let sql = format!("COPY ({query}) TO STDOUT (FORMAT binary)");
    connection.copy_out_raw(&sql).await.map_err(HapiError::of(DOING))
}

pub(super) fn malformed(_: Malformed) -> HapiError {
    HapiError::Database {
        doing: DOING,
        reason: "rows are not of the form that was asked for, or were broken off".to_owned(),
        transient: true,
    }
}

/// The snapshot of a range. Dropped before its end its connection is closed: what was being sent cannot be called off.
struct RangeSnapshot(Option<PoolConnection<Postgres>>);

/// A snapshot that others can join.
struct Beside(String);

impl RangeSnapshot {
    async fn begin(hapi: &Hapi) -> Result<(Self, Beside), HapiError> {
        let connection = hapi.inner.pool.acquire().await.map_err(HapiError::of(DOING))?;
        // Given up before its end it is closed: others must not get it within a transaction.
        let mut snapshot = Self(Some(connection));
        // It waits while what it does not have is looked up beside it.
        sqlx::raw_sql(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL idle_in_transaction_session_timeout = 0",
        )
        .execute(snapshot.connection()?)
        .await
        .map_err(HapiError::of(DOING))?;
        let beside = sqlx::query_scalar("SELECT pg_export_snapshot()")
            .fetch_one(snapshot.connection()?)
            .await
            .map_err(HapiError::of(DOING))?;
        Ok((snapshot, Beside(beside)))
    }

    fn connection(&mut self) -> Result<&mut PgConnection, HapiError> {
        self.0.as_deref_mut().ok_or_else(|| malformed(Malformed))
    }

    async fn end(mut self) -> Result<(), HapiError> {
        sqlx::raw_sql("ROLLBACK")
            .execute(self.connection()?)
            .await
            .map_err(HapiError::of(DOING))?;
        // Fit for others again.
        drop(self.0.take());
        Ok(())
    }
}

impl Drop for RangeSnapshot {
    fn drop(&mut self) {
        if let Some(mut connection) = self.0.take() {
            connection.close_on_drop();
        }
    }
}

impl Beside {
    async fn transaction(&self, hapi: &Hapi) -> Result<Transaction<'static, Postgres>, HapiError> {
        let mut transaction = begin(&hapi.inner.pool, READ_ONLY)
            .await
            .map_err(HapiError::of(DOING))?;
        sqlx::raw_sql(AssertSqlSafe(format!("SET TRANSACTION SNAPSHOT '{}'", self.0)))
            .execute(&mut *transaction)
            .await
            .map_err(HapiError::of(DOING))?;
        Ok(transaction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_cover_everything_once() {
        assert_eq!(IdRange::split_at(&[]), [IdRange { from: None, to: None }]);
        assert_eq!(
            IdRange::split_at(&[10, 20]),
            [
                IdRange {
                    from: None,
                    to: Some(10)
                },
                IdRange {
                    from: Some(10),
                    to: Some(20)
                },
                IdRange {
                    from: Some(20),
                    to: None
                }
            ]
        );
    }
}
