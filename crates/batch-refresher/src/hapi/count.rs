//! About how many resources of a type there are, for a run that tells how far it is.

use std::time::Duration;

use sqlx::AssertSqlSafe;
use view_store::driver::begin;

use super::{Hapi, HapiError};

/// Counting goes over an index; on a type of many millions that takes longer than the figure is worth.
const LIMIT: Duration = Duration::from_secs(2);
/// PostgreSQL's word for a statement that took too long.
const CANCELLED: &str = "57014";

impl Hapi {
    /// Resources of a type, deleted ones too, as a full run reads them: counted where that is quick, else estimated.
    pub async fn about_how_many(&self, resource_type: &str) -> Result<u64, HapiError> {
        match self.counted(resource_type, LIMIT).await? {
            Some(count) => Ok(count),
            None => self.estimated(resource_type).await,
        }
    }

    /// `None`: it took longer than `limit`.
    pub async fn counted(&self, resource_type: &str, limit: Duration) -> Result<Option<u64>, HapiError> {
        let doing = "counting resources";
        let sql = self.of_type("count(*)");
        let mut transaction = begin(&self.inner.pool, "BEGIN")
            .await
            .map_err(HapiError::of(doing))?;
        let limit = format!("SET LOCAL statement_timeout = {}", limit.as_millis().max(1));
        sqlx::raw_sql(AssertSqlSafe(limit))
            .execute(&mut *transaction)
            .await
            .map_err(HapiError::of(doing))?;
        let counted: Result<i64, sqlx::Error> = sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(resource_type)
            .fetch_one(&mut *transaction)
            .await;
        transaction.rollback().await.map_err(HapiError::of(doing))?;
        match counted {
            Ok(count) => Ok(Some(u64::try_from(count).unwrap_or_default())),
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(CANCELLED) => Ok(None),
            Err(error) => Err(HapiError::of(doing)(error)),
        }
    }

    /// As PostgreSQL's planner has it, from its statistics.
    pub async fn estimated(&self, resource_type: &str) -> Result<u64, HapiError> {
        let sql = format!("EXPLAIN {}", self.of_type("1"));
        let plan: String = sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(resource_type)
            // Planned for this type, not for any.
            .persistent(false)
            .fetch_one(&self.inner.pool)
            .await
            .map_err(HapiError::of("estimating the number of resources"))?;
        Ok(planned_rows(&plan).unwrap_or_default())
    }

    fn of_type(&self, what: &str) -> String {
        let partition = &self.inner.schema.partition;
        format!("SELECT {what} FROM hfj_resource r WHERE r.res_type = $1{partition}")
    }
}

/// Rows of the plan's topmost node.
fn planned_rows(first_line: &str) -> Option<u64> {
    let (_, rows) = first_line.split_once(" rows=")?;
    rows.split_once(' ')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topmost_nodes_rows_are_the_estimate() {
        let line = "Index Only Scan using idx_res_type_del_updated on hfj_resource r  (cost=0.42..8.44 rows=1250000 width=4)";
        assert_eq!(planned_rows(line), Some(1_250_000));
        assert_eq!(planned_rows("Result"), None);
    }
}
