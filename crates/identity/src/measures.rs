//! Metrics: who was not let in, by why; and how fetching issuers' keys goes. Labels are of small fixed sets.

use daemon::metrics::Metrics;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

/// All of them. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Measures {
    failures: Family<ReasonLabel, Counter>,
    key_fetches: Family<OutcomeLabel, Counter>,
}

impl Measures {
    pub(crate) fn register(metrics: &Metrics) -> Self {
        let this = Self::default();
        metrics.register(|registry| {
            registry.register(
                "auth_failures",
                "Calls and requests that were refused for who sent them, by why",
                this.failures.clone(),
            );
            registry.register(
                "auth_key_fetches",
                "Looks at the keys of issuers of tokens, by how they ended",
                this.key_fetches.clone(),
            );
        });
        this
    }

    /// A caller was refused: the label of a [`crate::Refusal`], or `forbidden`.
    pub(crate) fn refused(&self, reason: &'static str) {
        self.failures.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// Keys were looked for: `ok` or `failed`.
    pub(crate) fn fetched(&self, outcome: &'static str) {
        self.key_fetches.get_or_create(&OutcomeLabel { outcome }).inc();
    }
}
