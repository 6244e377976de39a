//! Configuration: text becomes types here, once, and all that is wrong is said at once.

use std::{collections::BTreeMap, fmt, path::PathBuf, str::FromStr as _, time::Duration};

use chrono_tz::Tz;
use daemon::{
    CommonConfig, DaemonConfig, Secret,
    config::{seconds, span},
};
use serde::Deserialize;
use view_store::{SlicePlan, StoreSettings};

use crate::{
    hapi::{HapiSettings, Partition, Zone},
    run::{Ranges, RunSettings},
    schedule::{Schedule, Schedules},
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
}

/// URLs may hold passwords: neither is shown.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("daemon", &self.daemon)
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
}

/// The configuration as it is written; the keys are explained in `deploy/config/batch-refresher.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchConfig {
    daemon: CommonConfig,
    hapi: HapiConfig,
    views: ViewsConfig,
    refresh: RefreshConfig,
    reconcile: ScheduleConfig,
    readings: ReadingsConfig,
    run_view: RunViewConfig,
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

/// Interval and expression stand side by side, since the defaults have one of them: the expression counts where there is one.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct ScheduleConfig {
    #[serde(with = "seconds")]
    interval_seconds: Duration,
    cron: String,
    time_zone: String,
    #[serde(default)]
    types: BTreeMap<String, TypeConfig>,
}

/// The schedule of a single type: one of the two.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct TypeConfig {
    interval_seconds: Option<f64>,
    cron: Option<String>,
    time_zone: Option<String>,
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

/// A section's own schedule and those of its types; `zone` where they name none.
fn schedules(
    section: &str,
    config: &ScheduleConfig,
    zone: Option<Tz>,
    wrong: &mut Wrong,
) -> Option<Schedules> {
    let zone = match config.time_zone.as_str() {
        "" => zone,
        own => self::zone(&format!("{section}.time_zone"), own, wrong),
    };
    // What is wrong with an expression does not hang on its zone: all is said at once.
    let looked_at = zone.unwrap_or_default();
    let default = match config.cron.as_str() {
        "" => Some(Schedule::every(config.interval_seconds)),
        cron => wrong.made(&format!("{section}.cron"), Schedule::cron(cron, looked_at)),
    };
    let mut types = BTreeMap::new();
    for (name, own) in &config.types {
        let key = format!("{section}.types.{name}");
        let own = type_schedule(&key, own, looked_at, wrong);
        types.extend(own.map(|own| (name.clone(), own)));
    }
    zone?;
    Some(Schedules {
        default: default?,
        types,
    })
}

