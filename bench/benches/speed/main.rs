//! `make bench-speed`: the webhook beside `redis-benchmark`'s SET, same bytes, connections and persistence, in turn on the same cores; and how long a webhook
//! takes from its acceptance to a reader of Changes.
//!
//! What runs is what a hospital runs: the built ingestor and refresher as processes, PostgreSQL with HAPI's tables for the tail's rounds, Redis with
//! an append-only file, and a reader of Changes as the merger is one. The load comes from a process of this program. `docs/speed-layer.md` says
//! how to run it and what the lines mean.
#![expect(clippy::print_stdout, reason = "the figures are this program's output")]
#![expect(clippy::cast_precision_loss, reason = "figures are rounded anyway")]

mod load;
mod peer;
mod reader;
mod servers;
mod slow;

use std::time::Duration;

use clap::{Parser, Subcommand};
use load::{Loaded, Order};
use servers::Servers;

/// Rounds of both sides, one behind the other; the median of the rounds' ratios counts, since the machine's speed varies within minutes.
const ROUNDS: usize = 7;
/// Webhooks a second while the way to a reader is timed: five times what HAPI writes on two cores.
const STEADY: u64 = 2_000;

/// What `make bench-speed` is told.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    hidden: Option<Hidden>,
    /// How long each run of the load takes.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Connections of both sides.
    #[arg(long, default_value_t = 50)]
    connections: usize,
    /// Bytes of a body, and of a SET's value.
    #[arg(long, default_value_t = 1024)]
    bytes: usize,
    /// `appendfsync` of Redis.
    #[arg(long, value_delimiter = ',', default_values_t = ["everysec".to_owned(), "always".to_owned()])]
    fsync: Vec<String>,
    /// `cargo bench` adds it.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Subcommand)]
enum Hidden {
    /// Sends webhooks.
    #[command(hide = true)]
    Load(Order),
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let mut runtime = match &arguments.hidden {
        // The load has one core at most.
        Some(Hidden::Load(_)) => tokio::runtime::Builder::new_current_thread(),
        None => tokio::runtime::Builder::new_multi_thread(),
    };
    runtime.enable_all().build()?.block_on(async {
        match &arguments.hidden {
            Some(Hidden::Load(order)) => load::obey(order).await,
            None => tokio::select! {
                done = measure(&arguments) => done,
                _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
            },
        }
    })
}

async fn measure(arguments: &Arguments) -> anyhow::Result<()> {
    for fsync in &arguments.fsync {
        let servers = Servers::start(fsync).await?;
        let seconds = Duration::from_secs(arguments.seconds);
        // Connections, pages and branches warm up.
        servers.load(arguments, Duration::from_secs(1), None).await?;
        measure_throughput("", &servers, arguments).await?;
        let reader = reader::Reader::start(&servers.speed_grpc()?).await?;
        measure_throughput("_beside_a_reader", &servers, arguments).await?;
        reader.forget();
        let alone = servers.load(arguments, seconds, Some(STEADY)).await?;
        let times = reader.times()?;
        println!(
            "-- appendfsync {fsync}: accepted -> handed to a reader of Changes, at {STEADY} webhooks/s: p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms of {}",
            times.percentile(50),
            times.percentile(99),
            times.percentile(100),
            times.count()
        );
        if fsync == "everysec" {
            let slow = servers.slow().await?;
            let beside = servers.load(arguments, seconds, Some(STEADY)).await?;
            println!(
                "RATIO slow_connections_p99 {:.2} ({:.2} ms beside {} slow connections / {:.2} ms without)",
                beside.p99_ms / alone.p99_ms,
                beside.p99_ms,
                slow.count(),
                alone.p99_ms
            );
        }
    }
    Ok(())
}

/// Webhooks and SETs in turn, each from a Redis that was settled.
async fn measure_throughput(how: &str, servers: &Servers, arguments: &Arguments) -> anyhow::Result<()> {
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        servers.settle().await?;
        let ours = servers
            .load(arguments, Duration::from_secs(arguments.seconds), None)
            .await?;
        servers.settle().await?;
        rounds.push(Round {
            ours,
            sets: peer::sets_per_second(servers, arguments).await?,
        });
    }
    rounds.sort_by(|a, b| a.ratio().total_cmp(&b.ratio()));
    let (least, median, most) = (&rounds[0], &rounds[ROUNDS / 2], &rounds[ROUNDS - 1]);
    let (one, fsync) = (&median.ours, &servers.fsync);
    println!(
        "-- appendfsync {fsync}, {} connections, {} bytes: {:.0} webhooks/s (answered after p50 {:.2} ms, p99 {:.2} ms); the load's own share: {:.0} % of a core; ingestor {:.0} %, redis {:.0} %",
        arguments.connections,
        arguments.bytes,
        one.per_second(),
        one.p50_ms,
        one.p99_ms,
        100.0 * one.cpu_seconds / one.seconds,
        100.0 * one.ingestor_cpu_seconds / one.seconds,
        100.0 * one.redis_cpu_seconds / one.seconds,
    );
    let name = if fsync == "everysec" {
        format!("webhooks{how}_vs_redis_set")
    } else {
        format!("webhooks{how}_vs_redis_set_{fsync}")
    };
    println!(
        "RATIO {name} {:.2} ({:.0} webhooks/s / {:.0} SET/s; median of {ROUNDS} rounds, {:.2} to {:.2})",
        median.ratio(),
        one.per_second(),
        median.sets,
        least.ratio(),
        most.ratio(),
    );
    Ok(())
}

struct Round {
    ours: Loaded,
    sets: f64,
}

impl Round {
    fn ratio(&self) -> f64 {
        self.ours.per_second() / self.sets
    }
}
