//! Everything of a type, in ranges of HAPI's row numbers (rule 12): each range in a snapshot of its own, streamed in chunks.

use fhir_core::resource::State;
use futures::{Stream, stream};
use sqlx::{AssertSqlSafe, Postgres, Transaction};

use super::{Hapi, HapiError, snapshot::CHUNK};

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
        let mut condition = format!("r.res_type = '{}'", resource_type.replace('\'', "''"));
        for (bound, operator) in [(range.from, ">="), (range.to, "<")] {
            if let Some(bound) = bound {
                condition.push_str(&format!(" AND r.res_id {operator} {bound}"));
            }
        }
        let declare = format!(
            "DECLARE load NO SCROLL CURSOR FOR {}",
            self.inner.schema.current_states(&condition)
        );
        let hapi = self.clone();
        stream::try_unfold(Loading::Begin { hapi, declare }, Loading::next)
    }
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
    },
}

impl Loading {
    async fn next(self) -> Result<Option<(Vec<State>, Self)>, HapiError> {
        let (hapi, mut transaction) = match self {
            Self::Open { hapi, transaction } => (hapi, transaction),
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
                (hapi, transaction)
            }
        };
        let rows = sqlx::query(AssertSqlSafe(format!("FETCH {CHUNK} FROM load")))
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
        Ok(Some((states, Self::Open { hapi, transaction })))
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
