//! How fresh a type's views are.

use chrono::{DateTime, Utc};
use fhir_core::merge::{Mark, Position};

use crate::{StoreError, ViewStore};

/// What the views' database knows of a type.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TypeState {
    /// The last mark applied: the mergers' cursor and speed_as_of.
    pub speed: Option<Mark>,
    /// The batch's watermark.
    pub published: Option<Position>,
    /// n of the newest run that has published a slice.
    pub newest: i64,
}

/// Freshness of a type, for answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TypeFreshness {
    /// T of the batch's watermark.
    pub batch_as_of: Option<DateTime<Utc>>,
    /// T of the last mark applied.
    pub speed_as_of: Option<DateTime<Utc>>,
}

impl TypeFreshness {
    /// as_of of merged answers: the later of the two.
    pub fn merged(&self) -> Option<DateTime<Utc>> {
        self.batch_as_of.max(self.speed_as_of)
    }
}

impl ViewStore {
    /// State of a type (all `None` and 0 for one that was never seen).
    pub async fn type_state(&self, _resource_type: &str) -> Result<TypeState, StoreError> {
        unimplemented!()
    }
    /// The version that is known of a resource (ledger, else the hidden column of batch rows, else 0) and the type's freshness, in one snapshot (rule 15).
    pub async fn known_version(&self, _resource_type: &str, _id: &str) -> Result<(i64, TypeFreshness), StoreError> {
        unimplemented!()
    }
    /// Number of live ids of each type.
    pub async fn live_counts(&self) -> Result<Vec<(String, i64)>, StoreError> {
        unimplemented!()
    }
}
