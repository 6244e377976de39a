//! A case: a schedule of what HAPI, the deliveries, the tail, the merger and the batch do, drawn from a seed.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use api::speed::{Preview, Reading};
use chrono::TimeDelta;
use e2e::merging::Direct;
use fhir_core::{
    merge::Mark,
    resource::{Content, State},
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use redis::aio::MultiplexedConnection;
use serving_gateway::merge::ChangesSource as _;
use speed_ingestor::{
    store::SpeedStore,
    tail::{Stepped, Tail},
};

use super::{
    PATIENT,
    batch::Run,
    hapi::{Hapi, IDS, Wish, moment},
    reader::{Reader, World},
    views::Views,
};

/// A delivery is so many seconds late at most.
const LATEST: i64 = 60;

/// What the merger has read and not yet applied.
pub(super) struct Answer {
    readings: VecDeque<Reading>,
    previews: Vec<Preview>,
    mark: Option<Mark>,
}

pub(crate) struct Play<'a> {
    pub(super) world: Arc<Mutex<World>>,
    pub(super) store: &'a SpeedStore,
    pub(super) keys: &'a mut MultiplexedConnection,
    pub(super) random: StdRng,
    /// The second one: a new ingestor, while the old one has not noticed yet.
    pub(super) tails: [Tail<Reader>; 2],
    reader: Reader,
    pub(super) answer: Option<Answer>,
    pub(super) run: Option<Run>,
    /// When what is delivered.
    pub(super) queue: Vec<(i64, State)>,
    pub(super) sent: Vec<State>,
    pub(crate) delivered: u64,
    pub(crate) previews_shown: u64,
    pub(crate) left: u64,
}

impl<'a> Play<'a> {
    pub(crate) async fn new(
        store: &'a SpeedStore,
        keys: &'a mut MultiplexedConnection,
        seed: u64,
    ) -> anyhow::Result<Self> {
        redis::cmd("FLUSHALL").query_async::<()>(keys).await?;
        let hapi = Hapi::default();
        let views = Views::new(&hapi);
        let world = Arc::new(Mutex::new(World { now: 1, hapi, views }));
        Ok(Self {
            reader: Reader(world.clone()),
            world,
            store,
            keys,
            random: StdRng::seed_from_u64(seed),
            tails: [Tail::default(), Tail::default()],
            answer: None,
            run: None,
            queue: Vec::new(),
            sent: Vec::new(),
            delivered: 0,
            previews_shown: 0,
            left: 0,
        })
    }

    fn now(&self) -> i64 {
        self.world.lock().unwrap().now
    }

    /// A schedule, and what must hold at its end.
    pub(crate) async fn case(&mut self) -> anyhow::Result<()> {
        for _ in 0..self.random.random_range(60..160) {
            let seconds = self.random.random_range(0..3);
            self.pass(seconds).await?;
            let id = IDS[self.random.random_range(0..IDS.len())];
            match self.random.random_range(0..100) {
                0..18 => self.begin(id),
                18..38 => self.commit(id),
                38..63 => drop(self.tail_step().await?),
                63..90 => drop(self.merge_step().await?),
                90..96 => drop(self.run_step(false)?),
                96..99 => self.release().await?,
                // Redis is emptied.
                _ => redis::cmd("FLUSHALL").query_async(self.keys).await?,
            }
        }
        self.quiesce().await
    }

    /// Time passes; what is due meanwhile is delivered.
    pub(super) async fn pass(&mut self, seconds: i64) -> anyhow::Result<()> {
        for _ in 0..seconds {
            self.world.lock().unwrap().now += 1;
            let now = self.now();
            let due: Vec<State> = self
                .queue
                .extract_if(.., |(at, _)| *at <= now)
                .map(|(_, state)| state)
                .collect();
            for state in due {
                self.deliver(&state).await?;
            }
        }
        Ok(())
    }

    /// As the webhook does: a body is a preview, a DELETE wakes the tail.
    pub(super) async fn deliver(&mut self, state: &State) -> anyhow::Result<()> {
        self.delivered += 1;
        let received = moment(self.now(), 0);
        if state.content == Content::Deleted {
            self.store.note_delete(PATIENT, &state.id, received).await?;
            self.tail_step().await?;
        } else {
            self.store.offer_preview(PATIENT, state, received).await?;
        }
        Ok(())
    }

    fn begin(&mut self, id: &'static str) {
        let wish = match self.random.random_range(0..10) {
            0..5 => Wish::Put,
            5..8 => Wish::Delete,
            _ => Wish::Expunge,
        };
        let mut world = self.world.lock().unwrap();
        let now = world.now;
        world.hapi.begin(id, wish, now);
    }

    pub(super) fn commit(&mut self, id: &'static str) {
        let mut world = self.world.lock().unwrap();
        let now = world.now;
        let Some(state) = world.hapi.commit(id, now) else {
            return;
        };
        self.sent.push(state.clone());
        // One in ten is never delivered, one in four twice.
        let times = match self.random.random_range(0..20) {
            0..2 => 0,
            2..7 => 2,
            _ => 1,
        };
        for _ in 0..times {
            let soon = self.random.random_bool(0.4);
            let late = self.random.random_range(0..=if soon { 2 } else { LATEST });
            self.queue.push((now + late, state.clone()));
        }
    }

    pub(super) async fn tail_step(&mut self) -> anyhow::Result<Stepped> {
        let window = self.random.random_bool(0.15).then_some(TimeDelta::seconds(5));
        let (types, now) = ([PATIENT.to_owned()], moment(self.now(), 0));
        let which = usize::from(self.random.random_bool(0.2));
        Ok(self.tails[which]
            .step(&self.reader, self.store, &types, window, now)
            .await?)
    }

    /// The merger reads, or commits a page; false: there was nothing.
    pub(super) async fn merge_step(&mut self) -> anyhow::Result<bool> {
        let Some(answer) = &mut self.answer else {
            let after = self.world.lock().unwrap().views.speed.map_or(0, |mark| mark.n);
            let mut changes = Direct(self.store).changes(PATIENT, after).await?;
            changes.readings.sort_by(|a, b| a.state.id.cmp(&b.state.id));
            let mark = changes.mark.filter(|mark| mark.n > after);
            if changes.readings.is_empty() && changes.previews.is_empty() && mark.is_none() {
                return Ok(false);
            }
            self.answer = Some(Answer {
                readings: changes.readings.into(),
                previews: changes.previews,
                mark,
            });
            return Ok(true);
        };
        let mut world = self.world.lock().unwrap();
        let World { now, hapi, views } = &mut *world;
        for _ in 0..self.random.random_range(1..4) {
            if let Some(reading) = answer.readings.pop_front() {
                views.apply(&reading);
            }
        }
        if answer.readings.is_empty() {
            for preview in &answer.previews {
                self.previews_shown += u64::from(views.preview(preview, *now));
            }
            views.speed = answer.mark.or(views.speed);
            self.answer = None;
        }
        views.check(hapi)?;
        Ok(true)
    }
}
