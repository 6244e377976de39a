//! A large full refresh: its memory is bounded, and its rate is as good at the end as in the beginning.

use std::time::Duration;

use anyhow::Context as _;

use crate::{
    catalogue::Catalogue,
    fill::{self, Amount},
    refresh,
    report::{ratio, speed},
    servers::Servers,
    source::Source,
};

pub(crate) async fn measure(
    servers: &Servers,
    catalogue: &Catalogue,
    source: &Source,
    resources: u64,
) -> anyhow::Result<()> {
    let databases = servers.create_databases("large").await?;
    let amounts = [("Observation", Amount::Resources(resources))];
    let filled = fill::fill(&databases, source, &amounts).await?;
    let filled = filled.first().context("the observations are filled")?;
    databases.put(&[catalogue.definition("observation_lab")?]).await?;
    databases.checkpoint().await?;
    let refreshed = refresh::in_process(&databases, &filled.resource_type, filled.resources).await?;
    let tenth = |time: &Duration| format!("{:.0}", filled.resources as f64 / 10.0 / time.as_secs_f64());
    println!(
        "-- full refresh of {} resources: {}; read after {:.2} s",
        filled.resources,
        speed(filled.resources, filled.bytes, refreshed.time),
        refreshed.read.as_secs_f64()
    );
    println!("peak memory: {} MiB", refreshed.peak / 1024);
    let rates: Vec<String> = refreshed.tenths.iter().map(tenth).collect();
    println!("resources/s in each tenth: {}", rates.join(" "));
    if let [first, .., last] = refreshed.tenths.as_slice() {
        ratio("last_tenth_vs_first_tenth", *last, *first);
    }
    servers.drop_databases(databases).await
}
