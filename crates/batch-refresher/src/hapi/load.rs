//! Resources of a type, streamed in chunks out of one snapshot: everything in a range of HAPI's row numbers (rule 12), or what a selection says.
//!
//! A range comes by COPY, which PostgreSQL writes and we read several times as fast as rows of a cursor. While it streams, its connection can
//! be asked nothing else; large objects, unknown tags and lower versions are read over another one, in the same snapshot.

use std::fmt::Write as _;

use async_stream::try_stream;
use chrono::{DateTime, Utc};
use fhir_core::resource::State;
use futures::{Stream, TryStreamExt as _, stream};
use sqlx::{AssertSqlSafe, PgConnection, Postgres, Transaction, pool::PoolConnection};

use super::{
    Hapi, HapiError, Schema,
    snapshot::{FIRST_CHUNK, next_chunk},
    states::{Current, Fetched, MetaRead},
    tuples::{Malformed, Tuples},
};

/// Bytes of text in a chunk of a range, about: enough that handing it on costs little, few enough that several fit into the memory.
const LOAD_BYTES: usize = 1024 * 1024;
/// Row numbers that are looked at for each range, about: the ranges' sizes then differ by a tenth.
const SAMPLES: u64 = 100;
/// Resources in one, at most.
const LOAD_ROWS: usize = 4_000;

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
}

impl IdRange {
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
        let sql =
            "SELECT res_id FROM hfj_resource TABLESAMPLE SYSTEM ($2) WHERE res_type = $1 ORDER BY res_id";
        let sample: Vec<i64> = sqlx::query_scalar(sql)
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

    /// Every resource of a range, deleted ones too, in chunks; one snapshot for the range.
    pub fn load(
        &self,
        resource_type: &str,
        range: IdRange,
        meta: MetaRead,
    ) -> impl Stream<Item = Result<Fetched, HapiError>> + Send + use<> {
        let (hapi, resource_type) = (self.clone(), resource_type.to_owned());
        let doing = "loading a range";
        try_stream! {
            let (mut snapshot, beside) = RangeSnapshot::begin(&hapi).await?;
            let query = hapi.inner.schema.range_states(&resource_type, range, meta);
            {
                let sql = format!("COPY ({query}) TO STDOUT (FORMAT binary)");
                let mut received = snapshot.connection()?.copy_out_raw(&sql).await.map_err(HapiError::of(doing))?;
                let (mut tuples, mut rows, mut size) = (Tuples::default(), Vec::new(), 0);
                while let Some(message) = received.try_next().await.map_err(HapiError::of(doing))? {
                    tuples.take(message, |row| {
                        let row = Current::of_tuple(row)?;
                        size += row.text_bytes();
                        rows.push(row);
                        Ok::<_, Malformed>(())
                    })
                    .map_err(malformed)?;
                    if size >= LOAD_BYTES || rows.len() >= LOAD_ROWS {
                        size = 0;
                        yield hapi.fetched(&resource_type, std::mem::take(&mut rows), &beside).await?;
                    }
                }
                if !tuples.ended() {
                    Err(malformed(Malformed))?;
                }
                if !rows.is_empty() {
                    yield hapi.fetched(&resource_type, rows, &beside).await?;
                }
            }
            snapshot.end().await?;
        }
    }

    /// Rows of a range with what they refer to; those that came without a text are read again, each by itself.
    async fn fetched(
        &self,
        resource_type: &str,
        rows: Vec<Current>,
        beside: &Beside,
    ) -> Result<Fetched, HapiError> {
        let (whole, lacking): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.found.is_some());
        let rows = match (lacking.is_empty(), self.complete_already(whole)) {
            (true, Ok(fetched)) => return Ok(fetched),
            (_, Ok(fetched)) => fetched.into_rows(),
            (_, Err(rows)) => rows,
        };
        let mut transaction = beside.transaction(self).await?;
        let lower = if lacking.is_empty() {
            Vec::new()
        } else {
            let ids: Vec<String> = lacking.into_iter().map(|row| row.id).collect();
            self.current(&mut transaction, resource_type, &ids).await?
        };
        let rows = rows.into_iter().chain(lower).collect();
        let fetched = self.complete(&mut transaction, rows).await?;
        transaction
            .rollback()
            .await
            .map_err(HapiError::of("loading a range"))?;
        Ok(fetched)
    }

    /// The resources that are not deleted and that `selection` says, the most recently updated first; one snapshot.
    pub fn select(
        &self,
        resource_type: &str,
        selection: &Selection,
    ) -> impl Stream<Item = Result<Vec<State>, HapiError>> + Send + use<> {
        let resource_type = literal(resource_type);
        let mut condition = format!("r.res_type = {resource_type} AND r.res_deleted_at IS NULL");
        let schema = &self.inner.schema;
        if !selection.ids.is_empty() {
            let _ = write!(
                condition,
                " AND {}",
                schema.id_among(&resource_type, &selection.ids)
            );
        }
        if !selection.patients.is_empty() {
            let patient = literal("Patient");
            let among = schema.id_among(&patient, &selection.patients);
            let _ = if resource_type == patient {
                write!(condition, " AND {among}")
            } else {
                write!(
                    condition,
                    " AND r.res_id IN (SELECT l.src_resource_id FROM hfj_res_link l WHERE l.target_resource_id IN \
                     (SELECT r.res_id FROM hfj_resource r{} WHERE r.res_type = {patient} AND {among}{}))",
                    schema.id_join, schema.partition
                )
            };
        }
        if let Some(since) = selection.since {
            // The clock may have been set back since: what this lets in too early is left out below.
            let face = self
                .inner
                .zone
                .floor(since, since)
                .format("%Y-%m-%dT%H:%M:%S%.6f");
            let _ = write!(condition, " AND r.res_updated >= '{face}'");
        }
        let mut order = " ORDER BY r.res_updated DESC, r.res_id DESC".to_owned();
        if let Some(limit) = selection.limit {
            let _ = write!(order, " LIMIT {limit}");
        }
        let since = selection.since;
        self.stream(&condition, &order).map_ok(move |mut states| {
            states.retain(|state| since.is_none_or(|since| state.last_updated >= since));
            states
        })
    }

    fn stream(
        &self,
        condition: &str,
        order: &str,
    ) -> impl Stream<Item = Result<Vec<State>, HapiError>> + Send + use<> {
        let query = self.inner.schema.current_states(condition);
        let declare = format!("DECLARE load NO SCROLL CURSOR FOR {query}{order}");
        stream::try_unfold(
            Loading::Begin {
                hapi: self.clone(),
                declare,
            },
            Loading::next,
        )
    }
}

