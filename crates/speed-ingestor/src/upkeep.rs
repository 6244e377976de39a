//! What is looked at now and then: which types views need, and how Redis is.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta};
use daemon::{Clock, Shutdown, admin::Latch};

use crate::{
    accepted::Accepted,
    batch::{BatchLayer, needed_types},
    gate::Gate,
    measures::{Measures, TypeLabel},
    needed::Needed,
    rounds::TailState,
    store::{Flushed, SpeedStore, StoreError},
};

/// How often Redis is looked at.
const REDIS_INTERVAL: Duration = Duration::from_secs(1);
/// The same while it is nearly full.
const NEARLY_FULL_INTERVAL: Duration = Duration::from_millis(500);
/// How long to wait before the batch layer, or a Redis that is away, is asked again.
const RETRY: Duration = Duration::from_millis(500);

const NEARLY_FULL: &str = "redis is nearly full: previews are not taken, what memory is left is for readings";

/// Keeps `needed` as the batch layer says, until the stop. While it cannot be reached the types that were kept in Redis hold.
pub async fn watch_views(
    batch: BatchLayer,
    store: SpeedStore,
    needed: Needed,
    tail: TailState,
    shutdown: Shutdown,
) {
    let mut reachable = true;
    loop {
        if needed.types().is_none()
            && let Ok(kept) = store.kept_types().await
            && !kept.is_empty()
        {
            needed.set(kept);
        }
        let watch = async {
            let mut views = batch.watch_views().await?;
            reachable = true;
            while let Some(response) = views.message().await? {
                let types = needed_types(&response.views);
                if needed.set(types.clone()) {
                    tracing::info!(types = types.join(","), "views need these resource types");
                    tail.wake();
                    match store.forget_others(&types).await {
                        Ok(forgotten) if forgotten == Flushed::default() => {}
                        Ok(Flushed { readings, previews }) => {
                            tracing::info!(readings, previews, "types that no view needs were forgotten");
                        }
                        Err(error) => {
                            tracing::warn!(%error, "types that no view needs cannot be forgotten");
                        }
                    }
                    if let Err(error) = store.keep_types(&types).await {
                        tracing::warn!(%error, "the types cannot be kept in redis");
                    }
                }
            }
            Ok::<(), api::ServiceError>(())
        };
        let Some(result) = shutdown.unless_stopped(watch).await else {
            return;
        };
        if let Err(error) = result
            && std::mem::replace(&mut reachable, false)
        {
            tracing::warn!(%error, "the batch layer cannot be reached: previews alone go on");
        }
        if !shutdown.sleep(RETRY).await {
            return;
        }
    }
}

/// Looks at Redis until the stop: opens the gate when it is there and keeps what it acknowledges, and lets covered readings go when memory is short.
pub struct RedisUpkeep {
    /// The store.
    pub store: SpeedStore,
    /// The types.
    pub needed: Needed,
    /// Whether webhooks may write.
    pub gate: Gate,
    /// Readiness waits for Redis.
    pub ready: Latch,
    /// Whether settings that can lose data are allowed.
    pub allow_volatile: bool,
    /// What came by webhook.
    pub accepted: Accepted,
    /// How long the tail may see changes without a webhook; `None` where no Subscription is kept.
    pub silent_after: Option<TimeDelta>,
    /// Metrics.
    pub measures: Measures,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

impl RedisUpkeep {
    /// Runs until the stop; ends with an error if a later release has written here, so that nothing of it is touched.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), StoreError> {
        let mut said = String::new();
        loop {
            let Some(result) = shutdown.unless_stopped(self.look()).await else {
                return Ok(());
            };
            if let Err(later @ StoreError::LaterLayout(_)) = result {
                return Err(later);
            }
            let (state, pause) = match &result {
                Ok(()) if self.gate.has_room() => (String::new(), REDIS_INTERVAL),
                Ok(()) => (NEARLY_FULL.to_owned(), NEARLY_FULL_INTERVAL),
                Err(error) => (error.to_string(), RETRY),
            };
            if state != said {
                match &result {
                    Ok(()) if state == NEARLY_FULL => tracing::error!("{NEARLY_FULL}"),
                    Ok(()) => tracing::info!("redis is there, and keeps what it acknowledges"),
                    Err(
                        error @ (StoreError::Volatile(_)
                        | StoreError::ClocksApart(_)
                        | StoreError::CannotWait(_)),
                    ) => {
                        tracing::error!(%error, "webhooks are refused");
                    }
                    Err(error) => tracing::warn!(%error, "redis"),
                }
                said = state;
            }
            if !shutdown.sleep(pause).await {
                return Ok(());
            }
        }
    }

    async fn look(&self) -> Result<(), StoreError> {
        let checked = self.store.check(self.allow_volatile, &*self.clock).await;
        match &checked {
            Ok(health) => {
                if health.is_nearly_full() {
                    self.gate.open_nearly_full();
                } else {
                    self.gate.open();
                }
                self.ready.release();
                self.measures.redis_ready.set(1);
            }
            Err(error) => {
                self.gate.close(error.to_string());
                self.ready.hold();
                self.measures.redis_ready.set(0);
            }
        }
        let health = checked?;
        self.measures
            .redis_used_bytes
            .set(i64::try_from(health.used_memory).unwrap_or(i64::MAX));
        for resource_type in self.needed.types().unwrap_or_default().iter() {
            let uncovered = self.store.uncovered_kept(resource_type, self.clock.now()).await?;
            let gauge = self
                .measures
                .uncovered_kept
                .get_or_create(&TypeLabel::of(resource_type))
                .clone();
            let before = gauge.set(i64::try_from(uncovered).unwrap_or(i64::MAX));
            if before == 0 && uncovered > 0 {
                tracing::error!(
                    resource_type = &**resource_type,
                    uncovered,
                    "readings are kept past their time to live: the batch has not covered them"
                );
            }
            if health.is_short() {
                self.measures.shed.inc_by(self.store.shed(resource_type).await?);
            }
        }
        self.listen().await
    }

    /// Whether webhooks come, to this ingestor or another.
    async fn listen(&self) -> Result<(), StoreError> {
        for (resource_type, at) in self.store.last_webhooks().await? {
            self.accepted.came(&resource_type, at);
            let label = TypeLabel {
                r#type: self.needed.label(&resource_type),
            };
            let gauge = self.measures.webhook_last.get_or_create(&label).clone();
            gauge.set((at - DateTime::UNIX_EPOCH).as_seconds_f64());
        }
        let Some(patience) = self.silent_after else {
            return Ok(());
        };
        let now = self.clock.now();
        for resource_type in self.needed.types().unwrap_or_default().iter() {
            let known = self.accepted.of_type(resource_type);
            let label = TypeLabel::of(resource_type);
            let silent = known.silent_since(now, patience).is_some();
            let gauge = self.measures.subscription_silent.get_or_create(&label).clone();
            if gauge.set(i64::from(silent)) == 0 && silent {
                tracing::error!(
                    resource_type = &**resource_type,
                    "the subscription is silent: the tail sees changes, and no webhook comes"
                );
            }
        }
        Ok(())
    }
}
