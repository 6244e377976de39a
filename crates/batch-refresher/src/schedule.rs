//! When a type is refreshed, and when it is reconciled. Pure: what was last done and the present time come in, what is due goes out.
//!
//! A scheduled time is *missed* while what was last done lies before it. However many were missed (the daemon was down, a run took longer than
//! the interval), one run makes up for them: it reaches past all of them.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, Utc};
pub use schedule::{Schedule, ScheduleError};

/// A schedule for all types, and those of single types.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedules {
    /// For all that have none of their own.
    pub default: Schedule,
    /// By the name of the type, in whatever case.
    pub types: BTreeMap<String, Schedule>,
}

impl Schedules {
    /// That of a type.
    pub fn of(&self, resource_type: &str) -> &Schedule {
        // The configuration reader folds the case of keys.
        self.types
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(resource_type))
            .map_or(&self.default, |(_, own)| own)
    }
}

/// What a type has behind it, by one clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Behind {
    /// The watermark: everything before it was taken in.
    pub refreshed: Option<DateTime<Utc>>,
    /// When the last comparison of everything began.
    pub reconciled: Option<DateTime<Utc>>,
}

/// What a type has before it, by the same clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ahead {
    /// When its next refresh is due.
    pub refresh: Option<DateTime<Utc>>,
    /// When its next reconciliation is due.
    pub reconciliation: Option<DateTime<Utc>>,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// What has changed is to be published.
    Refresh,
    /// Everything is to be compared, which publishes what has changed too.
    Reconciliation,
}

impl Ahead {
    /// From the schedules of a type and what it has behind it.
    pub fn of(refresh: &Schedule, reconciliation: &Schedule, behind: Behind) -> Self {
        Self {
            refresh: refresh.due(behind.refreshed),
            reconciliation: reconciliation.due(behind.reconciled),
        }
    }

    /// What is due now, if anything is. A type that was never filled is: that run compares everything too.
    pub fn due(self, now: DateTime<Utc>) -> Option<Due> {
        let reached = |at: Option<DateTime<Utc>>| at.is_some_and(|at| at <= now);
        if reached(self.reconciliation) {
            Some(Due::Reconciliation)
        } else {
            reached(self.refresh).then_some(Due::Refresh)
        }
    }

    /// How long nothing is due; `None`: never anything.
    pub fn wait(self, now: DateTime<Utc>) -> Option<Duration> {
        let first = self.refresh.into_iter().chain(self.reconciliation).min()?;
        Some((first - now).to_std().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use chrono_tz::Tz;

    use super::*;

    fn utc(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn however_many_times_were_missed_one_run_makes_up_for_them() {
        let hourly = Schedule::cron("0 * * * *", Tz::UTC).unwrap();
        let (down, up) = (utc("2026-11-20T10:00:01Z"), utc("2026-11-22T10:30:00Z"));
        let ahead = |refreshed| {
            Ahead::of(
                &hourly,
                &Schedule::OnDemand,
                Behind {
                    refreshed,
                    reconciled: None,
                },
            )
        };
        let missed = ahead(Some(down));
        assert_eq!(
            (missed.due(up), missed.wait(up)),
            (Some(Due::Refresh), Some(Duration::ZERO))
        );
        let caught_up = ahead(Some(up));
        assert_eq!(caught_up.due(up), None);
        assert_eq!(caught_up.wait(up), Some(Duration::from_mins(30)));
        // it took longer than an hour: once more at once, and then at the next hour
        let over = utc("2026-11-22T12:10:00Z");
        assert_eq!(caught_up.due(over), Some(Due::Refresh));
        assert_eq!(ahead(Some(over)).wait(over), Some(Duration::from_mins(50)));
    }

    #[test]
    fn a_reconciliation_is_a_refresh_too() {
        let (minute, daily) = (
            Schedule::every(Duration::from_mins(1)),
            Schedule::cron("0 3 * * *", Tz::UTC).unwrap(),
        );
        let at = |text: &str| Some(utc(text));
        let behind = Behind {
            refreshed: at("2026-11-22T02:59:30Z"),
            reconciled: at("2026-11-21T03:00:02Z"),
        };
        let ahead = Ahead::of(&minute, &daily, behind);
        assert_eq!(ahead.due(utc("2026-11-22T02:59:59Z")), None);
        assert_eq!(ahead.due(utc("2026-11-22T03:00:00Z")), Some(Due::Reconciliation));
        assert_eq!(
            ahead.wait(utc("2026-11-22T02:59:00Z")),
            Some(Duration::from_mins(1))
        );
        // a type that was never filled
        assert_eq!(
            Ahead::of(&minute, &daily, Behind::default()).due(utc("2026-11-22T03:00:00Z")),
            Some(Due::Reconciliation)
        );
        let on_demand = Ahead::of(&Schedule::OnDemand, &Schedule::OnDemand, Behind::default());
        assert_eq!(
            (
                on_demand.due(utc("2026-11-22T03:00:00Z")),
                on_demand.wait(utc("2026-11-22T03:00:00Z"))
            ),
            (None, None)
        );
    }

    #[test]
    fn a_type_may_have_a_schedule_of_its_own() {
        let schedules = Schedules {
            default: Schedule::OnDemand,
            types: [("observation".to_owned(), Schedule::every(Duration::from_mins(5)))].into(),
        };
        assert_eq!(
            schedules.of("Observation"),
            &Schedule::every(Duration::from_mins(5))
        );
        assert_eq!(schedules.of("Patient"), &Schedule::OnDemand);
    }
}
