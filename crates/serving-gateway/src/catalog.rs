//! Which views exist, as the registry in the views' database says: kept, and looked at again when the registry moves.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use api::{ServiceError, batch::batch_service_client::BatchServiceClient, proto::batch::WatchViewsRequest};
use daemon::{Shutdown, admin::Latch, grpc::Line};
use fhir_core::{column::Column, view::CompiledView};
use identity::Grants;
use tokio::sync::Notify;
use view_store::{RegisteredView, StoreError, ViewStore, shortened};

use crate::{errors::store_error, layer_health::LayerHealth, reads::Reads, search::Bindings};

/// How often the registry's generation is looked at; a change of the registry is known within this.
const POLL: Duration = Duration::from_millis(500);
/// Pause before `BatchService` is asked again.
const RETRY: Duration = Duration::from_secs(1);

/// A view that can be asked.
#[derive(Debug)]
pub(crate) struct View {
    /// As registered.
    pub(crate) registered: RegisteredView,
    /// Compiled from the registered definition.
    pub(crate) compiled: CompiledView,
    /// Search parameters.
    pub(crate) bindings: Bindings,
}

impl View {
    /// Rows are in tables of the view's own.
    pub(crate) fn is_materialized(&self) -> bool {
        self.registered.state.is_materialised()
    }

    /// Whether whoever has these grants may read its rows, or the refusal.
    pub(crate) fn to_read(&self, grants: &Grants) -> Result<(), ServiceError> {
        let what = format!("view {}", self.registered.name);
        grants.to_read(&what, &self.registered.resource_type)
    }

    /// The column of this name, or an error that names those that exist.
    pub(crate) fn column(&self, field: &str, name: &str) -> Result<&Column, ServiceError> {
        self.compiled
            .columns()
            .iter()
            .find(|column| column.name == name)
            .ok_or_else(|| {
                let known: Vec<&str> = self.compiled.columns().iter().map(|c| c.name.as_str()).collect();
                let rule = format!(
                    "view {} has no column {}; it has: {}",
                    self.registered.name,
                    shortened(name),
                    known.join(", ")
                );
                ServiceError::invalid(field, rule)
            })
    }
}

/// The views as of one generation of the registry, as far as whoever asks may read them.
#[derive(Debug, Clone)]
pub(crate) struct Views {
    generation: i64,
    by_name: BTreeMap<String, Arc<View>>,
    /// The others: never listed; who names one is told that it is not for him.
    hidden: BTreeMap<String, Arc<View>>,
    grants: Grants,
}

impl Views {
    /// In the order of their names.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<View>> {
        self.by_name.values()
    }

    /// As whoever has these grants sees them.
    fn seen_by(self: Arc<Self>, grants: &Grants) -> Arc<Self> {
        if grants.is_everything() {
            return self;
        }
        let all = self.with_hidden().by_name.into_iter();
        let (by_name, hidden) = all.partition(|(_, view)| grants.may_read(&view.registered.resource_type));
        Arc::new(Self {
            generation: self.generation,
            by_name,
            hidden,
            grants: grants.clone(),
        })
    }

    /// With those that whoever asks may not read: to tell what is not there from what is not for him. Nothing of them is to be shown.
    pub(crate) fn with_hidden(&self) -> Self {
        let mut whole = self.clone();
        whole.by_name.append(&mut whole.hidden);
        whole
    }

    /// Whether there are any.
    pub(crate) fn hides_some(&self) -> bool {
        !self.hidden.is_empty()
    }

    /// The view of this name, or an error that names those that exist.
    pub(crate) fn named(&self, name: &str) -> Result<Arc<View>, ServiceError> {
        if let Some(view) = self.hidden.get(name) {
            view.to_read(&self.grants)?;
        }
        self.by_name.get(name).cloned().ok_or_else(|| {
            store_error(StoreError::UnknownView {
                name: name.to_owned(),
                known: self.by_name.keys().cloned().collect(),
            })
        })
    }

    /// Types with a materialised view: those whose live changes are merged.
    pub(crate) fn merged_types(&self) -> Vec<String> {
        let types: BTreeSet<&str> = self
            .all()
            .filter(|view| view.is_materialized())
            .map(|view| view.registered.resource_type.as_str())
            .collect();
        types.into_iter().map(str::to_owned).collect()
    }
}

/// The cache of views. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Catalog {
    store: ViewStore,
    views: Arc<RwLock<Option<Arc<Views>>>>,
    nudge: Arc<Notify>,
    /// Of whoever asks.
    grants: Grants,
}

impl Catalog {
    /// An empty cache over the registry.
    pub(crate) fn new(store: ViewStore) -> Self {
        Self {
            store,
            views: Arc::default(),
            nudge: Arc::default(),
            grants: Grants::everything(),
        }
    }

    /// The same cache, which shows only what these grants let read.
    pub(crate) fn seen_by(&self, grants: Grants) -> Self {
        Self {
            grants,
            ..self.clone()
        }
    }

