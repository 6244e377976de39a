//! A connection of a pool for a question: in time, or not at all.

use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{PgPool, Postgres};
use tracing::Instrument as _;

use crate::error::during;
use crate::{StoreError, ViewStore};

/// A pool's own patience, which is long: runs of the batch may wait.
pub(crate) const LONGEST: Duration = Duration::from_secs(10);

impl ViewStore {
    /// The same store, in which a question waits so long for its turn where all connections are in use: at most 10 s, which is the default.
    #[must_use]
    pub fn with_turns_within(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// A connection for a question.
    pub(crate) async fn lend(&self, doing: &'static str) -> Result<PoolConnection<Postgres>, StoreError> {
        lend(&self.pool, self.patience, doing).await
    }
}

/// A connection of a pool, within this time.
pub(crate) async fn lend(
    pool: &PgPool,
    patience: Duration,
    doing: &'static str,
) -> Result<PoolConnection<Postgres>, StoreError> {
    let acquiring = pool.acquire().instrument(tracing::debug_span!("turn"));
    let in_time = tokio::time::timeout(patience, acquiring).await;
    match in_time.unwrap_or(Err(sqlx::Error::PoolTimedOut)) {
        // One that is being made counts as one that is in use.
        Err(sqlx::Error::PoolTimedOut)
            if pool.num_idle() == 0 && pool.size() >= pool.options().get_max_connections() =>
        {
            Err(StoreError::Busy {
                connections: pool.size(),
                patience,
            })
        }
        lent => lent.map_err(during(doing)),
    }
}
