//! Schedules as the configuration has them: a section's own, and those of single types.

use std::{collections::BTreeMap, time::Duration};

use chrono_tz::Tz;
use daemon::config::seconds;
use fhir_core::resource::is_r4_type;
use serde::Deserialize;

use super::Wrong;
use crate::schedule::{Schedule, Schedules};

/// Interval and expression stand side by side, since the defaults have one of them: the expression counts where there is one.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ScheduleConfig {
    #[serde(with = "seconds")]
    pub(super) interval_seconds: Duration,
    pub(super) cron: String,
    pub(super) time_zone: String,
    #[serde(default)]
    pub(super) types: BTreeMap<String, TypeConfig>,
}

/// The schedule of a single type: one of the two.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TypeConfig {
    interval_seconds: Option<f64>,
    cron: Option<String>,
    time_zone: Option<String>,
}

/// A section's own schedule and those of its types; `zone` where they name none.
pub(super) fn schedules(
    section: &str,
    config: &ScheduleConfig,
    zone: Option<Tz>,
    wrong: &mut Wrong,
) -> Option<Schedules> {
    let zone = match config.time_zone.as_str() {
        "" => zone,
        own => super::zone(&format!("{section}.time_zone"), own, wrong),
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
        wrong.demand(
            is_r4_type(name),
            &format!("{key}: is not the name of a resource type of FHIR R4, such as Patient"),
        );
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
        .map(|own| super::zone(&format!("{key}.time_zone"), own, wrong));
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
    use super::super::tests::{at, load, next};
    use super::*;

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
             [refresh.types.Medicaton]\ninterval_seconds = 5\n\
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
            "refresh.types.Medicaton: is not the name of a resource type",
            "reconcile.cron: never comes",
            "daemon.log",
        ] {
            assert!(error.contains(said), "{said} is missing in:\n{error}");
        }
        assert_eq!(error.lines().count(), 10, "{error}");
    }
}
