//! `[http]`: where HTTP is served, and its bounds.

use std::{net::SocketAddr, time::Duration};

use daemon::{
    config::{Demands, is_http_url, seconds},
    connections::ConnectionLimits,
    tls::ListenerTls,
};
use serde::Deserialize;

/// The section of the configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpConfig {
    /// Where HTTP is served.
    pub listen: SocketAddr,
    /// The base URL as clients know it; empty: `http://`, or `https://` where there is TLS, and the header `Host`.
    pub base_url: String,
    /// Bytes of a body, decompressed.
    pub max_body_bytes: usize,
    /// Bytes of all bodies that are being read or worked on.
    pub max_body_memory_bytes: usize,
    /// How long a body may take to come.
    #[serde(with = "seconds")]
    pub body_timeout_seconds: Duration,
    /// How long a request's head may take, and an idle connection stay.
    #[serde(with = "seconds")]
    pub head_timeout_seconds: Duration,
    /// How long an answer waits for a client that takes nothing of it.
    #[serde(with = "seconds")]
    pub stall_seconds: Duration,
    /// Connections at the same time.
    pub max_connections: usize,
    /// Whether strangers may ask at an address that other machines reach.
    #[serde(default)]
    pub allow_unauthenticated: bool,
    /// How connections are secured.
    #[serde(default)]
    pub tls: ListenerTls,
}

impl HttpConfig {
    /// `auth_is_on`: whoever asks must show a token.
    pub(crate) fn check(&self, auth_is_on: bool, demands: &mut Demands) {
        demands.demand(
            self.base_url.is_empty() || is_http_url(&self.base_url),
            "http.base_url: must be empty, or a URL such as https://views.example.org",
        );
        demands.demand(
            (1024..=1 << 30).contains(&self.max_body_bytes),
            "http.max_body_bytes: must be from 1024 to 1073741824",
        );
        demands.demand(
            self.max_body_memory_bytes >= self.max_body_bytes,
            "http.max_body_memory_bytes: must be at least http.max_body_bytes",
        );
        demands.demand(
            (1..=1_000_000).contains(&self.max_connections),
            "http.max_connections: must be from 1 to 1000000",
        );
        self.tls.check("http.tls", demands);
        demands.closed(
            ("http.listen", "http"),
            self.listen,
            auth_is_on || self.tls.requires_certificates(),
            self.allow_unauthenticated,
            "set [auth], or http.tls with client_certificates = \"required\"",
        );
        for (key, span) in [
            ("body_timeout_seconds", self.body_timeout_seconds),
            ("head_timeout_seconds", self.head_timeout_seconds),
            ("stall_seconds", self.stall_seconds),
        ] {
            demands.demand(!span.is_zero(), format!("http.{key}: must be above 0"));
        }
    }

    pub(crate) fn connection_limits(&self) -> ConnectionLimits {
        ConnectionLimits {
            most: self.max_connections,
            head_time: self.head_timeout_seconds,
            allowed: Vec::new(),
        }
    }
}
