//! How gRPC behaves towards its callers, whatever the service: the section `[daemon.grpc]`.

use std::time::Duration;

use serde::Deserialize;

use crate::config::{Demands, seconds};

/// Bounds of connections and calls.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrpcManners {
    /// A connection on which nothing came for so long is asked whether it is still there; 0 for never.
    #[serde(with = "seconds")]
    pub keepalive_seconds: Duration,
    /// One that does not answer that within this is closed, and its calls end.
    #[serde(with = "seconds")]
    pub keepalive_timeout_seconds: Duration,
    /// A connection that is older, give or take a tenth, takes no further calls: its client opens another one, by way of whatever balances load. 0 for never.
    #[serde(with = "seconds")]
    pub max_connection_age_seconds: Duration,
    /// How long the calls of such a connection may still take before they are cut; 0 for as long as they like.
    #[serde(with = "seconds")]
    pub connection_grace_seconds: Duration,
    /// Connections at the same time; more are closed at once.
    pub max_connections: usize,
    /// Calls at the same time on one connection; a client waits with more.
    pub max_calls_per_connection: u32,
    /// How long the request of a call may take to come.
    #[serde(with = "seconds")]
    pub request_seconds: Duration,
    /// How long a new connection may take until it speaks HTTP/2, TLS' handshake before it included.
    #[serde(with = "seconds", default = "handshake_seconds")]
    pub handshake_seconds: Duration,
    /// Whether strangers may call at an address that other machines reach.
    #[serde(default)]
    pub allow_unauthenticated: bool,
}

/// Those of the default configuration.
impl Default for GrpcManners {
    fn default() -> Self {
        Self {
            keepalive_seconds: Duration::from_secs(30),
            keepalive_timeout_seconds: Duration::from_secs(20),
            max_connection_age_seconds: Duration::from_mins(30),
            connection_grace_seconds: Duration::ZERO,
            max_connections: 1024,
            max_calls_per_connection: 256,
            request_seconds: Duration::from_secs(10),
            handshake_seconds: handshake_seconds(),
            allow_unauthenticated: false,
        }
    }
}

fn handshake_seconds() -> Duration {
    Duration::from_secs(10)
}

impl GrpcManners {
    /// What would serve nobody.
    pub(crate) fn check(&self, demands: &mut Demands) {
        for (key, value) in [
            (
                "keepalive_timeout_seconds",
                self.keepalive_timeout_seconds.as_nanos(),
            ),
            ("request_seconds", self.request_seconds.as_nanos()),
            ("handshake_seconds", self.handshake_seconds.as_nanos()),
            (
                "max_calls_per_connection",
                u128::from(self.max_calls_per_connection),
            ),
        ] {
            demands.demand(value > 0, format!("daemon.grpc.{key}: must be above 0"));
        }
        // So many places are handed out by a semaphore, which counts no further.
        demands.demand(
            (1..=1_000_000).contains(&self.max_connections),
            "daemon.grpc.max_connections: must be 1 to 1000000",
        );
    }
}

/// `None` where 0 stands for never.
pub(super) fn unless_zero(span: Duration) -> Option<Duration> {
    (!span.is_zero()).then_some(span)
}
