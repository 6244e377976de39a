//! Who refreshes what, and when. A reconciler without memory: what must be done is read from the registry, the watermark and the last comparison of
//! everything each time, so a failed run is retried by the next one, and what a replica has done is not due for another.
//!
//! Each type that a view needs has a task of its own, which runs on its [`schedule`](crate::schedule), when a view waits to join, and when it is asked to.
//! One run a type at a time, on this replica by the task, over all replicas by the run lock in the views' PostgreSQL; some types at the same time
//! by a semaphore.

mod attempt;
mod report;
mod worker;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use daemon::Shutdown;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use view_store::{RunKind, ScheduleState, StoreError, ViewStore};

use self::worker::Worker;
use crate::{
    hapi::Hapi,
    measures::Measures,
    progress::{Figures, RunPhase},
    reconciliation::Differences,
    run::RunSettings,
    schedule::{Ahead, Behind, Schedules},
};

/// How often the registry is looked at: a new view begins to be populated, and watchers hear of it, within this.
const REGISTRY_INTERVAL: Duration = Duration::from_millis(500);

/// Where a run stands, for watchers.
#[derive(Debug, Clone)]
pub struct RunStatus {
    /// The type.
    pub resource_type: String,
    /// What it does.
    pub kind: RunKind,
    /// Phase, and what is done.
    pub figures: Figures,
    /// Since the run began.
    pub elapsed: Duration,
    /// Resources read a second.
    pub per_second: Option<f64>,
    /// How long it goes on reading at this pace.
    pub remaining: Option<Duration>,
    /// With `Done`: T of the watermark.
    pub batch_as_of: Option<DateTime<Utc>>,
    /// With `Done`, of a run that compared everything: what it put right that nothing had told of.
    pub differences: Option<Differences>,
    /// With `Failed`: why, without content.
    pub reason: Option<String>,
}

impl RunStatus {
    /// Of a run that was asked for, before it begins.
    fn waiting(resource_type: &str, kind: RunKind) -> Self {
        Self {
            resource_type: resource_type.to_owned(),
            kind,
            figures: Figures::default(),
            elapsed: Duration::ZERO,
            per_second: None,
            remaining: None,
            batch_as_of: None,
            differences: None,
            reason: None,
        }
    }

    /// Whether the run has ended.
    pub fn is_over(&self) -> bool {
        matches!(self.figures.phase, RunPhase::Done | RunPhase::Failed)
    }
}

/// Runs refreshes. Cheap to clone.
#[derive(Clone)]
pub struct Refresher {
    inner: Arc<Inner>,
}

struct Inner {
    hapi: Hapi,
    store: ViewStore,
    run: RunSettings,
    refresh: Schedules,
    reconcile: Schedules,
    log_interval: Option<Duration>,
    measures: Measures,
    shutdown: Shutdown,
    slots: Semaphore,
    types: Mutex<BTreeMap<String, TypeTask>>,
    registry: watch::Sender<i64>,
}

impl Inner {
    fn ahead(&self, resource_type: &str, behind: &ScheduleState) -> Ahead {
        let behind = Behind {
            refreshed: behind.published_as_of.max(behind.refresh_skipped),
            reconciled: behind.reconciled_as_of.max(behind.reconciliation_skipped),
        };
        Ahead::of(
            self.refresh.of(resource_type),
            self.reconcile.of(resource_type),
            behind,
        )
    }
}

/// The task of a type.
struct TypeTask {
    requests: mpsc::UnboundedSender<Request>,
    /// The registry has changed.
    changed: Arc<Notify>,
    current: Arc<Mutex<Option<CancellationToken>>>,
    last: Arc<Mutex<Option<RunStatus>>>,
    stop: CancellationToken,
}

/// Someone wants a run.
struct Request {
    kind: RunKind,
    watcher: Option<mpsc::UnboundedSender<RunStatus>>,
}

/// What a refresher is made of.
pub struct RefresherParts {
    /// HAPI.
    pub hapi: Hapi,
    /// The views.
    pub store: ViewStore,
    /// How runs load and publish.
    pub run: RunSettings,
    /// When types are refreshed.
    pub refresh: Schedules,
    /// When all of a type is compared.
    pub reconcile: Schedules,
    /// How often a run that goes on says in the log how far it is.
    pub log_interval: Option<Duration>,
    /// How many at the same time.
    pub parallel_types: usize,
    /// Metrics.
    pub measures: Measures,
    /// The stop.
    pub shutdown: Shutdown,
}

