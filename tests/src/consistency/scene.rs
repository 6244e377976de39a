//! What writers, readers and faults of a run share: the book, the counts, and whether it is over.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use daemon::{Clock as _, SystemClock};

use super::check::{Book, Violation};
use super::history::{Key, Outcome, Time};
use super::subjects::Population;

/// Of so many writes that were just answered one is taken for `at_least`.
const RECENT: usize = 12;

/// A write that HAPI has answered.
#[derive(Debug, Clone)]
pub struct Recent {
    /// What was written.
    pub key: Key,
    /// The version that HAPI told.
    pub version: i64,
    /// Its place among the changes.
    pub place: usize,
}

/// What has happened so far.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Answers that were judged, by kind of question.
    pub answers: BTreeMap<&'static str, u64>,
    /// Questions that were not answered, by code.
    pub refused: BTreeMap<String, u64>,
    /// Writes that HAPI has committed.
    pub writes: u64,
    /// Writes that it has refused, or whose end is not known.
    pub failed_writes: u64,
    /// Kills and halts, by what was hit.
    pub faults: BTreeMap<&'static str, u64>,
    /// How often another gateway's merger took over.
    pub failovers: u64,
    /// Refreshes that were published, by kind.
    pub refreshes: BTreeMap<&'static str, u64>,
    /// Refreshes that failed.
    pub failed_refreshes: u64,
    /// Rows that planted faults have touched.
    pub planted: u64,
    /// What is wrong.
    pub violations: Vec<Violation>,
    /// How late an answer was beyond its `max_staleness`, at most, in milliseconds.
    pub beyond_staleness_ms: i64,
}

impl Tally {
    /// All answers that were judged.
    pub fn answered(&self) -> u64 {
        self.answers.values().sum()
    }

    /// All kills and halts.
    pub fn hit(&self) -> u64 {
        self.faults.values().sum()
    }

    /// All refreshes.
    pub fn refreshed(&self) -> u64 {
        self.refreshes.values().sum()
    }
}

/// Shared by all tasks of a run.
#[derive(Debug)]
pub struct Scene {
    /// What is written.
    pub population: Population,
    book: Mutex<Book>,
    tally: Mutex<Tally>,
    recent: Mutex<VecDeque<Recent>>,
    writing: AtomicBool,
    reading: AtomicBool,
}

impl Scene {
    /// Nothing has happened yet.
    pub fn new(population: Population) -> Self {
        Self {
            population,
            book: Mutex::default(),
            tally: Mutex::default(),
            recent: Mutex::default(),
            writing: AtomicBool::new(true),
            reading: AtomicBool::new(true),
        }
    }

    /// The clock of all times.
    pub fn now(&self) -> Time {
        SystemClock.now()
    }

    /// History and floors.
    pub fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The counts.
    pub fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether writers and faults go on.
    pub fn is_writing(&self) -> bool {
        self.writing.load(Ordering::Relaxed)
    }

    /// Whether readers go on.
    pub fn is_reading(&self) -> bool {
        self.reading.load(Ordering::Relaxed)
    }

    /// Nothing is written any more.
    pub fn stop_writing(&self) {
        self.writing.store(false, Ordering::Relaxed);
    }

    /// Nobody asks any more.
    pub fn stop_reading(&self) {
        self.reading.store(false, Ordering::Relaxed);
    }

    /// HAPI is about to be asked for a change.
    pub fn begin(&self, key: &Key, state: Option<u64>) -> usize {
        let mut book = self.book();
        let requested = self.now();
        book.history.past_mut(key).begin(state, requested)
    }

    /// HAPI has committed a change.
    pub fn committed(&self, key: &Key, place: usize, version: Option<i64>) {
        let answered = self.now();
        let outcome = Outcome::Committed { answered, version };
        self.book().history.past_mut(key).end(place, outcome);
        self.tally().writes += 1;
        if let Some(version) = version {
            let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
            recent.truncate(RECENT - 1);
            recent.push_front(Recent {
                key: key.clone(),
                version,
                place,
            });
        }
    }

    /// HAPI has not done a change.
    pub fn refused(&self, key: &Key, place: usize) {
        self.book().history.past_mut(key).end(place, Outcome::Refused);
        self.tally().failed_writes += 1;
    }

    /// One of the last writes; 0 is the last.
    pub fn recent(&self, number: usize) -> Option<Recent> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.get(number).cloned()
    }

    /// An answer was judged.
    pub fn judged(&self, question: &'static str, violations: Vec<Violation>) {
        let mut tally = self.tally();
        *tally.answers.entry(question).or_default() += 1;
        tally.violations.extend(violations);
    }

    /// A refresh has ended.
    pub fn refreshed(&self, kind: &'static str, published: bool) {
        let mut tally = self.tally();
        if published {
            *tally.refreshes.entry(kind).or_default() += 1;
        } else {
            tally.failed_refreshes += 1;
        }
    }

    /// A question was not answered.
    pub fn not_answered(&self, code: &str) {
        *self.tally().refused.entry(code.to_owned()).or_default() += 1;
    }
}
