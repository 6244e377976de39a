//! `make bench-serving`: the gateway beside bare connections to the same PostgreSQL, in turn on the same cores; merged views beside the batch's tables alone; how
//! fast live changes are applied, and how soon a webhook is visible beside others that ask.
//!
//! What runs is what a hospital runs: the three daemons as processes, PostgreSQL with HAPI's tables and the views', Redis with an append-only file. The views' rows
//! are made by SQL, as many as are asked for; those that are live came through HAPI's tables, the tail and the merger. `docs/serving.md` says what the lines mean.
#![expect(clippy::print_stdout, reason = "the figures are this program's output")]
#![expect(clippy::cast_precision_loss, reason = "figures are rounded anyway")]

mod apply;
mod clients;
mod hapi;
mod point;
mod report;
mod servers;
mod sql;
mod stream;
mod visible;

use clap::Parser;
use servers::Servers;

/// What `make bench-serving` is told.
#[derive(Debug, Parser)]
struct Arguments {
    /// Patients in the views.
    #[arg(long, default_value_t = 1_000_000)]
    patients: i64,
    /// Observations in the views.
    #[arg(long, default_value_t = 5_000_000)]
    observations: i64,
    /// Resources of each type whose rows are live.
    #[arg(long, default_value_t = 500)]
    live: i64,
    /// How long clients ask at once, and how long changes come beside them.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// What of it is measured: point, sql, stream, clients, visible, apply; all without it.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// `cargo bench` adds it.
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    tokio::select! {
        done = measure(&arguments) => done,
        _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
    }
}

async fn measure(arguments: &Arguments) -> anyhow::Result<()> {
    let mut servers = Servers::start(arguments).await?;
    let wanted = |part: &str| arguments.only.is_empty() || arguments.only.iter().any(|only| only == part);
    if wanted("point") {
        point::measure(&servers, arguments).await?;
    }
    if wanted("sql") {
        sql::measure(&servers).await?;
    }
    if wanted("stream") {
        stream::measure(&servers).await?;
    }
    if wanted("clients") {
        clients::measure(&servers, arguments).await?;
    }
    if wanted("visible") {
        visible::measure(&servers, arguments).await?;
    }
    if wanted("apply") {
        apply::measure(&mut servers, arguments).await?;
    }
    Ok(())
}
