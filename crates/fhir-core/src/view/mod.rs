//! ViewDefinitions: parse, validate, compile, evaluate.
//!
//! ```text
//! JSON ──definition──► Definition ──validate, compile──► plan::Select (operators) + Columns ──uses──► Projection
//!                                                          │ eval(resource, as far as it is wanted) ──► cells ──► RowSink
//! ```
//!
//! A definition is refused with all its errors at once, each with its JSON path. A resource that cannot be evaluated yields an
//! [`EvalError`] and no rows; neither says what the resource holds.

#[cfg(test)]
mod bounded;
mod cell;
mod compile;
mod constant;
mod definition;
mod error;
mod eval;
mod plan;
mod reader;
mod set;
mod types;
mod uses;
mod validate;
mod warning;

pub use error::{EvalError, Rule, ViewError, ViewErrors};
pub use eval::{MAX_BYTES, MAX_REPEAT_DEPTH, MAX_ROWS};
pub use set::{Reading, ViewSet};
pub use warning::ViewWarning;

use crate::column::Column;

/// A ViewDefinition, compiled: immutable, cheap to share, evaluated many times.
#[derive(Debug)]
pub struct CompiledView {
    name: String,
    url: Option<String>,
    description: Option<String>,
    resource_type: String,
    compiled: compile::Compiled,
    /// For resources that are read for it alone.
    reader: reader::Reader,
}

impl CompiledView {
    /// Compiles a definition given as JSON text (SQL on FHIR 3.0.0-ballot or 2.0.0; `resourceType` in either form or absent).
    pub fn from_json(json: &str) -> Result<Self, ViewErrors> {
        let (definition, errors) = definition::read(json).map_err(|error| ViewErrors(vec![error]))?;
        let compiled = compile::run(&definition, errors)?;
        Ok(Self {
            reader: reader::Reader::new(std::iter::once(&compiled)),
            name: definition.name.unwrap_or_default(),
            url: definition.url,
            description: definition.description,
            resource_type: definition.resource,
            compiled,
        })
    }

    /// `name` of the definition; empty if it has none, which the specification allows.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `url` of the definition.
    pub fn url(&self) -> Option<&str> {
        self.url.as_deref()
    }

    /// `description` (or `title`) of the definition.
    pub fn description(&self) -> Option<&str> {
        self.description.as_deref()
    }

    /// `resource` of the definition.
    pub fn resource_type(&self) -> &str {
        &self.resource_type
    }

    /// The columns in output order.
    pub fn columns(&self) -> &[Column] {
        &self.compiled.columns
    }

    /// What is odd in the definition, and evaluated nevertheless.
    pub fn warnings(&self) -> &[ViewWarning] {
        &self.compiled.warnings
    }
}
