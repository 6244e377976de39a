//! The batch in a case: its runs, a step at a time, and what leaves Redis once they have covered it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::ensure;
use fhir_core::{
    merge::{Layer, Position},
    resource::State,
};
use rand::RngExt as _;

use super::{
    PATIENT,
    hapi::{IDS, moment, serial},
    play::Play,
    reader::World,
};

/// A run of the batch under way.
pub(super) struct Run {
    full: bool,
    clock: (i64, i64),
    /// Once its snapshot is open: where it stands, what it has read, what is still to be published.
    read: Option<(Position, BTreeMap<String, State>, Vec<String>)>,
}

impl Play<'_> {
    /// A run begins, opens its snapshot, or publishes a resource; true: it has ended.
    pub(super) fn run_step(&mut self, full: bool) -> anyhow::Result<bool> {
        let mut world = self.world.lock().unwrap();
        let World { now, hapi, views } = &mut *world;
        let Some(run) = &mut self.run else {
            self.run = Some(Run {
                full: full || self.random.random_bool(0.2),
                clock: hapi.clock(*now),
                read: None,
            });
            return Ok(false);
        };
        let Some((position, read, todo)) = &mut run.read else {
            views.number += 1;
            let position = hapi.position(views.number, run.clock);
            let mut ids = hapi.changed_since(&views.published, None);
            let live = views
                .ledger
                .iter()
                .filter(|(_, entry)| entry.layer == Layer::Live);
            ids.extend(live.map(|(id, _)| id.clone()));
            if run.full {
                ids.extend(IDS.map(str::to_owned));
            }
            let read: BTreeMap<String, State> = ids
                .into_iter()
                .map(|id| (id.clone(), hapi.current(&id, run.clock.0)))
                .collect();
            let todo = read.keys().rev().cloned().collect();
            run.read = Some((position, read, todo));
            return Ok(false);
        };
        views.begun_at = run.clock.0;
        if let Some(id) = todo.pop() {
            views.publish(&read[&id], position);
        }
        let ended = todo.is_empty();
        if ended {
            views.finish(read, position, run.full.then_some(run.clock.0));
            self.run = None;
        }
        views.check(hapi)?;
        Ok(ended)
    }

    /// What the batch has covered leaves Redis, and nothing else (I7).
    pub(super) async fn release(&mut self) -> anyhow::Result<()> {
        let before = self.held().await?;
        let (published_n, now) = {
            let world = self.world.lock().unwrap();
            (world.views.published.n, moment(world.now, 0))
        };
        self.store.release(PATIENT, published_n, now).await?;
        let after: BTreeSet<String> = self.held().await?.into_keys().collect();
        let world = self.world.lock().unwrap();
        for (id, held) in before.iter().filter(|(id, _)| !after.contains(*id)) {
            self.left += 1;
            let batch = serial(&world.views.batch[id]);
            ensure!(
                batch >= *held || world.hapi.dead.contains(held),
                "I7: write {held} of {id} has left, the batch has {batch}"
            );
        }
        Ok(())
    }

    /// The writes of the readings that Redis holds.
    async fn held(&mut self) -> anyhow::Result<BTreeMap<String, i64>> {
        let mut pipe = redis::pipe();
        for id in IDS {
            pipe.hget(format!("fhir:{PATIENT}:{id}"), "last_updated");
        }
        let found: Vec<Option<i64>> = pipe.query_async(self.keys).await?;
        let held = IDS.into_iter().zip(found);
        Ok(held
            .filter_map(|(id, micros)| Some((id.to_owned(), micros? % 1_000_000)))
            .collect())
    }
}
