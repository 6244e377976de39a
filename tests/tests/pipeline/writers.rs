//! Law 1 and the watermark: HAPI's own order of times and ids is not the order of its commits.

use std::time::{Duration, Instant};

use api::proto::batch::RefreshKind;
use api::proto::serving::{FreshnessDemand, Layers, QueryRequest};
use e2e::ask::{Answer, all_of};
use e2e::fhir::Fhir;
use serde_json::json;

use crate::stack::{Clients, shared};

const WRITERS: u32 = 8;
const SPAN: Duration = Duration::from_secs(15);

/// Transactions of 1 to 40 patients; the long ones commit long after the times that they carry.
async fn write(fhir: Fhir, writer: u32) -> anyhow::Result<u32> {
    let (start, mut written) = (Instant::now(), 0);
    while start.elapsed() < SPAN {
        let size = 1 + (written * 7 + writer * 13) % 40;
        let entries = (0..size).map(|entry| {
            let id = format!("writer-{writer}-{}", (written + entry) % 60);
            let patient = json!({"resourceType": "Patient", "id": id, "birthDate": format!("19{:02}", (written + entry) % 100)});
            json!({"resource": patient, "request": {"method": "PUT", "url": format!("Patient/{id}")}})
        });
        fhir.transaction(entries.collect()).await?;
        written += size;
    }
    Ok(written)
}

fn batch_only(view: &str) -> QueryRequest {
    let freshness = FreshnessDemand {
        layers: Layers::Batch.into(),
        ..FreshnessDemand::default()
    };
    QueryRequest {
        freshness: Some(freshness),
        ..all_of(view)
    }
}

fn written_ones(answer: &Answer) -> Vec<String> {
    answer
        .sorted()
        .into_iter()
        .filter(|row| row.contains("writer-"))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_commits_of_eight_concurrent_writers_lose_nothing() -> anyhow::Result<()> {
    let stack = shared().await?;
    let clients = Clients::of(&stack).await?;
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| tokio::spawn(write(clients.fhir.clone(), writer)))
        .collect();
    let mut refreshes = 0;
    while !writers.iter().all(tokio::task::JoinHandle::is_finished) {
        clients
            .operator
            .refresh(&["Patient"], RefreshKind::Incremental)
            .await?;
        refreshes += 1;
    }
    let mut written = 0;
    for writer in writers {
        written += writer.await??;
    }
    clients
        .operator
        .refresh(&["Patient"], RefreshKind::Incremental)
        .await?;
    let by_watermark = clients.asker.ask(batch_only("patient_simple")).await?;
    let live = clients.nothing_missing_nothing_doubled().await?;
    let read_again = clients.asker.ask(batch_only("patient_simple")).await?;
    println!(
        "{written} versions by {WRITERS} writers, {refreshes} incremental refreshes meanwhile, {live} rows live at the end"
    );
    assert!(refreshes >= 3 && !written_ones(&by_watermark).is_empty());
    assert_eq!(
        written_ones(&by_watermark),
        written_ones(&read_again),
        "incremental refreshes have lost versions"
    );
    Ok(())
}
