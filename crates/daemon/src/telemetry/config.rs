//! What is said of tracing: where spans go, and of how many requests.

use serde::Deserialize;

use crate::config::{Demands, is_http_url};

/// `[daemon.tracing]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TracingConfig {
    /// URL of the collector; empty: no spans are made.
    pub otlp_endpoint: String,
    /// How it is spoken to.
    pub protocol: Protocol,
    /// Share of the requests that come without a trace which are recorded, 0 to 1. A caller's trace is recorded if its caller says so.
    pub sample_ratio: f64,
}

/// A transport of OTLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Protocol {
    /// OTLP/gRPC, port 4317 by custom.
    #[serde(rename = "grpc")]
    Grpc,
    /// OTLP/HTTP with binary protobuf, port 4318 by custom; `/v1/traces` is put behind the endpoint.
    #[serde(rename = "http/protobuf")]
    Http,
}

impl Default for TracingConfig {
    fn default() -> Self {
        Self {
            otlp_endpoint: String::new(),
            protocol: Protocol::Grpc,
            sample_ratio: 1.0,
        }
    }
}

impl TracingConfig {
    /// Whether spans are made.
    pub(crate) fn is_on(&self) -> bool {
        !self.otlp_endpoint.is_empty()
    }

    pub(crate) fn check(&self, demands: &mut Demands) {
        demands.demand(
            (0.0..=1.0).contains(&self.sample_ratio),
            "daemon.tracing.sample_ratio: must be 0 to 1",
        );
        if !self.is_on() {
            return;
        }
        let endpoint = self.otlp_endpoint.as_str();
        demands.demand(
            is_http_url(endpoint) && !endpoint.contains(['@', '?', '#']),
            "daemon.tracing.otlp_endpoint: must be a URL such as http://127.0.0.1:4317, without a user, a query or a fragment; \"\" for none",
        );
        demands.demand(
            self.protocol == Protocol::Http || !endpoint.starts_with("https://"),
            "daemon.tracing.otlp_endpoint: https needs protocol = \"http/protobuf\"",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(otlp_endpoint: &str, protocol: Protocol, sample_ratio: f64) -> String {
        let config = TracingConfig {
            otlp_endpoint: otlp_endpoint.into(),
            protocol,
            sample_ratio,
        };
        let mut demands = Demands::default();
        config.check(&mut demands);
        demands.result().err().unwrap_or_default().join("\n")
    }

    #[test]
    fn an_endpoint_that_cannot_be_used_is_refused_and_not_told() {
        for good in ["", "http://127.0.0.1:4317", "http://collector:4317/"] {
            assert_eq!(faults(good, Protocol::Grpc, 0.5), "", "{good}");
        }
        assert_eq!(faults("https://collector/otlp", Protocol::Http, 1.0), "");
        for (bad, protocol) in [
            ("collector:4317", Protocol::Grpc),
            ("https://collector", Protocol::Grpc),
            ("http://user:planted@collector", Protocol::Http),
            ("http://collector?token=planted", Protocol::Http),
        ] {
            let said = faults(bad, protocol, 1.0);
            assert!(
                said.contains("otlp_endpoint") && !said.contains("planted"),
                "{bad}: {said}"
            );
        }
        for bad in [-0.1, 1.1, f64::NAN] {
            assert!(faults("", Protocol::Grpc, bad).contains("sample_ratio"));
        }
    }
}
