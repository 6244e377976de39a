//! The admin port: `/livez`, `/readyz`, `/metrics`.
//!
//! Readiness is a latch: each part that must be waited for holds a [`Latch`] and releases it when it is there; the daemon is ready once all are
//! released, until it stops. A latch can be set again by a part that is lost.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{Router, extract::State, http::StatusCode, routing::get};

use crate::{Shutdown, metrics::Metrics};

/// What readiness waits for. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<&'static str, bool>>>);

/// One part that readiness waits for.
#[derive(Debug, Clone)]
pub struct Latch {
    readiness: Readiness,
    part: &'static str,
}

impl Readiness {
    /// A part to wait for.
    pub fn latch(&self, part: &'static str) -> Latch {
        let latch = Latch {
            readiness: self.clone(),
            part,
        };
        latch.set(false);
        latch
    }

    /// The parts that are not there.
    pub fn missing(&self) -> Vec<&'static str> {
        let parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        parts
            .iter()
            .filter(|(_, ready)| !**ready)
            .map(|(part, _)| *part)
            .collect()
    }
}

impl Latch {
    /// The part is there.
    pub fn release(&self) {
        self.set(true);
    }

    /// The part is lost.
    pub fn hold(&self) {
        self.set(false);
    }

    fn set(&self, ready: bool) {
        self.readiness
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(self.part, ready);
    }
}

/// The admin routes.
pub fn router(metrics: Metrics, readiness: Readiness, shutdown: Shutdown) -> Router {
    let ready = move || {
        let (readiness, shutdown) = (readiness.clone(), shutdown.clone());
        async move {
            let missing = readiness.missing();
            if shutdown.is_stopping() {
                (StatusCode::SERVICE_UNAVAILABLE, "stopping\n".to_owned())
            } else if missing.is_empty() {
                (StatusCode::OK, "ready\n".to_owned())
            } else {
                (
                    StatusCode::SERVICE_UNAVAILABLE,
                    format!("waiting for: {}\n", missing.join(", ")),
                )
            }
        }
    };
    Router::new()
        .route("/livez", get(async || "alive\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(encode_metrics))
        .with_state(metrics)
}

async fn encode_metrics(
    State(metrics): State<Metrics>,
) -> Result<([(&'static str, &'static str); 1], String), StatusCode> {
    let text = metrics.encode().map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok((
        [(
            "content-type",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        )],
        text,
    ))
}
