//! `[hapi]`: where HAPI's REST is, and the Subscription that is kept there.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use axum::http::HeaderValue;
use chrono::TimeDelta;
use daemon::{
    Secret,
    config::{Demands, is_http_url, seconds, span},
};
use serde::Deserialize;

use super::LONGEST_SPAN;
use crate::{auth::SharedSecret, hapi::Authorization, subscriptions::Wanted};

/// The section of the configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HapiConfig {
    url: String,
    authorization: Secret,
    authorization_file: PathBuf,
    webhook_url: String,
    installation: String,
    #[serde(with = "seconds")]
    check_seconds: Duration,
    #[serde(with = "seconds")]
    silent_after_seconds: Duration,
}

impl HapiConfig {
    pub(super) fn check(&self, demands: &mut Demands) {
        let mut demand = |holds: bool, message: &str| demands.demand(holds, message);
        demand(
            self.url.is_empty() || is_http_url(&self.url),
            "hapi.url: must be HAPI's base, such as http://127.0.0.1:8080/fhir, or \"\"",
        );
        demand(
            HeaderValue::from_str(self.authorization.expose()).is_ok(),
            "hapi.authorization: must be what a header can hold: visible ASCII and spaces, such as \"Bearer ...\"",
        );
        demand(
            self.authorization.expose().is_empty() || self.authorization_file.as_os_str().is_empty(),
            "hapi.authorization_file: only one of it and hapi.authorization may be set",
        );
        demand(
            self.webhook_url.is_empty() || is_http_url(&self.webhook_url),
            "hapi.webhook_url: must be a URL such as http://127.0.0.1:7422/fhir, or \"\"",
        );
        let installation = &self.installation;
        demand(
            (1..=50).contains(&installation.len())
                && installation
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-'),
            "hapi.installation: must be 1 to 50 letters, digits and '-', as it is part of an id",
        );
        demand(
            !self.check_seconds.is_zero(),
            "hapi.check_seconds: must be above 0",
        );
        demand(
            (Duration::from_secs(1)..=LONGEST_SPAN).contains(&self.silent_after_seconds),
            "hapi.silent_after_seconds: must be from 1 to 31622400",
        );
    }

    /// HAPI's REST interface, where it is known.
    pub fn rest(&self) -> Option<(String, Authorization)> {
        let Self {
            url,
            authorization,
            authorization_file,
            ..
        } = self;
        let authorization = if !authorization_file.as_os_str().is_empty() {
            Authorization::File(authorization_file.clone())
        } else if authorization.expose().is_empty() {
            Authorization::None
        } else {
            Authorization::Fixed(authorization.clone())
        };
        (!url.is_empty()).then(|| (url.trim_end_matches('/').to_owned(), authorization))
    }

    /// The Subscription to keep in HAPI; `bound` is where the webhook listens.
    pub fn wanted_subscription(&self, bound: SocketAddr, secret: SharedSecret) -> Wanted {
        let Self {
            webhook_url,
            installation,
            ..
        } = self;
        let endpoint = if webhook_url.is_empty() {
            format!("http://{bound}/fhir")
        } else {
            webhook_url.trim_end_matches('/').to_owned()
        };
        Wanted {
            endpoint,
            installation: installation.clone(),
            secret,
        }
    }

    /// How long the tail may see changes without a webhook before the Subscription counts as silent.
    pub fn silent_after(&self) -> TimeDelta {
        span(self.silent_after_seconds)
    }

    /// How often the Subscription is looked at.
    pub fn check_interval(&self) -> Duration {
        self.check_seconds
    }
}
