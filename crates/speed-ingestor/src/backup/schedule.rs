//! When backups come by themselves: an interval, or a cron expression, reckoned from the newest backup that lies at the target. So a restart changes nothing,
//! and of several ingestors whichever comes first makes it.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use croner::{
    Cron,
    parser::{CronParser, Year},
};
use daemon::Shutdown;

use super::{BackupError, BackupSettings, Backups};
use crate::{rounds::Rounds, tail::RereadsFrom};

/// After a failure: soon at first, at last so seldom.
const RETRY: Duration = Duration::from_secs(5);
const LONGEST_RETRY: Duration = Duration::from_mins(5);
/// How often the target is looked at at least: another ingestor may have made a backup.
const LOOK_AGAIN: Duration = Duration::from_mins(5);

/// When backups come by themselves.
#[derive(Debug, Clone, PartialEq)]
pub enum Schedule {
    /// Only when one is asked for.
    OnDemand,
    /// So long after the last one was begun.
    Every(TimeDelta),
    /// At the times of a cron expression, as the clocks of a time zone show them.
    Cron(Box<Cron>, Tz),
}

impl Schedule {
    /// An interval; none at all is on demand.
    pub fn every(interval: Duration) -> Self {
        match TimeDelta::from_std(interval) {
            Ok(interval) if interval.is_zero() => Self::OnDemand,
            Ok(interval) => Self::Every(interval),
            Err(_) => Self::Every(TimeDelta::MAX),
        }
    }

    /// A cron expression of five fields, or of six with the second first. `Err`: what is wrong with it.
    pub fn cron(expression: &str, zone: Tz) -> Result<Self, String> {
        if !(5..=6).contains(&expression.split_whitespace().count()) {
            return Err("must have five fields (minute, hour, day of the month, month, day of the week) or six (a second first)".into());
        }
        let cron = CronParser::builder()
            .year(Year::Disallowed)
            .build()
            .parse(expression)
            .map_err(|error| format!("is not a cron expression such as \"0 3 * * *\": {error}"))?;
        let this = Self::Cron(Box::new(cron), zone);
        if this.due(Some(DateTime::UNIX_EPOCH)).is_none() {
            return Err("never comes: choose days that its months have".into());
        }
        Ok(this)
    }

    /// When the next one is due, where `last` is when the last one was begun. Without any it is due at once.
    pub fn due(&self, last: Option<DateTime<Utc>>) -> Option<DateTime<Utc>> {
        match (self, last) {
            (Self::OnDemand, _) => None,
            (_, None) => Some(DateTime::UNIX_EPOCH),
            (Self::Every(interval), Some(last)) => last.checked_add_signed(*interval),
            (Self::Cron(cron, zone), Some(last)) => cron
                .find_next_occurrence(&last.with_timezone(zone), false)
                .ok()
                .map(|next| next.to_utc()),
        }
    }
}

impl Backups {
    /// Backups of what the rounds of the tail fill, made by the schedule until the stop.
    pub fn start<R: RereadsFrom + Clone + 'static>(
        settings: BackupSettings,
        rounds: &Rounds<R>,
        shutdown: &Shutdown,
    ) -> Self {
        let this = Self::new(settings, rounds);
        shutdown.spawn(this.clone().run(shutdown.clone()));
        this
    }

    /// Backs up whenever it is due, until the stop. One that is under way at the stop is given up: it has no manifest yet.
    pub async fn run(self, shutdown: Shutdown) {
        let mut failures = 0u32;
        loop {
            let Some(result) = shutdown.unless_stopped(self.look()).await else {
                return;
            };
            let pause = match result {
                Ok(pause) => {
                    failures = 0;
                    pause
                }
                // Somebody else is at it, or the tail has not come so far: no failure.
                Err(BackupError::TooEarly(_) | BackupError::Busy) => RETRY,
                Err(error) => {
                    if failures == 0 {
                        tracing::warn!(%error, "no backup can be made");
                    }
                    failures = failures.saturating_add(1);
                    RETRY.saturating_mul(1 << failures.min(7)).min(LONGEST_RETRY)
                }
            };
            if !shutdown.sleep(pause).await {
                return;
            }
        }
    }

    /// Makes a backup if one is due. Returns how long nothing is to be done.
    async fn look(&self) -> Result<Duration, BackupError> {
        let parts = &*self.0;
        let newest = self.list_newest().await.inspect_err(|error| {
            parts.last().error = Some(error.to_string());
        })?;
        // One of a clock that was ahead says nothing of when the next one is due.
        let now = parts.clock.now();
        let last = newest
            .as_ref()
            .map(|manifest| manifest.created_at)
            .filter(|at| *at <= now);
        parts.note_newest(newest);
        let Some(due) = parts.settings.schedule.due(last) else {
            return Ok(LOOK_AGAIN);
        };
        if due > now {
            return Ok((due - now).to_std().unwrap_or_default().min(LOOK_AGAIN));
        }
        match self.back_up_if_due(&parts.settings.schedule).await {
            Ok(_) | Err(BackupError::NotDue) => Ok(Duration::ZERO),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn a_backup_is_due_after_the_last_one_and_at_once_without_any() {
        let hourly = Schedule::every(Duration::from_hours(1));
        assert_eq!(
            hourly.due(Some(at("2026-11-28T03:10:00Z"))),
            Some(at("2026-11-28T04:10:00Z"))
        );
        assert!(
            hourly
                .due(None)
                .is_some_and(|due| due < at("2026-11-28T03:10:00Z"))
        );
        assert_eq!(Schedule::every(Duration::ZERO).due(None), None);
        assert_eq!(
            Schedule::every(Duration::MAX).due(Some(at("2026-11-28T03:10:00Z"))),
            None
        );
        let nightly = Schedule::cron("0 3 * * *", Tz::Europe__Berlin).unwrap();
        assert_eq!(
            nightly.due(Some(at("2026-11-28T03:10:00Z"))),
            Some(at("2026-11-29T02:00:00Z"))
        );
    }

    #[test]
    fn an_expression_that_cannot_be_used_says_why() {
        for (expression, says) in [
            ("0 3 * *", "five fields"),
            ("0 3 * * * * 2027", "five fields"),
            ("0 25 * * *", "not a cron expression"),
            ("0 3 31 2 *", "never comes"),
        ] {
            let error = Schedule::cron(expression, Tz::UTC).unwrap_err();
            assert!(error.contains(says), "{expression}: {error}");
        }
    }
}
