//! When something comes again. Pure: when it was last done comes in, when it is due goes out. Refreshes and backups come by it.
//!
//! A scheduled time is *missed* while what was last done lies before it. However many were missed, it is due once.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use croner::{
    Cron,
    parser::{CronParser, Year},
};

/// When something comes again.
#[derive(Debug, Clone, PartialEq)]
pub enum Schedule {
    /// Only when it is asked for.
    OnDemand,
    /// So long after it was last done.
    Every(TimeDelta),
    /// At the times of a cron expression, as the clocks of a time zone show them.
    ///
    /// Where the clocks are put forward, the time of an expression with a single time of day (`30 2 * * *`) comes at the moment when they are, and any other
    /// time that the clocks leave out does not come. Where they are put back, a single time of day comes once, the first time that the clocks show
    /// it, and the times of any other expression come as often as they are shown.
    Cron {
        /// The expression.
        cron: Box<Cron>,
        /// Whose clocks.
        zone: Tz,
    },
}

/// A schedule that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// Not five or six fields.
    #[error(
        "must have five fields (minute, hour, day of the month, month, day of the week) or six (a second first), not {0}"
    )]
    Fields(usize),
    /// A field is wrong.
    #[error("is not a cron expression such as \"*/15 * * * *\" or \"0 3 * * MON-FRI\": {0}")]
    Expression(String),
    /// A date that is in no calendar.
    #[error("never comes: choose days that its months have")]
    Never,
}

impl Schedule {
    /// A cron expression of five fields, or of six with the second first.
    pub fn cron(expression: &str, zone: Tz) -> Result<Self, ScheduleError> {
        let fields = expression.split_whitespace().count();
        if !(5..=6).contains(&fields) {
            return Err(ScheduleError::Fields(fields));
        }
        let parser = CronParser::builder().year(Year::Disallowed).build();
        let cron = parser
            .parse(expression)
            .map_err(|error| ScheduleError::Expression(error.to_string()))?;
        let this = Self::Cron {
            cron: Box::new(cron),
            zone,
        };
        match this.next_after(DateTime::UNIX_EPOCH) {
            Some(_) => Ok(this),
            None => Err(ScheduleError::Never),
        }
    }

    /// An interval; none at all is on demand.
    pub fn every(interval: Duration) -> Self {
        match TimeDelta::from_std(interval) {
            Ok(interval) if interval.is_zero() => Self::OnDemand,
            Ok(interval) => Self::Every(interval),
            Err(_) => Self::Every(TimeDelta::MAX),
        }
    }

