//! What the merger takes to show a change while a refresh publishes 100,000 of them: both write to the same tables, under one lock.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use api::speed::{Reading as HeldReading, TypeChanges};
use batch_refresher::{
    hapi::Hapi,
    reading::Reading,
    resources::{self, Reference},
};
use fhir_core::{merge::Mark, resource::State};
use futures::TryStreamExt as _;
use serving_gateway::merge::{ChangesSource, MergeError, Merger, Stepped};
use view_store::{RunKind, ViewStore};

use crate::{
    catalogue::Catalogue,
    change::change,
    fill::{self, Amount},
    refresh,
    servers::Servers,
    source::Source,
};

const OBSERVATION: &str = "Observation";
const CHANGES: u64 = 100_000;
/// Between two changes that the speed layer brings.
const PAUSE: Duration = Duration::from_millis(20);
/// Readings of a page, as the daemon has it.
const PAGE: usize = 500;

/// The speed store with a single answer.
struct Held(Option<TypeChanges>);

impl ChangesSource for Held {
    async fn changes(&mut self, _: &str, _: i64) -> Result<TypeChanges, MergeError> {
        Ok(self.0.take().unwrap_or(TypeChanges {
            mark: None,
            readings: Vec::new(),
            previews: Vec::new(),
        }))
    }
}

pub(crate) async fn measure(servers: &Servers, catalogue: &Catalogue, source: &Source) -> anyhow::Result<()> {
    let databases = servers.create_databases("merger").await?;
    fill::fill(&databases, source, &[(OBSERVATION, Amount::Resources(CHANGES))]).await?;
    databases.put(&[catalogue.definition("observation_lab")?]).await?;
    refresh::in_process(&databases, OBSERVATION, CHANGES).await?;
    let (hapi, store) = (databases.hapi().await?, databases.store().await?);
    let states = some_states(&hapi, &databases.owner).await?;
    let mut merger = Merger::new(store.clone(), OBSERVATION);
    let alone = {
        let mut times = Vec::new();
        for state in states.iter().cycle().take(200) {
            times.push(show(&mut merger, &hapi, &store, state).await?);
            tokio::time::sleep(PAUSE).await;
        }
        times
    };
    change(&databases.owner, CHANGES, CHANGES, 0).await?;
    let begun = Instant::now();
    let run = refresh::start(&hapi, &store, OBSERVATION, RunKind::Incremental).await?;
    let refreshing = tokio::spawn(refresh::finish(run));
    let mut beside = Vec::new();
    for state in states.iter().cycle() {
        if refreshing.is_finished() {
            break;
        }
        beside.push(show(&mut merger, &hapi, &store, state).await?);
        tokio::time::sleep(PAUSE).await;
    }
    refreshing.await??;
    println!(
        "-- the merger beside a refresh of {CHANGES} changes ({:.1} s): {}; alone: {}; budget of p99 beside it: 0.1 s",
        begun.elapsed().as_secs_f64(),
        percentiles(beside),
        percentiles(alone)
    );
    servers.drop_databases(databases).await
}

/// States of resources that the refresh is about too.
async fn some_states(hapi: &Hapi, owner: &str) -> anyhow::Result<Vec<State>> {
    let pool = sqlx::PgPool::connect(owner).await?;
    let ids: Vec<String> = sqlx::query_scalar("SELECT fhir_id FROM hfj_resource WHERE res_id % 1000 = 0")
        .fetch_all(&pool)
        .await?;
    let references = ids.into_iter().map(|id| Reference {
        resource_type: OBSERVATION.to_owned(),
        id,
        version: None,
    });
    let states: Vec<_> = resources::read(hapi.clone(), references.collect())
        .try_collect()
        .await?;
    Ok(states.into_iter().flatten().map(|typed| typed.state).collect())
}

/// From the answer of the speed store to the commit that everyone sees. The number is drawn as a reading of the tail draws it.
async fn show(
    merger: &mut Merger,
    hapi: &Hapi,
    store: &ViewStore,
    state: &State,
) -> anyhow::Result<Duration> {
    let open = Reading::begin(hapi).await?.open(store, &[OBSERVATION]).await?;
    let (n, as_of) = (open.n(), open.as_of());
    drop(open);
    let begun = Instant::now();
    loop {
        let mut held = Held(Some(TypeChanges {
            mark: Some(Mark { n, as_of }),
            readings: vec![HeldReading {
                state: state.clone(),
                n,
                as_of,
            }],
            previews: Vec::new(),
        }));
        match apply(merger, &mut held).await {
            Ok(()) => return Ok(begun.elapsed()),
            // The lock was not to be had in time: as the daemon does, at once again.
            Err(MergeError::Store(error)) if begun.elapsed() < Duration::from_secs(10) => {
                merger.forget();
                drop(error);
            }
            Err(error) => return Err(error).context("applying a change"),
        }
    }
}

async fn apply(merger: &mut Merger, held: &mut Held) -> Result<(), MergeError> {
    loop {
        if let Stepped::Last(_) | Stepped::Nothing = merger.step(held, PAGE).await? {
            return Ok(());
        }
    }
}

fn percentiles(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |share: usize| {
        times
            .get((times.len() * share / 100).min(times.len().saturating_sub(1)))
            .copied()
            .unwrap_or_default()
            .as_secs_f64()
    };
    format!(
        "p50 {:.4} s, p99 {:.4} s, max {:.4} s of {} changes",
        at(50),
        at(99),
        at(100),
        times.len()
    )
}
