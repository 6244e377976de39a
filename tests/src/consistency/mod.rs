//! The consistency checker: a real HAPI is written to, refreshes run, everything but PostgreSQL is killed now and then, and readers of every kind hold each
//! answer to what was written. `make consistency` is the long form.
//!
//! * [`history`]: what was written, and when. [`check`], [`cohort`]: what an answer may show; both pure.
//! * [`subjects`]: the resources, and what each view must show of them.
//! * [`writer`], [`reader`] (by [`calls`]), [`faults`], [`plant`]: who does what during a run; [`scene`]: what they share.
//!
//! What the protocol promises is in `docs/protocol.md`; the rules are those of `docs/consistency.md`.

pub mod calls;
pub mod check;
pub mod cohort;
pub mod faults;
pub mod history;
pub mod plant;
pub mod reader;
pub mod scene;
pub mod subjects;
pub mod writer;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use api::proto::batch::RefreshKind;
use api::proto::serving::{QueryRequest, Source};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::check::{Rule, Violation};
use self::faults::Parts;
use self::plant::Plant;
use self::reader::{Reader, Sources};
use self::scene::{Scene, Tally};
use self::subjects::{Population, Subject, View};
use self::writer::Writer;
use crate::ask::Asker;
use crate::deadline;
use crate::fhir::Fhir;
use crate::operate::Operator;
use crate::process::Daemon;
use crate::stack::{Stack, project_folder};

/// Writers; each has resources of its own.
const WRITERS: usize = 4;

/// Readers, each one question at a time.
const READERS: usize = 5;

/// Between two looks at whether a planted fault has been found.
const LOOK: Duration = Duration::from_millis(100);

/// Between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(10);

/// For how long readers go on when nothing is written any more.
const CALM: Duration = Duration::from_secs(2);

/// How long the end of a run may take.
const PATIENCE: Duration = Duration::from_mins(2);

/// How a run is made.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Of all that is left to chance.
    pub seed: u64,
    /// How long HAPI is written to: until a planted fault is found, at most.
    pub span: Duration,
    /// Whether parts are killed and halted.
    pub faults: bool,
    /// Whether HAPI is too.
    pub hapi_too: bool,
    /// What is planted.
    pub plant: Option<Plant>,
    /// Begins all ids, so that two runs on one HAPI do not meet.
    pub prefix: String,
}

/// Where everything is.
#[derive(Debug, Clone)]
pub struct Places {
    /// HAPI.
    pub fhir: Fhir,
    /// Whom readers ask.
    pub sources: Sources,
    /// BatchService.
    pub operator: Operator,
    /// The views' database, as a superuser.
    pub views_owner: String,
}

impl Places {
    /// Those of a stack that has a second gateway.
    pub async fn of(stack: &Stack, second: &Daemon) -> anyhow::Result<Self> {
        let endpoints = stack.endpoints()?;
        Ok(Self {
            fhir: stack.servers.hapi.fhir()?,
            sources: Sources {
                gateways: [endpoints.serving_grpc.clone(), second.address("grpc")?],
                views_db: endpoints.views_db.clone(),
            },
            operator: Operator::connect(&endpoints.batch_grpc).await?,
            views_owner: stack.servers.postgres.url("views"),
        })
    }
}

/// Waits until each gateway answers each view from its tables. Until it has heard that a view is materialised it answers from HAPI's own, which are a moment ahead of them:
/// answers may go back once, when it does.
async fn answered_from_tables(sources: &Sources) -> anyhow::Result<()> {
    for gateway in &sources.gateways {
        let asker = Asker::connect(gateway).await?;
        for view in View::ALL {
            let limit = Duration::from_mins(1);
            deadline::until("a view to be answered from its tables", limit, || async {
                let query = QueryRequest {
                    view: view.name().to_owned(),
                    limit: 1,
                    ..QueryRequest::default()
                };
                let answer = asker.ask(query).await.ok()?;
                (answer.freshness.source() == Source::Materialized).then_some(())
            })
            .await?;
        }
    }
    Ok(())
}

/// What came of a run.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The counts, and what is wrong.
    pub tally: Tally,
    /// States of resources that were judged.
    pub judged: u64,
    /// What the run should have done and did not: then its silence says nothing.
    pub too_little: Vec<String>,
    seed: u64,
}

impl Outcome {
    /// The last line.
    pub fn line(&self) -> String {
        let Self { tally, seed, .. } = self;
        format!(
            "CONSISTENCY violations {}, answers {}, writes {}, kills {}, failovers {}, refreshes {}, seed {seed}",
            tally.violations.len(),
            tally.answered(),
            tally.writes,
            tally.hit(),
            tally.failovers,
            tally.refreshed(),
        )
    }

