//! Settings. `deploy/config/serving-gateway.toml` is the default and says what each is for.

use std::{path::PathBuf, time::Duration};

use audit::AuditConfig;
use daemon::{
    CommonConfig, DaemonConfig, Secret,
    config::{Demands, is_http_url, seconds},
    tls::{ClientTls, is_server_name},
};
use identity::AuthConfig;
use serde::Deserialize;

use crate::{http::HttpConfig, reads};

/// All settings of the gateway.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What all daemons have.
    pub daemon: CommonConfig,
    /// Whether live rows are merged and shown.
    pub use_speed_layer: bool,
    /// The views' PostgreSQL.
    pub views: Views,
    /// Who may call.
    pub auth: AuthConfig,
    /// Where the other layers are.
    pub services: Services,
    /// Questions.
    pub query: QueryLimits,
    /// HTTP.
    pub http: HttpConfig,
    /// Questions in SQL.
    pub sql: SqlLimits,
    /// Cohorts.
    pub cohort: CohortLimits,
    /// When an answer says that a layer is behind.
    pub degradation: DegradationBounds,
    /// What is recorded of operations.
    pub audit: AuditConfig,
}

/// `[views]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Views {
    /// `postgres://user:password@host:port/database`
    pub url: Secret,
    /// Streaming replicas that questions are read at.
    #[serde(deserialize_with = "reads::config::urls")]
    pub read_urls: Vec<Secret>,
    /// How far a replica may be behind for questions that do not say `max_staleness`.
    #[serde(with = "seconds")]
    pub max_replica_lag_seconds: Duration,
    /// Connections for questions, to each server.
    pub max_connections: u32,
    /// Connections for the merger and for the look at the registry: 2 at least.
    pub merge_connections: u32,
    /// How far two machines' clocks may be apart.
    #[serde(with = "seconds")]
    pub clock_skew_seconds: Duration,
}

/// `[services]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Services {
    /// URL of `SpeedService`.
    pub speed: String,
    /// URL of `BatchService`.
    pub batch: String,
    /// A file that holds the token which both are shown; empty for none.
    pub token_file: PathBuf,
    /// The name that the certificate of `SpeedService` must be good for; empty: its URL's host.
    #[serde(default)]
    pub speed_server_name: String,
    /// The same of `BatchService`.
    #[serde(default)]
    pub batch_server_name: String,
    /// How both are called by `https`.
    #[serde(default)]
    pub tls: ClientTls,
}

impl Services {
    fn check(&self, demands: &mut Demands) {
        let urls = [
            ("services.speed", self.speed.as_str()),
            ("services.batch", &self.batch),
        ];
        for (key, url) in urls {
            demands.demand(
                is_http_url(url),
                format!("{key}: must be a URL such as http://127.0.0.1:7402"),
            );
        }
        self.tls.check("services.tls", &urls, "https://", demands);
        for (key, name) in [
            ("speed", &self.speed_server_name),
            ("batch", &self.batch_server_name),
        ] {
            demands.demand(
                name.is_empty() || is_server_name(name),
                format!("services.{key}_server_name: must be \"\", or a DNS name or an address"),
            );
        }
    }
}

/// `[query]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueryLimits {
    /// How long `at_least` waits where the caller sets no deadline.
    #[serde(with = "seconds")]
    pub at_least_seconds: Duration,
    /// How long an answer may go on after a stop was asked for.
    #[serde(with = "seconds")]
    pub stop_seconds: Duration,
    /// Bytes of rows that a view which is not materialised may give in one answer.
    pub max_raw_bytes: usize,
}

/// `[sql]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SqlLimits {
    /// Whether `Sql` is served.
    pub enabled: bool,
    /// The views' PostgreSQL as a login that may only read; empty: `views.url`, in the role of a reader.
    pub url: Secret,
    /// The servers of `views.read_urls` as that login; empty: statements are read at the primary.
    #[serde(deserialize_with = "reads::config::urls")]
    pub read_urls: Vec<Secret>,
    /// Connections for statements.
    pub max_connections: u32,
    /// How long PostgreSQL may work on one statement.
    #[serde(with = "seconds")]
    pub timeout_seconds: Duration,
    /// Rows of an answer.
    pub max_rows: i64,
    /// Bytes of the values of an answer.
    pub max_bytes: usize,
    /// Bytes of a statement.
    pub max_statement_bytes: usize,
}

