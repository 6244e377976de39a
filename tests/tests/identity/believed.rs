//! An authenticator by itself, over a clock that a test sets.

use std::sync::Arc;

use axum::http::{Extensions, HeaderMap, header};
use chrono::{DateTime, TimeDelta};
use daemon::{ManualClock, Shutdown, metrics::Metrics};
use e2e::issuer;
use identity::{AuthConfig, Authenticator, Identity, Refusal};
use serde_json::{Value, json};

pub(crate) const AUDIENCE: &str = "https://researchflow.test";

/// The section `[auth]` as these members change it.
pub(crate) fn config(changed: &Value) -> AuthConfig {
    let mut section = json!({
        "static_tokens": [], "static_tokens_file": "", "certificates": {}, "jwt": [],
        "leeway_seconds": 60, "max_lifetime_seconds": 3600, "max_token_bytes": 8192,
        "jwks_refresh_seconds": 300, "jwks_retry_seconds": 5, "jwks_stale_seconds": 14400,
        "allow_insecure_jwks": false,
    });
    for (name, value) in changed.as_object().into_iter().flatten() {
        section[name] = value.clone();
    }
    serde_json::from_value(section).expect("a section that can be read")
}

/// Whom it believes.
pub(crate) struct Believing {
    pub(crate) authenticator: Authenticator,
    pub(crate) clock: ManualClock,
    pub(crate) metrics: Metrics,
    shutdown: Shutdown,
}

impl Believing {
    pub(crate) fn start(config: &AuthConfig) -> Self {
        // As a daemon does at its start: keys come over TLS.
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let (metrics, shutdown) = (Metrics::new(), Shutdown::new());
        let now = DateTime::from_timestamp(issuer::now(), 0).expect("a time of these years");
        let clock = ManualClock::new(now);
        let authenticator =
            Authenticator::start(config, Arc::new(clock.clone()), &metrics, &shutdown).expect("good");
        Self {
            authenticator,
            clock,
            metrics,
            shutdown,
        }
    }

    /// Sets the clock to so many seconds from now, the machine's.
    pub(crate) fn at(&self, seconds: i64) {
        let now = DateTime::from_timestamp(issuer::now(), 0).expect("a time of these years");
        self.clock.set(now + TimeDelta::seconds(seconds));
    }

    pub(crate) async fn shown(&self, headers: &[&str]) -> Result<Identity, Refusal> {
        let mut map = HeaderMap::new();
        for value in headers {
            map.append(header::AUTHORIZATION, value.parse().expect("a header"));
        }
        self.authenticator.identify(&map, &Extensions::new()).await
    }

    pub(crate) async fn token(&self, token: &str) -> Result<Identity, Refusal> {
        self.shown(&[&format!("Bearer {token}")]).await
    }

    /// Why it is refused.
    pub(crate) async fn refuses(&self, token: &str) -> Option<Refusal> {
        self.token(token).await.err()
    }
}

impl Drop for Believing {
    fn drop(&mut self) {
        self.shutdown.stop();
    }
}
