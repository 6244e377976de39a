//! Resources of a type, streamed in chunks out of one snapshot: everything in a range of HAPI's row numbers (rule 12), or what a selection says.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use fhir_core::resource::State;
use futures::{Stream, TryStreamExt as _, stream};
use sqlx::{AssertSqlSafe, Postgres, Transaction};

use super::{
    Hapi, HapiError,
    snapshot::{FIRST_CHUNK, next_chunk},
};

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

impl Hapi {
    /// Cuts a type's resources into `count` ranges of about the same span of row numbers.
    pub async fn ranges(&self, resource_type: &str, count: u32) -> Result<Vec<IdRange>, HapiError> {
        if count <= 1 {
            return Ok(IdRange::split_at(&[]));
        }
        let (first, last): (Option<i64>, Option<i64>) =
            sqlx::query_as("SELECT min(res_id), max(res_id) FROM hfj_resource WHERE res_type = $1")
                .bind(resource_type)
                .fetch_one(&self.inner.pool)
                .await
                .map_err(HapiError::of("looking for ranges"))?;
        let (Some(first), Some(last)) = (first, last) else {
            return Ok(IdRange::split_at(&[]));
        };
        let width = (last - first) / i64::from(count) + 1;
        let bounds: Vec<i64> = (1..i64::from(count))
            .map(|i| first + i * width)
            .filter(|b| *b <= last)
            .collect();
        Ok(IdRange::split_at(&bounds))
    }

    /// Every resource of a range, deleted ones too, in chunks; one snapshot for the range.
    pub fn load(
        &self,
        resource_type: &str,
        range: IdRange,
    ) -> impl Stream<Item = Result<Vec<State>, HapiError>> + Send + use<> {
        let mut condition = format!("r.res_type = {}", literal(resource_type));
        for (bound, operator) in [(range.from, ">="), (range.to, "<")] {
            if let Some(bound) = bound {
                let _ = write!(condition, " AND r.res_id {operator} {bound}");
            }
        }
        self.stream(&condition, "")
    }

    /// The resources that are not deleted and that `selection` says, the most recently updated first; one snapshot.
    pub fn select(
        &self,
        resource_type: &str,
        selection: &Selection,
    ) -> impl Stream<Item = Result<Vec<State>, HapiError>> + Send + use<> {
        let resource_type = literal(resource_type);
        let mut condition = format!("r.res_type = {resource_type} AND r.res_deleted_at IS NULL");
        if !selection.ids.is_empty() {
            let ids: Vec<String> = selection.ids.iter().map(|id| literal(id)).collect();
            let ids = format!("ARRAY[{}]::text[]", ids.join(","));
            let id_in = self.inner.schema.id_in.replace("$1", &resource_type);
            // Each place is filled once: an id is never looked at for places.
            let id_in = id_in.replace("$2::text[]", "$2").replace("$2", &ids);
            let _ = write!(condition, " AND {id_in}");
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
    /// Updated at or after this.
    pub since: Option<DateTime<Utc>>,
    /// At most so many.
    pub limit: Option<i64>,
}

/// A text as SQL has it: a cursor's query takes no parameters.
fn literal(text: &str) -> String {
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