/// `[cohort]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CohortLimits {
    /// Criteria of one cohort.
    pub max_criteria: usize,
    /// How deep they may nest.
    pub max_depth: usize,
    /// How long a statement may take in the views' PostgreSQL.
    #[serde(with = "seconds")]
    pub timeout_seconds: Duration,
    /// Patients of whom resources are given in one answer.
    pub max_resource_patients: usize,
}

/// `[degradation]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_field_names, reason = "a key says its unit")]
pub struct DegradationBounds {
    /// The tail has not finished a round for so long.
    #[serde(with = "seconds")]
    pub speed_behind_seconds: Duration,
    /// The batch has not published for so long.
    #[serde(with = "seconds")]
    pub batch_behind_seconds: Duration,
    /// A question waits so long for its turn where all connections to the views' PostgreSQL are in use.
    #[serde(with = "seconds")]
    pub turn_seconds: Duration,
    /// The views' PostgreSQL says nothing for so long: what waits for it ends.
    #[serde(with = "seconds")]
    pub silent_seconds: Duration,
}

/// The default configuration.
pub const DEFAULTS: &str = include_str!("../../../deploy/config/serving-gateway.toml");

impl DaemonConfig for Config {
    fn authenticates(&self) -> bool {
        self.auth.is_on()
    }

    fn common(&self) -> &CommonConfig {
        &self.daemon
    }

    fn validate(&self) -> Result<(), Vec<String>> {
        let mut demands = Demands::default();
        self.auth.check(&mut demands);
        self.services.check(&mut demands);
        // Times are reckoned with it: beyond this it would be a mistake, and at last overflow.
        demands.demand(
            self.views.clock_skew_seconds <= Duration::from_hours(1),
            "views.clock_skew_seconds: must be at most 3600: set the machines' clocks",
        );
        demands.demand(
            self.views.max_connections >= 1,
            "views.max_connections: must be 1 or more",
        );
        // The merger keeps one for the answer that it applies, and looks up the type's views over another.
        demands.demand(
            self.views.merge_connections >= 2,
            "views.merge_connections: must be 2 or more",
        );
        for (key, limit) in [
            ("cohort.max_criteria", self.cohort.max_criteria),
            ("cohort.max_depth", self.cohort.max_depth),
            ("cohort.max_resource_patients", self.cohort.max_resource_patients),
        ] {
            demands.demand(limit >= 1, format!("{key}: must be 1 or more"));
        }
        // The pool's own patience is 10 s.
        demands.demand(
            (Duration::from_millis(1)..=Duration::from_secs(10)).contains(&self.degradation.turn_seconds),
            "degradation.turn_seconds: must be 0.001 or more, and 10 at most",
        );
        // Less than a busy machine's pauses would break off answers for nothing.
        demands.demand(
            (Duration::from_millis(500)..=Duration::from_mins(10)).contains(&self.degradation.silent_seconds),
            "degradation.silent_seconds: must be 0.5 to 600",
        );
        // PostgreSQL takes milliseconds as an integer, and none as no limit.
        demands.demand(
            (1..=86_400).contains(&self.cohort.timeout_seconds.as_secs()),
            "cohort.timeout_seconds: must be 1 to 86400",
        );
        demands.demand(
            view_store::is_postgres_url(self.views.url.expose()),
            "views.url: must be of the form postgres://user:password@host:port/database",
        );
        self.http.check(self.auth.is_on(), &mut demands);
        self.audit.check(&mut demands);
        demands.demand(
            self.sql.url.expose().is_empty() || view_store::is_postgres_url(self.sql.url.expose()),
            "sql.url: must be empty, or of the form postgres://user:password@host:port/database",
        );
        for (key, at_least_one) in [
            ("sql.max_connections", self.sql.max_connections >= 1),
            ("sql.max_rows", self.sql.max_rows >= 1),
            ("sql.max_bytes", self.sql.max_bytes >= 1),
            ("sql.max_statement_bytes", self.sql.max_statement_bytes >= 1),
        ] {
            demands.demand(at_least_one, format!("{key}: must be 1 or more"));
        }
        reads::config::check(self, &mut demands);
        // It is told to PostgreSQL in milliseconds, as a number of 31 bits.
        let span = Duration::from_millis(1)..=Duration::from_hours(24);
        demands.demand(
            span.contains(&self.sql.timeout_seconds),
            "sql.timeout_seconds: must be 0.001 or more, and 86400 at most",
        );
        demands.result()
    }

