//! Configuration: text becomes types here, and all that is wrong is said at once.

use std::{collections::BTreeMap, path::PathBuf, str::FromStr as _, time::Duration};

use daemon::{
    CommonConfig, DaemonConfig, Secret,
    config::{Demands, seconds, span},
};
use serde::Deserialize;
use view_store::{SlicePlan, StoreSettings};

use crate::{
    hapi::{HapiSettings, Partition, Zone},
    run::{Ranges, RunSettings},
};

/// The commented defaults, which are part of the binary.
pub const DEFAULTS: &str = include_str!("../../../deploy/config/batch-refresher.toml");

/// Times are reckoned with both: beyond these they would be mistakes, and at last overflow.
const LONGEST_MARGIN: Duration = Duration::from_hours(7 * 24);
const LONGEST_SKEW: Duration = Duration::from_hours(1);

/// Configuration of batch-refresher; the keys are explained in `deploy/config/batch-refresher.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchConfig {
    /// What all daemons are told.
    pub daemon: CommonConfig,
    hapi: HapiConfig,
    views: ViewsConfig,
    refresh: RefreshConfig,
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
    parallel_types: usize,
    range_resources: u64,
    parallel_ranges: usize,
    slice_resources: i64,
    #[serde(default)]
    type_interval_seconds: BTreeMap<String, f64>,
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

/// When types are refreshed.
#[derive(Debug, Clone, PartialEq)]
pub struct Intervals {
    default: Duration,
    types: BTreeMap<String, Duration>,
}

impl Intervals {
    /// The interval of a type; `None`: only on demand.
    pub fn of(&self, resource_type: &str) -> Option<Duration> {
        // The configuration reader folds the case of keys.
        let own = self
            .types
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(resource_type))
            .map(|(_, span)| *span);
        Some(own.unwrap_or(self.default)).filter(|span| !span.is_zero())
    }
}

impl DaemonConfig for BatchConfig {
    fn common(&self) -> &CommonConfig {
        &self.daemon
    }

    fn validate(&self) -> Result<(), Vec<String>> {
        let mut demands = Demands::default();
        let mut demand = |holds: bool, message: &str| demands.demand(holds, message);
        demand(
            Zone::from_str(&self.hapi.time_zone).is_ok(),
            "hapi.time_zone: is not the name of a time zone, such as UTC or Europe/Berlin",
        );
        demand(
            self.partition().is_some(),
            "hapi.partition: must be a number, \"default\", or \"\" where HAPI has no partitions",
        );
        for (key, url) in [("hapi.url", &self.hapi.url), ("views.url", &self.views.url)] {
            demand(
                view_store::is_postgres_url(url.expose()),
                &format!("{key}: must be of the form postgres://user:password@host:port/database"),
            );
        }
        demand(
            self.hapi.margin_seconds <= LONGEST_MARGIN,
            "hapi.margin_seconds: must be at most 604800, a week",
        );
        demand(
            self.views.clock_skew_seconds <= LONGEST_SKEW,
            "views.clock_skew_seconds: must be at most 3600: set the machines' clocks",
        );
        demand(
            self.hapi.max_connections >= 2,
            "hapi.max_connections: must be at least 2",
        );
        demand(
            self.views.max_connections >= 4,
            "views.max_connections: must be at least 4",
        );
        demand(
            self.refresh.parallel_types >= 1,
            "refresh.parallel_types: must be at least 1",
        );
        demand(
            self.refresh.range_resources >= 1,
            "refresh.range_resources: must be at least 1",
        );
        demand(
            (1..=self.hapi.max_connections.saturating_sub(2) as usize / 2)
                .contains(&self.refresh.parallel_ranges),
            "refresh.parallel_ranges: must be at least 1, and hapi.max_connections at least twice as many and two more",
        );
        demand(
            (1..=100_000).contains(&self.refresh.slice_resources),
            "refresh.slice_resources: must be from 1 to 100000",
        );
        demand(
            self.readings.max_changes >= 1,
            "readings.max_changes: must be at least 1",
        );
        demand(
            self.run_view.max_resources >= 1,
            "run_view.max_resources: must be at least 1",
        );
        for (name, span) in &self.refresh.type_interval_seconds {
            demand(
                Duration::try_from_secs_f64(*span).is_ok(),
                &format!(
                    "refresh.type_interval_seconds.{name}: must be a number of seconds that is not negative"
                ),
            );
        }
        demands.result()
    }
}