/// Which resources of a type.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Of these ids; empty means all.
    pub ids: Vec<String>,
    /// That refer to one of these patients (of the type Patient: these); empty means all.
    pub patients: Vec<String>,
    /// Updated at or after this.
    pub since: Option<DateTime<Utc>>,
    /// At most so many.
    pub limit: Option<i64>,
}

impl Schema {
    /// The condition on `r` that its logical id is one of these, as a query without parameters has it.
    fn id_among(&self, resource_type: &str, ids: &[String]) -> String {
        let ids: Vec<String> = ids.iter().map(|id| literal(id)).collect();
        let ids = format!("ARRAY[{}]::text[]", ids.join(","));
        let id_in = self.id_in.replace("$1", resource_type);
        // Each place is filled once: an id is never looked at for places.
        id_in.replace("$2::text[]", "$2").replace("$2", &ids)
    }
}

fn malformed(_: Malformed) -> HapiError {
    HapiError::Database {
        doing: "loading a range",
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
        let doing = "loading a range";
        let mut connection = hapi.inner.pool.acquire().await.map_err(HapiError::of(doing))?;
        sqlx::raw_sql("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            .execute(&mut *connection)
            .await
            .map_err(HapiError::of(doing))?;
        let mut snapshot = Self(Some(connection));
        let beside = sqlx::query_scalar("SELECT pg_export_snapshot()")
            .fetch_one(snapshot.connection()?)
            .await
            .map_err(HapiError::of(doing))?;
        Ok((snapshot, Beside(beside)))
    }

    fn connection(&mut self) -> Result<&mut PgConnection, HapiError> {
        self.0.as_deref_mut().ok_or_else(|| malformed(Malformed))
    }

    async fn end(mut self) -> Result<(), HapiError> {
        sqlx::raw_sql("ROLLBACK")
            .execute(self.connection()?)
            .await
            .map_err(HapiError::of("loading a range"))?;
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
        let doing = "loading a range";
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        let mut transaction = hapi
            .inner
            .pool
            .begin_with(begin)
            .await
            .map_err(HapiError::of(doing))?;
        sqlx::raw_sql(AssertSqlSafe(format!("SET TRANSACTION SNAPSHOT '{}'", self.0)))
            .execute(&mut *transaction)
            .await
            .map_err(HapiError::of(doing))?;
        Ok(transaction)
    }
}

/// A text as SQL has it: a cursor's query takes no parameters.
pub(super) fn literal(text: &str) -> String {
    // A backslash means different things under different settings of the server, unless the form says so itself.
    let escaping = if text.contains('\\') { "E" } else { "" };
    format!(
        "{escaping}'{}'",
        text.replace('\\', "\\\\").replace('\'', "''").replace('\0', "")
    )
}

/// A range that is being loaded: through a cursor, so that large objects and tags are read over the same connection in between.
enum Loading {
    Begin {
        hapi: Hapi,
        declare: String,
    },
    Open {
        hapi: Hapi,
        transaction: Transaction<'static, Postgres>,
        /// Resources that the next statement fetches.
        chunk: usize,
    },
}

impl Loading {
    async fn next(self) -> Result<Option<(Vec<State>, Self)>, HapiError> {
        let (hapi, mut transaction, chunk) = match self {
            Self::Open {
                hapi,
                transaction,
                chunk,
            } => (hapi, transaction, chunk),
            Self::Begin { hapi, declare } => {
                let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
                let mut transaction = hapi
                    .inner
                    .pool
                    .begin_with(begin)
                    .await
                    .map_err(HapiError::of("loading a range"))?;
                // The whole range will be fetched: plan for the end, not for the first rows.
                for sql in ["SET LOCAL cursor_tuple_fraction = 1.0".to_owned(), declare] {
                    sqlx::raw_sql(AssertSqlSafe(sql))
                        .execute(&mut *transaction)
                        .await
                        .map_err(HapiError::of("loading a range"))?;
                }
                (hapi, transaction, FIRST_CHUNK)
            }
        };
        let rows = sqlx::query(AssertSqlSafe(format!("FETCH {chunk} FROM load")))
            .persistent(false)
            .fetch_all(&mut *transaction)
            .await
            .map_err(HapiError::of("loading a range"))?;
        if rows.is_empty() {
            transaction
                .rollback()
                .await
                .map_err(HapiError::of("loading a range"))?;
            return Ok(None);
        }
        let states = hapi.states_of(&mut transaction, rows).await?;
        let chunk = next_chunk(&states);
        let open = Self::Open {
            hapi,
            transaction,
            chunk,
        };
        Ok(Some((states, open)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_cannot_end_its_literal() {
        assert_eq!(literal("a-1"), "'a-1'");
        assert_eq!(literal("x' OR '1'='1"), "'x'' OR ''1''=''1'");
        assert_eq!(literal("\\' --"), "E'\\\\'' --'");
    }

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