    /// The views, from the cache if it is filled.
    pub(crate) async fn views(&self) -> Result<Arc<Views>, StoreError> {
        Ok(self.whole().await?.seen_by(&self.grants))
    }

    async fn whole(&self) -> Result<Arc<Views>, StoreError> {
        let cached = self.views.read().unwrap_or_else(PoisonError::into_inner).clone();
        match cached {
            Some(views) => Ok(views),
            None => self.reload_whole().await,
        }
    }

    /// The view of this name; one that is not known is looked up afresh before it is refused.
    pub(crate) async fn find(&self, name: &str) -> Result<Arc<View>, ServiceError> {
        if let Some(view) = self.whole().await.map_err(store_error)?.by_name.get(name) {
            view.to_read(&self.grants)?;
            return Ok(view.clone());
        }
        self.reload().await.map_err(store_error)?.named(name)
    }

    /// How many views are cached.
    pub(crate) fn cached(&self) -> usize {
        self.views
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .map_or(0, |views| views.by_name.len())
    }

    /// Forgets all; returns how many there were.
    pub(crate) fn clear(&self) -> usize {
        let views = self.views.write().unwrap_or_else(PoisonError::into_inner).take();
        views.map_or(0, |views| views.by_name.len())
    }

    /// Reads the registry.
    pub(crate) async fn reload(&self) -> Result<Arc<Views>, StoreError> {
        Ok(self.reload_whole().await?.seen_by(&self.grants))
    }

    async fn reload_whole(&self) -> Result<Arc<Views>, StoreError> {
        self.store.pulse().unless_silent(self.read()).await
    }

    async fn read(&self) -> Result<Arc<Views>, StoreError> {
        // The generation first: a change in between is then seen again.
        let generation = self.store.registry_generation().await?;
        let mut by_name = BTreeMap::new();
        for registered in self.store.views_without_sizes().await? {
            match CompiledView::from_json(&registered.definition) {
                Ok(compiled) => {
                    let bindings =
                        Bindings::of(&registered.name, &registered.resource_type, compiled.columns());
                    by_name.insert(
                        registered.name.clone(),
                        Arc::new(View {
                            registered,
                            compiled,
                            bindings,
                        }),
                    );
                }
                Err(error) => {
                    tracing::error!(view = registered.name, %error, "a registered view cannot be compiled by this release");
                }
            }
        }
        let views = Arc::new(Views {
            generation,
            by_name,
            hidden: BTreeMap::new(),
            grants: Grants::everything(),
        });
        let mut cached = self.views.write().unwrap_or_else(PoisonError::into_inner);
        *cached = Some(views.clone());
        Ok(views)
    }

    /// Keeps the cache true until the stop: looks at the registry's generation twice a second, and at once when `BatchService` says that something has changed.
    /// Readiness follows whether the registry can be read, or else a replica be asked.
    pub(crate) async fn keep(self, ready: Latch, servers: Reads, shutdown: Shutdown) {
        while !shutdown.is_stopping() {
            let known = self
                .views
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .as_ref()
                .map(|v| v.generation);
            let looking = async {
                let generation = self.store.registry_generation();
                match (self.store.pulse().unless_silent(generation).await, known) {
                    (Ok(now), Some(known)) if now == known => Ok(()),
                    // It has moved, or was never read: read it.
                    (Ok(_), _) => self.reload().await.map(|_| ()),
                    (Err(error), _) => Err(error),
                }
            };
            let looking = self.store.pulse().unless_silent(looking);
            let looked = servers.primary().while_it_answers(looking).await;
            match looked.and_then(|looked| looked.map_err(store_error)) {
                Ok(()) => ready.release(),
                Err(error) => {
                    // Replicas answer with the views as they were last known.
                    if known.is_some() && servers.go_on_without_the_primary() {
                        ready.release();
                    } else {
                        ready.hold();
                    }
                    tracing::warn!(reason = %error, "the registry of views cannot be read");
                }
            }
            let pause = tokio::time::timeout(POLL, self.nudge.notified());
            if shutdown.unless_stopped(pause).await.is_none() {
                return;
            }
        }
    }

    /// Watches `BatchService` until the stop: what it says only wakes [`Catalog::keep`]; whether it answers is noted.
    pub(crate) async fn watch(
        self,
        mut batch: BatchServiceClient<Line>,
        health: LayerHealth,
        shutdown: Shutdown,
    ) {
        while !shutdown.is_stopping() {
            let watching = async {
                let mut stream = batch.watch_views(WatchViewsRequest {}).await?.into_inner();
                while stream.message().await?.is_some() {
                    health.batch(true);
                    self.nudge.notify_one();
                }
                Ok::<_, tonic::Status>(())
            };
            match shutdown.unless_stopped(watching).await {
                None => return,
                Some(Ok(())) => tracing::info!("the batch layer has ended the watch of views"),
                Some(Err(status)) => {
                    tracing::info!(code = ?status.code(), "the batch layer cannot be watched");
                }
            }
            health.batch(false);
            shutdown.sleep(RETRY).await;
        }
    }
}