    fn plain_variables() -> &'static [(&'static str, &'static str)] {
        &[("USE_SPEED_LAYER", "use_speed_layer")]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(file: &str) -> Result<Config, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("overlay.toml");
        std::fs::write(&path, file).expect("written");
        daemon::config::load(DEFAULTS, Some(&path), "RF_SERVING_TEST").map_err(|error| error.to_string())
    }

    #[test]
    fn a_merger_that_would_wait_for_itself_is_refused_and_so_is_a_url_that_cannot_be_used() {
        let error = load("[views]\nmerge_connections = 1\nurl = \"postgres://u:s3cret@host:x/db\"")
            .expect_err("refused");
        assert!(
            error.contains("views.merge_connections: must be 2 or more"),
            "{error}"
        );
        assert!(
            error.contains("views.url") && !error.contains("s3cret"),
            "{error}"
        );
        assert!(load("[views]\nmerge_connections = 2").is_ok());
    }

    #[test]
    fn bounds_of_statements_are_bounds() {
        for (bad, key) in [
            ("timeout_seconds = 0", "sql.timeout_seconds"),
            ("max_rows = 0", "sql.max_rows"),
            ("max_bytes = 0", "sql.max_bytes"),
            ("max_statement_bytes = 0", "sql.max_statement_bytes"),
            ("max_connections = 0", "sql.max_connections"),
            ("url = \"mysql://u:s3cret@h/db\"", "sql.url"),
        ] {
            let error = load(&format!("[sql]\n{bad}")).expect_err("refused");
            assert!(error.contains(key) && !error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn spans_after_which_a_database_is_given_up_are_bounded() {
        for (bad, key) in [
            ("turn_seconds = 0", "degradation.turn_seconds"),
            ("turn_seconds = 11", "degradation.turn_seconds"),
            ("silent_seconds = 0.1", "degradation.silent_seconds"),
        ] {
            let error = load(&format!("[degradation]\n{bad}")).expect_err("refused");
            assert!(error.contains(key), "{error}");
        }
    }

    #[test]
    fn an_audit_has_a_place_that_can_be_written_and_a_key_that_is_long_enough() {
        let error = load("[audit]\nfile = \"/no/such/folder/audit\"").expect_err("refused");
        assert!(
            error.contains("audit.file: cannot be made") && error.contains("audit.key_file: must be set"),
            "{error}"
        );
        for alone in ["on_failure = \"refuse\"", "purpose = \"required\""] {
            let error = load(&format!("[audit]\n{alone}")).expect_err("refused");
            assert!(error.contains("needs an audit"), "{error}");
        }
        let folder = tempfile::tempdir().expect("a folder");
        let keys = folder.path().join("keys");
        let file = folder.path().join("audit");
        let audit = format!(
            "[audit]\nfile = {file:?}\nkey_file = {keys:?}\n[audit.fhir]\nurl = \"http://127.0.0.1:1/fhir\"\n"
        );
        std::fs::write(&keys, "a 0011s3cret").expect("written");
        let error = load(&audit).expect_err("refused");
        assert!(
            error.contains("audit.key_file: line 1")
                && error.contains("audit.fhir.spool")
                && !error.contains("s3cret"),
            "{error}"
        );
        std::fs::write(&keys, format!("a {}", "0f".repeat(32))).expect("written");
        let good = format!("{audit}spool = {:?}", folder.path());
        assert!(load(&good).expect("good").audit.is_on());
        assert!(!file.exists(), "a check leaves nothing behind");
    }

    #[test]
    fn the_sample_is_a_good_configuration() {
        let config: Config = daemon::config::load(DEFAULTS, None, "RF_SERVING_TEST").expect("the sample");
        assert!(config.use_speed_layer);
        assert!(
            config.daemon.grpc_listen.ip().is_loopback() && config.daemon.admin_listen.ip().is_loopback()
        );
    }
}
