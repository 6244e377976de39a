//! How many rows a view has, for people and for programs that plan.

use sqlx::AssertSqlSafe;

use crate::driver::sqlstate;
use crate::error::during;
use crate::tables::Table;
use crate::{StoreError, ViewStore};

/// Rows of a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowCounts {
    /// Base and live.
    pub merged: i64,
    /// Base and shadowed.
    pub batch: i64,
}

impl ViewStore {
    /// How many rows a materialised view has, exactly, at one moment; `None` if it is not (or no longer) materialised. Only the few live and shadowed rows are counted: the batch's
    /// are known.
    pub async fn row_counts(&self, view: &str) -> Result<Option<RowCounts>, StoreError> {
        let (live, shadowed) = (Table::Live.of(view), Table::Shadowed.of(view));
        let sql = format!(
            "SELECT row_count, (SELECT count(*) FROM {live}), (SELECT count(*) FROM {shadowed}) \
             FROM sqlonfhir_meta.view WHERE name = $1 AND state IN ('active', 'stale') AND row_count IS NOT NULL"
        );
        let counted: Result<Option<(i64, i64, i64)>, _> = sqlx::query_as(AssertSqlSafe(sql))
            .persistent(false)
            .bind(view)
            .fetch_optional(&self.pool)
            .await;
        match counted {
            Ok(row) => Ok(row.map(|(batch, live, shadowed)| RowCounts {
                merged: batch - shadowed + live,
                batch,
            })),
            // It was dropped meanwhile.
            Err(error) if sqlstate(&error).as_deref() == Some("42P01") => Ok(None),
            Err(error) => Err(during("counting rows")(error)),
        }
    }
}
