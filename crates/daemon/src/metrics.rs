//! The registry of metrics: names in Prometheus base units; labels are of small fixed sets, never of patients.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::{encoding::text::encode, registry::Registry};

/// The process's metrics. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics(Arc<Mutex<Registry>>);

impl Metrics {
    /// An empty registry whose metrics are prefixed `researchflow_`.
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(Registry::with_prefix("researchflow"))))
    }

    /// Registers metrics.
    pub fn register<T>(&self, register: impl FnOnce(&mut Registry) -> T) -> T {
        register(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// All metrics in the `OpenMetrics` text form.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.0.lock().unwrap_or_else(PoisonError::into_inner))?;
        Ok(text)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
