//! The merge protocol, real parts against the model.
//!
//! The model (`tests/model`, a child process) plays random schedules: late, repeated and lost webhooks, deletes, re-creations, expunges, resources without
//! rows, a view that joins, restores of HAPI, crashes of every part. This test does the same to a real PostgreSQL of HAPI's shape, a real views'
//! database and a real Redis, through the code of the three daemons, step by step, and compares tables, ledger, cursor, watermark, readings, previews and
//! mark with the model after every step.
//!
//! `PROTOCOL_RUNS` (500 by default, some three minutes) and `PROTOCOL_FIRST` (0) say which schedules.

mod hapi;
mod model;
mod real;
mod store;
mod views;

use std::time::Instant;

use anyhow::Context as _;
use e2e::{postgres::Postgres, redis::Redis};

/// Schedules are shared out over as many workers, each with servers of its own.
const WORKERS: u64 = 2;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

#[test]
fn laws_1_3_4_6_8_tables_ledger_and_marks_are_the_models_after_every_step() -> anyhow::Result<()> {
    let (runs, first) = (setting("PROTOCOL_RUNS", 500), setting("PROTOCOL_FIRST", 0));
    let begun = Instant::now();
    let share = runs.div_ceil(WORKERS);
    let workers: Vec<_> = (0..WORKERS)
        .map(|worker| {
            let (from, count) = (
                first + worker * share,
                share.min(runs.saturating_sub(worker * share)),
            );
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_multi_thread()
                    .worker_threads(1)
                    .enable_all()
                    .build()?;
                runtime.block_on(work(from, count))
            })
        })
        .collect();
    let mut steps = 0;
    for worker in workers {
        steps += worker
            .join()
            .map_err(|_| anyhow::anyhow!("a worker has panicked"))??;
    }
    println!(
        "{runs} schedules, {steps} steps compared, {:.0} s",
        begun.elapsed().as_secs_f64()
    );
    Ok(())
}

async fn work(first: u64, count: u64) -> anyhow::Result<usize> {
    let hapi_server = Postgres::start().await?;
    let views_server = Postgres::start().await?;
    let redis_server = Redis::start().await?;
    let mut model = model::Model::play(first, count)?;
    let mut real = real::Real::start(&hapi_server, &views_server, &redis_server).await?;
    let mut steps = 0;
    while let Some(run) = model.next()? {
        anyhow::ensure!(
            run.failed.is_none(),
            "seed {}: the model itself fails: {:?}",
            run.seed,
            run.failed
        );
        real.reset(run.margin).await?;
        let mut holds = None;
        for (number, step) in run.steps.iter().enumerate() {
            holds = step.holds.as_ref().or(holds);
            let at = || {
                format!(
                    "seed {}, step {number} ({}) at {}: {:?}",
                    run.seed, step.action, step.now, step.does
                )
            };
            for deed in &step.does {
                real.does(step.now, deed).await.with_context(at)?;
            }
            let holds = holds.context("the first step holds nothing")?;
            // What HAPI does by itself cannot change anything of ours.
            if step.does.iter().any(model::Deed::is_ours) || step.holds.is_some() {
                real.compare(holds).await.with_context(at)?;
            }
            steps += 1;
        }
    }
    Ok(steps)
}
