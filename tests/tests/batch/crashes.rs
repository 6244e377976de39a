//! kill -9 of the batch at every step of every kind of run, and at any moment between: what is shown is right throughout, so is the end, and nothing is
//! left behind.
//!
//! The steps of a run are its crash points: a process of its own does so many of them, and kills itself.

use std::{process::Stdio, time::Duration};

use anyhow::{Context as _, ensure};
use batch_refresher::{
    hapi::Hapi,
    run::{Ranges, RefreshRun, RunSettings, Step},
};
use chrono::TimeDelta;
use e2e::{deadline, server::signal_process};
use rand::RngExt as _;
use tokio::process::Command;
use view_store::{RunKind, SlicePlan, StoreSettings, ViewStore};

use crate::{
    loads::left,
    played::{ANOTHER_VIEW, PATIENT_VIEW, Played, hapi_settings, patient},
};

const LIMIT: Duration = Duration::from_secs(30);
const PATIENTS: usize = 60;
/// What the process is told: the databases, the kind of run, after how many steps it dies (0: never).
const ORDER: &str = "RESEARCHFLOW_CRASH";

fn kind_of(name: &str) -> RunKind {
    match name {
        "Full" => RunKind::Full,
        "Join" => RunKind::Join,
        _ => RunKind::Incremental,
    }
}

/// The process that is killed; does nothing unless it is told to.
#[tokio::test]
async fn process() -> anyhow::Result<()> {
    let Ok(order) = std::env::var(ORDER) else {
        return Ok(());
    };
    let [hapi, views, kind, dies_after] = order.split(' ').collect::<Vec<_>>()[..] else {
        anyhow::bail!("an order has four words");
    };
    let hapi = Hapi::connect(hapi_settings(hapi.to_owned())).await?;
    let store = ViewStore::connect(StoreSettings {
        url: views.to_owned(),
        max_connections: 6,
        skew: TimeDelta::seconds(1),
    })
    .await?;
    let settings = RunSettings {
        ranges: Ranges::At(vec![i64::try_from(PATIENTS)?, 2 * i64::try_from(PATIENTS)?]),
        workers: 1,
        resume: true,
        slice: SlicePlan {
            resources: 7,
            unchanged_too: false,
        },
    };
    // The one before may not be noticed to be dead.
    let mut run = deadline::until("the run lock is free", LIMIT, || async {
        RefreshRun::start(&hapi, &store, "Patient", kind_of(kind), settings.clone())
            .await
            .ok()?
    })
    .await?;
    let dies_after: usize = dies_after.parse()?;
    for done in 1.. {
        let step = run.step().await?;
        if done == dies_after {
            signal_process(std::process::id(), "KILL");
            std::future::pending::<()>().await;
        }
        if step != Step::More {
            ensure!(step == Step::Finished, "the run ended: {step:?}");
            break;
        }
    }
    Ok(run.end().await?)
}

fn spawn(played: &Played, kind: RunKind, dies_after: usize) -> anyhow::Result<tokio::process::Child> {
    let order = format!(
        "{} {} {kind:?} {dies_after}",
        played.settings().url,
        played.views_url
    );
    Ok(Command::new(std::env::current_exe()?)
        .args(["crashes::process", "--exact", "--nocapture"])
        .env(ORDER, order)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?)
}

/// The patients as they were and as they are: a state is shown whole, the one or the other.
struct World {
    played: Played,
    before: Vec<String>,
    now: Vec<String>,
    round: usize,
}

impl World {
    async fn begin() -> anyhow::Result<Self> {
        let played = Played::start().await?;
        played.put(PATIENT_VIEW).await?;
        let mut world = Self {
            played,
            before: Vec::new(),
            now: vec![String::new(); PATIENTS],
            round: 0,
        };
        world.change().await?;
        Ok(world)
    }

    /// A third of the patients changes, some go, some come back.
    async fn change(&mut self) -> anyhow::Result<()> {
        self.before.clone_from(&self.now);
        self.round += 1;
        for i in 0..PATIENTS {
            if self.round > 1 && !(i + self.round).is_multiple_of(3) {
                continue;
            }
            let family = format!("r{}", self.round);
            let alive = !(i + self.round).is_multiple_of(4);
            if !alive && self.now[i].is_empty() {
                continue;
            }
            let stored = alive.then(|| patient(&family));
            self.played.write(&format!("p{i:02}"), stored.as_deref()).await?;
            self.now[i] = if alive { family } else { String::new() };
        }
        Ok(())
    }

