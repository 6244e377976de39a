//! ViewDefinitions: parse, validate, compile, evaluate.

use crate::{column::Column, row::RowSink};

/// A ViewDefinition, compiled: immutable, cheap to share, evaluated many times.
#[derive(Debug)]
pub struct CompiledView {}

/// All the rules that a definition breaks, each with its place.
#[derive(Debug, thiserror::Error)]
#[error("invalid ViewDefinition")]
pub struct ViewErrors {}

/// Why a resource has no rows in a view although it should: recorded, counted, never a partial result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot be evaluated")]
pub struct EvalError {}

impl CompiledView {
    /// Compiles a definition given as JSON text.
    pub fn from_json(_json: &str) -> Result<Self, ViewErrors> {
        unimplemented!()
    }
    /// `name` of the definition.
    pub fn name(&self) -> &str {
        unimplemented!()
    }
    /// `url` of the definition.
    pub fn url(&self) -> Option<&str> {
        unimplemented!()
    }
    /// `description` (or `title`) of the definition.
    pub fn description(&self) -> Option<&str> {
        unimplemented!()
    }
    /// `resource` of the definition.
    pub fn resource_type(&self) -> &str {
        unimplemented!()
    }
    /// The columns in output order.
    pub fn columns(&self) -> &[Column] {
        unimplemented!()
    }
    /// Evaluates one resource given as JSON text; returns the number of rows. On an error the sink may have taken rows: discard them.
    pub fn evaluate(&self, _json: &[u8], _sink: &mut dyn RowSink) -> Result<usize, EvalError> {
        unimplemented!()
    }
}
