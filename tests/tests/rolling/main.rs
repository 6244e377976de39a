//! Two replicas of each daemon, restarted one after the other under load as Kubernetes does it: no call fails, and no change is lost.
//!
//! ```text
//! callers ──► gRPC, HTTP ─┐                ┌──► serving-gateway 1, 2 ──► (batch, speed)
//! HAPI    ──► webhook ────┤ a Service each ├──► speed-ingestor 1, 2 ──► (batch)
//! writer  ──► HAPI's tables                └──► batch-refresher 1, 2
//! ```
//!
//! An error that a caller sees counts as a failure, whatever its code: what a client's library sends anew by itself (gRPC's GOAWAY) is none. What is acknowledged is compared with
//! what the views show at the end.

mod calls;
mod changes;
mod layer;

use std::time::{Duration, Instant};

use anyhow::Context as _;
use e2e::{
    ask::Reader,
    ground::Ground,
    house::{times, versions_of},
    operate::Operator,
};

use crate::{calls::Callers, changes::Writers, layer::Layer};

/// By when a busy machine has done what takes milliseconds.
const SOON: Duration = Duration::from_mins(1);

/// How often each layer is restarted: `ROLLS=20` for long.
fn rolls() -> u64 {
    times("ROLLS", 1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarts_one_after_the_other_fail_no_call_and_lose_no_change() -> anyhow::Result<()> {
    let ground = Ground::start(&[versions_of("Patient", &[])]).await?;
    // Refreshes go on all the time: a run is handed from replica to replica.
    let refreshing = [("RF_BATCH__REFRESH__INTERVAL_SECONDS", "1")];
    let mut batch = Layer::new("batch-refresher", &["grpc"]).await?;
    let mut speed = Layer::new("speed-ingestor", &["grpc", "http"]).await?;
    let mut serving = Layer::new("serving-gateway", &["grpc", "http"]).await?;
    let (batch_grpc, speed_grpc) = (batch.address("grpc")?, speed.address("grpc")?);
    for replica in ["1", "2"] {
        batch.add(ground.batch(replica, &refreshing).await?)?;
        speed.add(ground.speed(replica, &batch_grpc, &[]).await?)?;
        serving.add(ground.serving(replica, &batch_grpc, &speed_grpc, &[]).await?)?;
    }
    Operator::connect(&batch_grpc).await?.all_active(SOON).await?;

    let writers = Writers::start(&ground.hapi, &speed.address("http")?)?;
    let callers = Callers::start(&serving, &batch_grpc, &speed_grpc).await?;
    for roll in 0..rolls() {
        for replica in 1..=2_u64 {
            let name = format!("{}", 2 + 2 * roll + replica);
            batch.replace(ground.batch(&name, &refreshing).await?).await?;
            speed
                .replace(ground.speed(&name, &batch_grpc, &[]).await?)
                .await?;
            let next = ground.serving(&name, &batch_grpc, &speed_grpc, &[]).await?;
            serving.replace(next).await?;
        }
    }
    // The last ones work, too, and not only because nobody has asked them yet.
    let calls = callers.stop_after(Duration::from_secs(1)).await;
    let written = writers.stop().await?;
    println!("{calls}; {written}");
    assert_eq!(calls.failures, Vec::<String>::new());
    assert_eq!(written.failures, Vec::<String>::new());
    assert!(calls.least() >= 20, "{calls}");
    assert!(written.changes >= 200, "{written}");

    let mut reader = Reader::connect(&ground.url_as("analyst", "views")).await?;
    let shown = "SELECT string_agg(id || ' ' || version, ',' ORDER BY id) FROM sqlonfhir.patient_versions";
    let expected = written.last.join(",");
    let begun = Instant::now();
    let mut differs = String::new();
    while begun.elapsed() < SOON {
        let now = reader.value(shown).await?.unwrap_or_default();
        if now == expected {
            differs.clear();
            break;
        }
        differs = difference(&now, &expected);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(differs, "", "what was committed is shown");

    // The runs were handed over: the last replicas have published after they began.
    let before = reader
        .value("SELECT batch_as_of FROM sqlonfhir.freshness")
        .await?;
    let before = before.context("it was published")?;
    let later = format!("SELECT batch_as_of > '{before}' FROM sqlonfhir.freshness");
    reader.until(&later, SOON, |later| later == Some("true")).await?;
    for layer in [&batch, &speed, &serving] {
        layer.expect_quiet_logs()?;
    }
    Ok(())
}

fn difference(shown: &str, expected: &str) -> String {
    let shown: std::collections::BTreeSet<&str> = shown.split(',').collect();
    let expected: std::collections::BTreeSet<&str> = expected.split(',').collect();
    format!(
        "shown alone: {:?}, missing: {:?}",
        shown.difference(&expected).collect::<Vec<_>>(),
        expected.difference(&shown).collect::<Vec<_>>()
    )
}
