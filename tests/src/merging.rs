//! Where a merger gets its answers from in a test that takes its steps one by one.

use api::speed::TypeChanges;
use fhir_core::merge::Mark;
use serving_gateway::merge::{ChangesSource, MergeError};
use speed_ingestor::store::{SpeedStore, StoreError};

/// The speed store itself, without the gRPC in between.
#[derive(Debug)]
pub struct Direct<'a>(pub &'a SpeedStore);

impl ChangesSource for Direct<'_> {
    async fn changes(&mut self, resource_type: &str, after: i64) -> Result<TypeChanges, MergeError> {
        let source = |error: StoreError| MergeError::Source(error.to_string());
        let mut read = self.0.read_changes(resource_type, after).await.map_err(source)?;
        let mut readings = Vec::new();
        while let Some(page) = self.0.next_readings(&mut read).await.map_err(source)? {
            readings.extend(page);
        }
        let mark = read.mark.as_ref().map(|p| Mark {
            n: p.n,
            as_of: p.as_of,
        });
        Ok(TypeChanges {
            mark,
            readings,
            previews: std::mem::take(&mut read.previews),
        })
    }
}
