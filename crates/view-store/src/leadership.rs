//! Which gateway's merger is at work: a session's advisory lock. It spares work, it is not needed for being right (rule 8 compares cursors).
//!
//! The lock goes with its session. PostgreSQL ends that at once when the process dies; when the process stands still, or its machine or the network is gone, PostgreSQL
//! ends it since nothing was said for a while. So whoever leads says something over and over, whatever else it is at.

use std::time::Duration;

use sqlx::PgConnection;

use crate::error::during;
use crate::freshness::TypeRow;
use crate::{Cursor, StoreError, ViewStore, locks};

/// How long a word to PostgreSQL may take: longer, and the session is lost in any case.
const PATIENCE: Duration = Duration::from_secs(2);

/// The session of a merger that asks for the lead, or has it. The lead is given back when this value, its process or its connection ends.
pub struct MergeLead {
    connection: PgConnection,
}

impl ViewStore {
    /// Opens the session; nothing is asked for yet.
    pub async fn merge_lead(&self) -> Result<MergeLead, StoreError> {
        let mut connection = self.own_connection("researchflow merger").await?;
        sqlx::raw_sql(
            "SET tcp_keepalives_idle = 1; SET tcp_keepalives_interval = 1; SET tcp_keepalives_count = 2",
        )
        .execute(&mut connection)
        .await
        .map_err(during("preparing the lead"))?;
        let lease = format!("SET idle_session_timeout = '{}'", locks::MERGER_LEASE);
        // Not before PostgreSQL 14: there a merger that stands still keeps the lead.
        if sqlx::raw_sql(sqlx::AssertSqlSafe(lease))
            .execute(&mut connection)
            .await
            .is_err()
        {
            tracing::warn!(
                "a merger that stands still cannot be told from one that works: this PostgreSQL has no idle_session_timeout (before release 14)"
            );
        }
        Ok(MergeLead { connection })
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

impl MergeLead {
    /// Takes the lead, unless another session has it. To be asked every 500 ms, so that the session is not taken for one that stands still; and not again
    /// once it was taken.
    pub async fn try_take(&mut self) -> Result<bool, StoreError> {
        in_time(locks::try_lock_lead(&mut self.connection)).await
    }

    /// Keeps the lead. Returns why, when it is lost.
    pub async fn keep(&mut self) -> StoreError {
        loop {
            tokio::time::sleep(locks::MERGER_SAYS).await;
            let word = async {
                sqlx::query("SELECT 1")
                    .execute(&mut self.connection)
                    .await
                    .map_err(during("keeping the lead"))
            };
            if let Err(lost) = in_time(word).await {
                return lost;
            }
        }
    }
}

async fn in_time<T>(asked: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let late = || StoreError::Database {
        doing: "keeping the lead",
        reason: "no answer came in time".into(),
        transient: true,
        data: false,
    };
    tokio::time::timeout(PATIENCE, asked)
        .await
        .unwrap_or_else(|_| Err(late()))
}