    /// Whether nothing is wrong, and enough was looked at to say so.
    pub fn is_right(&self) -> bool {
        self.tally.violations.is_empty() && self.too_little.is_empty()
    }

    /// Violations of a rule.
    pub fn broken(&self, rule: Rule) -> impl Iterator<Item = &Violation> {
        self.tally
            .violations
            .iter()
            .filter(move |violation| violation.rule == rule)
    }
}

/// The folder of the views that are asked.
pub fn views_folder() -> PathBuf {
    project_folder().join("tests/consistency/views")
}

/// Makes a run over an installation that has the views; `say` gets a line now and then.
pub async fn run(
    mut parts: Parts<'_>,
    places: &Places,
    settings: &Settings,
    say: impl Fn(&str),
) -> anyhow::Result<Outcome> {
    answered_from_tables(&places.sources).await?;
    let scene = Arc::new(Scene::new(population(&settings.prefix)));
    let mut tasks: JoinSet<anyhow::Result<()>> = JoinSet::new();
    for writer in writers(&scene, &places.fhir, settings.seed).await {
        tasks.spawn(async move {
            writer.run().await;
            Ok(())
        });
    }
    for number in 0..READERS {
        let reader = Reader::new(scene.clone(), &places.sources, seed(settings, 100 + number))?;
        tasks.spawn(reader.run());
    }
    let (operator, refreshing) = (places.operator.clone(), scene.clone());
    let refresh_seed = seed(settings, 200);
    tasks.spawn(async move {
        faults::refresh(refreshing, operator, refresh_seed).await;
        Ok(())
    });
    let (watching, admins) = (scene.clone(), parts.admins()?);
    tasks.spawn(async move {
        faults::watch_lead(watching, admins).await;
        Ok(())
    });
    if let Some(plant) = settings.plant {
        tasks.spawn(plant::plant(scene.clone(), places.views_owner.clone(), plant));
    }

    let (start, end) = (Instant::now(), Instant::now() + settings.span);
    let suffering = async {
        if settings.faults {
            let seed = seed(settings, 300);
            parts
                .suffer(&scene, seed, end, settings.hapi_too, || found(&scene, settings))
                .await?;
        }
        while Instant::now() < end && !found(&scene, settings) {
            tokio::time::sleep(LOOK).await;
        }
        anyhow::Ok(())
    };
    tokio::pin!(suffering);
    let mut progress = tokio::time::interval_at(start + PROGRESS, PROGRESS);
    loop {
        tokio::select! {
            ended = &mut suffering => break ended?,
            _ = progress.tick() => say(&told(&scene, start)),
            // Readers and plants end early only by failing.
            Some(ended) = tasks.join_next() => ended??,
        }
    }
    scene.stop_writing();
    settle(&scene, places).await?;
    tokio::time::sleep(CALM).await;
    scene.stop_reading();
    let ended = tokio::time::timeout(PATIENCE, async {
        while let Some(ended) = tasks.join_next().await {
            ended??;
        }
        anyhow::Ok(())
    });
    ended.await.context("a task of the run does not end")??;
    let (tally, judged) = (scene.tally().clone(), scene.book().judged);
    Ok(Outcome {
        too_little: too_little(&tally, settings),
        tally,
        judged,
        seed: settings.seed,
    })
}

/// Deletes what a run with this prefix has left, and waits until no view shows any resource of the checker.
pub async fn clear(places: &Places, prefix: &str) -> anyhow::Result<()> {
    let (patients, others): (Vec<Subject>, Vec<Subject>) = population(prefix)
        .subjects()
        .into_iter()
        .partition(|subject| subject.key.resource_type == "Patient");
    // HAPI keeps what others refer to.
    for subjects in [others, patients] {
        let entry = |subject: &Subject| {
            let url = format!("{}/{}", subject.key.resource_type, subject.key.id);
            json!({"request": {"method": "DELETE", "url": url}})
        };
        places
            .fhir
            .transaction(subjects.iter().map(entry).collect())
            .await?;
    }
    let mut reader = crate::ask::Reader::connect(&places.sources.views_db).await?;
    let left = View::ALL.map(|view| {
        let name = view.name();
        format!("(SELECT count(*) FROM sqlonfhir.{name}) + (SELECT count(*) FROM sqlonfhir_batch.{name})")
    });
    let left = format!("SELECT {}", left.join(" + "));
    let start = Instant::now();
    loop {
        // What the batch has published goes with a refresh.
        places.operator.refresh(&[], RefreshKind::Incremental).await?;
        if reader.value(&left).await?.as_deref() == Some("0") {
            break;
        }
        anyhow::ensure!(start.elapsed() < PATIENCE, "rows of the run before do not go");
    }
    Ok(())
}