    /// What is shown of each patient is what it was, or what it is.
    async fn is_right(&self) -> anyhow::Result<()> {
        let shown = self
            .played
            .shown("SELECT id || ' ' || family FROM sqlonfhir.patient_names ORDER BY id, family")
            .await?;
        for i in 0..PATIENTS {
            let prefix = format!("(\"p{i:02} ");
            let rows: Vec<&str> = shown
                .iter()
                .filter_map(|row| row.strip_prefix(&prefix)?.strip_suffix("\")"))
                .collect();
            let shown = rows.first().copied().unwrap_or_default();
            ensure!(
                rows.len() <= 1 && (shown == self.before[i] || shown == self.now[i]),
                "p{i:02} is shown as {rows:?}, was {:?}, is {:?}",
                self.before[i],
                self.now[i]
            );
        }
        Ok(())
    }

    async fn is_as_now(&mut self) -> anyhow::Result<()> {
        self.before.clone_from(&self.now);
        self.is_right().await?;
        let left = left(&self.played).await?;
        ensure!(left == "(0,0,0)", "left behind: {left}");
        Ok(())
    }
}

#[tokio::test]
async fn law_8_killed_after_each_step_what_is_shown_is_right_and_nothing_is_left() -> anyhow::Result<()> {
    let mut world = World::begin().await?;
    spawn(&world.played, RunKind::Join, 0)?.wait().await?;
    world.is_as_now().await?;
    for kind in [RunKind::Incremental, RunKind::Full, RunKind::Join] {
        if kind == RunKind::Join {
            world.played.put(ANOTHER_VIEW).await?;
        }
        let mut killed = 0;
        for dies_after in 1.. {
            world.change().await?;
            let ended = spawn(&world.played, kind, dies_after)?.wait().await?;
            world
                .is_right()
                .await
                .with_context(|| format!("{kind:?}, killed after step {dies_after}"))?;
            // The next change comes on top of what was not published.
            if ended.success() {
                break;
            }
            killed += 1;
            let mended = spawn(&world.played, kind, 0)?.wait().await?;
            ensure!(
                mended.success(),
                "{kind:?}: the run after step {dies_after} fails"
            );
            world
                .is_as_now()
                .await
                .with_context(|| format!("{kind:?}, after step {dies_after}"))?;
        }
        world.is_as_now().await?;
        ensure!(killed >= 3, "{kind:?} has more steps than {killed}");
    }
    let genders = world
        .played
        .shown("SELECT count(*) FROM sqlonfhir.patient_gender")
        .await?;
    let alive = world.now.iter().filter(|family| !family.is_empty()).count();
    assert_eq!(genders, [format!("({alive})")]);
    Ok(())
}

#[tokio::test]
async fn law_8_killed_at_any_moment_what_is_shown_is_right_and_nothing_is_left() -> anyhow::Result<()> {
    let mut world = World::begin().await?;
    spawn(&world.played, RunKind::Join, 0)?.wait().await?;
    for round in 0..24 {
        let kind = [RunKind::Incremental, RunKind::Full][round % 2];
        world.change().await?;
        let mut process = spawn(&world.played, kind, 0)?;
        let moment = Duration::from_millis(rand::rng().random_range(20..400));
        // Pacing: the moment is the test's input.
        let _alive = tokio::time::timeout(moment, process.wait()).await;
        // It may have ended by itself.
        let _killed = process.kill().await;
        world
            .is_right()
            .await
            .with_context(|| format!("{kind:?}, killed after {moment:?}"))?;
        let mended = spawn(&world.played, kind, 0)?.wait().await?;
        ensure!(mended.success(), "{kind:?}: the run after {moment:?} fails");
        world
            .is_as_now()
            .await
            .with_context(|| format!("{kind:?}, after {moment:?}"))?;
    }
    Ok(())
}
