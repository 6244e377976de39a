//! States with their rows: encoded once, in PostgreSQL's binary COPY form, and put into whichever table the decision says.

use chrono::{DateTime, Utc};
use fhir_core::resource::State;

use crate::TypeViews;

/// The rows of one state in one view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowsOf {
    /// `count` binary COPY tuples with the hidden columns `_rid, _version, _updated, _row` first.
    Encoded {
        /// Tuples without header and trailer.
        tuples: Vec<u8>,
        /// How many.
        count: u32,
    },
    /// The state cannot be evaluated for this view: no rows, and a record in `errors`.
    Failed {
        /// Why, without content.
        reason: String,
    },
}

/// A state with its rows in each view of its type, in the order of [`TypeViews::views`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvaluatedState {
    /// Logical id.
    pub id: String,
    /// Version; 0 = gone.
    pub version: i64,
    /// `meta.lastUpdated`.
    pub last_updated: DateTime<Utc>,
    /// One for each view.
    pub rows: Vec<RowsOf>,
}

/// Evaluates one state for all views of its type.
pub fn evaluate(_views: &TypeViews, _state: &State) -> EvaluatedState {
    unimplemented!()
}
