//! What a run that compares everything has found.

use sqlx::AssertSqlSafe;

use super::Run;
use crate::StoreError;
use crate::error::during;

/// A resource whose rows were not those of its loaded state, though the catch-up reading had not told of a change.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Differing {
    /// Id.
    pub id: String,
    /// It was shown, and HAPI has no row of it.
    pub gone: bool,
}

impl Run {
    /// Of a full or joining run, from its last slice to its end: what it published for its difference alone.
    pub async fn differing(&mut self) -> Result<Vec<Differing>, StoreError> {
        let sql = format!(
            "SELECT id, version = 0 AS gone FROM {} WHERE differs AND NOT changed ORDER BY id",
            self.stage.ids
        );
        sqlx::query_as(AssertSqlSafe(sql))
            .fetch_all(&mut self.connection)
            .await
            .map_err(during("counting differences"))
    }
}
