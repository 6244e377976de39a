//! `[hapi]`: where HAPI's REST is, and the Subscription that is kept there.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use api::{Code, ServiceError};
use axum::http::HeaderValue;
use chrono::TimeDelta;
use daemon::{
    Secret,
    config::{Demands, is_http_url, seconds, span},
    tls::{ClientTls, Tls, TlsError, Watched},
};
use reqwest::Client;
use serde::Deserialize;

use super::LONGEST_SPAN;
use crate::{
    auth::SharedSecret,
    hapi::{self, Authorization},
    subscriptions::Wanted,
};

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
    #[serde(default)]
    tls: ClientTls,
}

impl HapiConfig {
    pub(super) fn check(&self, demands: &mut Demands) {
        let urls = [("hapi.url", self.url.as_str())];
        self.tls.check("hapi.tls", &urls, "https://", demands);
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

    /// How it is asked: with authorities and a certificate of ours, where some are named.
    pub fn http(&self, tls: &Tls) -> Result<Watched<Client>, ServiceError> {
        if !self.tls.is_set() {
            return Ok(Watched::fixed(hapi::http(None)?));
        }
        let made = tls.client_of("hapi", "hapi.tls", &self.tls, &[b"h2", b"http/1.1"], |config| {
            hapi::http(Some(config)).map_err(|_| TlsError::unusable("ca"))
        });
        made.map_err(|error| ServiceError::new(Code::Invalid, error.to_string()))
    }

    /// The Subscription to keep in HAPI; `bound` is where the webhook listens, `scheme` what it speaks there.
    pub(super) fn wanted_subscription(
        &self,
        scheme: &str,
        bound: SocketAddr,
        secret: SharedSecret,
    ) -> Wanted {
        let Self {
            webhook_url,
            installation,
            ..
        } = self;
        let endpoint = if webhook_url.is_empty() {
            format!("{scheme}://{bound}/fhir")
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