impl Refresher {
    /// A refresher that does nothing yet: see [`Refresher::supervise`].
    pub fn new(parts: RefresherParts) -> Self {
        let RefresherParts {
            hapi,
            store,
            run,
            refresh,
            reconcile,
            log_interval,
            parallel_types,
            measures,
            shutdown,
        } = parts;
        let inner = Inner {
            hapi,
            store,
            run,
            refresh,
            reconcile,
            log_interval,
            measures,
            shutdown,
            slots: Semaphore::new(parallel_types),
            types: Mutex::default(),
            registry: watch::Sender::new(-1),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Keeps a task for every type that a view needs, until the stop.
    pub async fn supervise(self) -> Result<(), StoreError> {
        let mut reachable = true;
        loop {
            match self.follow_registry().await {
                Ok(()) => reachable = true,
                Err(error) => {
                    if reachable {
                        tracing::warn!(%error, "the registry of views cannot be read; trying again");
                    }
                    reachable = false;
                }
            }
            if !self.inner.shutdown.sleep(REGISTRY_INTERVAL).await {
                return Ok(());
            }
        }
    }

    /// Changes with every change of the registry.
    pub fn registry(&self) -> watch::Receiver<i64> {
        self.inner.registry.subscribe()
    }

    /// Looks at the registry now, so that a caller who changed it need not wait for the next look.
    pub async fn follow_registry(&self) -> Result<(), StoreError> {
        let inner = &self.inner;
        let generation = inner.store.registry_generation().await?;
        if *inner.registry.borrow() == generation {
            return Ok(());
        }
        let mut needed: Vec<String> = inner
            .store
            .views()
            .await?
            .into_iter()
            .map(|v| v.resource_type)
            .collect();
        needed.sort();
        needed.dedup();
        {
            let mut types = inner.types.lock().unwrap_or_else(PoisonError::into_inner);
            types.retain(|name, task| {
                let kept = needed.contains(name);
                if !kept {
                    task.stop.cancel();
                }
                kept
            });
            for name in &needed {
                types
                    .entry(name.clone())
                    .or_insert_with(|| self.start_task(name.clone()));
            }
        }
        // A view may wait to join: that is looked at, not asked for, since the task may be about to see it by itself.
        {
            let types = inner.types.lock().unwrap_or_else(PoisonError::into_inner);
            types.values().for_each(|task| task.changed.notify_one());
        }
        inner.registry.send_replace(generation);
        Ok(())
    }

    /// Asks for a run without waiting for it.
    pub fn nudge(&self, resource_type: &str, kind: RunKind) {
        self.send(resource_type, Request { kind, watcher: None });
    }

    /// Asks for a run of each type and reports on it until it has ended. Types without views are `Err` with the name.
    pub fn request(
        &self,
        resource_types: &[String],
        kind: RunKind,
    ) -> Result<mpsc::UnboundedReceiver<RunStatus>, String> {
        let (watcher, statuses) = mpsc::unbounded_channel();
        let known = self.types();
        if let Some(unknown) = resource_types.iter().find(|t| !known.contains(t)) {
            return Err(format!(
                "no view needs {unknown}; views need: {}",
                known.join(", ")
            ));
        }
        for resource_type in resource_types {
            // At once: the run that is under way may take long.
            let _gone = watcher.send(RunStatus::waiting(resource_type, kind));
            self.send(
                resource_type,
                Request {
                    kind,
                    watcher: Some(watcher.clone()),
                },
            );
        }
        Ok(statuses)
    }

    /// Cancels the run of a type; false if none is under way here.
    pub fn cancel(&self, resource_type: &str) -> bool {
        let types = self.inner.types.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(task) = types.get(resource_type) else {
            return false;
        };
        let current = task.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.as_ref().is_some_and(|run| {
            run.cancel();
            true
        })
    }

    /// What the schedules have for a type that has this behind it.
    pub fn ahead(&self, resource_type: &str, behind: &ScheduleState) -> Ahead {
        self.inner.ahead(resource_type, behind)
    }

    /// The types that views need.
    pub fn types(&self) -> Vec<String> {
        self.inner
            .types
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .keys()
            .cloned()
            .collect()
    }

    /// The last run of a type that ended here.
    pub fn last_run(&self, resource_type: &str) -> Option<RunStatus> {
        let types = self.inner.types.lock().unwrap_or_else(PoisonError::into_inner);
        let last = types
            .get(resource_type)?
            .last
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        last.clone()
    }

    fn send(&self, resource_type: &str, request: Request) {
        let types = self.inner.types.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = types.get(resource_type) {
            // The task ends only with the type or the process: then nobody waits for the run.
            let _gone = task.requests.send(request);
        }
    }

    fn start_task(&self, resource_type: String) -> TypeTask {
        let (requests, received) = mpsc::unbounded_channel();
        let task = TypeTask {
            requests,
            changed: Arc::default(),
            current: Arc::default(),
            last: Arc::default(),
            stop: self.inner.shutdown.token().child_token(),
        };
        let worker = Worker {
            inner: self.inner.clone(),
            resource_type,
            changed: task.changed.clone(),
            current: task.current.clone(),
            last: task.last.clone(),
            stop: task.stop.clone(),
        };
        self.inner.shutdown.spawn(worker.work(received));
        task
    }
}
