//! How many webhooks were accepted of each type, for the status.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use chrono::{DateTime, Utc};

/// Webhooks accepted of each type since the start, with the time of the last one. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Accepted(Arc<RwLock<Counts>>);

/// How many of a type, and when the last one came.
type Counts = HashMap<String, (i64, DateTime<Utc>)>;

impl Accepted {
    /// How many, and when the last one came.
    pub fn of_type(&self, resource_type: &str) -> Option<(i64, DateTime<Utc>)> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(resource_type)
            .copied()
    }

    /// Counts one.
    pub fn count(&self, label: &str, now: DateTime<Utc>) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let (count, last) = all.entry(label.to_owned()).or_insert((0, now));
        (*count, *last) = (*count + 1, now);
    }
}
