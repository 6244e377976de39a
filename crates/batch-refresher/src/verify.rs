//! Verify: HAPI's current resources are evaluated afresh and compared with what the batch-only views show.
//!
//! What has changed since the watermark is not compared: the next refresh publishes it. So that nothing of it is missed, it is asked for last, after
//! every snapshot that was compared. Both sides pass through PostgreSQL, so that equal values are equal whatever their form in the JSON.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
};

use api::{Code, ServiceError};
use async_stream::try_stream;
use fhir_core::{merge::Position, resource::State, row::Cell, view::CompiledView};
use futures::{FutureExt as _, Stream, StreamExt as _};
use view_store::{
    Condition, EvaluatedState, Relation, RowsOf, Select, Snapshot, StoreError, TypeViews, ViewStore,
};

use crate::{
    conversions::{hapi_error, store_error},
    hapi::{CHUNK, Hapi, HapiError, IdRange},
    load::meta_read,
};

/// Resources that are read in one snapshot, about.
const RANGE: u64 = 20_000;

/// What is to be verified.
#[derive(Clone)]
pub struct Verify {
    /// HAPI.
    pub hapi: Hapi,
    /// The views.
    pub store: ViewStore,
    /// Materialised views, by their type.
    pub views: BTreeMap<String, Vec<String>>,
    /// Share of resources, above 0 to 1.
    pub sample: f64,
}

/// A resource whose rows in a view are not what HAPI holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    /// The view.
    pub view: String,
    /// The resource.
    pub id: String,
    /// HAPI's version; 0 where HAPI has no row of it.
    pub version: i64,
}

/// What has been found so far.
#[derive(Debug, Clone, Default)]
pub struct Verified {
    /// Resources compared.
    pub compared: u64,
    /// Differences found.
    pub found: u64,
    /// New ones.
    pub differences: Vec<Difference>,
    /// This was the last message.
    pub done: bool,
}

/// The rows of a view, by resource.
type Rows = BTreeMap<String, Vec<Vec<Cell<'static>>>>;

