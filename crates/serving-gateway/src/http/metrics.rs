//! Metrics of HTTP. Labels are of small fixed sets.

use daemon::metrics::Metrics;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabel {
    route: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

/// All of them. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct HttpMetrics {
    requests: Family<RequestLabel, Counter>,
    connections: Family<OutcomeLabel, Counter>,
    broken: Family<OutcomeLabel, Counter>,
    rows: Counter,
}

impl HttpMetrics {
    pub(crate) fn register(metrics: &Metrics) -> Self {
        let this = Self::default();
        metrics.register(|registry| {
            registry.register(
                "http_requests",
                "Requests over HTTP by route and status",
                this.requests.clone(),
            );
            registry.register(
                "http_connections",
                "Connections of HTTP by what became of them",
                this.connections.clone(),
            );
            registry.register(
                "http_broken_answers",
                "Answers over HTTP that were broken off, by why",
                this.broken.clone(),
            );
            registry.register("http_rows", "Rows sent over HTTP", this.rows.clone());
        });
        this
    }

    /// The status of a request is known.
    pub(crate) fn request(&self, route: &'static str, status: u16) {
        self.requests.get_or_create(&RequestLabel { route, status }).inc();
    }

    /// A connection was accepted, or was not.
    pub(crate) fn connection(&self, outcome: &'static str) {
        self.connections.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// An answer was broken off: `failed`, `stalled`, `stopped`, `gone`.
    pub(crate) fn broken(&self, outcome: &'static str) {
        self.broken.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// Rows were sent.
    pub(crate) fn rows(&self, rows: usize) {
        self.rows.inc_by(u64::try_from(rows).unwrap_or(u64::MAX));
    }
}
