//! Numbers of readings: drawn under the lock of one row while the reading's snapshot is opened (rule 2).

use fhir_core::merge::Position;

use crate::{StoreError, ViewStore};

/// A number that was drawn, and what the views' database held of each asked type at that moment.
#[derive(Debug, Clone)]
pub struct Drawn {
    /// The number.
    pub n: i64,
    /// For each asked type, in the asked order: the batch's watermark (rule 5).
    pub published: Vec<Option<Position>>,
    /// For each asked type: ids whose shown state is a preview: every reading takes them in (rule 5).
    pub shown_previews: Vec<Vec<String>>,
}

impl ViewStore {
    /// `BEGIN; UPDATE reading SET n = n + 1 RETURNING n; open().await; COMMIT` with a synchronous commit: what `open` returns (the snapshot) is given
    /// back, and may be used, only after the commit. If `open` fails the transaction is rolled back and the error returned.
    pub async fn draw_number<S, E, F>(&self, _resource_types: &[&str], _open: F) -> Result<(Drawn, S), E>
    where
        F: AsyncFnOnce() -> Result<S, E>,
        E: From<StoreError>,
    {
        unimplemented!()
    }
    /// Ids of the type that are live now (rule 11): read them after the snapshot was opened.
    pub async fn live_ids(&self, _resource_type: &str) -> Result<Vec<String>, StoreError> {
        unimplemented!()
    }
}