fn type_schedule(key: &str, config: &TypeConfig, zone: Tz, wrong: &mut Wrong) -> Option<Schedule> {
    let own_zone = config
        .time_zone
        .as_ref()
        .map(|own| self::zone(&format!("{key}.time_zone"), own, wrong));
    let zone = own_zone.map_or(zone, Option::unwrap_or_default);
    match (&config.cron, config.interval_seconds) {
        (Some(cron), None) => wrong.made(&format!("{key}.cron"), Schedule::cron(cron, zone)),
        (None, Some(interval)) => {
            wrong.demand(
                own_zone.is_none(),
                &format!("{key}.time_zone: means nothing beside interval_seconds: leave it out"),
            );
            let interval = Duration::try_from_secs_f64(interval)
                .map_err(|_| "must be a number of seconds that is not negative");
            wrong
                .made(&format!("{key}.interval_seconds"), interval)
                .map(Schedule::every)
        }
        _ => {
            wrong.demand(
                false,
                &format!("{key}: must have either cron or interval_seconds: set one of them"),
            );
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use chrono::{DateTime, TimeDelta, Utc};

    use super::*;

    fn next(schedules: &Schedules, resource_type: &str, last: &str) -> DateTime<Utc> {
        let next = schedules.of(resource_type).next_after(at(last));
        next.expect("it comes again")
    }

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn load(file: &str) -> Result<Settings, String> {
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
    fn a_cron_expression_takes_the_place_of_the_interval() {
        let settings = load(
            "[refresh]\ncron = \"*/15 6-20 * * *\"\ntime_zone = \"Europe/Berlin\"\n\
             [reconcile]\ncron = \"\"\ninterval_seconds = 3600",
        )
        .unwrap();
        let night = "2026-07-10T20:00:00Z";
        assert_eq!(
            next(&settings.refresh, "Patient", night),
            at("2026-07-11T04:00:00Z")
        );
        assert_eq!(
            next(&settings.reconcile, "Patient", night),
            at("2026-07-10T21:00:00Z")
        );
        // a reconciliation goes by the same clocks unless it names others
        let settings = load("[refresh]\ntime_zone = \"Asia/Tokyo\"").unwrap();
        assert_eq!(
            next(&settings.reconcile, "Patient", night),
            at("2026-07-11T18:00:00Z")
        );
        let settings =
            load("[refresh]\ntime_zone = \"Asia/Tokyo\"\n[reconcile]\ntime_zone = \"UTC\"").unwrap();
        assert_eq!(
            next(&settings.reconcile, "Patient", night),
            at("2026-07-11T03:00:00Z")
        );
    }

    #[test]
    fn a_type_may_have_a_schedule_of_its_own() {
        let settings = load(
            "[refresh.types.Observation]\ninterval_seconds = 300\n[refresh.types.Encounter]\ninterval_seconds = 0\n\
             [refresh.types.Patient]\ncron = \"0 7 * * *\"\ntime_zone = \"America/New_York\"\n\
             [reconcile.types.Patient]\ncron = \"0 4 * * SUN\"",
        )
        .unwrap();
        let last = "2026-07-10T00:00:00Z";
        assert_eq!(
            next(&settings.refresh, "Observation", last),
            at("2026-07-10T00:05:00Z")
        );
        assert_eq!(settings.refresh.of("Encounter"), &Schedule::OnDemand);
        assert_eq!(
            next(&settings.refresh, "Patient", last),
            at("2026-07-10T11:00:00Z")
        );
        assert_eq!(
            next(&settings.refresh, "Condition", last),
            at("2026-07-10T00:01:00Z")
        );
        assert_eq!(
            next(&settings.reconcile, "Patient", last),
            at("2026-07-12T04:00:00Z")
        );
    }

    #[test]
    fn schedules_that_cannot_be_used_are_refused_together_each_with_its_key_and_what_to_do() {
        let error = load(
            "[refresh]\ncron = \"0 25 * * *\"\ntime_zone = \"Mars/Olympus\"\n\
             [refresh.types.Patient]\ncron = \"0 3 * *\"\n\
             [refresh.types.Condition]\ncron = \"0 3 * * *\"\ninterval_seconds = 5\n\
             [refresh.types.Encounter]\n\
             [refresh.types.Observation]\ninterval_seconds = -1\n\
             [refresh.types.Practitioner]\ninterval_seconds = 5\ntime_zone = \"UTC\"\n\
             [reconcile]\ncron = \"0 3 31 4 *\"\n[daemon]\nlog = \"info,x=loud\"",
        )
        .unwrap_err();
        for said in [
            "refresh.cron: is not a cron expression such as",
            "refresh.time_zone: is not the name of a time zone, such as UTC",
            "refresh.types.Patient.cron: must have five fields",
            "refresh.types.Condition: must have either cron or interval_seconds",
            "refresh.types.Encounter: must have either",
            "refresh.types.Observation.interval_seconds: must be a number of seconds that is not negative",
            "refresh.types.Practitioner.time_zone: means nothing beside interval_seconds",
            "reconcile.cron: never comes",
            "daemon.log",
        ] {
            assert!(error.contains(said), "{said} is missing in:\n{error}");
        }
        assert_eq!(error.lines().count(), 9, "{error}");
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
