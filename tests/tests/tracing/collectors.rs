//! A collector that is away, or says nothing, harms nobody.

use std::time::Duration;

use e2e::{collector::silent, deadline, process::Daemon};

use crate::world::{Caller, World, exported_to};

/// A counter of a daemon.
async fn count(daemon: &Daemon, name: &str) -> Option<f64> {
    let metrics = daemon.metrics().await.ok()?;
    let line = metrics.lines().find(|line| line.starts_with(name))?.to_owned();
    line.rsplit(' ').next()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_away_or_silent_holds_up_no_call_and_no_stop() -> anyhow::Result<()> {
    // A port that nobody listens at.
    let away = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        format!("http://{}", listener.local_addr()?)
    };
    let mut world = World::start(&exported_to(&away)).await?;
    // Two batches at least are lost.
    for round in 1..=2 {
        for _ in 0..20 {
            world.query(Some(&Caller::new(true))).await?;
        }
        let least = 100.0 * f64::from(round);
        deadline::until("lost spans to be counted", Duration::from_secs(20), || async {
            let dropped = count(&world.serving, "researchflow_tracing_spans_dropped_total").await?;
            (dropped >= least).then_some(())
        })
        .await?;
    }
    let said = world
        .serving
        .log()
        .matches("the collector does not take spans")
        .count();
    assert_eq!(said, 1, "an outage is said once");
    assert_eq!(
        count(&world.serving, "researchflow_tracing_spans_exported_total").await,
        Some(0.0)
    );

    let silent = silent().await?;
    world.set(&exported_to(&silent)).await?;
    world.webhook("a", 1, Some(&Caller::new(true))).await?;
    world.query(Some(&Caller::new(true))).await?;
    // The grace is 4 s by default.
    for daemon in [&mut world.serving, &mut world.speed, &mut world.house.batch] {
        let status = daemon.terminate(Duration::from_secs(6)).await?;
        assert!(status.success(), "{status}");
    }
    Ok(())
}
