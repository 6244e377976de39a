//! `ReadResources`: the current bodies of named resources, in one snapshot.

use api::batch::TypedState;
use async_stream::try_stream;
use futures::Stream;

use crate::hapi::{Hapi, HapiError};

/// Resources whose bodies are read and sent at once.
const CHUNK: usize = 200;

/// Reads them, type by type in the order of their first mention. One that HAPI has no row of is version 0.
pub fn read(
    hapi: Hapi,
    references: Vec<(String, String)>,
) -> impl Stream<Item = Result<Vec<TypedState>, HapiError>> + Send + 'static {
    try_stream! {
        let as_of = hapi.clock().await?.as_of;
        let mut snapshot = hapi.snapshot().await?;
        let mut by_type: Vec<(String, Vec<String>)> = Vec::new();
        for (resource_type, id) in references {
            match by_type.iter_mut().find(|(t, _)| *t == resource_type) {
                Some((_, ids)) => ids.push(id),
                None => by_type.push((resource_type, vec![id])),
            }
        }
        for (resource_type, mut ids) in by_type {
            ids.sort_unstable();
            ids.dedup();
            for ids in ids.chunks(CHUNK) {
                let states = snapshot.states(&resource_type, ids, as_of).await?;
                yield states.into_iter().map(|state| TypedState { resource_type: resource_type.clone(), state }).collect::<Vec<_>>();
            }
        }
    }
}
