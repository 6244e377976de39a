//! Configuration: text becomes types here, once, and all that is wrong is said at once.

mod schedules;

use std::{collections::BTreeMap, fmt, path::PathBuf, str::FromStr as _, time::Duration};

use audit::AuditConfig;
use chrono_tz::Tz;
use daemon::{
    CommonConfig, DaemonConfig, Secret,
    config::{Demands, seconds, span},
};
use identity::AuthConfig;
use serde::Deserialize;
use view_store::{SlicePlan, StoreSettings};

use schedules::{ScheduleConfig, TypeConfig, schedules};

use crate::{
    hapi::{HapiSettings, Partition, Zone},
    run::{Ranges, RunSettings},
    schedule::Schedules,
};

/// The commented defaults, which are part of the binary.
pub const DEFAULTS: &str = include_str!("../../../deploy/config/batch-refresher.toml");

/// Times are reckoned with both: beyond these they would be mistakes, and at last overflow.
const LONGEST_MARGIN: Duration = Duration::from_hours(7 * 24);
const LONGEST_SKEW: Duration = Duration::from_hours(1);

/// What the daemon goes by.
#[derive(Clone, Deserialize)]
#[serde(try_from = "BatchConfig")]
pub struct Settings {
    /// What all daemons are told.
    pub daemon: CommonConfig,
    /// Who may call.
    pub auth: AuthConfig,
    /// How to reach HAPI's PostgreSQL.
    pub hapi: HapiSettings,
    /// How to reach the views' PostgreSQL.
    pub store: StoreSettings,
    /// Where definitions lie, if anywhere.
    pub folder: Option<PathBuf>,
    /// How runs load and publish.
    pub run: RunSettings,
    /// When types are refreshed.
    pub refresh: Schedules,
    /// When all of a type is compared.
    pub reconcile: Schedules,
    /// How many types are refreshed at the same time.
    pub parallel_types: usize,
    /// How often a run that goes on says in the log how far it is.
    pub log_interval: Option<Duration>,
    /// Changes of a type that a reading carries at most.
    pub max_changes: usize,
    /// Resources that `RunView` reads at most where the caller names no limit.
    pub run_view_limit: i64,
    /// What is recorded of operations.
    pub audit: AuditConfig,
}

/// URLs may hold passwords: neither is shown.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("daemon", &self.daemon)
            .field("auth", &self.auth)
            .field("folder", &self.folder)
            .field("run", &self.run)
            .field("refresh", &self.refresh)
            .field("reconcile", &self.reconcile)
            .finish_non_exhaustive()
    }
}

impl DaemonConfig for Settings {
    fn common(&self) -> &CommonConfig {
        &self.daemon
    }

    fn authenticates(&self) -> bool {
        self.auth.is_on()
    }
}

