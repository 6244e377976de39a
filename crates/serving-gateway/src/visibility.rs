//! Read your own writes: waits until versions are visible, pulling them in if the webhook is late (rule 15).
//!
//! A version is visible once the views know it or a later one, or once `as_of` has passed a reading that began after the question: then whatever
//! was committed before the question is in, and the wait ends in any case, also for a resource that HAPI has taken back.

use std::{pin::pin, time::Duration};

use api::{
    Code, ServiceError,
    proto::speed::{PullRequest, TypeMark},
    query::{Layers, ResourceVersion},
    speed::{marks_of, speed_service_client::SpeedServiceClient},
};
use chrono::{DateTime, Utc};
use daemon::grpc::Line;
use fhir_core::merge::is_visible;
use tokio::{sync::watch, time::Instant};
use view_store::{StoreError, ViewStore};

use crate::{errors::store_error, shared::Core};

/// How often it is looked whether another gateway's merger has applied it; ours says so at once.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Pause before the speed layer is asked again, after it has failed.
const PULL_AGAIN: Duration = Duration::from_millis(500);

/// Waits until versions are visible in these layers; nothing to wait for is visible. `since` is HAPI's time when it was asked.
pub(crate) async fn wait_for_versions(
    core: &Core,
    versions: &[ResourceVersion],
    layers: Layers,
    since: DateTime<Utc>,
    deadline: Instant,
) -> Result<(), ServiceError> {
    if versions.is_empty() {
        return Ok(());
    }
    let merged = core.catalog.views().await.map_err(store_error)?.merged_types();
    if let Some(unknown) = versions
        .iter()
        .find(|version| !merged.contains(&version.resource_type))
    {
        let rule = format!(
            "no materialised view is over {}; there are views over: {}",
            unknown.resource_type,
            merged.join(", ")
        );
        return Err(ServiceError::invalid("freshness.at_least.resource_type", rule));
    }
    let wait = Wait {
        store: &core.store,
        speed: core.speed.clone(),
        applied: core.applied.subscribe(),
        layers,
        since,
        deadline,
    };
    wait.until_visible(versions).await
}

/// Whether all of these are visible at a server now.
pub(crate) async fn are_visible(
    store: &ViewStore,
    versions: &[ResourceVersion],
    layers: Layers,
) -> Result<bool, StoreError> {
    for version in versions {
        if !is_visible_at(store, version, layers, None).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn is_visible_at(
    store: &ViewStore,
    version: &ResourceVersion,
    layers: Layers,
    asked: Option<DateTime<Utc>>,
) -> Result<bool, StoreError> {
    let (known, freshness) = store.known_version(&version.resource_type, &version.id).await?;
    Ok(match layers {
        Layers::Merged => is_visible(known, version.version, freshness.merged(), asked),
        // The known version may be live, which the batch's rows are not.
        Layers::Batch => is_visible(0, version.version, freshness.batch_as_of, asked),
    })
}

/// Who waits, and for how long.
pub(crate) struct Wait<'a> {
    pub(crate) store: &'a ViewStore,
    pub(crate) speed: SpeedServiceClient<Line>,
    /// Moves whenever this gateway's merger has committed.
    pub(crate) applied: watch::Receiver<u64>,
    pub(crate) layers: Layers,
    /// HAPI's time when it was asked.
    pub(crate) since: DateTime<Utc>,
    pub(crate) deadline: Instant,
}

impl Wait<'_> {
    /// Waits until all are visible in the asked layers.
    pub(crate) async fn until_visible(mut self, versions: &[ResourceVersion]) -> Result<(), ServiceError> {
        let mut open: Vec<&ResourceVersion> = versions.iter().collect();
        let mut asked: Option<DateTime<Utc>> = None;
        let types: std::collections::BTreeSet<String> =
            versions.iter().map(|v| v.resource_type.clone()).collect();
        let pull = PullRequest {
            resource_types: types.into_iter().collect(),
        };
        let mut pulling = pin!(None);
        let mut pull_failed = false;
        let mut pull_at = Instant::now();
        let mut looked = false;
        loop {
            self.applied.mark_unchanged();
            // The views' database may be slow, or silent.
            let look = self.still_open(&open, asked);
            let Ok(still) = tokio::time::timeout_at(self.deadline, look).await else {
                let why = if looked {
                    why_not(pull_failed, pulling.is_some())
                } else {
                    "; the views' database has not told in time"
                };
                return Err(not_visible(open.len(), versions.len(), why));
            };
            (open, looked) = (still?, true);
            if open.is_empty() {
                return Ok(());
            }
            if asked.is_none() && pulling.is_none() && Instant::now() >= pull_at {
                let (mut speed, request) = (self.speed.clone(), pull.clone());
                pulling.set(Some(async move { speed.pull(request).await }));
            }
            tokio::select! {
                changed = self.applied.changed() => if changed.is_err() { tokio::time::sleep(LOOK_AGAIN).await },
                () = tokio::time::sleep(LOOK_AGAIN) => {}
                pulled = async { match pulling.as_mut().as_pin_mut() { Some(pull) => pull.await, None => std::future::pending().await } } => {
                    asked = pulled.ok().and_then(|response| self.read_since(response.into_inner().marks));
                    pull_failed = asked.is_none();
                    pull_at = Instant::now() + PULL_AGAIN;
                    pulling.set(None);
                }
                () = tokio::time::sleep_until(self.deadline) => {
                    let why = why_not(pull_failed, pulling.is_some());
                    return Err(not_visible(open.len(), versions.len(), why));
                }
            }
        }
    }

    /// The clock of the pulled reading. All types of a round have one; the latest is right in any case. A mark from before the question promises
    /// nothing of it: the round had to leave its window short.
    fn read_since(&self, marks: Vec<TypeMark>) -> Option<DateTime<Utc>> {
        let marks = marks_of(marks).ok()?;
        marks
            .into_iter()
            .filter_map(|(_, mark)| Some(mark?.as_of))
            .max()
            .filter(|as_of| *as_of >= self.since)
    }

    /// Those that are not visible.
    async fn still_open<'v>(
        &self,
        open: &[&'v ResourceVersion],
        asked: Option<DateTime<Utc>>,
    ) -> Result<Vec<&'v ResourceVersion>, ServiceError> {
        let mut still = Vec::new();
        for version in open.iter().copied() {
            let visible = is_visible_at(self.store, version, self.layers, asked)
                .await
                .map_err(store_error)?;
            if !visible {
                still.push(version);
            }
        }
        Ok(still)
    }
}

fn why_not(pull_failed: bool, pulling: bool) -> &'static str {
    match (pull_failed, pulling) {
        (true, _) => "; the speed layer cannot be asked to read them",
        (false, true) => "; the speed layer was asked to read them, and has not answered",
        (false, false) => "",
    }
}

fn not_visible(open: usize, of: usize, why: &str) -> ServiceError {
    let message = format!("freshness.at_least: {open} of {of} versions are not visible yet{why}");
    ServiceError::new(Code::DeadlineExceeded, message).because("NOT_VISIBLE_YET")
}
