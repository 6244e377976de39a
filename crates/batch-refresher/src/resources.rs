//! `ReadResources`: the bodies of named resources, current or of named versions, in one snapshot.

use std::collections::BTreeMap;

use api::batch::TypedState;
use async_stream::try_stream;
use futures::Stream;

use crate::hapi::{Hapi, HapiError};

/// Resources whose bodies are read and sent at once.
const CHUNK: usize = 200;

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Reference {
    /// Its type.
    pub resource_type: String,
    /// Its id.
    pub id: String,
    /// That version; `None`: the current one.
    pub version: Option<i64>,
}

/// What of one type is asked for.
#[derive(Default)]
struct OfType {
    current: Vec<String>,
    versions: Vec<(String, i64)>,
}

/// Reads them, type by type, in the order of their ids, current ones first. One that HAPI has no row of is version 0.
pub fn read(
    hapi: Hapi,
    references: Vec<Reference>,
) -> impl Stream<Item = Result<Vec<TypedState>, HapiError>> + Send + 'static {
    let mut by_type = BTreeMap::<String, OfType>::new();
    for Reference {
        resource_type,
        id,
        version,
    } in references
    {
        let of_type = by_type.entry(resource_type).or_default();
        match version {
            None => of_type.current.push(id),
            Some(version) => of_type.versions.push((id, version)),
        }
    }
    try_stream! {
        let as_of = hapi.clock().await?.as_of;
        let mut snapshot = hapi.snapshot().await?;
        for (resource_type, OfType { mut current, mut versions }) in by_type {
            let typed = |state| TypedState { resource_type: resource_type.clone(), state };
            current.sort_unstable();
            current.dedup();
            for ids in current.chunks(CHUNK) {
                let states = snapshot.states(&resource_type, ids, as_of).await?;
                yield states.into_iter().map(typed).collect::<Vec<_>>();
            }
            versions.sort_unstable();
            versions.dedup();
            for versions in versions.chunks(CHUNK) {
                let states = snapshot.versions(&resource_type, versions, as_of).await?;
                yield states.into_iter().map(typed).collect();
            }
        }
    }
}