impl BatchConfig {
    fn partition(&self) -> Option<Partition> {
        match self.hapi.partition.as_str() {
            "" => Some(Partition::Only),
            "default" => Some(Partition::Default),
            number => number.parse().ok().map(Partition::Id),
        }
    }

    /// How to reach HAPI's PostgreSQL.
    pub fn hapi(&self) -> HapiSettings {
        HapiSettings {
            url: self.hapi.url.expose().to_owned(),
            // Validated: see `validate`.
            zone: self.hapi.time_zone.parse().unwrap_or(Zone::UTC),
            margin: span(self.hapi.margin_seconds),
            partition: self.partition().unwrap_or_default(),
            max_connections: self.hapi.max_connections,
        }
    }

    /// How to reach the views' PostgreSQL.
    pub fn store(&self) -> StoreSettings {
        StoreSettings {
            url: self.views.url.expose().to_owned(),
            max_connections: self.views.max_connections,
            skew: span(self.views.clock_skew_seconds),
        }
    }

    /// Where definitions lie, if anywhere.
    pub fn folder(&self) -> Option<PathBuf> {
        Some(&self.views.folder)
            .filter(|folder| !folder.is_empty())
            .map(PathBuf::from)
    }

    /// How runs load and publish.
    pub fn run(&self) -> RunSettings {
        RunSettings {
            ranges: Ranges::Of(self.refresh.range_resources),
            workers: self.refresh.parallel_ranges,
            resume: true,
            slice: SlicePlan {
                resources: self.refresh.slice_resources,
                unchanged_too: false,
            },
        }
    }

    /// When types are refreshed.
    pub fn intervals(&self) -> Intervals {
        let types = self.refresh.type_interval_seconds.iter();
        Intervals {
            default: self.refresh.interval_seconds,
            types: types
                .map(|(name, span)| {
                    (
                        name.clone(),
                        Duration::try_from_secs_f64(*span).unwrap_or_default(),
                    )
                })
                .collect(),
        }
    }

    /// How many types are refreshed at the same time.
    pub fn parallel_types(&self) -> usize {
        self.refresh.parallel_types
    }

    /// Changes of a type that a reading carries at most.
    pub fn max_changes(&self) -> usize {
        self.readings.max_changes
    }

    /// Resources that `RunView` reads at most where the caller names no limit.
    pub fn run_view_limit(&self) -> i64 {
        self.run_view.max_resources
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    fn load(file: &str) -> Result<BatchConfig, String> {
        let folder = std::env::temp_dir().join(format!("batch-config-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join(format!("{}.toml", file.len()));
        std::fs::write(&path, file).unwrap();
        daemon::config::load::<BatchConfig>(DEFAULTS, Some(&path), "RF_BATCH_TEST").map_err(|e| e.to_string())
    }

    #[test]
    fn the_sample_is_the_default() {
        let config = load("").unwrap();
        assert_eq!(config.hapi().margin, TimeDelta::seconds(90));
        assert_eq!(config.intervals().of("Patient"), Some(Duration::from_mins(1)));
        assert_eq!(config.max_changes(), 20_000);
        assert!(config.hapi.url.expose().starts_with("postgresql://"));
        assert!(
            !format!("{config:?}").contains("postgresql://"),
            "a URL may hold a password"
        );
    }

    #[test]
    fn a_type_may_have_an_interval_of_its_own() {
        let config = load("[refresh.type_interval_seconds]\nObservation = 300\nEncounter = 0").unwrap();
        let intervals = config.intervals();
        assert_eq!(intervals.of("Observation"), Some(Duration::from_mins(5)));
        assert_eq!(intervals.of("Encounter"), None);
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
    }
}