/// The configuration as it is written; the keys are explained in `deploy/config/batch-refresher.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchConfig {
    daemon: CommonConfig,
    auth: AuthConfig,
    hapi: HapiConfig,
    views: ViewsConfig,
    refresh: RefreshConfig,
    reconcile: ScheduleConfig,
    readings: ReadingsConfig,
    run_view: RunViewConfig,
    audit: AuditConfig,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct HapiConfig {
    url: Secret,
    time_zone: String,
    #[serde(with = "seconds")]
    margin_seconds: Duration,
    partition: String,
    max_connections: u32,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct ViewsConfig {
    url: Secret,
    max_connections: u32,
    #[serde(with = "seconds")]
    clock_skew_seconds: Duration,
    folder: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct RefreshConfig {
    #[serde(with = "seconds")]
    interval_seconds: Duration,
    cron: String,
    time_zone: String,
    parallel_types: usize,
    range_resources: u64,
    parallel_ranges: usize,
    slice_resources: i64,
    #[serde(with = "seconds")]
    log_seconds: Duration,
    #[serde(default)]
    types: BTreeMap<String, TypeConfig>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReadingsConfig {
    max_changes: usize,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct RunViewConfig {
    max_resources: i64,
}

/// All that is wrong, each with the key, the rule and what to do.
#[derive(Debug, Default, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct Wrong(Vec<String>);

impl Wrong {
    fn demand(&mut self, holds: bool, message: &str) {
        if !holds {
            self.0.push(message.to_owned());
        }
    }

    /// What was made of a key, or what is wrong with it.
    fn made<T, E: fmt::Display>(&mut self, key: &str, made: Result<T, E>) -> Option<T> {
        made.map_err(|error| self.0.push(format!("{key}: {error}"))).ok()
    }
}

impl TryFrom<BatchConfig> for Settings {
    type Error = Wrong;

    fn try_from(config: BatchConfig) -> Result<Self, Wrong> {
        let mut wrong = Wrong::default();
        // Here, and not only where all daemons look at it: so that it is said with the rest.
        if let Err(log) = daemon::telemetry::filter(&config.daemon.log) {
            wrong.0.push(log);
        }
        let mut demands = Demands::default();
        config.auth.check(&mut demands);
        config.audit.check(&mut demands);
        wrong.0.extend(demands.result().err().into_iter().flatten());
        let hapi = hapi(&config.hapi, &mut wrong);
        let store = store(&config.views, &mut wrong);
        let run = run(&config.refresh, &mut wrong);
        let RefreshConfig {
            interval_seconds,
            cron,
            time_zone,
            types,
            parallel_types,
            log_seconds,
            ..
        } = config.refresh;
        let zone = zone("refresh.time_zone", &time_zone, &mut wrong);
        let refresh = ScheduleConfig {
            interval_seconds,
            cron,
            time_zone: String::new(),
            types,
        };
        let refresh = schedules("refresh", &refresh, zone, &mut wrong);
        let reconcile = schedules("reconcile", &config.reconcile, zone, &mut wrong);
        wrong.demand(parallel_types >= 1, "refresh.parallel_types: must be at least 1");
        let max_changes = config.readings.max_changes;
        wrong.demand(max_changes >= 1, "readings.max_changes: must be at least 1");
        let run_view_limit = config.run_view.max_resources;
        wrong.demand(run_view_limit >= 1, "run_view.max_resources: must be at least 1");
        match (hapi, refresh, reconcile) {
            (Some(hapi), Some(refresh), Some(reconcile)) if wrong.0.is_empty() => Ok(Self {
                daemon: config.daemon,
                auth: config.auth,
                hapi,
                store,
                folder: Some(config.views.folder)
                    .filter(|folder| !folder.is_empty())
                    .map(PathBuf::from),
                run,
                refresh,
                reconcile,
                parallel_types,
                log_interval: Some(log_seconds).filter(|interval| !interval.is_zero()),
                max_changes,
                run_view_limit,
                audit: config.audit,
            }),
            _ => Err(wrong),
        }
    }
}

fn demand_postgres_url(key: &str, url: &Secret, wrong: &mut Wrong) {
    wrong.demand(
        view_store::is_postgres_url(url.expose()),
        &format!("{key}: must be of the form postgres://user:password@host:port/database"),
    );
}

fn hapi(config: &HapiConfig, wrong: &mut Wrong) -> Option<HapiSettings> {
    demand_postgres_url("hapi.url", &config.url, wrong);
    let zone = zone("hapi.time_zone", &config.time_zone, wrong).map(Zone);
    wrong.demand(
        config.margin_seconds <= LONGEST_MARGIN,
        "hapi.margin_seconds: must be at most 604800, a week",
    );
    let partition = match config.partition.as_str() {
        "" => Ok(Partition::Only),
        "default" => Ok(Partition::Default),
        number => number.parse().map(Partition::Id),
    };
    let partition = wrong.made(
        "hapi.partition",
        partition.map_err(|_| "must be a number, \"default\", or \"\" where HAPI has no partitions"),
    );
    wrong.demand(
        config.max_connections >= 2,
        "hapi.max_connections: must be at least 2",
    );
    Some(HapiSettings {
        url: config.url.expose().to_owned(),
        zone: zone?,
        margin: span(config.margin_seconds),
        partition: partition?,
        max_connections: config.max_connections,
    })
}

fn store(config: &ViewsConfig, wrong: &mut Wrong) -> StoreSettings {
    demand_postgres_url("views.url", &config.url, wrong);
    wrong.demand(
        config.clock_skew_seconds <= LONGEST_SKEW,
        "views.clock_skew_seconds: must be at most 3600: set the machines' clocks",
    );
    wrong.demand(
        config.max_connections >= 4,
        "views.max_connections: must be at least 4",
    );
    StoreSettings {
        url: config.url.expose().to_owned(),
        max_connections: config.max_connections,
        skew: span(config.clock_skew_seconds),
    }
}

fn run(config: &RefreshConfig, wrong: &mut Wrong) -> RunSettings {
    wrong.demand(
        config.range_resources >= 1,
        "refresh.range_resources: must be at least 1",
    );
    wrong.demand(
        config.parallel_ranges >= 1,
        "refresh.parallel_ranges: must be at least 1",
    );
    wrong.demand(
        (1..=100_000).contains(&config.slice_resources),
        "refresh.slice_resources: must be from 1 to 100000",
    );
    RunSettings {
        ranges: Ranges::Of(config.range_resources),
        workers: config.parallel_ranges,
        resume: true,
        slice: SlicePlan {
            resources: config.slice_resources,
            unchanged_too: false,
        },
    }
}

fn zone(key: &str, name: &str, wrong: &mut Wrong) -> Option<Tz> {
    let rule = "is not the name of a time zone, such as UTC or Europe/Berlin";
    wrong.made(key, Tz::from_str(name).map_err(|_| rule))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use chrono::{DateTime, TimeDelta, Utc};

    use super::*;
    use crate::schedule::Schedule;

    pub(super) fn next(schedules: &Schedules, resource_type: &str, last: &str) -> DateTime<Utc> {
        let next = schedules.of(resource_type).next_after(at(last));
        next.expect("it comes again")
    }

    pub(super) fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    pub(super) fn load(file: &str) -> Result<Settings, String> {
        static FILES: AtomicU32 = AtomicU32::new(0);
        let number = FILES.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("batch-config-{}-{number}.toml", std::process::id()));
        std::fs::write(&path, file).unwrap();
        let loaded = daemon::config::load::<Settings>(DEFAULTS, Some(&path), "RF_BATCH_TEST");
        std::fs::remove_file(&path).unwrap();
        loaded.map_err(|e| e.to_string())
    }

    #[test]
    fn the_sample_is_the_default() {
        let settings = load("").unwrap();
        assert_eq!(settings.hapi.margin, TimeDelta::seconds(90));
        let minute = Schedule::every(Duration::from_mins(1));
        assert_eq!(settings.refresh.of("Patient"), &minute);
        assert_eq!(
            next(&settings.reconcile, "Patient", "2026-07-10T03:00:00Z"),
            at("2026-07-11T03:00:00Z")
        );
        assert_eq!(settings.max_changes, 20_000);
        assert_eq!(settings.log_interval, Some(Duration::from_secs(10)));
        assert!(settings.hapi.url.starts_with("postgresql://"));
        assert!(
            !format!("{settings:?}").contains("postgresql://"),
            "a URL may hold a password"
        );
    }

    #[test]
    fn what_is_wrong_is_said_all_at_once() {
        let error =
            load("[hapi]\ntime_zone = \"Mars/Olympus\"\npartition = \"x\"\n[refresh]\nrange_resources = 0")
                .unwrap_err();
        for key in ["hapi.time_zone", "hapi.partition", "refresh.range_resources"] {
            assert!(error.contains(key), "{error}");
        }
        let error =
            load("[hapi]\nurl = \"hapi:s3cret\"\n[views]\nurl = \"postgres://u:s3cret@h:x/db\"").unwrap_err();
        for key in ["hapi.url", "views.url"] {
            assert!(error.contains(key) && !error.contains("s3cret"), "{error}");
        }
        let error = load("[hapi]\nmargin_seconds = 1e15\n[views]\nclock_skew_seconds = 1e15").unwrap_err();
        for key in ["hapi.margin_seconds", "views.clock_skew_seconds"] {
            assert!(error.contains(key), "{error}");
        }
        assert!(load("[hapi]\nurll = \"x\"").unwrap_err().contains("urll"));
        let error = load("[refresh.types.Patient]\nchron = \"x\"").unwrap_err();
        assert!(error.contains("chron"), "{error}");
    }
}
