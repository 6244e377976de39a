//! States with their rows: encoded once, in PostgreSQL's binary COPY form, and put into whichever table the decision says.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use fhir_core::json::Tape;
use fhir_core::resource::{Content, State};
use fhir_core::view::{CompiledView, ViewSet};

use crate::TypeViews;
use crate::encode::{Prefix, TupleWriter};
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
    let mut evaluator = Evaluator::new(views);
    let states = states.into_iter().map(|state| {
        let mut rows = Vec::with_capacity(views.views.len());
        evaluator.evaluate(state, |_, result, tuples| {
            rows.push(match result {
                Ok(count) => RowsOf::Encoded {
                    tuples: std::mem::take(tuples),
                    count,
                },
                Err(reason) => RowsOf::Failed { reason },
            });
        });
        EvaluatedState {
            id: state.id.clone(),
            version: state.version,
            last_updated: state.last_updated,
            rows,
        }
    });
    states.collect()
}

/// States of a load with their rows, as they are sent: the tuples of each view one behind the other.
#[derive(Default)]
pub struct LoadBatch {
    /// States.
    pub resources: u64,
    /// States that could not be evaluated for a view.
    pub failed: u64,
    /// Rows, of all views.
    pub rows: u64,
    /// Bytes of the bodies.
    pub bytes: u64,
    /// Id, version, time of each state, and false: it has not changed since the load began. Empty where nobody asks which states were loaded.
    pub(crate) ids: Vec<u8>,
    /// One for each view.
    pub(crate) tuples: Vec<Vec<u8>>,
    /// Place of the view, id, version, reason.
    pub(crate) failures: Vec<(usize, String, i64, String)>,
}

impl LoadBatch {
    /// Bytes of the tuples.
    pub(crate) fn size(&self) -> usize {
        self.ids.len() + self.tuples.iter().map(Vec::len).sum::<usize>()
    }

    /// Takes another one in, behind what is there.
    pub(crate) fn append(&mut self, other: Self) {
        self.resources += other.resources;
        self.failed += other.failed;
        self.rows += other.rows;
        self.bytes += other.bytes;
        self.ids.extend_from_slice(&other.ids);
        self.tuples.resize_with(other.tuples.len(), Vec::new);
        for (mine, others) in self.tuples.iter_mut().zip(other.tuples) {
            mine.extend_from_slice(&others);
        }
        self.failures.extend(other.failures);
    }
}

/// Evaluates state after state for the views of a type.
pub struct Evaluator {
    set: ViewSet<Arc<CompiledView>>,
    tape: Tape,
    prefix: Prefix,
    /// Tuples of each view; whoever takes them leaves what the next ones go behind.
    out: Vec<Vec<u8>>,
}

impl Evaluator {
    /// For these views, in their order.
    pub fn new(views: &TypeViews) -> Self {
        Self {
            out: vec![Vec::new(); views.views.len()],
            set: ViewSet::new(views.views.iter().cloned()),
            tape: Tape::default(),
            prefix: Prefix::default(),
        }
    }

    /// The rows of states that are loaded. `with_ids`: it is asked later which states were.
    pub(crate) fn load(&mut self, states: &[State], with_ids: bool) -> LoadBatch {
        let mut batch = LoadBatch {
            resources: states.len() as u64,
            ..LoadBatch::default()
        };
        let (failures, rows, failed) = (&mut batch.failures, &mut batch.rows, &mut batch.failed);
        for state in states {
            if let Content::Body(body) = &state.content {
                batch.bytes += body.len() as u64;
            }
            let before = failures.len();
            self.evaluate(state, |place, result, _| match result {
                Ok(count) => *rows += u64::from(count),
                Err(reason) => failures.push((place, state.id.clone(), state.version, reason)),
            });
            *failed += u64::from(failures.len() > before);
            if with_ids {
                self.prefix.with_boolean(&mut batch.ids, false);
            }
        }
        let views = self.out.len();
        batch.tuples = std::mem::replace(&mut self.out, vec![Vec::new(); views]);
        batch
    }

    /// Puts the rows of a state in each view behind what is in `out`, and tells of each view how many they are, or why there are none.
    fn evaluate(&mut self, state: &State, mut each: impl FnMut(usize, Result<u32, String>, &mut Vec<u8>)) {
        let prefix = self.prefix.set(&state.id, state.version, state.last_updated);
        let mut all = |out: &mut [Vec<u8>], result: Result<u32, &str>| {
            for (place, out) in out.iter_mut().enumerate() {
                each(place, result.map_err(ToOwned::to_owned), out);
            }
        };
        let json = match &state.content {
            Content::Deleted => return all(&mut self.out, Ok(0)),
            Content::Unreadable(reason) => return all(&mut self.out, Err(reason)),
            Content::Body(json) => json,
        };
        let reading = match self.set.read(&mut self.tape, json) {
            Ok(reading) => reading,
            Err(error) => return all(&mut self.out, Err(&error.to_string())),
        };
        for (place, (view, out)) in self.set.views().iter().zip(&mut self.out).enumerate() {
            let mut writer = TupleWriter::new(view.columns(), prefix, out);
            let result = match reading.rows(place, &mut writer) {
                Ok(_) => writer.finish().map_err(|error| error.to_string()),
                Err(error) => {
                    writer.discard();
                    Err(error.to_string())
                }
            };
            each(place, result, out);
        }
    }
}
