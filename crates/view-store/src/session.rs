//! A merger's connection: all pages of one answer go over it.

use crate::{AppliedPage, Cursor, LastPage, ReadingAt, StoreError, TypeViews, ViewStore};

/// The connection over which the pages of one answer are applied.
///
/// Pages commit asynchronously. After a crash of the views' PostgreSQL those that were committed last may be gone while `speed` is as it was: then the
/// pages that follow must not be applied, or the cursor would move over the lost ones. A connection does not survive such a crash, so one
/// connection for all pages of an answer is enough to know (model: `db_crash` makes mergers forget).
pub struct ApplySession {
    store: ViewStore,
}

impl ViewStore {
    /// Opens the connection for one answer of the speed store.
    pub async fn apply_session(&self) -> Result<ApplySession, StoreError> {
        Ok(ApplySession { store: self.clone() })
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
        self.store.apply_page(views, start, readings, last).await
    }
}
