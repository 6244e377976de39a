//! The end of a case: everything comes to rest, and what is shown is what HAPI has (I5).

use anyhow::ensure;
use fhir_core::resource::State;
use rand::RngExt as _;
use speed_ingestor::tail::Tail;

use super::{
    PATIENT,
    hapi::{IDS, moment},
    play::Play,
    reader::World,
};

impl Play<'_> {
    /// All requests end, all deliveries come, and everyone does what is left to do: what is shown is what HAPI has (I5).
    pub(super) async fn quiesce(&mut self) -> anyhow::Result<()> {
        for id in IDS {
            self.commit(id);
        }
        while !self.queue.is_empty() {
            self.pass(1).await?;
            match self.random.random_range(0..4) {
                0 => drop(self.tail_step().await?),
                1 => drop(self.merge_step().await?),
                _ => {}
            }
        }
        self.settle().await?;
        self.same("after a round of the tail", |world, id| {
            world.hapi.is_gone(id) || world.views.shown[id] == world.hapi.current(id, 0)
        })?;
        if self.run.is_some() {
            while !self.run_step(false)? {}
        }
        while !self.run_step(true)? {}
        self.release().await?;
        self.settle().await?;
        let whole = |world: &World, id: &str| {
            let current = world.hapi.current(id, 0);
            let same = |state: &State| (state.version, &state.content) == (current.version, &current.content);
            same(&world.views.shown[id]) && same(&world.views.batch[id])
        };
        self.same("after a full run", whole)?;
        // All that was ever sent comes once more.
        for state in std::mem::take(&mut self.sent) {
            self.deliver(&state).await?;
        }
        self.merge_all().await?;
        self.same("after late duplicates", whole)
    }

    /// A round of the tail begins and ends, and all of it is merged.
    async fn settle(&mut self) -> anyhow::Result<()> {
        // What waits is shown before: a preview of what HAPI took back may stay until the next round (excuse-preview).
        self.merge_all().await?;
        self.tails.iter_mut().for_each(Tail::restart);
        self.pass(3).await?;
        // A window may have been capped: then the next round is to give the mark.
        while self.store.mark(PATIENT).await?.is_none_or(|mark| {
            let world = self.world.lock().unwrap();
            mark.as_of < moment(world.now, 0)
        }) {
            self.tail_step().await?;
        }
        self.merge_all().await
    }

    /// What was read is applied, and then what there is now. (Readings whose mark is still to come are read again and again.)
    async fn merge_all(&mut self) -> anyhow::Result<()> {
        for _ in 0..2 {
            while self.merge_step().await? && self.answer.is_some() {}
        }
        Ok(())
    }

    fn same(&self, when: &str, holds: impl Fn(&World, &str) -> bool) -> anyhow::Result<()> {
        let world = self.world.lock().unwrap();
        for id in IDS {
            ensure!(
                holds(&world, id),
                "I5: {when} {id} is shown as {:?}, HAPI has {:?}",
                world.views.shown[id],
                world.hapi.current(id, 0)
            );
        }
        Ok(())
    }
}