    /// The first time after `last`; `None`: never.
    pub fn next_after(&self, last: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Self::OnDemand => None,
            Self::Every(interval) => last.checked_add_signed(*interval),
            Self::Cron { cron, zone } => cron
                .find_next_occurrence(&last.with_timezone(zone), false)
                .ok()
                .map(|next| next.to_utc()),
        }
    }

    /// When it is to be done, where `last` is when it was last done. What was never done is due at once.
    pub fn due(&self, last: Option<DateTime<Utc>>) -> Option<DateTime<Utc>> {
        match (self, last) {
            (Self::OnDemand, _) => None,
            (_, None) => Some(DateTime::UNIX_EPOCH),
            (_, Some(last)) => self.next_after(last),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utc(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn berlin(expression: &str) -> Schedule {
        Schedule::cron(expression, Tz::Europe__Berlin).unwrap()
    }

    /// The times after `from`, before `until`.
    fn times(schedule: &Schedule, from: &str, until: &str) -> Vec<String> {
        let (mut at, until, mut all) = (utc(from), utc(until), Vec::new());
        while let Some(next) = schedule.next_after(at).filter(|next| *next < until) {
            assert!(next > at, "{schedule:?} stands still at {at}");
            all.push(next.format("%H:%M:%S").to_string());
            at = next;
        }
        all
    }

    #[test]
    fn a_cron_expression_is_read_by_the_clocks_of_its_zone() {
        let at_three = berlin("0 3 * * *");
        assert_eq!(
            at_three.next_after(utc("2026-01-10T00:00:00Z")),
            Some(utc("2026-01-10T02:00:00Z"))
        );
        assert_eq!(
            at_three.next_after(utc("2026-07-10T00:00:00Z")),
            Some(utc("2026-07-10T01:00:00Z"))
        );
        // a time is not after itself
        assert_eq!(
            at_three.next_after(utc("2026-07-10T01:00:00Z")),
            Some(utc("2026-07-11T01:00:00Z"))
        );
        let seconds = Schedule::cron("*/20 * * * * *", Tz::UTC).unwrap();
        assert_eq!(
            times(&seconds, "2026-01-10T00:00:00.5Z", "2026-01-10T00:01:01Z"),
            ["00:00:20", "00:00:40", "00:01:00"]
        );
        let weekdays = Schedule::cron("0 6 * * MON-FRI", Tz::UTC).unwrap();
        assert_eq!(
            weekdays.next_after(utc("2026-11-20T12:00:00Z")),
            Some(utc("2026-11-23T06:00:00Z")),
            "from Friday to Monday"
        );
    }

    #[test]
    fn a_time_that_the_clocks_leave_out_comes_when_they_are_put_forward() {
        // 2026-03-29 in Berlin: 02:00 becomes 03:00, at 01:00 UTC
        let (before, after) = ("2026-03-28T12:00:00Z", "2026-03-29T12:00:00Z");
        assert_eq!(times(&berlin("30 2 * * *"), before, after), ["01:00:00"]);
        assert_eq!(times(&berlin("30 3 * * *"), before, after), ["01:30:00"]);
        // the next day it is itself again
        assert_eq!(
            times(&berlin("30 2 * * *"), after, "2026-03-30T12:00:00Z"),
            ["00:30:00"]
        );
        // of several times a day only those come that the clocks show
        assert_eq!(
            times(
                &berlin("0,30 * * * *"),
                "2026-03-29T00:15:00Z",
                "2026-03-29T01:45:00Z"
            ),
            ["00:30:00", "01:00:00", "01:30:00"]
        );
        assert_eq!(
            times(&berlin("30 2,14 * * *"), before, "2026-03-29T14:00:00Z"),
            ["13:30:00", "12:30:00"]
        );
    }

    #[test]
    fn a_time_that_the_clocks_show_twice_comes_the_first_time() {
        // 2026-10-25 in Berlin: 03:00 becomes 02:00, at 01:00 UTC
        let (before, after) = ("2026-10-24T12:00:00Z", "2026-10-25T12:00:00Z");
        assert_eq!(times(&berlin("30 2 * * *"), before, after), ["00:30:00"]);
        // what comes every half hour goes on doing so
        assert_eq!(
            times(
                &berlin("*/30 * * * *"),
                "2026-10-25T00:15:00Z",
                "2026-10-25T02:15:00Z"
            ),
            ["00:30:00", "01:00:00", "01:30:00", "02:00:00"]
        );
    }

    #[test]
    fn an_expression_that_cannot_be_used_says_why() {
        let refused = |expression: &str| Schedule::cron(expression, Tz::UTC).unwrap_err().to_string();
        assert!(refused("0 3 * *").contains("not 4"), "{}", refused("0 3 * *"));
        assert!(refused("0 0 3 * * * 2026").contains("not 7"));
        assert!(refused("@daily").contains("not 1"));
        assert!(refused("0 25 * * *").starts_with("is not a cron expression"));
        assert!(refused("x 3 * * *").starts_with("is not a cron expression"));
        assert_eq!(Schedule::cron("0 3 30 2 *", Tz::UTC), Err(ScheduleError::Never));
        assert!(Schedule::cron("0 3 29 2 *", Tz::UTC).is_ok(), "every four years");
    }

    #[test]
    fn an_interval_counts_from_what_was_last_done_and_none_is_on_demand() {
        let minute = Schedule::every(Duration::from_mins(1));
        let last = utc("2026-11-22T10:00:00Z");
        assert_eq!(minute.due(Some(last)), Some(utc("2026-11-22T10:01:00Z")));
        let never = Schedule::every(Duration::ZERO);
        assert_eq!((never.due(Some(last)), never.due(None)), (None, None));
        // longer than time is
        assert_eq!(Schedule::every(Duration::MAX).due(Some(last)), None);
    }
}