fn population(prefix: &str) -> Population {
    Population {
        prefix: prefix.to_owned(),
        homes: 24,
        others: 36,
    }
}

/// The writers, when all that others refer to is there.
async fn writers(scene: &Arc<Scene>, fhir: &Fhir, seed: u64) -> Vec<Writer> {
    let mut shares: [Vec<Subject>; WRITERS] = Default::default();
    for (number, subject) in scene.population.subjects().into_iter().enumerate() {
        shares[number % WRITERS].push(subject);
    }
    let mut writers = Vec::new();
    for (number, share) in shares.into_iter().enumerate() {
        let seed = seed.wrapping_mul(1_000).wrapping_add(number as u64);
        let mut writer = Writer::new(scene.clone(), fhir.clone(), share, seed);
        writer.create_homes().await;
        writers.push(writer);
    }
    writers
}

fn seed(settings: &Settings, number: usize) -> u64 {
    settings.seed.wrapping_mul(1_000).wrapping_add(number as u64)
}

/// Waits until the answers promise all that was written: then each resource has one state only that may be shown.
async fn settle(scene: &Scene, places: &Places) -> anyhow::Result<()> {
    let since = scene.now();
    let mut reader = crate::ask::Reader::connect(&places.sources.views_db).await?;
    let names = View::ALL.map(|view| format!("'{}'", view.name())).join(", ");
    let at = since.to_rfc3339();
    let settled = format!("SELECT bool_and(as_of > '{at}') FROM sqlonfhir.freshness WHERE view IN ({names})");
    reader
        .until(&settled, PATIENCE, |value| value == Some("true"))
        .await
        .context("the views do not catch up after the run")?;
    Ok(())
}

/// Whether what was planted has been found: there is no more to be seen then.
fn found(scene: &Scene, settings: &Settings) -> bool {
    let Some(plant) = settings.plant else {
        return false;
    };
    let tally = scene.tally();
    tally
        .violations
        .iter()
        .any(|violation| violation.rule == plant.breaks())
}

fn told(scene: &Scene, start: Instant) -> String {
    let tally = scene.tally();
    let listed = |counts: Vec<(String, u64)>| {
        let all: Vec<String> = counts
            .into_iter()
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        if all.is_empty() {
            "none".to_owned()
        } else {
            all.join(", ")
        }
    };
    let faults = listed(
        tally
            .faults
            .iter()
            .map(|(name, count)| ((*name).to_owned(), *count))
            .collect(),
    );
    let refused = listed(
        tally
            .refused
            .iter()
            .map(|(name, count)| (name.clone(), *count))
            .collect(),
    );
    format!(
        "{:>4} s: violations {}, answers {}, not answered: {refused}; writes {} (failed {}); {faults}; failovers {}, refreshes {} (failed {})",
        start.elapsed().as_secs(),
        tally.violations.len(),
        tally.answered(),
        tally.writes,
        tally.failed_writes,
        tally.failovers,
        tally.refreshed(),
        tally.failed_refreshes,
    )
}

/// A checker that looks at nothing finds nothing. A tenth of what an idle machine does: others may be busy on it.
fn too_little(tally: &Tally, settings: &Settings) -> Vec<String> {
    let mut missing = Vec::new();
    if settings.plant.is_some() {
        // Such a run is over as soon as it has found something.
        return missing;
    }
    let seconds = settings.span.as_secs();
    let mut at_least = |what: &str, found: u64, wanted: u64| {
        if found < wanted {
            missing.push(format!("{found} {what}, {wanted} were wanted"));
        }
    };
    at_least("answers", tally.answered(), seconds * 2);
    for question in reader::questions() {
        let found = tally.answers.get(question).copied().unwrap_or_default();
        at_least(&format!("answers to \"{question}\""), found, seconds / 30);
    }
    at_least("writes", tally.writes, seconds / 2);
    at_least("refreshes", tally.refreshed(), (seconds / 30).max(1));
    if settings.faults {
        at_least("kills", tally.hit(), seconds / 20);
        at_least("failovers", tally.failovers, seconds / 60);
    }
    missing
}
