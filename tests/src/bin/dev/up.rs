//! The stack in the background.

use std::path::Path;

use anyhow::Context;
use e2e::background;
use e2e::fhir::Fhir;
use e2e::loading::{self, Loaded};
use e2e::patients::Hospital;
use e2e::process::write_private;
use e2e::server::Lifetime;
use e2e::stack::{Options, Servers, Stack};

use crate::story::Story;

/// Seed of the generated patients.
pub(crate) const SEED: u64 = 105;

/// How many of them.
pub(crate) const PATIENTS: u64 = 105;

/// Starts everything, loads it, and leaves it running.
pub(crate) async fn up(story: &mut Story, data: Option<&Path>) -> anyhow::Result<()> {
    refuse_second()?;
    let started = start(story, data).await;
    if started.is_err() {
        background::stop().await?;
    }
    started
}

async fn start(story: &mut Story, data: Option<&Path>) -> anyhow::Result<()> {
    let options = Options {
        lifetime: Lifetime::Detached,
        refresh_interval_seconds: 60,
        ..Options::default()
    };
    story.chapter("PostgreSQL, Redis and a real HAPI FHIR server");
    let servers = Servers::start(&options).await?;
    load(story, &servers.hapi.fhir()?, data).await?;
    story.chapter("batch-refresher, speed-ingestor, serving-gateway");
    let stack = Stack::start_daemons(servers, &options).await?;
    crate::demo::first_refresh(story, &stack).await?;
    write_endpoints(story, &stack)
}

/// Loads the folder, or generated patients.
pub(crate) async fn load(story: &mut Story, fhir: &Fhir, data: Option<&Path>) -> anyhow::Result<Loaded> {
    let Some(folder) = data else {
        story.chapter(&format!(
            "{PATIENTS} synthetic patients go into HAPI, through its REST API"
        ));
        return loading::load_patients(fhir, Hospital::new(SEED), PATIENTS).await;
    };
    story.chapter(&format!(
        "{} goes into HAPI, through its REST API",
        folder.display()
    ));
    loading::load_folder(fhir, folder).await
}

/// Writes where everything is reached, and says it.
pub(crate) fn write_endpoints(story: &Story, stack: &Stack) -> anyhow::Result<()> {
    let (running, started) = (background::running()?, stack.pids());
    let unlisted = started
        .iter()
        .find(|(name, _)| !running.iter().any(|known| known == name));
    anyhow::ensure!(
        unlisted.is_none(),
        "{unlisted:?} is not in the list of what `make down` ends"
    );
    let endpoints = stack.endpoints()?.as_env();
    let file = background::folder().join("endpoints.env");
    write_private(&file, &endpoints).with_context(|| format!("cannot write {}", file.display()))?;
    story.say(&format!(
        "\nAll of it runs in the background; `make down` ends it. Its addresses are in {}:",
        file.display()
    ));
    story.say(&endpoints);
    story.say("Try:  . target/dev/endpoints.env && psql \"$VIEWS_DB_URL\" -c 'table sqlonfhir.freshness'");
    Ok(())
}

/// Fails if a stack runs already.
pub(crate) fn refuse_second() -> anyhow::Result<()> {
    let running = background::running()?;
    anyhow::ensure!(
        running.is_empty(),
        "{} already run in the background; end them by `make down`",
        running.join(", ")
    );
    Ok(())
}

/// Ends what runs in the background.
pub(crate) async fn down(story: &mut Story) -> anyhow::Result<()> {
    let ended = background::stop().await?;
    story.say(&match ended.as_slice() {
        [] => "nothing runs in the background".to_owned(),
        names => format!("ended: {}", names.join(", ")),
    });
    Ok(())
}
