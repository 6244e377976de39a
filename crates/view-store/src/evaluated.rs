//! States with their rows: encoded once, in PostgreSQL's binary COPY form, and put into whichever table the decision says.

use chrono::{DateTime, Utc};
use fhir_core::resource::{Content, State};
use fhir_core::view::CompiledView;

use crate::TypeViews;
use crate::encode::TupleWriter;
use crate::ledger::Failure;

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

impl EvaluatedState {
    /// The tuples for the view at this place; none of a state that cannot be evaluated.
    pub(crate) fn rows_in(&self, view: usize) -> &[u8] {
        match self.rows.get(view) {
            Some(RowsOf::Encoded { tuples, .. }) => tuples,
            Some(RowsOf::Failed { .. }) | None => &[],
        }
    }

    /// Why there are none, if it could not be evaluated.
    pub(crate) fn failure_in<'a>(&'a self, view: usize, name: &'a str) -> Option<Failure<'a>> {
        match self.rows.get(view) {
            Some(RowsOf::Failed { reason }) => Some(Failure {
                view: name,
                id: &self.id,
                version: self.version,
                reason,
            }),
            Some(RowsOf::Encoded { .. }) | None => None,
        }
    }
}

/// Evaluates one state for all views of its type.
pub fn evaluate(views: &TypeViews, state: &State) -> EvaluatedState {
    EvaluatedState {
        id: state.id.clone(),
        version: state.version,
        last_updated: state.last_updated,
        rows: views.views.iter().map(|view| rows_of(view, state)).collect(),
    }
}

fn rows_of(view: &CompiledView, state: &State) -> RowsOf {
    match &state.content {
        Content::Deleted => RowsOf::Encoded {
            tuples: Vec::new(),
            count: 0,
        },
        Content::Unreadable(reason) => RowsOf::Failed {
            reason: reason.clone(),
        },
        Content::Body(json) => {
            let mut writer = TupleWriter::new(view.columns(), &state.id, state.version, state.last_updated);
            match view.evaluate(json, &mut writer) {
                Err(error) => RowsOf::Failed {
                    reason: error.to_string(),
                },
                Ok(_) => match writer.finish() {
                    Ok((tuples, count)) => RowsOf::Encoded { tuples, count },
                    Err(error) => RowsOf::Failed {
                        reason: error.to_string(),
                    },
                },
            }
        }
    }
}
