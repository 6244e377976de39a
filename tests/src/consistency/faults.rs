//! What is done to the installation while it answers: every part but PostgreSQL is killed, gateways stand still, the mergers' lead moves.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use api::proto::batch::RefreshKind;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use tokio::time::Instant;

use super::scene::Scene;
use crate::fhir::http_client;
use crate::hapi::Hapi;
use crate::operate::Operator;
use crate::process::Daemon;
use crate::redis::Redis;

/// Between two faults: from the shortest to the longest.
const CALM: [Duration; 2] = [Duration::from_millis(800), Duration::from_secs(4)];

/// How long something may stay dead before it is started again.
const DEAD: Duration = Duration::from_millis(1_500);

/// How long a gateway may stand still: shorter and longer than a lead is thought to be held by somebody who does not move.
const HALTED: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(5)];

/// Between two kills of HAPI, which takes half a minute to come back.
const HAPI_EVERY: Duration = Duration::from_secs(170);

/// Between two looks at who leads.
const LOOK: Duration = Duration::from_millis(200);

/// The parts that faults hit.
#[derive(Debug)]
pub struct Parts<'a> {
    /// HAPI.
    pub hapi: &'a mut Hapi,
    /// Redis.
    pub redis: &'a mut Redis,
    /// batch-refresher.
    pub batch: &'a mut Daemon,
    /// speed-ingestor.
    pub speed: &'a mut Daemon,
    /// Two serving-gateways over one views' database.
    pub gateways: [&'a mut Daemon; 2],
}

/// What can be killed and comes back soon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Batch,
    Speed,
    Redis,
    Gateway(usize),
}

impl Part {
    const ALL: [Self; 5] = [
        Self::Redis,
        Self::Batch,
        Self::Speed,
        Self::Gateway(0),
        Self::Gateway(1),
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Batch => "batch-refresher killed",
            Self::Speed => "speed-ingestor killed",
            Self::Redis => "redis killed",
            Self::Gateway(_) => "gateway killed",
        }
    }
}

impl Parts<'_> {
    /// Does things until the moment given, or until it is over before. Everything runs again when this returns.
    pub async fn suffer(
        &mut self,
        scene: &Scene,
        seed: u64,
        until: Instant,
        with_hapi: bool,
        over: impl Fn() -> bool,
    ) -> anyhow::Result<()> {
        let mut dice = StdRng::seed_from_u64(seed);
        let mut hapi_hit = Instant::now();
        loop {
            tokio::time::sleep(between(&mut dice, CALM)).await;
            if Instant::now() >= until || over() {
                return Ok(());
            }
            if with_hapi && hapi_hit.elapsed() > HAPI_EVERY && until - Instant::now() > HAPI_EVERY / 2 {
                note(scene, "hapi killed");
                self.hapi.kill9();
                self.hapi.restart().await.context("HAPI does not come back")?;
                hapi_hit = Instant::now();
                continue;
            }
            match dice.random_range(0..100) {
                0..25 => {
                    let gateway = dice.random_range(0..2);
                    note(scene, "gateway halted");
                    self.gateways[gateway].signal("STOP");
                    tokio::time::sleep(between(&mut dice, HALTED)).await;
                    self.gateways[gateway].signal("CONT");
                }
                25..45 => {
                    // Whoever leads, so that another takes over.
                    let leader = leader(&self.admins()?).await.unwrap_or(0);
                    self.kill(scene, &mut dice, &[Part::Gateway(leader)]).await?;
                }
                drawn => {
                    let mut parts = Part::ALL;
                    parts.shuffle(&mut dice);
                    let count = if drawn < 60 { 2 } else { 1 };
                    self.kill(scene, &mut dice, &parts[..count]).await?;
                }
            }
        }
    }

    /// At the same time; they come back one after the other, in an order that they can start in.
    async fn kill(&mut self, scene: &Scene, dice: &mut StdRng, parts: &[Part]) -> anyhow::Result<()> {
        for part in parts {
            note(scene, part.name());
            match part {
                Part::Batch => self.batch.kill9(),
                Part::Speed => self.speed.kill9(),
                Part::Redis => self.redis.kill9(),
                Part::Gateway(number) => self.gateways[*number].kill9(),
            }
        }
        tokio::time::sleep(DEAD.mul_f64(dice.random())).await;
        for part in Part::ALL.iter().filter(|part| parts.contains(part)) {
            let back = match part {
                Part::Batch => self.batch.restart().await,
                Part::Speed => self.speed.restart().await,
                Part::Redis => self.redis.restart().await,
                Part::Gateway(number) => self.gateways[*number].restart().await,
            };
            back.with_context(|| format!("after \"{}\" it does not come back", part.name()))?;
        }
        Ok(())
    }

    /// Where the gateways' metrics are.
    pub fn admins(&self) -> anyhow::Result<[String; 2]> {
        let [first, second] = &self.gateways;
        Ok([first.address("admin")?, second.address("admin")?])
    }
}

fn note(scene: &Scene, what: &'static str) {
    *scene.tally().faults.entry(what).or_default() += 1;
}

fn between(dice: &mut StdRng, [shortest, longest]: [Duration; 2]) -> Duration {
    shortest + longest.saturating_sub(shortest).mul_f64(dice.random())
}

/// The gateway whose merger is at work, by its own word.
async fn leader(admins: &[String; 2]) -> Option<usize> {
    let client = http_client().ok()?;
    for (number, admin) in admins.iter().enumerate() {
        let answer = client
            .get(format!("http://{admin}/metrics"))
            .timeout(LOOK)
            .send()
            .await;
        let Ok(answer) = answer else { continue };
        let text = answer.text().await.unwrap_or_default();
        let leads = |line: &str| line.starts_with("researchflow_merge_leading") && line.ends_with(" 1");
        if text.lines().any(leads) {
            return Some(number);
        }
    }
    None
}

/// Counts how often the lead goes over to the other gateway.
pub async fn watch_lead(scene: Arc<Scene>, admins: [String; 2]) {
    let mut last = None;
    while scene.is_reading() {
        if let Some(found) = leader(&admins).await {
            if last.is_some_and(|last| last != found) {
                scene.tally().failovers += 1;
            }
            last = Some(found);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Refreshes beside those that come by themselves: most take in what has changed, some read everything again.
pub async fn refresh(scene: Arc<Scene>, operator: Operator, seed: u64) {
    let mut dice = StdRng::seed_from_u64(seed);
    while scene.is_writing() {
        let types: &[&str] = match dice.random_range(0..4) {
            0 => &["Patient"],
            1 => &["Observation"],
            2 => &["Condition", "Patient"],
            _ => &[],
        };
        let (kind, name) = if dice.random_bool(0.15) {
            (RefreshKind::Full, "full")
        } else {
            (RefreshKind::Incremental, "incremental")
        };
        let refreshed = operator.refresh(types, kind).await.is_ok();
        scene.refreshed(name, refreshed);
        let pause = between(
            &mut dice,
            [Duration::from_millis(200), Duration::from_millis(2_500)],
        );
        tokio::time::sleep(pause).await;
    }
}
