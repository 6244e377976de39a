//! A HAPI in memory: transactions that put, delete, re-create and expunge, and stay open for a while; what a reading of it finds.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use fhir_core::{
    merge::Position,
    resource::{Content, State},
};

pub(crate) const IDS: [&str; 4] = ["a", "b", "c", "d"];
/// How far before its transaction's start a version may be dated, in seconds.
const MARGIN: i64 = 3;
/// The last digits of each time tell which write it was: the checks know by it what a state is, no rule looks at it.
const SERIALS: i64 = 1_000_000;

/// Second `seconds` of the played time, of write `serial`. Long ago by the clock of Redis, so that whatever may expire does so at once.
pub(crate) fn moment(seconds: i64, serial: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros((1_600_000_000 + seconds) * SERIALS + serial).unwrap()
}

/// Which write has made a state.
pub(crate) fn serial(state: &State) -> i64 {
    state.last_updated.timestamp_micros() % SERIALS
}

/// What a request asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wish {
    Put,
    Delete,
    Expunge,
}

/// A request under way.
struct Open {
    start: i64,
    xid: u64,
    /// The version that it will commit; an expunge: `None`.
    state: Option<State>,
    serial: i64,
}

/// A commit, for the checks.
#[derive(Debug)]
pub(crate) struct Commit {
    pub(crate) at: i64,
    pub(crate) serial: i64,
    /// It was an expunge.
    pub(crate) takes_back: bool,
}

#[derive(Default)]
struct Resource {
    /// The committed versions of the present life.
    versions: Vec<(u64, State)>,
    open: Option<Open>,
}

#[derive(Default)]
pub(crate) struct Hapi {
    resources: BTreeMap<&'static str, Resource>,
    last_xid: u64,
    last_serial: i64,
    pub(crate) history: BTreeMap<&'static str, Vec<Commit>>,
    /// Writes that HAPI has taken back.
    pub(crate) dead: BTreeSet<i64>,
}

impl Hapi {
    /// A request begins, if no other one of the same resource is under way and it asks for something.
    pub(crate) fn begin(&mut self, id: &'static str, wish: Wish, now: i64) {
        let taken_back = self.taken_back_at(id);
        let resource = self.resources.entry(id).or_default();
        // A request that began before an expunge writes nothing to the resource's next life.
        if resource.open.is_some() || taken_back.is_some_and(|at| now <= at) {
            return;
        }
        let before = resource.versions.last().map(|(_, state)| state);
        let alive = before.is_some_and(|state| state.content != Content::Deleted);
        let version = before.map_or(1, |state| state.version + 1);
        let serial = self.last_serial + 1;
        let content = match wish {
            Wish::Put => Some(Content::Body(
                format!(r#"{{"resourceType":"Patient","id":"{id}","serial":{serial}}}"#).into_bytes(),
            )),
            Wish::Delete if alive => Some(Content::Deleted),
            // HAPI expunges what is deleted.
            Wish::Expunge if before.is_some() && !alive => None,
            Wish::Delete | Wish::Expunge => return,
        };
        (self.last_serial, self.last_xid) = (serial, self.last_xid + 1);
        resource.open = Some(Open {
            start: now,
            xid: self.last_xid,
            state: content.map(|content| State {
                id: id.into(),
                version,
                last_updated: moment(now, serial),
                content,
            }),
            serial,
        });
    }

    /// The request under way commits; answers what HAPI's webhook will tell of it.
    pub(crate) fn commit(&mut self, id: &'static str, now: i64) -> Option<State> {
        let resource = self.resources.get_mut(id)?;
        let Open {
            xid, state, serial, ..
        } = resource.open.take()?;
        let history = self.history.entry(id).or_default();
        if let Some(state) = &state {
            resource.versions.push((xid, state.clone()));
        } else {
            // Nothing is left of it, and nothing is told of it.
            resource.versions.clear();
            self.dead.extend(history.iter().map(|commit| commit.serial));
        }
        history.push(Commit {
            at: now,
            serial,
            takes_back: state.is_none(),
        });
        state
    }

    /// The last expunge.
    fn taken_back(&self, id: &str) -> Option<&Commit> {
        self.history.get(id)?.iter().rfind(|commit| commit.takes_back)
    }

    pub(crate) fn taken_back_at(&self, id: &str) -> Option<i64> {
        self.taken_back(id).map(|commit| commit.at)
    }

    /// Whether HAPI has nothing of it any more.
    pub(crate) fn is_gone(&self, id: &str) -> bool {
        self.resources
            .get(id)
            .is_none_or(|resource| resource.versions.is_empty())
    }

    /// Clock and bound of a reading that begins.
    pub(crate) fn clock(&self, now: i64) -> (i64, i64) {
        let open = self
            .resources
            .values()
            .filter_map(|resource| resource.open.as_ref());
        let oldest = open.map(|open| open.start).min();
        (now, oldest.unwrap_or(now).min(now) - MARGIN)
    }

    /// The position of a reading whose snapshot is opened now.
    pub(crate) fn position(&self, n: i64, (as_of, bound): (i64, i64)) -> Position {
        let open = self
            .resources
            .values()
            .filter_map(|resource| resource.open.as_ref());
        Position {
            n,
            as_of: moment(as_of, 0),
            bound: moment(bound, 0),
            xmin: open.map(|open| open.xid).min().unwrap_or(self.last_xid + 1),
            timeline: "7300/1".into(),
        }
    }

    /// Ids with a version that may not have been visible at `since`; none dated before `floor`.
    pub(crate) fn changed_since(&self, since: &Position, floor: Option<DateTime<Utc>>) -> BTreeSet<String> {
        let from = floor.map_or(since.bound, |floor| floor.max(since.bound));
        let changed = |(xid, state): &(u64, State)| *xid >= since.xmin && state.last_updated >= from;
        let of = |(id, resource): (&&str, &Resource)| {
            resource.versions.iter().any(changed).then(|| (*id).to_owned())
        };
        self.resources.iter().filter_map(of).collect()
    }

    /// The state of a resource as a reading with this clock finds it.
    pub(crate) fn current(&self, id: &str, as_of: i64) -> State {
        let last = self
            .resources
            .get(id)
            .and_then(|resource| resource.versions.last());
        let gone = || {
            State::gone(
                id,
                moment(as_of, self.taken_back(id).map_or(0, |commit| commit.serial)),
            )
        };
        last.map_or_else(gone, |(_, state)| state.clone())
    }
}
