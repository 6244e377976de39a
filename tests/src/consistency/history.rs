//! What was written to HAPI, and when: the truth that answers are held to.
//!
//! One writer writes a resource, one change after the other, so the order of its changes is that of HAPI's versions. A change is committed at some moment
//! between `requested` and `answered`; both are of the machine's clock, which is also that of HAPI's PostgreSQL, and so of `as_of`.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use chrono::{DateTime, Utc};

/// A moment of the machine's clock.
pub type Time = DateTime<Utc>;

/// A resource.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// Its type.
    pub resource_type: &'static str,
    /// Its id.
    pub id: String,
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// HAPI has not answered, or nobody knows what it did.
    Open,
    /// HAPI has committed it.
    Committed {
        /// When its answer was there.
        answered: Time,
        /// The version that it made; not every answer to a deletion says it.
        version: Option<i64>,
    },
    /// HAPI has not done it, and never will.
    Refused,
}

/// One write of a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The sequence number that its body carries in every row; none: a deletion.
    pub state: Option<u64>,
    /// When HAPI was about to be asked.
    pub requested: Time,
    /// What became of it.
    pub outcome: Outcome,
}

/// All changes of a resource. The *place* 0 is that it does not exist yet, the place `n` the state after the n-th change.
#[derive(Debug, Clone, Default)]
pub struct Past(Vec<Change>);

impl Past {
    /// HAPI is about to be asked; answers the change's place.
    pub fn begin(&mut self, state: Option<u64>, requested: Time) -> usize {
        self.0.push(Change {
            state,
            requested,
            outcome: Outcome::Open,
        });
        self.0.len()
    }

    /// It is known what HAPI did.
    pub fn end(&mut self, place: usize, outcome: Outcome) {
        if let Some(change) = place.checked_sub(1).and_then(|index| self.0.get_mut(index)) {
            change.outcome = outcome;
        }
    }

    /// All changes, the first one first.
    pub fn changes(&self) -> &[Change] {
        &self.0
    }

    /// The change that led to a place.
    pub fn change(&self, place: usize) -> Option<&Change> {
        self.0.get(place.checked_sub(1)?)
    }

    /// The state at a place: the sequence number, or none where there is no resource.
    pub fn state(&self, place: usize) -> Option<u64> {
        self.change(place)?.state
    }

    /// Places that HAPI may have been at between two moments: from the last that was surely committed before the first to the last that may have been
    /// before the second. Some of them may be refused ones: see [`Self::may_be`].
    pub fn between(&self, as_of: Time, until: Time) -> RangeInclusive<usize> {
        let surely = self.0.iter().rposition(
            |change| matches!(change.outcome, Outcome::Committed { answered, .. } if answered < as_of),
        );
        let possibly = self.0.iter().rposition(|change| change.requested < until);
        let first = surely.map_or(0, |index| index + 1);
        first..=possibly.map_or(0, |index| index + 1).max(first)
    }

    /// Whether HAPI may ever have been at a place.
    pub fn may_be(&self, place: usize) -> bool {
        place == 0
            || self
                .change(place)
                .is_some_and(|change| change.outcome != Outcome::Refused)
    }

    /// The place of a sequence number.
    pub fn place_of(&self, sequence: u64) -> Option<usize> {
        let index = self.0.iter().rposition(|change| change.state == Some(sequence))?;
        Some(index + 1)
    }
}

/// The pasts of all resources.
#[derive(Debug, Clone, Default)]
pub struct History(BTreeMap<&'static str, BTreeMap<String, Past>>);

impl History {
    /// The past of a resource, empty where nothing was written.
    pub fn past_mut(&mut self, key: &Key) -> &mut Past {
        let of_type = self.0.entry(key.resource_type).or_default();
        of_type.entry(key.id.clone()).or_default()
    }

    /// The past of a resource that was written.
    pub fn past(&self, resource_type: &str, id: &str) -> Option<&Past> {
        self.0.get(resource_type)?.get(id)
    }

    /// All resources of a type that were written, by id.
    pub fn of_type(&self, resource_type: &str) -> impl Iterator<Item = (&str, &Past)> {
        self.0
            .get(resource_type)
            .into_iter()
            .flatten()
            .map(|(id, past)| (id.as_str(), past))
    }
}

/// Something that only rises, as those who were answered have seen it: whoever asks after an answer has come must not be answered less.
#[derive(Debug, Clone)]
pub struct Rising<V>(BTreeMap<Time, V>);

impl<V> Default for Rising<V> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<V: Copy + Ord> Rising<V> {
    /// Somebody has seen it, in an answer that came at this moment.
    pub fn seen(&mut self, came: Time, value: V) {
        if self.before_or_at(came).is_some_and(|known| known >= value) {
            return;
        }
        // What came later and says less says nothing.
        let of_no_use: Vec<Time> = self
            .0
            .range(came..)
            .take_while(|(_, known)| **known <= value)
            .map(|(at, _)| *at)
            .collect();
        for at in of_no_use {
            self.0.remove(&at);
        }
        self.0.insert(came, value);
    }

    fn before_or_at(&self, at: Time) -> Option<V> {
        self.0.range(..=at).next_back().map(|(_, value)| *value)
    }

    /// The most that an answer has shown which came before this moment.
    pub fn before(&self, asked: Time) -> Option<V> {
        self.0.range(..asked).next_back().map(|(_, value)| *value)
    }
}
