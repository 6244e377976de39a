//! A refresh of changes costs what the changes cost, not what the table costs: the same changes in a table, and in one ten times as large.

use std::time::{Duration, Instant};

use anyhow::ensure;
use batch_refresher::hapi::Hapi;
use view_store::{RunKind, ViewStore};

use crate::{
    catalogue::Catalogue,
    change::change,
    fill::{self, Amount},
    refresh,
    report::{listed, median, ratio},
    servers::{Databases, Servers},
    source::Source,
};

const CHANGES: u64 = 1000;
const ROUNDS: u64 = 7;

/// A table and what refreshes it, connected and warm as in a daemon.
struct Table {
    databases: Databases,
    resources: u64,
    hapi: Hapi,
    store: ViewStore,
    times: Vec<Duration>,
}

pub(crate) async fn measure(
    servers: &Servers,
    catalogue: &Catalogue,
    source: &Source,
    resources: u64,
) -> anyhow::Result<()> {
    let mut tables = Vec::new();
    for (name, resources) in [("small", resources), ("ten_times", resources * 10)] {
        tables.push(Table::fill(servers, catalogue, source, name, resources).await?);
    }
    // The first round is not counted: it brings statements and pages into the caches.
    for round in 0..=ROUNDS {
        for table in &mut tables {
            let time = table.refresh(round).await?;
            if round > 0 {
                table.times.push(time);
            }
        }
    }
    for table in &tables {
        println!(
            "-- incremental refresh of {CHANGES} changes on {} resources: {:.3} s (rounds: {})",
            table.resources,
            median(&table.times).as_secs_f64(),
            listed(&table.times)
        );
    }
    if let [small, large] = tables.as_slice() {
        ratio(
            "incremental_10x_table",
            median(&large.times),
            median(&small.times),
        );
    }
    for table in tables {
        servers.drop_databases(table.databases).await?;
    }
    Ok(())
}

impl Table {
    async fn fill(
        servers: &Servers,
        catalogue: &Catalogue,
        source: &Source,
        name: &str,
        resources: u64,
    ) -> anyhow::Result<Self> {
        let databases = servers.create_databases(name).await?;
        let amounts = [("Observation", Amount::Resources(resources))];
        fill::fill(&databases, source, &amounts).await?;
        databases.put(&[catalogue.definition("observation_lab")?]).await?;
        refresh::in_process(&databases, "Observation", resources).await?;
        Ok(Self {
            hapi: databases.hapi().await?,
            store: databases.store().await?,
            databases,
            resources,
            times: Vec::new(),
        })
    }

    async fn refresh(&self, round: u64) -> anyhow::Result<Duration> {
        change(&self.databases.owner, self.resources, CHANGES, round).await?;
        self.databases.checkpoint().await?;
        let start = Instant::now();
        let run = refresh::start(&self.hapi, &self.store, "Observation", RunKind::Incremental).await?;
        let progress = run.progress();
        refresh::finish(run).await?;
        let time = start.elapsed();
        ensure!(
            progress.figures().read == CHANGES,
            "{} resources were read, {CHANGES} had changed",
            progress.figures().read
        );
        Ok(time)
    }
}
