//! Metrics of TLS, by endpoint: a listener (`grpc`, `http`, `admin`), or those that are called.

use std::sync::atomic::AtomicI64;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
};

use crate::metrics::Metrics;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    endpoint: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HandshakeLabels {
    endpoint: &'static str,
    outcome: &'static str,
}

/// How TLS goes. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct TlsMeasures {
    not_after: Family<Labels, Gauge<i64, AtomicI64>>,
    reloads: Family<Labels, Counter>,
    reload_failures: Family<Labels, Counter>,
    handshakes: Family<HandshakeLabels, Counter>,
}

impl TlsMeasures {
    pub(super) fn register(metrics: &Metrics) -> Self {
        let this = Self::default();
        metrics.register(|registry| {
            registry.register(
                "tls_certificate_not_after_seconds",
                "When the certificate that is in use ends, in seconds since 1970",
                this.not_after.clone(),
            );
            registry.register(
                "tls_reloads",
                "Changed files of TLS that were taken",
                this.reloads.clone(),
            );
            registry.register(
                "tls_reload_failures",
                "Changed files of TLS that could not be used: those from before stay in use",
                this.reload_failures.clone(),
            );
            registry.register(
                "tls_handshakes",
                "Handshakes of TLS that a listener was asked for",
                this.handshakes.clone(),
            );
        });
        this
    }

    /// The certificate that is in use from now on.
    pub(super) fn certificate(&self, endpoint: &'static str, not_after: i64) {
        self.not_after.get_or_create(&Labels { endpoint }).set(not_after);
    }

    /// Makes the counters known at 0: a rise from nothing is no rise for whoever watches.
    pub(super) fn watching(&self, endpoint: &'static str) {
        drop(self.reloads.get_or_create(&Labels { endpoint }));
        drop(self.reload_failures.get_or_create(&Labels { endpoint }));
    }

    pub(super) fn reloaded(&self, endpoint: &'static str) {
        self.reloads.get_or_create(&Labels { endpoint }).inc();
    }

    pub(super) fn reload_failed(&self, endpoint: &'static str) {
        self.reload_failures.get_or_create(&Labels { endpoint }).inc();
    }

    /// `outcome`: `done`, `not_allowed` (done, and whoever it is will be refused), `failed`, `too_slow`.
    pub(super) fn handshake(&self, endpoint: &'static str, outcome: &'static str) {
        self.handshakes
            .get_or_create(&HandshakeLabels { endpoint, outcome })
            .inc();
    }
}
