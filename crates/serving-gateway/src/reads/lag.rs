//! How far a replica is behind, without comparing the clocks of two machines: by what the primary had shown when, in this process' time.
//!
//! A look at the primary gives its place in the log and the contents' `as_of`; a replica that has both has everything that the primary showed before that look began.
//! So an idle primary makes nobody late, and a replica that follows another history (after a failover it was not part of), whose places may be higher, is
//! late as soon as `as_of` moves on.

use std::collections::VecDeque;

use chrono::{DateTime, Utc};
use tokio::time::Instant;
use view_store::{LogPosition, ServerLook};

/// Looks at the primary that are kept: a minute of them. A replica that is further behind keeps the time that was known of it before.
const KEPT: usize = 600;

/// How far a server has come: in the log, and by its contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reached {
    pub(super) position: LogPosition,
    pub(super) as_of: Option<DateTime<Utc>>,
}

impl From<&ServerLook> for Reached {
    fn from(look: &ServerLook) -> Self {
        Self {
            position: look.position,
            as_of: look.as_of,
        }
    }
}

/// What the primary showed, and when: before it was asked.
#[derive(Debug, Default)]
pub(super) struct History(VecDeque<(Instant, Reached)>);

/// How far one replica has come.
#[derive(Debug, Default)]
pub(super) struct Progress {
    position: Option<LogPosition>,
    has_all_of: Option<Instant>,
}

impl History {
    /// A look at the primary that began at `at`.
    pub(super) fn note(&mut self, at: Instant, reached: Reached) {
        let Self(seen) = self;
        // Another history, after a failover or a crash: what was seen before says nothing of it.
        if seen
            .back()
            .is_some_and(|(_, last)| reached.position < last.position)
        {
            seen.clear();
        }
        if seen.len() == KEPT {
            seen.pop_front();
        }
        seen.push_back((at, reached));
    }

    /// The latest moment of which everything is in a server that has come so far.
    fn all_of(&self, there: Reached) -> Option<Instant> {
        let is_in =
            |(_, seen): &&(Instant, Reached)| seen.position <= there.position && seen.as_of <= there.as_of;
        self.0.iter().rev().find(is_in).map(|(at, _)| *at)
    }
}

impl Progress {
    /// The moment of the primary of which everything is in, after a look at the replica.
    pub(super) fn advance(&mut self, there: Reached, history: &History) -> Option<Instant> {
        // It was set up anew from an older copy: what was in then need not be in now.
        if self.position.is_some_and(|before| there.position < before) {
            self.has_all_of = None;
        }
        self.position = Some(there.position);
        self.has_all_of = self.has_all_of.max(history.all_of(there));
        self.has_all_of
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn reached(position: u64, second: i64) -> Reached {
        Reached {
            position: LogPosition(position),
            as_of: DateTime::from_timestamp(1_800_000_000 + second, 0),
        }
    }

    struct Play {
        start: Instant,
        history: History,
        progress: Progress,
    }

    impl Play {
        fn new() -> Self {
            Self {
                start: Instant::now(),
                history: History::default(),
                progress: Progress::default(),
            }
        }

        fn primary(&mut self, at: u64, position: u64, second: i64) {
            let at = self.start + Duration::from_secs(at);
            self.history.note(at, reached(position, second));
        }

        fn replica(&mut self, position: u64, second: i64) -> Option<u64> {
            let has = self.progress.advance(reached(position, second), &self.history)?;
            Some((has - self.start).as_secs())
        }
    }

    #[test]
    fn an_idle_primary_makes_nobody_late() {
        let mut play = Play::new();
        assert_eq!(play.replica(10, 0), None, "the primary was not looked at yet");
        for at in 0..9 {
            play.primary(at, 10, 0);
        }
        assert_eq!(play.replica(10, 0), Some(8));
    }

    #[test]
    fn what_the_replica_lacks_is_dated_by_the_primary() {
        let mut play = Play::new();
        for at in 0..9 {
            play.primary(at, 10 + at, 0);
        }
        assert_eq!(play.replica(13, 0), Some(3));
        assert_eq!(play.replica(13, 0), Some(3), "it stands still");
        assert_eq!(play.replica(90, 0), Some(8));
    }

    #[test]
    fn a_higher_place_of_another_history_is_not_taken_for_progress() {
        let mut play = Play::new();
        play.primary(0, 10, 0);
        assert_eq!(play.replica(900, 0), Some(0));
        play.primary(1, 11, 1);
        play.primary(2, 12, 2);
        assert_eq!(play.replica(900, 0), Some(0), "its contents have not moved on");
    }

    #[test]
    fn a_replica_that_is_further_behind_than_is_kept_has_what_it_had() {
        let mut play = Play::new();
        play.primary(0, 10, 0);
        assert_eq!(play.replica(10, 0), Some(0));
        for at in 1..=700 {
            play.primary(at, 10 + at, 0);
        }
        assert_eq!(play.replica(11, 0), Some(0));
        assert_eq!(play.replica(5, 0), None, "it was set up anew");
        assert_eq!(play.replica(710, 0), Some(700));
    }

    #[test]
    fn after_a_failover_the_places_before_say_nothing() {
        let mut play = Play::new();
        play.primary(0, 100, 0);
        play.primary(1, 90, 0);
        assert_eq!(play.replica(95, 0), Some(1));
        assert_eq!(play.replica(80, 0), None);
    }
}
