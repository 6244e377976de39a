//! `make bench-batch`: a full refresh beside the fairest thing to write by hand, a materialized view over HAPI's own tables; and what a refresh costs
//! of the sum of its physical parts, of its views, of its changes, of memory.
//!
//! HAPI's tables are filled directly by SQL, in a private PostgreSQL that ends with this program. All figures of a run are of one machine, one server
//! and one filling; two sides are run in turn, and the median counts. `docs/benchmarks.md` says how to run it and what the lines mean.
#![expect(clippy::print_stdout, reason = "the figures are this program's output")]
#![expect(clippy::cast_precision_loss, reason = "figures are rounded anyway")]

mod catalogue;
mod change;
mod fill;
mod five;
mod incremental;
mod indexes;
mod matview;
mod memory;
mod merger;
mod physical;
mod refresh;
mod report;
mod servers;
#[path = "../core/sink.rs"]
mod sink;
mod source;
mod tuples;

use std::path::PathBuf;

use catalogue::Catalogue;
use clap::{Parser, Subcommand, ValueEnum};
use fill::{Amount, Filled};
use servers::{Databases, Servers};
use source::Source;
use tokio::signal::unix::{SignalKind, signal};

/// What `make bench-batch` is told.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    hidden: Option<Hidden>,
    /// Folder of {Type}.ndjson.gz, copied with new ids as often as it takes; generated patients without it.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Folder of {name}.vd.json.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/views"))]
    views: PathBuf,
    /// Megabytes of Observations; a fifth of it of each other type, 100 at most.
    #[arg(long, default_value_t = 500)]
    scale: u64,
    /// What is measured.
    #[arg(long, value_delimiter = ',', default_values_t = Part::USUAL)]
    parts: Vec<Part>,
    /// Resources of the smaller of the two tables in which changes are refreshed; the larger has ten times as many.
    #[arg(long, default_value_t = 200_000)]
    incremental: u64,
    /// Resources of the run whose memory is looked at.
    #[arg(long, default_value_t = 5_000_000)]
    resources: u64,
    /// `cargo bench` adds it.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Subcommand)]
enum Hidden {
    /// One refresh, in a process of its own.
    #[command(hide = true)]
    Refresh(refresh::Order),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Five views, each beside a materialized view.
    Matview,
    /// Five views of one type beside one.
    Five,
    /// A refresh beside the sum of its parts.
    Physical,
    /// 1,000 changes in a table and in one ten times as large.
    Incremental,
    /// The merger beside a refresh of 100,000 changes.
    Merger,
    /// A large run: its memory, its rate from first to last.
    Memory,
}

impl Part {
    const USUAL: [Self; 5] = [
        Self::Matview,
        Self::Five,
        Self::Physical,
        Self::Incremental,
        Self::Merger,
    ];
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if let Some(Hidden::Refresh(order)) = &arguments.hidden {
        return refresh::obey(order).await;
    }
    let mut terminated = signal(SignalKind::terminate())?;
    // Whichever ends first: what is dropped takes the server and its folder along.
    tokio::select! {
        done = measure(&arguments) => done,
        _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
        _ = terminated.recv() => anyhow::bail!("terminated"),
    }
}

async fn measure(arguments: &Arguments) -> anyhow::Result<()> {
    let catalogue = Catalogue::new(arguments.views.clone());
    let source = Source::new(arguments.data.clone());
    let servers = Servers::start().await?;
    let asked = |part: Part| arguments.parts.contains(&part);
    if asked(Part::Matview) || asked(Part::Five) || asked(Part::Physical) {
        let (databases, filled) = fill_types(arguments, &servers, &source).await?;
        if asked(Part::Matview) {
            matview::measure(&databases, &catalogue, &filled).await?;
        }
        if asked(Part::Five) {
            five::measure(&databases, &catalogue, &filled).await?;
        }
        if asked(Part::Physical) {
            physical::measure(&databases, &catalogue, &filled).await?;
        }
        servers.drop_databases(databases).await?;
    }
    if asked(Part::Incremental) {
        incremental::measure(&servers, &catalogue, &source, arguments.incremental).await?;
    }
    if asked(Part::Merger) {
        merger::measure(&servers, &catalogue, &source).await?;
    }
    if asked(Part::Memory) {
        memory::measure(&servers, &catalogue, &source, arguments.resources).await?;
    }
    Ok(())
}

/// The types that full refreshes are measured with.
async fn fill_types(
    arguments: &Arguments,
    servers: &Servers,
    source: &Source,
) -> anyhow::Result<(Databases, Vec<Filled>)> {
    let databases = servers.create_databases("full").await?;
    let observations = arguments.scale * 1_000_000;
    let others = (observations / 5).min(100_000_000);
    let mut amounts = vec![("Observation", Amount::Bytes(observations))];
    if arguments.parts.contains(&Part::Matview) {
        amounts.extend(["Patient", "Condition", "Encounter"].map(|name| (name, Amount::Bytes(others))));
    }
    let filled = fill::fill(&databases, source, &amounts).await?;
    Ok((databases, filled))
}
