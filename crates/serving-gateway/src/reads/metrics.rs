//! Metrics of reading. Labels are servers by their place in `views.read_urls`, and small fixed sets.

use std::{sync::atomic::AtomicU64, time::Duration};

use daemon::metrics::Metrics;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
};
use tokio::time::Instant;

use super::server::Standing;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ServerLabel {
    server: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StandingLabel {
    server: String,
    standing: &'static str,
}

/// All of them. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct ReadMetrics {
    answered: Family<ServerLabel, Counter>,
    missed: Family<ServerLabel, Counter>,
    standing: Family<StandingLabel, Gauge>,
    fit: Family<ServerLabel, Gauge>,
    lag: Family<ServerLabel, Gauge<f64, AtomicU64>>,
}

impl ReadMetrics {
    pub(crate) fn register(metrics: &Metrics) -> Self {
        let this = Self::default();
        metrics.register(|registry| {
            registry.register(
                "reads",
                "Questions over view tables by the server that was read",
                this.answered.clone(),
            );
            registry.register(
                "reads_missed",
                "Questions that a server could not answer and another one was asked, by that server",
                this.missed.clone(),
            );
            registry.register(
                "read_server_standing",
                "1 for how a server stands: unknown, lost, foreign, unusable, primary, following, paused, promoted",
                this.standing.clone(),
            );
            registry.register(
                "read_server_fit",
                "1 if a server is asked by those who ask for nothing",
                this.fit.clone(),
            );
            registry.register(
                "read_server_lag_seconds",
                "How far a server is behind the primary; none where it cannot be told",
                this.lag.clone(),
            );
        });
        this
    }

    /// A question was answered by this server.
    pub(super) fn answered(&self, server: &str) {
        self.answered.get_or_create(&of(server)).inc();
    }

    /// It could not answer, and another one is asked.
    pub(super) fn missed(&self, server: &str) {
        self.missed.get_or_create(&of(server)).inc();
    }

    /// After a look at a server.
    pub(super) fn standing(&self, server: &str, standing: Standing, max_lag: Duration, now: Instant) {
        for name in Standing::NAMES {
            let label = StandingLabel {
                server: server.to_owned(),
                standing: name,
            };
            let is = i64::from(name == standing.name());
            self.standing.get_or_create(&label).set(is);
        }
        let follows = standing.follows();
        let fit = follows.is_some_and(|follows| follows.is_within(max_lag, now));
        self.fit.get_or_create(&of(server)).set(i64::from(fit));
        match follows.and_then(|follows| follows.lag(now)) {
            Some(lag) => {
                self.lag.get_or_create(&of(server)).set(lag.as_secs_f64());
            }
            None => {
                self.lag.remove(&of(server));
            }
        }
    }
}

fn of(server: &str) -> ServerLabel {
    ServerLabel {
        server: server.to_owned(),
    }
}