impl Verify {
    /// Compares; streams how far it is, and the differences of a type once the type is compared.
    pub fn run(self) -> impl Stream<Item = Result<Verified, ServiceError>> + Send + 'static {
        try_stream! {
            let mut so_far = Verified::default();
            for (resource_type, names) in self.views.clone() {
                let published = self.published(&resource_type).await?;
                let views = Arc::new(self.store.type_views(&resource_type).await.map_err(|e| store_error(&e))?);
                let wanted: Vec<(usize, Arc<CompiledView>)> =
                    views.views.iter().cloned().enumerate().filter(|(_, v)| names.iter().any(|n| n == v.name())).collect();
                let mut suspects = BTreeSet::new();
                for range in self.ranges(&resource_type).await.map_err(|e| hapi_error(&e))? {
                    let mut chunks = std::pin::pin!(self.hapi.load(&resource_type, range, meta_read(&views)));
                    while let Some(chunk) = chunks.next().await {
                        let mut chunk = chunk.map_err(|e| hapi_error(&e))?.states();
                        chunk.retain(|state| self.is_sampled(&state.id));
                        so_far.compared += chunk.len() as u64;
                        let states = evaluate(views.clone(), chunk).await?;
                        for (place, view) in &wanted {
                            suspects.extend(self.differing(view, *place, &states).boxed().await?);
                        }
                        yield so_far.clone();
                    }
                }
                for (_, view) in &wanted {
                    suspects.extend(self.shown_but_gone(view, &published).boxed().await?);
                }
                so_far.differences = self.settled(&resource_type, &published, suspects).boxed().await?;
                so_far.found += so_far.differences.len() as u64;
                yield so_far.clone();
                so_far.differences.clear();
            }
            so_far.done = true;
            yield so_far;
        }
    }

    /// Ranges that cover a type.
    async fn ranges(&self, resource_type: &str) -> Result<Vec<IdRange>, HapiError> {
        let count = self.hapi.about_how_many(resource_type).await?;
        self.hapi.ranges(resource_type, count, RANGE).await
    }

    async fn published(&self, resource_type: &str) -> Result<Position, ServiceError> {
        let state = self
            .store
            .type_state(resource_type)
            .await
            .map_err(|e| store_error(&e))?;
        let timeline = self.hapi.timeline().await.map_err(|e| hapi_error(&e))?;
        state.published.filter(|p| p.timeline == timeline).ok_or_else(|| {
            let message = format!("{resource_type} has not been refreshed since HAPI's database began or was restored: refresh it first");
            ServiceError::new(Code::Precondition, message)
        })
    }

    /// The same resources in every view, and in every run over the same share.
    fn is_sampled(&self, id: &str) -> bool {
        let mut hasher = DefaultHasher::new();
        id.hash(&mut hasher);
        #[expect(
            clippy::cast_precision_loss,
            reason = "a share of resources need not be exact"
        )]
        let place = hasher.finish() as f64 / u64::MAX as f64;
        place <= self.sample
    }

    /// Of these states, those whose rows in the batch-only view differ.
    async fn differing(
        &self,
        view: &CompiledView,
        place: usize,
        states: &[EvaluatedState],
    ) -> Result<Vec<Difference>, ServiceError> {
        let mut tuples = Vec::new();
        for state in states {
            if let Some(RowsOf::Encoded { tuples: rows, .. }) = state.rows.get(place) {
                tuples.extend_from_slice(rows);
            }
        }
        let mut given = self.store.snapshot(None).await.map_err(|e| store_error(&e))?;
        let expected = rows(
            &mut given,
            Relation::Given {
                columns: view.columns().to_vec(),
                tuples,
            },
            None,
        )
        .await?;
        drop(given);
        let ids = states.iter().map(|s| s.id.clone()).collect();
        let mut shown = self
            .store
            .snapshot(Some(view.name()))
            .await
            .map_err(|e| store_error(&e))?;
        let shown = rows(
            &mut shown,
            Relation::Batch(view.name().to_owned()),
            Some(Condition::ResourceId(ids)),
        )
        .await?;
        let differs = |state: &&EvaluatedState| expected.get(&state.id) != shown.get(&state.id);
        let difference = |state: &EvaluatedState| Difference {
            view: view.name().to_owned(),
            id: state.id.clone(),
            version: state.version,
        };
        Ok(states.iter().filter(differs).map(difference).collect())
    }

    /// Resources with rows in the batch-only view that HAPI has deleted or has no row of.
    async fn shown_but_gone(
        &self,
        view: &CompiledView,
        published: &Position,
    ) -> Result<Vec<Difference>, ServiceError> {
        let mut snapshot = self
            .store
            .snapshot(Some(view.name()))
            .await
            .map_err(|e| store_error(&e))?;
        let first = view.columns().iter().take(1).map(|c| c.name.clone()).collect();
        let select = select(Relation::Batch(view.name().to_owned()), first, None);
        let (_, mut answers) = snapshot.select(&select).await.map_err(|e| store_error(&e))?;
        let mut gone = Vec::new();
        let (mut ids, mut more) = (BTreeSet::new(), true);
        while more {
            more = match answers.next().await {
                Some(answers) => {
                    for answer in answers.map_err(|e| store_error(&e))? {
                        let id = answer.resource().map_err(|e| store_error(&e))?;
                        ids.extend(id.filter(|id| self.is_sampled(id)).map(str::to_owned));
                    }
                    true
                }
                None => false,
            };
            if ids.len() >= CHUNK || (!more && !ids.is_empty()) {
                let asked: Vec<String> = std::mem::take(&mut ids).into_iter().collect();
                let mut hapi = self.hapi.snapshot().await.map_err(|e| hapi_error(&e))?;
                let states = hapi
                    .states(view.resource_type(), &asked, published.as_of)
                    .await
                    .map_err(|e| hapi_error(&e))?;
                let deleted = states.into_iter().filter(State::is_deleted);
                gone.extend(deleted.map(|s| Difference {
                    view: view.name().to_owned(),
                    id: s.id,
                    version: s.version,
                }));
            }
        }
        Ok(gone)
    }

    /// Without what has changed since the watermark.
    async fn settled(
        &self,
        resource_type: &str,
        published: &Position,
        suspects: BTreeSet<Difference>,
    ) -> Result<Vec<Difference>, ServiceError> {
        if suspects.is_empty() {
            return Ok(Vec::new());
        }
        let mut snapshot = self.hapi.snapshot().await.map_err(|e| hapi_error(&e))?;
        let changed = snapshot
            .changed_since(resource_type, published, None, None)
            .await
            .map_err(|e| hapi_error(&e))?;
        let changed: HashSet<String> = changed.into_iter().collect();
        Ok(suspects
            .into_iter()
            .filter(|d| !changed.contains(&d.id))
            .collect())
    }
}

async fn evaluate(views: Arc<TypeViews>, states: Vec<State>) -> Result<Vec<EvaluatedState>, ServiceError> {
    tokio::task::spawn_blocking(move || view_store::evaluate(&views, &states))
        .await
        .map_err(|error| ServiceError::internal(&error))
}

/// A select that tells the resource of each row.
fn select(relation: Relation, columns: Vec<String>, condition: Option<Condition>) -> Select {
    Select {
        columns,
        condition,
        max_resources: Some(i64::MAX),
        ..Select::all(relation)
    }
}

async fn rows(
    snapshot: &mut Snapshot,
    relation: Relation,
    condition: Option<Condition>,
) -> Result<Rows, ServiceError> {
    let select = select(relation, Vec::new(), condition);
    let read = async {
        let (_, mut answers) = snapshot.select(&select).await?;
        let mut rows = Rows::new();
        while let Some(answers) = answers.next().await {
            for answer in answers? {
                let id = answer.resource()?.unwrap_or_default();
                let cells = answer.cells().map(|cell| Ok(cell?.to_owned()));
                rows.entry(id.to_owned())
                    .or_default()
                    .push(cells.collect::<Result<_, StoreError>>()?);
            }
        }
        Ok(rows)
    };
    read.await.map_err(|error| store_error(&error))
}
