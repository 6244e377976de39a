//! AuditEvents in a real HAPI: taken, found again, and no business of the speed layer.

use std::time::Duration;

use anyhow::Context as _;
use e2e::ask::{Asker, rows_where};
use e2e::deadline;
use e2e::fhir::http_client;
use e2e::process::write_private;
use e2e::server::{Lifetime, new_folder};
use serde_json::Value;

use crate::stack::shared;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn audit_events_are_taken_by_hapi_and_stay_out_of_the_speed_layer() -> anyhow::Result<()> {
    let stack = shared().await?;
    let endpoints = stack.endpoints()?;
    let folder = new_folder("audit", None, Lifetime::Program)?;
    let (keys, spool) = (folder.join("keys"), folder.join("spool"));
    write_private(&keys, &format!("k {}\n", "5a".repeat(32)))?;
    std::fs::create_dir(&spool)?;
    let mut gateway = stack.another_gateway().await?;
    let settings = [
        ("RF_SERVING__AUDIT__KEY_FILE", keys.display().to_string()),
        ("RF_SERVING__AUDIT__FHIR__URL", endpoints.hapi.clone()),
        ("RF_SERVING__AUDIT__FHIR__SPOOL", spool.display().to_string()),
    ];
    let settings: Vec<(&str, &str)> = settings
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    gateway.restart_with(&settings).await?;
    let asker = Asker::connect(&gateway.address("grpc")?).await?;
    for _ in 0..3 {
        asker
            .ask(rows_where("patient_simple", "id", "nobody-in-particular"))
            .await?;
    }

    let client = http_client()?;
    let found = deadline::until("HAPI has the events", Duration::from_secs(30), || async {
        let url = format!("{}/AuditEvent?_count=50", endpoints.hapi);
        let answer = client
            .get(url)
            .header("cache-control", "no-cache")
            .send()
            .await
            .ok()?;
        let bundle: Value = answer.json().await.ok()?;
        let events: Vec<Value> = bundle["entry"]
            .as_array()?
            .iter()
            .map(|entry| entry["resource"].clone())
            .collect();
        (events.len() >= 4).then_some(events)
    })
    .await?;
    let queries: Vec<&Value> = found
        .iter()
        .filter(|event| event["subtype"][1]["code"] == "researchflow.serving.v1.ServingService/Query")
        .collect();
    assert_eq!(queries.len(), 3, "{found:?}");
    assert!(
        queries
            .iter()
            .all(|event| event["entity"][1]["query"].is_string()),
        "{queries:?}"
    );
    assert!(
        found.iter().any(|event| event["subtype"][0]["code"] == "110120"),
        "{found:?}"
    );

    // They are R4, by HAPI's own validator. It does not know the profiles that are claimed.
    for event in [queries[0], &found[0]] {
        let mut event = event.clone();
        event.as_object_mut().and_then(|event| event.remove("meta"));
        let answer = client
            .post(format!("{}/AuditEvent/$validate", endpoints.hapi))
            .header("content-type", "application/fhir+json")
            .body(event.to_string())
            .send()
            .await?;
        let outcome: Value = answer.json().await?;
        let issues = outcome["issue"].as_array().context("it is validated")?;
        let wrong: Vec<&Value> = issues
            .iter()
            .filter(|issue| issue["severity"] == "error" || issue["severity"] == "fatal")
            .collect();
        assert!(wrong.is_empty(), "{wrong:?} of {event}");
    }

    // No reading of the tail, no webhook and no view has them.
    let mut redis = redis::Client::open(endpoints.redis.as_str())?
        .get_multiplexed_async_connection()
        .await?;
    let keys: Vec<String> = redis::cmd("KEYS")
        .arg("*AuditEvent*")
        .query_async(&mut redis)
        .await?;
    assert!(keys.is_empty(), "{keys:?}");
    let status = gateway.terminate(Duration::from_secs(20)).await?;
    anyhow::ensure!(status.success(), "{status}");
    let sent = std::fs::read_to_string(spool.join("sent")).context("what is sent is noted")?;
    assert!(!sent.is_empty());
    Ok(())
}
