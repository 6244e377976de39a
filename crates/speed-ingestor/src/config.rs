//! Configuration: text becomes types here, and all that is wrong is said at once.

mod backup;
mod hapi;
mod webhook;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use audit::AuditConfig;
use daemon::{
    CommonConfig, ConfigError, DaemonConfig, Secret, Shutdown,
    config::{Demands, is_http_url, seconds, span},
    grpc::{Line, Outward, Way, line},
    tls::{ClientTls, Tls, is_server_name},
};
use identity::AuthConfig;
use serde::Deserialize;

use backup::BackupConfig;
pub use hapi::HapiConfig;
pub use webhook::WebhookConfig;

use crate::{
    auth::SharedSecret, backup::BackupSettings, rounds::RoundSettings, store::StoreSettings,
    subscriptions::Wanted,
};

/// The commented defaults, which are part of the binary.
pub const DEFAULTS: &str = include_str!("../../../deploy/config/speed-ingestor.toml");

/// Configuration of speed-ingestor; the keys are explained in `deploy/config/speed-ingestor.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpeedConfig {
    /// What all daemons are told.
    pub daemon: CommonConfig,
    /// Who may call gRPC; the webhook has a secret of its own.
    pub auth: AuthConfig,
    /// Where deliveries come to.
    pub webhook: WebhookConfig,
    redis: RedisConfig,
    store: StoreConfig,
    batch: BatchConfig,
    tail: TailConfig,
    /// Where HAPI's REST is.
    pub hapi: HapiConfig,
    backup: BackupConfig,
    /// What is recorded of operations.
    pub audit: AuditConfig,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct RedisConfig {
    url: Secret,
    allow_volatile: bool,
    wait_for_disk: bool,
    key_prefix: String,
    #[serde(with = "seconds")]
    connect_timeout_seconds: Duration,
    #[serde(with = "seconds")]
    response_timeout_seconds: Duration,
    #[serde(default)]
    tls: ClientTls,
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
    #[serde(default)]
    server_name: String,
    #[serde(default)]
    tls: ClientTls,
    token_file: PathBuf,
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

/// Times are reckoned with spans: beyond this they would be mistakes, and at last overflow.
const LONGEST_SPAN: Duration = Duration::from_hours(366 * 24);

impl DaemonConfig for SpeedConfig {
    fn authenticates(&self) -> bool {
        self.auth.is_on()
    }

    fn common(&self) -> &CommonConfig {
        &self.daemon
    }

    fn validate(&self) -> Result<(), Vec<String>> {
        let mut demands = Demands::default();
        self.auth.check(&mut demands);
        self.webhook.check(&mut demands);
        self.hapi.check(&mut demands);
        let urls = [("redis.url", self.redis.url.expose())];
        self.redis
            .tls
            .check("redis.tls", &urls, "rediss://", &mut demands);
        let urls = [("batch.url", self.batch.url.as_str())];
        self.batch.tls.check("batch.tls", &urls, "https://", &mut demands);
        demands.demand(
            self.batch.server_name.is_empty() || is_server_name(&self.batch.server_name),
            "batch.server_name: must be \"\", or a DNS name or an address",
        );
        let mut demand = |holds: bool, message: &str| demands.demand(holds, message);
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
        self.backup.validate(&mut demands);
        self.audit.check(&mut demands);
        demands.result()
    }
}

impl SpeedConfig {
    /// How Redis is reached.
    pub fn store_settings(&self) -> StoreSettings {
        StoreSettings {
            url: self.redis.url.expose().to_owned(),
            key_prefix: self.redis.key_prefix.clone(),
            time_to_live: span(self.store.time_to_live_seconds),
            max_previews: self.store.max_previews,
            max_preview_bytes: self.store.max_preview_bytes,
            wait_for_disk: self.redis.wait_for_disk,
            connect_timeout: self.redis.connect_timeout_seconds,
            response_timeout: self.redis.response_timeout_seconds,
            tls: self.redis.tls.clone(),
        }
    }

    /// Whether settings of Redis that can lose what was acknowledged are allowed.
    pub fn allow_volatile(&self) -> bool {
        self.redis.allow_volatile
    }

    /// How the batch layer is reached.
    pub fn batch_line(&self, tls: &Tls, shutdown: &Shutdown) -> Result<Line, ConfigError> {
        let way = Way {
            key: "batch.url",
            url: &self.batch.url,
            server_name: &self.batch.server_name,
            tls: &tls.client("batch", "batch.tls", &self.batch.tls)?,
        };
        line(
            way,
            &Outward::with_token_of("batch.token_file", &self.batch.token_file, shutdown)?,
        )
    }

    /// The Subscription to keep in HAPI; `bound` is where the webhook listens.
    pub fn wanted_subscription(&self, bound: SocketAddr, secret: SharedSecret) -> Wanted {
        self.hapi
            .wanted_subscription(self.webhook.scheme(), bound, secret)
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

    /// Where backups go, when they come, how many are kept; `None` where none are.
    pub fn backup_settings(&self) -> Option<BackupSettings> {
        self.backup.settings()
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
        assert!(config.hapi.rest().is_none());
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
        let endpoint = |config: &SpeedConfig| {
            config
                .wanted_subscription(bound, config.webhook.shared_secret().unwrap().0)
                .endpoint
        };
        let config = load("[webhook]\nsecret = \"s\"\n[hapi]\nurl = \"http://hapi/fhir/\"").unwrap();
        assert_eq!(config.hapi.rest().unwrap().0, "http://hapi/fhir");
        assert_eq!(endpoint(&config), "http://127.0.0.1:40001/fhir");
        let config = load("[webhook]\nsecret = \"s\"\n[hapi]\nwebhook_url = \"http://me/fhir/\"").unwrap();
        assert_eq!(endpoint(&config), "http://me/fhir");
    }

    #[test]
    fn secrets_may_come_from_a_file_and_from_one_place_only() {
        let file = std::env::temp_dir().join(format!("speed-ingestor-secrets-{}", std::process::id()));
        std::fs::write(&file, "new\nold\n").unwrap();
        let section = format!("[webhook]\nsecret_file = \"{}\"", file.display());
        let config = load(&section).unwrap();
        let line = config.webhook.shared_secret().unwrap().0.header_line();
        assert_eq!(line.expose(), "Authorization: Bearer new");
        assert!(
            load(&format!("{section}\nsecret = \"s\""))
                .unwrap_err()
                .contains("webhook.secret_file")
        );
        std::fs::remove_file(&file).unwrap();
        assert!(load(&section).unwrap_err().contains("cannot be read"));
    }

    #[test]
    fn networks_are_checked() {
        let with = |network: &str| {
            load(&format!(
                "[webhook]\nsecret = \"s\"\nallowed_networks = [\"{network}\"]"
            ))
        };
        assert_eq!(
            with("10.0.0.0/8")
                .unwrap()
                .webhook
                .connection_limits()
                .allowed
                .len(),
            1
        );
        assert_eq!(
            with("192.0.2.7")
                .unwrap()
                .webhook
                .connection_limits()
                .allowed
                .len(),
            1
        );
        assert!(with("hapi").unwrap_err().contains("webhook.allowed_networks"));
    }
}
