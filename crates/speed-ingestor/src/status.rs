//! `GetStatus`: how the speed layer is, without a change to anything.

use api::{proto::speed as proto, time};

use crate::{
    backup::Backups,
    service::{Speed, count, mark_of},
    store::StoreError,
    subscriptions::Subscriptions,
};

impl Speed {
    /// What is known; of a Redis that cannot be reached, a warning.
    pub(crate) async fn status(&self) -> proto::GetStatusResponse {
        let mut types = Vec::new();
        for resource_type in self.needed.types().unwrap_or_default().iter() {
            types.push(self.type_status(resource_type).await);
        }
        let health = self.store.health(&*self.clock).await;
        let mut tail = self.tail.health(self.clock.now());
        if let Some(unmarked) = types.iter().find(|known| self.is_to_be_filled(known))
            && tail.is_ok()
            && health.is_ok()
        {
            let resource_type = &unmarked.resource_type;
            tail = Err(format!(
                "redis has no mark of {resource_type}: it was emptied, or is new, and is filled from the batch's watermark on"
            ));
        }
        let store = match health {
            Ok(health) => proto::StoreStatus {
                redis_version: health.version,
                appendonly: health.appendonly,
                maxmemory_policy: health.maxmemory_policy,
                used_memory_bytes: count(health.used_memory),
                maxmemory_bytes: count(health.maxmemory),
                dead_letters: count(health.dead_letters),
                clock_skew_seconds: health.clock_skew.as_seconds_f64(),
                warnings: health.volatile.into_iter().chain(health.warnings).collect(),
            },
            Err(error) => proto::StoreStatus {
                warnings: vec![error.to_string()],
                ..proto::StoreStatus::default()
            },
        };
        proto::GetStatusResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            types,
            subscriptions: self
                .subscriptions
                .as_ref()
                .and_then(Subscriptions::last)
                .into_iter()
                .collect(),
            store: Some(store),
            tail_healthy: tail.is_ok(),
            tail_reason: tail.err().unwrap_or_default(),
            backups: self.backups.as_ref().map(Backups::status),
        }
    }

    /// Whether Redis has no mark of a type that there is something to read of.
    fn is_to_be_filled(&self, known: &proto::TypeStatus) -> bool {
        let round = self.tail.of_type(&known.resource_type).unwrap_or_default();
        known.mark.is_none() && !round.full_refresh_needed
    }

    async fn type_status(&self, resource_type: &str) -> proto::TypeStatus {
        let stored = async {
            let counts = self.store.counts(resource_type).await?;
            let uncovered = self.store.uncovered_kept(resource_type, self.clock.now()).await?;
            Ok::<_, StoreError>((counts, uncovered, self.store.mark(resource_type).await?))
        };
        let (counts, uncovered, mark) = stored.await.unwrap_or_default();
        let round = self.tail.of_type(resource_type).unwrap_or_default();
        let accepted = self.accepted.of_type(resource_type);
        proto::TypeStatus {
            resource_type: resource_type.to_owned(),
            mark: mark.as_ref().map(|mark| mark_of(mark).into()),
            readings_held: count(counts.held),
            previews_held: count(counts.previews),
            healed: count(round.healed),
            webhooks: accepted.webhooks,
            last_webhook: accepted.last.map(time::timestamp),
            silent_since: self
                .subscriptions
                .as_ref()
                .and_then(|_| accepted.silent_since(self.clock.now(), self.silent_after))
                .map(time::timestamp),
            published_n: round.published_n,
            uncovered_kept: count(uncovered),
        }
    }
}
