//! Bodies as `ReadResources` returns them, beside those of HAPI's own REST reads: current ones by reads, all versions by histories.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use api::proto::batch::{
    ReadResourcesRequest, ResourceState, batch_service_client::BatchServiceClient,
    read_resources_request::Reference,
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::Value;
use tonic::transport::Channel;

use crate::fhir::Fhir;

/// References in a request.
const REFERENCES: usize = 2_000;

/// How many were compared.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Compared {
    /// Resources, deleted ones too.
    pub resources: usize,
    /// Versions.
    pub versions: usize,
}

/// Compares all resources of these types, type by type.
pub async fn compare_all(
    fhir: &Fhir,
    batch: &BatchServiceClient<Channel>,
    types: impl IntoIterator<Item = &String>,
) -> anyhow::Result<Compared> {
    let mut all = Compared::default();
    for resource_type in types {
        let compared = compare(fhir, batch, resource_type).await?;
        all.resources += compared.resources;
        all.versions += compared.versions;
    }
    Ok(all)
}

/// Compares all versions of all resources of a type; an error tells of the first that differs.
async fn compare(
    fhir: &Fhir,
    batch: &BatchServiceClient<Channel>,
    resource_type: &str,
) -> anyhow::Result<Compared> {
    let versions: BTreeMap<(String, i64), Option<Value>> = fhir.history(resource_type).await?;
    let mut newest = BTreeMap::new();
    for (id, version) in versions.keys() {
        newest.insert(id.clone(), *version);
    }
    let read = read(batch, resource_type, versions.keys().cloned().collect()).await?;
    for (key, expected) in &versions {
        same(resource_type, key, expected.as_ref(), read.get(key))?;
    }
    // 0 asks for the current one.
    let current = self::read(
        batch,
        resource_type,
        newest.keys().map(|id| (id.clone(), 0)).collect(),
    )
    .await?;
    let reads = stream::iter(newest.keys()).map(|id| async move {
        let body = fhir.get(resource_type, id).await?;
        anyhow::Ok((id.clone(), body))
    });
    let reads: BTreeMap<String, Option<Value>> = reads.buffer_unordered(4).try_collect().await?;
    for (id, version) in &newest {
        let key = (id.clone(), *version);
        same(
            resource_type,
            &key,
            reads.get(id).and_then(Option::as_ref),
            current.get(&key),
        )?;
    }
    Ok(Compared {
        resources: newest.len(),
        versions: versions.len(),
    })
}

fn same(
    resource_type: &str,
    (id, version): &(String, i64),
    expected: Option<&Value>,
    state: Option<&ResourceState>,
) -> anyhow::Result<()> {
    let of = format!("{resource_type}/{id}/_history/{version}");
    let state = state.with_context(|| format!("{of} is not in the answer"))?;
    ensure!(
        state.unreadable.is_empty(),
        "{of} is unreadable: {}",
        state.unreadable
    );
    ensure!(
        state.deleted == expected.is_none(),
        "{of}: deleted is {}",
        state.deleted
    );
    let Some(expected) = expected else { return Ok(()) };
    let body: Value = serde_json::from_slice(&state.body).with_context(|| format!("{of} is not JSON"))?;
    ensure!(body == *expected, "{of} differs\n HAPI {expected}\n ours {body}");
    Ok(())
}

/// States by id and version. 0 asks for the current one.
async fn read(
    batch: &BatchServiceClient<Channel>,
    resource_type: &str,
    wanted: Vec<(String, i64)>,
) -> anyhow::Result<BTreeMap<(String, i64), ResourceState>> {
    let mut states = BTreeMap::new();
    for wanted in wanted.chunks(REFERENCES) {
        let references = wanted.iter().map(|(id, version)| Reference {
            resource_type: resource_type.to_owned(),
            id: id.clone(),
            version: *version,
        });
        let request = ReadResourcesRequest {
            references: references.collect(),
        };
        let mut answer = batch.clone().read_resources(request).await?.into_inner();
        while let Some(message) = answer.message().await? {
            for state in message.states {
                states.insert((state.id.clone(), state.version), state);
            }
        }
    }
    Ok(states)
}
