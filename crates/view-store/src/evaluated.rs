//! States with their rows: encoded once, in PostgreSQL's binary COPY form, and put into whichever table the decision says.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use fhir_core::json::Tape;
use fhir_core::resource::{Content, State};
use fhir_core::view::{CompiledView, ViewSet};

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

/// Evaluates states for all views of their type: each resource is read once.
pub fn evaluate<'s>(views: &TypeViews, states: impl IntoIterator<Item = &'s State>) -> Vec<EvaluatedState> {
    let set = ViewSet::new(views.views.iter().cloned());
    let mut tape = Tape::default();
    states
        .into_iter()
        .map(|state| EvaluatedState {
            id: state.id.clone(),
            version: state.version,
            last_updated: state.last_updated,
            rows: rows_of(&set, &mut tape, state),
        })
        .collect()
}

/// The rows in each view of the set.
fn rows_of(set: &ViewSet, tape: &mut Tape, state: &State) -> Vec<RowsOf> {
    let all = |rows: RowsOf| vec![rows; set.views().len()];
    let json = match &state.content {
        Content::Deleted => {
            return all(RowsOf::Encoded {
                tuples: Vec::new(),
                count: 0,
            });
        }
        Content::Unreadable(reason) => {
            return all(RowsOf::Failed {
                reason: reason.clone(),
            });
        }
        Content::Body(json) => json,
    };
    let failed = |reason: String| RowsOf::Failed { reason };
    let reading = match set.read(tape, json) {
        Ok(reading) => reading,
        Err(error) => return all(failed(error.to_string())),
    };
    let rows = |(place, view): (usize, &Arc<CompiledView>)| {
        let mut writer = TupleWriter::new(view.columns(), &state.id, state.version, state.last_updated);
        if let Err(error) = reading.rows(place, &mut writer) {
            return failed(error.to_string());
        }
        match writer.finish() {
            Ok((tuples, count)) => RowsOf::Encoded { tuples, count },
            Err(error) => failed(error.to_string()),
        }
    };
    set.views().iter().enumerate().map(rows).collect()
}
