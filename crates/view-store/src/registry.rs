//! The registry of views: name, definition, state; and the compiled views of a type.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use fhir_core::view::CompiledView;

use crate::{StoreError, ViewStore};

/// Life of a view: creating -> populating -> active -> stale | error; dropping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ViewState {
    /// Registered; nothing read yet.
    Creating,
    /// Its first rows are being loaded.
    Populating,
    /// Materialised and kept.
    Active,
    /// Materialised; a rebuild failed.
    Stale,
    /// Not materialised.
    Error,
    /// Being dropped.
    Dropping,
}

/// A row of the registry.
#[derive(Debug, Clone)]
pub struct RegisteredView {
    /// `name` of the definition.
    pub name: String,
    /// `url` of the definition.
    pub url: Option<String>,
    /// `resource` of the definition.
    pub resource_type: String,
    /// JSON text.
    pub definition: String,
    /// SHA-256 of the definition, hex.
    pub hash: String,
    /// State.
    pub state: ViewState,
    /// Why stale or error, without content.
    pub reason: Option<String>,
    /// T of the type's watermark, if the view is materialised.
    pub batch_as_of: Option<DateTime<Utc>>,
    /// n of the type's watermark; 0 before the first.
    pub published_n: i64,
    /// Batch rows as of the last refresh; `None` if not materialised.
    pub row_count: Option<i64>,
    /// Resources with an evaluation error for this view.
    pub error_count: i64,
}

/// The materialised (active or stale) views of one type, compiled, as of one generation of the type.
#[derive(Debug, Clone)]
pub struct TypeViews {
    /// The resource type.
    pub resource_type: String,
    /// Moves when a view joins, changes or leaves; every transaction that writes rows checks it under the type's lock.
    pub generation: i64,
    /// In the order of their names.
    pub views: Vec<Arc<CompiledView>>,
}

/// What [`ViewStore::put_view`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutOutcome {
    /// The same definition is registered already.
    Unchanged,
    /// New: state creating; it joins its type with the next run.
    Created,
    /// Same columns or more: it is loaded beside and replaces the old one when it joins.
    Replacing,
}

impl ViewStore {
    /// All registered views, by name.
    pub async fn views(&self) -> Result<Vec<RegisteredView>, StoreError> {
        unimplemented!()
    }
    /// The materialised views of a type, compiled (cached by generation).
    pub async fn type_views(&self, _resource_type: &str) -> Result<TypeViews, StoreError> {
        unimplemented!()
    }
    /// Registers a definition (already compiled by the caller, who keeps the text). `force` allows dropped and retyped columns.
    pub async fn put_view(&self, _view: &CompiledView, _definition: &str, _force: bool) -> Result<PutOutcome, StoreError> {
        unimplemented!()
    }
    /// Drops a view and its tables.
    pub async fn drop_view(&self, _name: &str) -> Result<(), StoreError> {
        unimplemented!()
    }
    /// Records that a view could not be populated or rebuilt.
    pub async fn fail_view(&self, _name: &str, _reason: &str) -> Result<(), StoreError> {
        unimplemented!()
    }
    /// Moves with every change of the registry (views, states, watermarks' publication not included): what WatchViews polls cheaply.
    pub async fn registry_generation(&self) -> Result<i64, StoreError> {
        unimplemented!()
    }
}
