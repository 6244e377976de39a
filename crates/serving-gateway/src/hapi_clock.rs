//! What HAPI's PostgreSQL would say the time is: `as_of` is of that clock, so an answer's age must be reckoned in it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use chrono::{DateTime, TimeDelta, Utc};
use daemon::Clock;
use fhir_core::merge::Mark;

/// An estimate from the marks that arrive. A mark's `as_of` was read before it arrived, so each gives a lower bound for how far HAPI's clock is ahead
/// of ours; the greatest is the best. It is low by the time that a mark takes to arrive, and an answer must not be taken for younger than it is: so
/// HAPI's clock is taken to be behind ours only when marks have said so for a while, and by more than they take. Cheap to clone.
#[derive(Clone)]
pub(crate) struct HapiClock {
    clock: Arc<dyn Clock>,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    /// The last mark of each type since the stream was opened.
    last: HashMap<String, i64>,
    /// The greatest bound of this span and of the one before: a clock that is set back is noticed after two spans.
    bounds: [Option<TimeDelta>; 2],
    since: Option<DateTime<Utc>>,
    /// When the first mark moved.
    watched: Option<DateTime<Utc>>,
}

/// For how long a bound counts at least.
const SPAN: TimeDelta = TimeDelta::minutes(10);

/// What a mark may take to arrive: from the reading's clock over the whole round of the tail to us.
const ARRIVAL: TimeDelta = TimeDelta::seconds(1);

/// For how long marks must have come before all of them are thought not to be late: on a busy machine the first ones take seconds.
const SETTLED: TimeDelta = TimeDelta::minutes(1);

impl HapiClock {
    /// Our own clock, until marks arrive.
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            seen: Arc::default(),
        }
    }

    /// Our own time.
    pub(crate) fn local(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// A mark has arrived. Only one that moved while we watched counts: the first may be old, when the tail stands still.
    pub(crate) fn observe(&self, resource_type: &str, mark: Mark) {
        let now = self.clock.now();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let before = seen.last.insert(resource_type.to_owned(), mark.n);
        if before.is_none_or(|before| mark.n <= before) {
            return;
        }
        let bound = mark.as_of - now;
        seen.watched.get_or_insert(now);
        if seen.since.is_none_or(|since| now - since > SPAN || now < since) {
            seen.bounds = [None, seen.bounds[0]];
            seen.since = Some(now);
        }
        seen.bounds[0] = seen.bounds[0].max(Some(bound));
    }

    /// The stream of marks was interrupted: the next ones may be old.
    pub(crate) fn interrupted(&self) {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .last
            .clear();
    }

    /// HAPI's time now, as well as we know.
    pub(crate) fn now(&self) -> DateTime<Utc> {
        let now = self.clock.now();
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let bound = seen.bounds[0].max(seen.bounds[1]).unwrap_or_default();
        if bound > TimeDelta::zero() {
            return now + bound;
        }
        let settled = seen.watched.is_some_and(|watched| now - watched >= SETTLED);
        if settled {
            now + (bound + ARRIVAL).min(TimeDelta::zero())
        } else {
            now
        }
    }
}

#[cfg(test)]
mod tests {
    use daemon::ManualClock;

    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).expect("in range")
    }

    #[test]
    fn the_greatest_bound_of_marks_that_moved_counts() {
        let manual = ManualClock::new(at(100));
        let clock = HapiClock::new(Arc::new(manual.clone()));
        assert_eq!(clock.now(), at(100));
        // The tail has stood still for a minute: the first mark says nothing.
        clock.observe("Patient", Mark { n: 7, as_of: at(40) });
        assert_eq!(clock.now(), at(100));
        manual.set(at(110));
        clock.observe("Patient", Mark { n: 8, as_of: at(112) });
        assert_eq!(clock.now(), at(112), "HAPI is two seconds ahead");
        manual.set(at(120));
        clock.observe("Patient", Mark { n: 9, as_of: at(121) });
        assert_eq!(clock.now(), at(122), "a later arrival says less");
        clock.interrupted();
        clock.observe(
            "Patient",
            Mark {
                n: 30,
                as_of: at(200),
            },
        );
        assert_eq!(
            clock.now(),
            at(122),
            "the first after an interruption says nothing"
        );
    }

    #[test]
    fn a_mark_that_took_a_while_to_arrive_does_not_make_answers_younger() {
        let manual = ManualClock::new(at(100));
        let clock = HapiClock::new(Arc::new(manual.clone()));
        let arrive = |n: i64, now: i64, late: i64| {
            manual.set(at(now));
            let as_of = at(now) - TimeDelta::milliseconds(late);
            clock.observe("Patient", Mark { n, as_of });
            clock.now() - at(now)
        };
        arrive(1, 100, 0);
        assert_eq!(arrive(2, 101, 3_000), TimeDelta::zero(), "it may have come late");
        // All of a minute cannot: our clock is ahead of HAPI's, by two seconds at least.
        assert_eq!(arrive(3, 161, 3_100), TimeDelta::seconds(-2));
        assert_eq!(arrive(4, 162, 900), TimeDelta::zero(), "so long a mark may take");
    }

    #[test]
    fn a_clock_that_is_set_back_is_followed() {
        let manual = ManualClock::new(at(0));
        let clock = HapiClock::new(Arc::new(manual.clone()));
        let mut n = 0;
        let mut arrive = |now: i64, ahead: i64| {
            n += 1;
            manual.set(at(now));
            clock.observe(
                "Patient",
                Mark {
                    n,
                    as_of: at(now + ahead),
                },
            );
        };
        arrive(0, 60);
        arrive(1, 60);
        arrive(700, 1);
        arrive(1400, 1);
        arrive(2100, 1);
        assert_eq!(clock.now(), at(2101));
    }
}
