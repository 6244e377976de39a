//! Metrics of the speed layer. Labels come from small fixed sets: a type that no view needs counts as `other`.

use std::sync::atomic::AtomicU64;

use daemon::metrics::Metrics;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
};

use crate::store::Queued;

/// Labels of a webhook event.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct EventLabels {
    /// Resource type, or `other`.
    pub r#type: String,
    /// `put`, `delete`, `bundle`.
    pub op: &'static str,
    /// `accepted`, `not_needed`, `refused`, `unavailable`.
    pub outcome: &'static str,
}

/// What became of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ConnectionLabel {
    /// `accepted`, `no_place`, `not_allowed`.
    pub outcome: &'static str,
}

/// Why a preview told nothing new.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct UselessLabels {
    /// Resource type.
    pub r#type: String,
    /// `repeated` (its version was told before), `late` (a higher one was), `useless` (a reading of it, or of a higher one, was held).
    pub why: &'static str,
}

/// Which installation on a HAPI.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct InstallationLabel {
    /// `hapi.installation`.
    pub installation: String,
}

/// A resource type.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct TypeLabel {
    /// Resource type.
    pub r#type: String,
}

/// How a round ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RoundLabel {
    /// `finished`, `full_refresh_needed`, `failed`.
    pub outcome: &'static str,
}

/// How a backup ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct BackupLabel {
    /// `finished`, `failed`, `skipped`.
    pub outcome: &'static str,
}

/// All metrics of the speed layer.
#[derive(Debug, Clone, Default)]
pub struct Measures {
    /// Requests to the webhook.
    pub webhook_events: Family<EventLabels, Counter>,
    /// Connections to the webhook.
    pub connections: Family<ConnectionLabel, Counter>,
    /// Rounds of the tail.
    pub tail_rounds: Family<RoundLabel, Counter>,
    /// Readings offered that were later than what was held.
    pub readings: Family<TypeLabel, Counter>,
    /// Versions that the tail saw before any webhook.
    pub healed: Family<TypeLabel, Counter>,
    /// Previews that went to keep the bounds of the queue.
    pub previews_dropped: Family<TypeLabel, Counter>,
    /// Previews that told nothing new.
    pub previews_of_no_use: Family<UselessLabels, Counter>,
    /// Age of the oldest mark.
    pub tail_lag_seconds: Gauge<f64, AtomicU64>,
    /// Readings kept past their time to live because the batch has not covered them.
    pub uncovered_kept: Family<TypeLabel, Gauge>,
    /// Covered readings that went early because memory was short.
    pub shed: Counter,
    /// Bytes that Redis uses.
    pub redis_used_bytes: Gauge,
    /// 1 while Redis is there and keeps what it acknowledges; 0 while webhooks are refused because it does not.
    pub redis_ready: Gauge,
    /// When the last webhook of a type came.
    pub webhook_last: Family<TypeLabel, Gauge<f64, AtomicU64>>,
    /// 1 if the tail sees changes of a type for long without a webhook.
    pub subscription_silent: Family<TypeLabel, Gauge>,
    /// 1 if HAPI has our Subscription as it should be, and active; none where none is kept.
    pub subscription_active: Family<InstallationLabel, Gauge>,
    /// Backups.
    pub backups: Family<BackupLabel, Counter>,
    /// When the newest complete backup was begun, as a Unix time, by whichever ingestor.
    pub backup_last_seconds: Gauge<f64, AtomicU64>,
    /// Its size.
    pub backup_bytes: Gauge,
    /// How long the last one of this ingestor took.
    pub backup_duration_seconds: Gauge<f64, AtomicU64>,
}

impl Measures {
    /// Registers them.
    pub fn register(metrics: &Metrics) -> Self {
        let all = Self::default();
        let m = all.clone();
        metrics.register(|registry| {
            registry.register("webhook_events", "requests to the webhook", m.webhook_events);
            registry.register("webhook_connections", "connections to the webhook", m.connections);
            registry.register("tail_rounds", "rounds of the tail", m.tail_rounds);
            registry.register(
                "speed_readings",
                "readings taken into the speed store",
                m.readings,
            );
            registry.register(
                "healed",
                "versions that the tail saw before any webhook",
                m.healed,
            );
            registry.register(
                "previews_dropped",
                "previews dropped to keep the bounds of the queue",
                m.previews_dropped,
            );
            registry.register(
                "previews_of_no_use",
                "previews that told nothing new",
                m.previews_of_no_use,
            );
            registry.register("tail_lag_seconds", "age of the oldest mark", m.tail_lag_seconds);
            registry.register(
                "speed_uncovered_kept",
                "readings past their time to live that the batch has not covered",
                m.uncovered_kept,
            );
            registry.register(
                "speed_shed",
                "covered readings that left early because memory was short",
                m.shed,
            );
            registry.register("redis_used_bytes", "memory that Redis uses", m.redis_used_bytes);
            registry.register(
                "redis_ready",
                "1 if Redis is there and keeps what it acknowledges",
                m.redis_ready,
            );
            registry.register(
                "webhook_last_timestamp_seconds",
                "when the last webhook came, as seconds since 1970",
                m.webhook_last,
            );
            registry.register(
                "subscription_silent",
                "1 if the tail sees changes for long without a webhook",
                m.subscription_silent,
            );
            registry.register(
                "subscription_active",
                "1 if the Subscription in HAPI is as it should be",
                m.subscription_active,
            );
            registry.register("speed_backups", "backups of the speed layer", m.backups);
            registry.register(
                "speed_backup_last_seconds",
                "when the newest complete backup was begun, as a Unix time",
                m.backup_last_seconds,
            );
            registry.register(
                "speed_backup_bytes",
                "size of the newest complete backup",
                m.backup_bytes,
            );
            registry.register(
                "speed_backup_duration_seconds",
                "how long the last backup took",
                m.backup_duration_seconds,
            );
        });
        all
    }
}

impl Measures {
    /// Counts what became of previews; `label` is of the bounded set of types.
    pub fn count_queued(&self, label: &str, queued: &Queued) {
        self.previews_dropped
            .get_or_create(&TypeLabel::of(label))
            .inc_by(queued.dropped);
        for (why, count) in [
            ("repeated", queued.repeated),
            ("late", queued.late),
            ("useless", queued.useless),
        ] {
            let labels = UselessLabels {
                r#type: label.to_owned(),
                why,
            };
            self.previews_of_no_use.get_or_create(&labels).inc_by(count);
        }
    }
}

impl TypeLabel {
    /// The label of a type.
    pub fn of(resource_type: &str) -> Self {
        Self {
            r#type: resource_type.to_owned(),
        }
    }
}
