//! A merger's connection: all pages of one answer go over it.

use chrono::TimeDelta;
use sqlx::Postgres;
use sqlx::pool::PoolConnection;

use crate::error::during;
use crate::{AppliedPage, Cursor, LastPage, ReadingAt, StoreError, TypeViews, ViewStore};

/// The connection over which the pages of one answer are applied.
///
/// Pages commit asynchronously. After a crash of the views' PostgreSQL those that were committed last may be gone while `speed` is as it was: then the
/// pages that follow must not be applied, or the cursor would move over the lost ones. A connection does not survive such a crash, so one
/// connection for all pages of an answer is enough to know (model: `db_crash` makes mergers forget).
pub struct ApplySession {
    connection: PoolConnection<Postgres>,
    skew: TimeDelta,
    /// A page is under way, or has failed: then nobody knows whether the transaction has ended.
    busy: bool,
}

/// Whoever is broken off within a page must not give its connection back: the pool would wait for the end of what was begun, from a server that may be silent.
impl Drop for ApplySession {
    fn drop(&mut self) {
        if self.busy {
            self.connection.close_on_drop();
        }
    }
}

impl ViewStore {
    /// Opens the connection for one answer of the speed store.
    pub async fn apply_session(&self) -> Result<ApplySession, StoreError> {
        let connection = self.pool.acquire().await.map_err(during("connecting"))?;
        Ok(ApplySession {
            connection,
            skew: self.skew,
            busy: false,
        })
    }
}

impl ApplySession {
    /// [`ViewStore::apply_page`] over this session's connection.
    pub async fn apply_page(
        &mut self,
        views: &TypeViews,
        start: Cursor,
        readings: &[ReadingAt],
        last: Option<&LastPage>,
    ) -> Result<Option<AppliedPage>, StoreError> {
        self.busy = true;
        let applied =
            crate::apply::apply_page(&mut self.connection, self.skew, views, start, readings, last).await;
        self.busy = applied.is_err();
        applied
    }
}
