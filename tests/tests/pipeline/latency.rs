//! How long until everyone sees it: HAPI at its defaults sends webhooks every 5 s, and is seen through its committed rows long before.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use daemon::{Clock, SystemClock};
use e2e::deadline;
use e2e::fhir::http_client;
use e2e::stack::Stack;
use serde_json::json;
use sqlx::{Connection, PgConnection, Row};
use tokio::sync::watch;

use crate::stack::{Clients, shared};

const WRITES: usize = 200;

/// When each (id, birth date) was first seen in `patient_simple`, by a reader who looks all the time.
type Seen = BTreeMap<(String, String), Instant>;

/// Looks, until told to stop, at patients whose id begins with `prefix`.
async fn look(url: String, prefix: &'static str, stop: watch::Receiver<bool>) -> anyhow::Result<Seen> {
    let mut reader = PgConnection::connect(&url).await?;
    let mut seen = Seen::new();
    while !*stop.borrow() {
        let rows = sqlx::query("SELECT id, birth_date FROM sqlonfhir.patient_simple WHERE id LIKE $1 || '%'")
            .bind(prefix)
            .fetch_all(&mut reader)
            .await?;
        let now = Instant::now();
        for row in rows {
            seen.entry((row.try_get(0)?, row.try_get(1)?)).or_insert(now);
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(seen)
}

/// The 99th percentile, and a line with it, the median and the maximum.
fn percentiles(what: &str, mut spans: Vec<Duration>) -> (Duration, String) {
    spans.sort();
    let [p50, p99, max] =
        [spans.len() / 2, spans.len() * 99 / 100, spans.len() - 1].map(|place| spans[place]);
    let line = format!(
        "{what}: p50 {p50:.1?}, p99 {p99:.1?}, max {max:.1?} of {} writes",
        spans.len()
    );
    (p99, line)
}

async fn forget(clients: &Clients, ids: impl Iterator<Item = String>) -> anyhow::Result<()> {
    for id in ids {
        clients.fhir.delete("Patient", &id).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hapis_answer_to_visible_takes_half_a_second_at_most() -> anyhow::Result<()> {
    let stack = shared().await?;
    let clients = Clients::of(&stack).await?;
    clients.catch_up().await?;
    let (stop, stopped) = watch::channel(false);
    let looking = tokio::spawn(look(stack.endpoints()?.views_db, "latency-", stopped));
    let mut written = BTreeMap::new();
    for number in 0..WRITES {
        let id = format!("latency-{}", number % 40);
        let birth_date = format!("19{:02}-01-{:02}", number / 28 + 10, number % 28 + 1);
        let patient = json!({"resourceType": "Patient", "id": id, "birthDate": birth_date});
        written.insert((id, birth_date), clients.fhir.put(&patient).await?.answered);
    }
    clients.catch_up().await?;
    stop.send(true)?;
    let seen = looking.await??;
    let spans: Vec<Duration> = written
        .iter()
        // A version that the next one overtook before a reading is never shown: that is as it should be.
        .filter_map(|(key, answered)| Some(seen.get(key)?.saturating_duration_since(*answered)))
        .collect();
    assert!(
        spans.len() > WRITES / 2,
        "only {} of {WRITES} versions were seen",
        spans.len()
    );
    let last: Vec<_> = written.iter().rev().take(1).collect();
    assert!(
        last.iter().all(|(key, _)| seen.contains_key(key)),
        "the last version was not seen"
    );
    let (p99, line) = percentiles("HAPI's answer to visible in SQL", spans);
    println!("{line}");
    assert!(p99 <= Duration::from_millis(500), "p99 is {p99:?}");
    forget(&clients, (0..40).map(|number| format!("latency-{number}"))).await
}

/// Delivers a webhook as HAPI does, and answers when it was accepted.
async fn deliver(
    stack: &Stack,
    client: &reqwest::Client,
    patient: &serde_json::Value,
) -> anyhow::Result<Instant> {
    let endpoints = stack.endpoints()?;
    let id = patient["id"].as_str().unwrap_or_default();
    let answer = client
        .put(format!("{}/Patient/{id}", endpoints.webhook))
        .header("authorization", format!("Bearer {}", endpoints.webhook_secret))
        .header("content-type", "application/fhir+json; charset=UTF-8")
        .header("if-match", "W/\"1\"")
        .body(patient.to_string())
        .send()
        .await?;
    anyhow::ensure!(answer.status().is_success(), "a webhook got {}", answer.status());
    Ok(Instant::now())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_accepted_webhook_is_visible_within_fifty_milliseconds_and_a_state_that_hapi_never_had_goes_again()
-> anyhow::Result<()> {
    let stack = shared().await?;
    let clients = Clients::of(&stack).await?;
    clients.catch_up().await?;
    let (stop, stopped) = watch::channel(false);
    let looking = tokio::spawn(look(stack.endpoints()?.views_db, "preview-", stopped));
    let client = http_client()?;
    let mut accepted = BTreeMap::new();
    for number in 0..WRITES {
        let (id, birth_date) = (format!("preview-{number}"), "2001-02-03");
        // Later than anything that the batch has read, as HAPI's own would be.
        let updated = SystemClock.now().to_rfc3339();
        let patient = json!({
            "resourceType": "Patient", "id": id, "meta": {"versionId": "1", "lastUpdated": updated}, "birthDate": birth_date,
        });
        accepted.insert(
            (id, birth_date.to_owned()),
            deliver(&stack, &client, &patient).await?,
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    stop.send(true)?;
    let seen = looking.await??;
    let spans: Vec<Duration> = accepted
        .iter()
        .filter_map(|(key, accepted)| Some(seen.get(key)?.saturating_duration_since(*accepted)))
        .collect();
    assert_eq!(spans.len(), WRITES, "every accepted preview is shown");
    let (p99, line) = percentiles("webhook accepted to visible in SQL", spans);
    println!("{line}");
    assert!(p99 <= Duration::from_millis(50), "p99 is {p99:?}");
    // HAPI has no such patients: the readings that were to confirm the previews say so.
    let asker = &clients.asker;
    deadline::until(
        "the previews to be taken back",
        Duration::from_secs(20),
        || async {
            let answer = asker.ask(e2e::ask::all_of("patient_simple")).await.ok()?;
            let left = (0..answer.rows.len())
                .filter(|row| answer.text(*row, "id").starts_with("preview-"))
                .count();
            (left == 0).then_some(())
        },
    )
    .await
}
