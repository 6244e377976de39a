//! Configuration: text becomes types here, and all that is wrong is said at once.

mod backup;

use std::{net::SocketAddr, time::Duration};

use axum::http::{HeaderName, HeaderValue};
use daemon::{
    CommonConfig, DaemonConfig, Secret,
    config::{Demands, is_http_url, seconds, span},
};
use serde::Deserialize;

use backup::BackupConfig;

use crate::{
    auth::SharedSecret, backup::BackupSettings, rounds::RoundSettings, store::StoreSettings,
    subscriptions::Wanted, webhook::Limits,
};

/// The commented defaults, which are part of the binary.
pub const DEFAULTS: &str = include_str!("../../../deploy/config/speed-ingestor.toml");

/// Configuration of speed-ingestor; the keys are explained in `deploy/config/speed-ingestor.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpeedConfig {
    /// What all daemons are told.
    pub daemon: CommonConfig,
    webhook: WebhookConfig,
    redis: RedisConfig,
    store: StoreConfig,
    batch: BatchConfig,
    tail: TailConfig,
    hapi: HapiConfig,
    backup: BackupConfig,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct WebhookConfig {
    listen: SocketAddr,
    secret: Secret,
    previous_secret: Secret,
    secret_header: String,
    max_body_bytes: usize,
    max_depth: usize,
    #[serde(with = "seconds")]
    body_timeout_seconds: Duration,
    max_in_flight: usize,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct RedisConfig {
    url: Secret,
    allow_volatile: bool,
    key_prefix: String,
    #[serde(with = "seconds")]
    connect_timeout_seconds: Duration,
    #[serde(with = "seconds")]
    response_timeout_seconds: Duration,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoreConfig {
    #[serde(with = "seconds")]
    time_to_live_seconds: Duration,
    max_previews: u32,
    max_preview_bytes: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct BatchConfig {
    url: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_field_names, reason = "the keys of the file say their unit")]
struct TailConfig {
    #[serde(with = "seconds")]
    interval_seconds: Duration,
    #[serde(with = "seconds")]
    window_seconds: Duration,
    #[serde(with = "seconds")]
    sweep_seconds: Duration,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct HapiConfig {
    url: String,
    authorization: Secret,
    webhook_url: String,
    installation: String,
    #[serde(with = "seconds")]
    check_seconds: Duration,
}

/// Times are reckoned with spans: beyond this they would be mistakes, and at last overflow.
const LONGEST_SPAN: Duration = Duration::from_hours(366 * 24);

impl DaemonConfig for SpeedConfig {
    fn common(&self) -> &CommonConfig {
        &self.daemon
    }

    fn validate(&self) -> Result<(), Vec<String>> {
        let mut demands = Demands::default();
        let mut demand = |holds: bool, message: &str| demands.demand(holds, message);
        let (webhook, hapi) = (&self.webhook, &self.hapi);
        demand(
            !webhook.secret.expose().is_empty(),
            "webhook.secret: must be set (RF_SPEED__WEBHOOK__SECRET): it is what keeps strangers from writing",
        );
        let visible = |secret: &Secret| secret.expose().bytes().all(|byte| byte.is_ascii_graphic());
        demand(
            visible(&webhook.secret) && visible(&webhook.previous_secret),
            "webhook.secret, webhook.previous_secret: must be visible ASCII without spaces, as they stand in a header",
        );
        demand(
            self.secret_header().is_some(),
            "webhook.secret_header: must be the name of a header",
        );
        // A preview is a part of an answer to the merger, and a part is one message.
        demand(
            (1024..=api::MAX_MESSAGE_BYTES / 2).contains(&webhook.max_body_bytes),
            &format!(
                "webhook.max_body_bytes: must be from 1024 to {}",
                api::MAX_MESSAGE_BYTES / 2
            ),
        );
        demand(
            (1..=200).contains(&webhook.max_depth),
            "webhook.max_depth: must be from 1 to 200, the deepest that views can evaluate",
        );
        demand(
            webhook.max_in_flight >= 1,
            "webhook.max_in_flight: must be at least 1",
        );
        demand(
            redis_url_is_usable(self.redis.url.expose()),
            "redis.url: must be an address such as redis://127.0.0.1:6379/0",
        );
        demand(
            !self.redis.key_prefix.contains(char::is_whitespace),
            "redis.key_prefix: must not hold white space",
        );
        demand(
            !self.store.time_to_live_seconds.is_zero(),
            "store.time_to_live_seconds: must be above 0",
        );
        demand(
            self.store.max_previews >= 1,
            "store.max_previews: must be at least 1",
        );
        demand(
            self.store.max_preview_bytes >= 1024,
            "store.max_preview_bytes: must be at least 1024",
        );
        demand(
            is_http_url(&self.batch.url),
            "batch.url: must be an address such as http://127.0.0.1:7401",
        );
        demand(
            !self.tail.interval_seconds.is_zero(),
            "tail.interval_seconds: must be above 0",
        );
        demand(
            self.tail.window_seconds <= LONGEST_SPAN,
            "tail.window_seconds: must be at most 31622400, a year",
        );
        demand(
            self.store.time_to_live_seconds <= LONGEST_SPAN,
            "store.time_to_live_seconds: must be at most 31622400, a year",
        );
        demand(
            hapi.url.is_empty() || is_http_url(&hapi.url),
            "hapi.url: must be HAPI's base, such as http://127.0.0.1:8080/fhir, or \"\"",
        );
        demand(
            HeaderValue::from_str(hapi.authorization.expose()).is_ok(),
            "hapi.authorization: must be what a header can hold: visible ASCII and spaces, such as \"Bearer ...\"",
        );
        demand(
            hapi.webhook_url.is_empty() || is_http_url(&hapi.webhook_url),
            "hapi.webhook_url: must be a URL such as http://127.0.0.1:7422/fhir, or \"\"",
        );
        let installation = &hapi.installation;
        demand(
            (1..=50).contains(&installation.len())
                && installation
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-'),
            "hapi.installation: must be 1 to 50 letters, digits and '-', as it is part of an id",
        );
        demand(
            !hapi.check_seconds.is_zero(),
            "hapi.check_seconds: must be above 0",
        );
        self.backup.validate(&mut demands);
        demands.result()
    }
}

impl SpeedConfig {
    /// Where the webhook listens.
    pub fn webhook_listen(&self) -> SocketAddr {
        self.webhook.listen
    }

    /// What deliveries must show.
    pub fn shared_secret(&self) -> SharedSecret {
        let previous = Some(&self.webhook.previous_secret).filter(|secret| !secret.expose().is_empty());
        // The name was checked by `validate`.
        let header = self.secret_header().unwrap_or(axum::http::header::AUTHORIZATION);
        SharedSecret::new(header, &self.webhook.secret, previous)
    }

    /// Bounds of a webhook request.
    pub fn limits(&self) -> Limits {
        let WebhookConfig {
            max_body_bytes,
            max_depth,
            body_timeout_seconds,
            ..
        } = self.webhook;
        Limits {
            body_bytes: max_body_bytes,
            depth: max_depth,
            body_time: body_timeout_seconds,
        }
    }

    /// Webhook bodies that are read at the same time.
    pub fn max_in_flight(&self) -> usize {
        self.webhook.max_in_flight
    }

    /// How Redis is reached.
    pub fn store_settings(&self) -> StoreSettings {
        StoreSettings {
            url: self.redis.url.expose().to_owned(),
            key_prefix: self.redis.key_prefix.clone(),
            time_to_live: span(self.store.time_to_live_seconds),
            max_previews: self.store.max_previews,
            max_preview_bytes: self.store.max_preview_bytes,
            connect_timeout: self.redis.connect_timeout_seconds,
            response_timeout: self.redis.response_timeout_seconds,
        }
    }

    /// Whether settings of Redis that can lose what was acknowledged are allowed.
    pub fn allow_volatile(&self) -> bool {
        self.redis.allow_volatile
    }

    /// Where the batch layer is.
    pub fn batch_url(&self) -> &str {
        &self.batch.url
    }

    /// When rounds of the tail come.
    pub fn round_settings(&self) -> RoundSettings {
        let TailConfig {
            interval_seconds,
            window_seconds,
            sweep_seconds,
        } = self.tail;
        RoundSettings {
            interval: interval_seconds,
            window: span(window_seconds),
            sweep: sweep_seconds,
        }
    }

    /// The Subscription to keep in HAPI, if one is to be kept; `bound` is where the webhook listens.
    pub fn wanted_subscription(&self, bound: SocketAddr) -> Option<Wanted> {
        let HapiConfig {
            url,
            authorization,
            webhook_url,
            installation,
            ..
        } = &self.hapi;
        let own = format!("http://{bound}/fhir");
        let endpoint = if webhook_url.is_empty() {
            own
        } else {
            webhook_url.trim_end_matches('/').to_owned()
        };
        (!url.is_empty()).then(|| Wanted {
            hapi: url.trim_end_matches('/').to_owned(),
            authorization: Some(authorization.clone()).filter(|secret| !secret.expose().is_empty()),
            endpoint,
            installation: installation.clone(),
            header_line: self.shared_secret().header_line(),
        })
    }

    /// Where backups go, when they come, how many are kept; `None` where none are.
    pub fn backup_settings(&self) -> Option<BackupSettings> {
        self.backup.settings()
    }

    /// How often the Subscription is looked at.
    pub fn check_interval(&self) -> Duration {
        self.hapi.check_seconds
    }

    fn secret_header(&self) -> Option<HeaderName> {
        self.webhook.secret_header.parse().ok()
    }
}

fn redis_url_is_usable(url: &str) -> bool {
    crate::store::is_address(url)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    pub(super) fn load(overlay: &str) -> Result<SpeedConfig, String> {
        let mut file = tempfile();
        file.1.write_all(overlay.as_bytes()).unwrap();
        let loaded =
            daemon::config::load(DEFAULTS, Some(&file.0), "RF_SPEED_TEST").map_err(|error| error.to_string());
        std::fs::remove_file(&file.0).unwrap();
        loaded
    }

    fn tempfile() -> (std::path::PathBuf, std::fs::File) {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!(
            "speed-ingestor-config-{}-{count}.toml",
            std::process::id()
        ));
        (path.clone(), std::fs::File::create(path).unwrap())
    }

    #[test]
    fn the_sample_is_good_once_a_secret_is_set() {
        assert!(load("").unwrap_err().contains("webhook.secret"));
        let config = load("[webhook]\nsecret = \"s3cret\"").unwrap();
        assert_eq!(config.round_settings().interval, Duration::from_millis(200));
        assert!(config.wanted_subscription(config.webhook_listen()).is_none());
        assert!(!format!("{config:?}").contains("s3cret"));
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once_without_secrets() {
        let error = load("[webhook]\nsecret = \"two words\"\nmax_depth = 5000\n[redis]\nurl = \"http://u:pass@x\"\n[batch]\nurl = \"nowhere\"").unwrap_err();
        for key in ["webhook.secret", "webhook.max_depth", "redis.url", "batch.url"] {
            assert!(error.contains(key), "{key}: {error}");
        }
        assert!(!error.contains("two words") && !error.contains("pass"), "{error}");
    }

    #[test]
    fn a_body_that_no_message_could_carry_is_not_taken() {
        let with = |bytes: usize| load(&format!("[webhook]\nsecret = \"s\"\nmax_body_bytes = {bytes}"));
        assert!(with(api::MAX_MESSAGE_BYTES / 2).is_ok());
        for bytes in [1023, api::MAX_MESSAGE_BYTES / 2 + 1] {
            assert!(with(bytes).unwrap_err().contains("webhook.max_body_bytes"));
        }
    }

    #[test]
    fn what_no_header_can_hold_is_refused_before_anything_is_bound() {
        let error = load("[webhook]\nsecret = \"s\"\n[hapi]\nauthorization = \"Bearer a\\nb\"").unwrap_err();
        assert!(
            error.contains("hapi.authorization") && !error.contains("a\nb"),
            "{error}"
        );
    }

    #[test]
    fn an_unknown_key_is_an_error() {
        assert!(load("[tail]\nintervall = 3").unwrap_err().contains("intervall"));
    }

    #[test]
    fn the_webhook_is_where_it_was_bound_unless_said_otherwise() {
        let bound = "127.0.0.1:40001".parse().unwrap();
        let config = load("[webhook]\nsecret = \"s\"\n[hapi]\nurl = \"http://hapi/fhir/\"").unwrap();
        let wanted = config.wanted_subscription(bound).unwrap();
        assert_eq!(
            (wanted.hapi.as_str(), wanted.endpoint.as_str()),
            ("http://hapi/fhir", "http://127.0.0.1:40001/fhir")
        );
        let config = load(
            "[webhook]\nsecret = \"s\"\n[hapi]\nurl = \"http://hapi\"\nwebhook_url = \"http://me/fhir/\"",
        )
        .unwrap();
        assert_eq!(
            config.wanted_subscription(bound).unwrap().endpoint,
            "http://me/fhir"
        );
    }
}
