//! Which gateway's merger is at work: a session's advisory lock. It spares work, it is not needed for being right (rule 8 compares cursors).

use sqlx::PgConnection;

use crate::error::during;
use crate::freshness::TypeRow;
use crate::{Cursor, StoreError, ViewStore, locks};

/// The lead, held as long as this value and its connection live. PostgreSQL gives it to another at once when the process ends, and within some
/// three seconds when its machine does.
pub struct MergeLeadership {
    connection: PgConnection,
}

impl ViewStore {
    /// Takes the lead, if nobody has it.
    pub async fn try_merge_leadership(&self) -> Result<Option<MergeLeadership>, StoreError> {
        let mut connection = self.own_connection("researchflow merger").await?;
        sqlx::raw_sql(
            "SET tcp_keepalives_idle = 1; SET tcp_keepalives_interval = 1; SET tcp_keepalives_count = 2",
        )
        .execute(&mut connection)
        .await
        .map_err(during("preparing the lead"))?;
        let taken = locks::try_lock_lead(&mut connection).await?;
        Ok(taken.then_some(MergeLeadership { connection }))
    }

    /// The mergers' cursors of these types, in the asked order.
    pub async fn cursors(&self, resource_types: &[String]) -> Result<Vec<Cursor>, StoreError> {
        let rows: Vec<TypeRow> = sqlx::query_as(TypeRow::SELECT_MANY)
            .bind(resource_types)
            .fetch_all(&self.pool)
            .await
            .map_err(during("reading cursors"))?;
        let cursor = |name: &String| rows.iter().find(|row| row.is_of(name)).and_then(TypeRow::speed);
        Ok(resource_types.iter().map(cursor).collect())
    }
}

impl MergeLeadership {
    /// Fails if the lead is lost.
    pub async fn confirm(&mut self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1")
            .execute(&mut self.connection)
            .await
            .map_err(during("keeping the lead"))?;
        Ok(())
    }
}
