//! AuditEvents: into a HAPI that is played, which is away for a while and refuses one of them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    routing::post,
};
use e2e::{
    ask::rows_where,
    deadline,
    house::{asker, view_of},
};
use serde_json::Value;

use crate::{file::LIMIT, whole::Whole};

/// What it does with a Bundle, and what it has taken.
#[derive(Clone, Default)]
struct Played(Arc<Mutex<Had>>);

#[derive(Default)]
struct Had {
    away: bool,
    refused: u32,
    events: BTreeMap<String, Value>,
    shown: String,
}

async fn take(State(played): State<Played>, headers: HeaderMap, body: String) -> StatusCode {
    let mut had = played.0.lock().unwrap_or_else(PoisonError::into_inner);
    let shown = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    shown.unwrap_or_default().clone_into(&mut had.shown);
    if had.away {
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    let bundle: Value = serde_json::from_str(&body).unwrap_or_default();
    let entries = bundle["entry"].as_array().cloned().unwrap_or_default();
    if bundle["type"] != "transaction" || entries.is_empty() {
        return StatusCode::BAD_REQUEST;
    }
    // The first record of a daemon is one that it will not have.
    if entries
        .iter()
        .any(|entry| entry["resource"]["subtype"][0]["code"] == "110120")
    {
        had.refused += 1;
        return StatusCode::UNPROCESSABLE_ENTITY;
    }
    for entry in entries {
        let url = entry["request"]["url"].as_str().unwrap_or_default().to_owned();
        had.events.insert(url, entry["resource"].clone());
    }
    StatusCode::OK
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_wait_for_a_hapi_that_is_away_and_one_that_is_refused_keeps_no_other() -> anyhow::Result<()> {
    let played = Played::default();
    played.0.lock().unwrap_or_else(PoisonError::into_inner).away = true;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/fhir", listener.local_addr()?);
    let router = Router::new()
        .route("/fhir", post(take))
        .with_state(played.clone());
    tokio::spawn(axum::serve(listener, router).into_future());

    let mut whole = Whole::start(&[]).await?;
    let spool = whole.folder.join("spool");
    std::fs::create_dir(&spool)?;
    let spool = spool.display().to_string();
    let settings = [
        ("RF_SERVING__AUDIT__FHIR__URL", url.as_str()),
        ("RF_SERVING__AUDIT__FHIR__SPOOL", spool.as_str()),
        ("RF_SERVING__AUDIT__FHIR__AUTHORIZATION", "Bearer shown"),
    ];
    whole.serving.restart_with(&settings).await?;
    for number in 0..5 {
        let asker = asker(&whole.serving).await?;
        asker
            .ask(rows_where(&view_of("Patient"), "id", &format!("p{number}")))
            .await?;
    }
    let had = || played.0.lock().unwrap_or_else(PoisonError::into_inner);
    deadline::until("it is tried", LIMIT, || async {
        (had().shown == "Bearer shown").then_some(())
    })
    .await?;
    // They outlive the daemon.
    whole.serving.restart().await?;
    had().away = false;
    // The longer HAPI was away since that start, the later it is tried again: after a minute at most.
    deadline::until("all are there", LIMIT + Duration::from_mins(1), || async {
        (had().events.len() >= 5).then_some(())
    })
    .await?;
    let had = had();
    assert!(had.refused >= 2, "{}", had.refused);
    for event in had
        .events
        .values()
        .filter(|event| event["subtype"][0]["code"] == "search-type")
    {
        let profile = event["meta"]["profile"][0].as_str().unwrap_or_default();
        assert!(profile.ends_with("IHE.BasicAudit.Query"), "{event}");
    }
    Ok(())
}
