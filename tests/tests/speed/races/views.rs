//! The views' side in memory: the decisions are those of `fhir_core::merge`, which the real apply and publish make too; and what must hold of what is shown.

use std::collections::BTreeMap;

use anyhow::ensure;
use api::speed::{Preview, Reading};
use chrono::TimeDelta;
use fhir_core::{
    merge::{Entry, Layer, Mark, Position, live_stays, outranks, shows_preview},
    resource::State,
};

use super::hapi::{Hapi, IDS, moment, serial};

pub(crate) const SKEW: TimeDelta = TimeDelta::seconds(1);

pub(crate) struct Views {
    /// Of the last reading.
    pub(crate) number: i64,
    pub(crate) speed: Option<Mark>,
    pub(crate) published: Position,
    pub(crate) ledger: BTreeMap<String, Entry>,
    pub(crate) shown: BTreeMap<String, State>,
    pub(crate) batch: BTreeMap<String, State>,
    /// For the checks: when a preview was shown; T of the first reading of the last full run, and of the newest run; the latest write that was shown.
    previewed_at: BTreeMap<String, i64>,
    full_as_of: i64,
    pub(crate) begun_at: i64,
    seen: BTreeMap<String, i64>,
}

impl Views {
    /// Joined over an empty HAPI.
    pub(crate) fn new(hapi: &Hapi) -> Self {
        let gone = |id: &str| (id.to_owned(), State::gone(id, moment(0, 0)));
        Self {
            number: 1,
            speed: None,
            published: hapi.position(1, hapi.clock(0)),
            ledger: BTreeMap::new(),
            shown: IDS.map(gone).into(),
            batch: IDS.map(gone).into(),
            previewed_at: BTreeMap::new(),
            full_as_of: 0,
            begun_at: 0,
            seen: BTreeMap::new(),
        }
    }

    fn show(&mut self, state: &State, n: i64, received: Option<&Preview>) {
        let entry = Entry {
            n,
            version: state.version,
            layer: Layer::Live,
            received: received.map(|preview| preview.received),
        };
        self.ledger.insert(state.id.clone(), entry);
        self.shown.insert(state.id.clone(), state.clone());
    }

    /// Rules 7 and 10.
    pub(crate) fn apply(&mut self, Reading { state, n, as_of }: &Reading) {
        let entry = self.ledger.get(&state.id);
        if outranks(entry, self.published.n, *n, Some(*as_of), state.version, SKEW) {
            self.show(state, *n, None);
        }
    }

    /// Rules 9 and 10.
    pub(crate) fn preview(&mut self, preview: &Preview, now: i64) -> bool {
        let state = &preview.state;
        let entry = self.ledger.get(&state.id);
        let published = Some(self.published.as_of);
        if !shows_preview(entry, published, state.version, state.last_updated, SKEW) {
            return false;
        }
        let n = entry.map_or(self.published.n, |entry| entry.n);
        self.show(state, n, Some(preview));
        self.previewed_at.insert(state.id.clone(), now);
        true
    }

    /// Rule 11: the state becomes the batch's, and the shown one, unless what is live is later.
    pub(crate) fn publish(&mut self, state: &State, position: &Position) {
        let (n, as_of) = (position.n, Some(position.as_of));
        let entry = self.ledger.get(&state.id);
        let stays = live_stays(entry, self.published.n, n, as_of, state.version, SKEW);
        self.batch.insert(state.id.clone(), state.clone());
        if !stays {
            self.shown.insert(state.id.clone(), state.clone());
            let entry = Entry {
                n,
                version: state.version,
                layer: Layer::Batch,
                received: None,
            };
            self.ledger.insert(state.id.clone(), entry);
        }
    }

    /// Rule 13: what is live and was read is published once more; the watermark moves; entries of earlier runs go.
    pub(crate) fn finish(&mut self, read: &BTreeMap<String, State>, position: &Position, full: Option<i64>) {
        for (id, state) in read {
            if self
                .ledger
                .get(id)
                .is_some_and(|entry| entry.layer == Layer::Live)
            {
                self.publish(state, position);
            }
        }
        self.published = position.clone();
        self.full_as_of = full.unwrap_or(self.full_as_of);
        self.ledger
            .retain(|_, entry| entry.layer == Layer::Live || entry.n >= position.n);
    }

    pub(crate) fn shown_previews(&self) -> impl Iterator<Item = String> + use<'_> {
        let previews = self.ledger.iter().filter(|(_, entry)| entry.received.is_some());
        previews.map(|(id, _)| id.clone())
    }

    /// I2 and I3, with the model's excuses for what HAPI took back.
    pub(crate) fn check(&mut self, hapi: &Hapi) -> anyhow::Result<()> {
        let seconds = |position: i64| position - moment(0, 0).timestamp();
        let batch_as_of = seconds(self.published.as_of.timestamp());
        let speed_as_of = self.speed.map_or(0, |mark| seconds(mark.as_of.timestamp()));
        let as_of = batch_as_of.max(speed_as_of);
        for id in IDS {
            let (shown, batch) = (serial(&self.shown[id]), serial(&self.batch[id]));
            let dead = hapi.dead.contains(&shown);
            let is_preview = self.ledger.get(id).is_some_and(|entry| entry.received.is_some());
            // A preview of a state that was taken back, until as_of passes the time when it was shown.
            let excused = dead && is_preview && self.previewed_at[id] >= as_of;
            if !excused {
                // A run that began before the taking back publishes what it has read.
                let run = shown == batch && dead && hapi.taken_back_at(id) >= Some(self.begun_at);
                let before = self.seen.insert(id.to_owned(), shown).unwrap_or_default();
                ensure!(
                    shown >= before || run,
                    "I3: {id} went back from write {before} to {shown}"
                );
            }
            for (what, have, time) in [("merged", shown, as_of), ("batch", batch, batch_as_of)] {
                let due = hapi.history.get(id).into_iter().flatten().filter(|commit| {
                    commit.at < time
                        && !hapi.dead.contains(&commit.serial)
                        && (!commit.takes_back || commit.at < self.full_as_of)
                });
                let due = due.map(|commit| commit.serial).max().unwrap_or_default();
                ensure!(
                    have >= due || (excused && what == "merged"),
                    "I2: {what} as of {time} shows write {have} of {id}, not {due}"
                );
            }
        }
        Ok(())
    }
}
