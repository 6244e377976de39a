//! When backups come by themselves: an interval, or a cron expression, reckoned from the newest backup that lies at the target. So a restart changes nothing,
//! and of several ingestors whichever comes first makes it.

use std::time::Duration;

use daemon::Shutdown;
pub use schedule::Schedule;

use super::{BackupError, BackupSettings, Backups};
use crate::{rounds::Rounds, tail::RereadsFrom};

/// After a failure: soon at first, at last so seldom.
const RETRY: Duration = Duration::from_secs(5);
const LONGEST_RETRY: Duration = Duration::from_mins(5);
/// How often the target is looked at at least: another ingestor may have made a backup.
const LOOK_AGAIN: Duration = Duration::from_mins(5);

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
