//! Apply: what the speed layer holds becomes visible (rules 8 to 10). Used by the gateway's merger; any replica may.

use chrono::{DateTime, Utc};
use fhir_core::merge::Mark;

use crate::{EvaluatedState, StoreError, TypeViews, ViewStore};

/// The type's `speed` as it was when the speed store was asked: applying goes on only while it still is so.
pub type Cursor = Option<Mark>;

/// A reading with its rows.
#[derive(Debug, Clone)]
pub struct ReadingAt {
    /// State and rows.
    pub state: EvaluatedState,
    /// Number.
    pub n: i64,
    /// T.
    pub as_of: DateTime<Utc>,
}

/// A preview with its rows.
#[derive(Debug, Clone)]
pub struct ReceivedPreview {
    /// State and rows.
    pub state: EvaluatedState,
    /// By the ingestor's clock.
    pub received: DateTime<Utc>,
}

/// What comes with the last page of an answer: the previews, and the mark to move to.
#[derive(Debug, Clone, Default)]
pub struct LastPage {
    /// In the order in which they came.
    pub previews: Vec<ReceivedPreview>,
    /// The store's mark if it is later than the cursor; else the cursor stays.
    pub mark: Option<Mark>,
}

/// What a page did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AppliedPage {
    /// Readings that outranked what was shown.
    pub readings: usize,
    /// Previews that were shown.
    pub previews: usize,
}

impl ViewStore {
    /// One transaction (asynchronous commit) under the type's lock: rows, ledger and, with `last`, the cursor.
    ///
    /// Mergers go through [`ViewStore::apply_session`] (session.rs): all pages of one answer must use one connection, since asynchronous commits may be lost in a
    /// crash between two pages. To share the code, split this into a function over `&mut PgConnection`.
    ///
    /// `Ok(None)`: the type's `speed` is no longer `start`: another replica has moved it; ask the speed store again.
    /// `StoreError::ViewsChanged`: load the views and evaluate again.
    pub async fn apply_page(
        &self,
        _views: &TypeViews,
        _start: Cursor,
        _readings: &[ReadingAt],
        _last: Option<&LastPage>,
    ) -> Result<Option<AppliedPage>, StoreError> {
        unimplemented!()
    }
    /// Moves the cursors of several types that have nothing but a later mark, in one transaction; types whose `speed` has moved are left out.
    pub async fn apply_marks(&self, _marks: &[(String, Cursor, Mark)]) -> Result<(), StoreError> {
        unimplemented!()
    }
}
