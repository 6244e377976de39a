//! What a full or joining run loads, without a HAPI to load it from.

use chrono::DateTime;
use fhir_core::{merge::Position, resource::State};
use view_store::{Run, StoreError};

/// Puts states into the run's load as its only range, and ends the load.
pub async fn load(run: &mut Run, states: &[State]) -> Result<(), StoreError> {
    // Where the catch-up would go on from: these tests have none.
    let first = Position {
        n: 0,
        as_of: DateTime::UNIX_EPOCH,
        bound: DateTime::UNIX_EPOCH,
        xmin: 0,
        timeline: String::new(),
    };
    run.note_first(&first, &[(None, None)]).await?;
    if let Some(load) = run.load() {
        let (mut loader, mut evaluator) = (load.loader().await?, load.evaluator());
        loader.next().await?;
        loader.put(load.evaluate(&mut evaluator, states)).await?;
        loader.finish().await?;
    }
    run.finish_load().await
}
