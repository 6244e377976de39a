//! `[webhook]`: where deliveries come to, what they must show, and their bounds.

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use axum::http::HeaderName;
use daemon::{
    Secret,
    config::{Demands, seconds},
    tls::ListenerTls,
};
use ipnet::IpNet;
use serde::Deserialize;

use crate::{
    auth::{self, ReadSecrets, SecretFileError, SharedSecret},
    body::Limits,
    connections::ConnectionLimits,
};

/// How many connections, or requests, may be asked for: more would be a mistake, and more than can be counted.
const PLACES: std::ops::RangeInclusive<usize> = 1..=1_000_000;

/// The section of the configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    listen: SocketAddr,
    secret: Secret,
    previous_secret: Secret,
    secret_file: PathBuf,
    secret_header: String,
    max_body_bytes: usize,
    max_depth: usize,
    #[serde(with = "seconds")]
    body_timeout_seconds: Duration,
    max_in_flight: usize,
    max_body_memory_bytes: usize,
    max_connections: usize,
    #[serde(with = "seconds")]
    head_timeout_seconds: Duration,
    allowed_networks: Vec<String>,
    /// How deliveries come: their secret says that they are HAPI's.
    #[serde(default)]
    tls: ListenerTls,
}

impl WebhookConfig {
    pub(super) fn check(&self, demands: &mut Demands) {
        self.tls.check("webhook.tls", demands);
        let mut demand = |holds: bool, message: &str| demands.demand(holds, message);
        let has_file = !self.secret_file.as_os_str().is_empty();
        demand(
            has_file || !self.secret.expose().is_empty(),
            "webhook.secret: must be set (RF_SPEED__WEBHOOK__SECRET), or webhook.secret_file: it is what keeps strangers from writing",
        );
        demand(
            !has_file || self.secret.expose().is_empty() && self.previous_secret.expose().is_empty(),
            "webhook.secret_file: holds all secrets: webhook.secret and webhook.previous_secret must be \"\" then",
        );
        if has_file && let Err(error) = auth::secrets_of(&self.secret_file) {
            demand(false, &format!("webhook.secret_file: {error}"));
        }
        demand(
            auth::is_usable(&self.secret) && auth::is_usable(&self.previous_secret),
            "webhook.secret, webhook.previous_secret: must be visible ASCII without spaces, as they stand in a header",
        );
        demand(
            self.header().is_some(),
            "webhook.secret_header: must be the name of a header",
        );
        // A preview is a part of an answer to the merger, and a part is one message.
        demand(
            (1024..=api::MAX_MESSAGE_BYTES / 2).contains(&self.max_body_bytes),
            &format!(
                "webhook.max_body_bytes: must be from 1024 to {}",
                api::MAX_MESSAGE_BYTES / 2
            ),
        );
        demand(
            (1..=200).contains(&self.max_depth),
            "webhook.max_depth: must be from 1 to 200, the deepest that views can evaluate",
        );
        demand(
            PLACES.contains(&self.max_in_flight),
            "webhook.max_in_flight: must be from 1 to 1000000",
        );
        demand(
            self.max_body_memory_bytes >= self.max_body_bytes,
            "webhook.max_body_memory_bytes: must be at least webhook.max_body_bytes",
        );
        demand(
            PLACES.contains(&self.max_connections),
            "webhook.max_connections: must be from 1 to 1000000",
        );
        demand(
            !self.head_timeout_seconds.is_zero(),
            "webhook.head_timeout_seconds: must be above 0",
        );
        demand(
            self.allowed_networks
                .iter()
                .all(|network| network_of(network).is_some()),
            "webhook.allowed_networks: must be networks or addresses such as \"10.0.0.0/8\" or \"192.0.2.7\"",
        );
    }

    /// Where the webhook listens.
    pub fn listen_address(&self) -> SocketAddr {
        self.listen
    }

    /// How connections are secured.
    pub fn tls(&self) -> &ListenerTls {
        &self.tls
    }

    /// What is spoken there.
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_on() { "https" } else { "http" }
    }

    /// What deliveries must show, and what was read of the file that says so, if one does.
    pub fn shared_secret(&self) -> Result<(SharedSecret, Option<ReadSecrets>), SecretFileError> {
        // The name was checked by `validate`.
        let header = self.header().unwrap_or(axum::http::header::AUTHORIZATION);
        let (secrets, read) = match self.secret_file() {
            Some(file) => {
                let (secrets, read) = auth::secrets_of(file)?;
                (secrets, Some(read))
            }
            None => (vec![self.secret.clone(), self.previous_secret.clone()], None),
        };
        let others: Vec<Secret> = secrets[1..]
            .iter()
            .filter(|secret| !secret.expose().is_empty())
            .cloned()
            .collect();
        Ok((SharedSecret::new(header, &secrets[0], &others), read))
    }

    /// The file that holds the secrets, if one does.
    pub fn secret_file(&self) -> Option<&Path> {
        Some(self.secret_file.as_path()).filter(|file| !file.as_os_str().is_empty())
    }

    /// Bounds of a webhook request.
    pub fn limits(&self) -> Limits {
        let Self {
            max_body_bytes,
            max_depth,
            body_timeout_seconds,
            max_body_memory_bytes,
            max_in_flight,
            ..
        } = self;
        Limits {
            body_bytes: *max_body_bytes,
            depth: *max_depth,
            body_time: *body_timeout_seconds,
            memory_bytes: *max_body_memory_bytes,
            in_flight: *max_in_flight,
        }
    }

    /// Bounds of connections to the webhook.
    pub fn connection_limits(&self) -> ConnectionLimits {
        ConnectionLimits {
            most: self.max_connections,
            head_time: self.head_timeout_seconds,
            // They were checked by `validate`.
            allowed: self
                .allowed_networks
                .iter()
                .filter_map(|network| network_of(network))
                .collect(),
        }
    }

    fn header(&self) -> Option<HeaderName> {
        self.secret_header.parse().ok()
    }
}

/// A network, or an address alone.
fn network_of(text: &str) -> Option<IpNet> {
    text.parse()
        .ok()
        .or_else(|| Some(text.parse::<IpAddr>().ok()?.into()))
}
