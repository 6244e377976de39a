//! `PutResource`: checked as the webhook checks, and a preview as the webhook's.

use std::time::Duration;

use api::{proto::speed as proto, time};
use chrono::TimeDelta;
use proto::PutOutcome;
use tonic::{Code, Status};

use crate::kit::{Ingestor, LIMITS, at, held, reading, recent, state};
use crate::service::serve;

fn patient(version: i64) -> String {
    format!(
        r#"{{"resourceType":"Patient","id":"a","meta":{{"versionId":"{version}","lastUpdated":"2027-01-31T10:09:44.706+00:00"}},"x":1.50}}"#
    )
}

async fn put(
    ingestor: &Ingestor,
    body: impl Into<Vec<u8>>,
    time_to_live: Option<TimeDelta>,
) -> Result<PutOutcome, Status> {
    let request = proto::PutResourceRequest {
        body: body.into(),
        time_to_live: time_to_live.map(time::duration),
    };
    let answer = serve(ingestor).await.put_resource(request).await?;
    Ok(answer.into_inner().outcome())
}

async fn previews(ingestor: &Ingestor) -> Vec<(String, i64)> {
    let previews = ingestor.store.read_changes("Patient", 0).await.unwrap().previews;
    previews
        .into_iter()
        .map(|preview| (preview.state.id, preview.state.version))
        .collect()
}

#[tokio::test]
async fn a_put_resource_is_a_preview_byte_by_byte_and_wakes_the_tail() {
    let ingestor = Ingestor::start().await;
    ingestor.hapi.finds(&[state("b", 1)]);
    assert_eq!(put(&ingestor, patient(7), None).await.unwrap(), PutOutcome::Taken);
    let limit = Duration::from_millis(150);
    e2e::deadline::until("the tail's reading", limit, async || {
        (!held(&ingestor.store, 0).await.is_empty()).then_some(())
    })
    .await
    .unwrap();
    // Read by `held` with the readings: taken once.
    assert_eq!(previews(&ingestor).await, []);
    assert_eq!(put(&ingestor, patient(7), None).await.unwrap(), PutOutcome::Taken);
    let found = recent(&ingestor.store, "Patient", at(-100_000_000)).await;
    let found = found.iter().find(|found| found.preview).unwrap();
    let body = fhir_core::resource::Content::Body(patient(7).into());
    assert_eq!((&found.state.content, found.state.version), (&body, 7));
    assert_eq!(
        ingestor.accepted.of_type("Patient").webhooks,
        0,
        "it is no webhook"
    );
}

#[tokio::test]
async fn what_is_held_already_and_what_no_view_needs_is_not_put() {
    let ingestor = Ingestor::start().await;
    ingestor.hapi.concludes_nothing(true);
    let readings = [reading(state("a", 3), 1)];
    ingestor
        .store
        .offer_readings(None, "Patient", &readings, at(0))
        .await
        .unwrap();
    for (version, outcome) in [
        (2, PutOutcome::HeldNewer),
        (3, PutOutcome::HeldNewer),
        (4, PutOutcome::Taken),
    ] {
        assert_eq!(put(&ingestor, patient(version), None).await.unwrap(), outcome);
    }
    assert_eq!(previews(&ingestor).await, [("a".to_owned(), 4)]);
    let before = ingestor.contents().await;
    let goal = patient(1).replace("Patient", "Goal");
    assert_eq!(put(&ingestor, goal, None).await.unwrap(), PutOutcome::NotNeeded);
    assert_eq!(ingestor.contents().await, before);
}

#[tokio::test]
async fn a_time_to_live_is_kept_within_its_bounds() {
    let ingestor = Ingestor::start().await;
    ingestor.hapi.concludes_nothing(true);
    ingestor.tail.finish_one().await;
    let day = TimeDelta::hours(24);
    for (id, span) in [("a", day), ("b", TimeDelta::milliseconds(1))] {
        let body = patient(1).replace("\"a\"", &format!("\"{id}\""));
        assert_eq!(put(&ingestor, body, Some(span)).await.unwrap(), PutOutcome::Taken);
    }
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(previews(&ingestor).await, [("a".to_owned(), 1)]);
    for span in [
        TimeDelta::zero(),
        day + TimeDelta::nanoseconds(1),
        TimeDelta::seconds(-1),
    ] {
        let status = put(&ingestor, patient(1), Some(span)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(
            status.message().starts_with("time_to_live: "),
            "{}",
            status.message()
        );
    }
    assert_eq!(previews(&ingestor).await, []);
}

#[tokio::test]
async fn what_a_webhook_would_refuse_is_refused_and_nothing_is_written() {
    let limits = speed_ingestor::body::Limits {
        body_bytes: 1_024,
        depth: 5,
        ..LIMITS
    };
    let ingestor = Ingestor::start_with(limits).await;
    let before = ingestor.contents().await;
    let deep = patient(1).replace("1.50", "[[[[[]]]]]");
    let long = patient(1).replace("1.50", &format!("\"{}\"", "Zaphod".repeat(200)));
    for (body, code, said) in [
        (String::new(), Code::InvalidArgument, "empty"),
        ("Zaphod".into(), Code::InvalidArgument, "not JSON"),
        (deep, Code::InvalidArgument, "more than 5 deep"),
        (long, Code::ResourceExhausted, "webhook.max_body_bytes"),
        (
            patient(1).replace("versionId", "Zaphod"),
            Code::InvalidArgument,
            "versionId",
        ),
        (patient(0), Code::InvalidArgument, "above 0"),
        (
            patient(1).replace("lastUpdated", "x"),
            Code::InvalidArgument,
            "lastUpdated",
        ),
        (
            patient(1).replace("\"a\"", "\"Zaphod B\""),
            Code::InvalidArgument,
            "64 letters",
        ),
    ] {
        let status = put(&ingestor, body, None).await.unwrap_err();
        assert_eq!(status.code(), code, "{said}");
        assert!(status.message().contains(said), "{}", status.message());
        assert!(!status.message().contains("Zaphod"), "{}", status.message());
    }
    ingestor.taking.gate.close("redis can lose it".into());
    let status = put(&ingestor, patient(1), None).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unavailable, "redis can lose it")
    );
    assert_eq!(ingestor.contents().await, before);
}
