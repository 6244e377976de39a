//! A state of a FHIR resource, as the layers hand it to each other.

use chrono::{DateTime, Utc};

/// What HAPI had for one resource at some time: one version of it, a deletion, or nothing any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// The logical id, without the type.
    pub id: String,
    /// `meta.versionId`; 0 where HAPI has no row of the resource (never created, expunged, restored away).
    pub version: i64,
    /// `meta.lastUpdated`; for a resource that HAPI has no row of, the clock of the reading that found nothing.
    pub last_updated: DateTime<Utc>,
    /// What the resource holds.
    pub content: Content,
}

/// The content of a [`State`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// The resource as JSON text in UTF-8, with `id` and `meta`.
    Body(Vec<u8>),
    /// Deleted, or gone.
    Deleted,
    /// HAPI holds it in a form that cannot be read; the reason names no content.
    Unreadable(String),
}

impl State {
    /// A state in which HAPI has no row of the resource, as found by a reading of clock `at`.
    pub fn gone(id: impl Into<String>, at: DateTime<Utc>) -> Self {
        Self {
            id: id.into(),
            version: 0,
            last_updated: at,
            content: Content::Deleted,
        }
    }

    /// Whether the resource is deleted or gone.
    pub fn is_deleted(&self) -> bool {
        matches!(self.content, Content::Deleted)
    }
}
