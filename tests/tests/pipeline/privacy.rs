//! What a hospital tells nobody is in no log line, no metric and no error text.

use std::time::Duration;

use api::proto::serving::{QueryRequest, SearchParameter};
use api::proto::speed as proto;
use api::speed::speed_service_client::SpeedServiceClient;
use e2e::ask::{equals, rows_where};
use e2e::fhir::http_client;
use serde_json::json;

use crate::stack::{Clients, shared};

/// In ids, bodies and search values: no word of ours contains it.
const PLANTED: &str = "zyxwvut-planted";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_9_no_id_body_or_search_value_is_in_a_log_a_metric_or_an_error() -> anyhow::Result<()> {
    let stack = shared().await?;
    let mut clients = Clients::of(&stack).await?;
    let endpoints = stack.endpoints()?;
    let mut errors = Vec::new();

    // A resource through HAPI, by webhook and tail into the views.
    let patient = json!({"resourceType": "Patient", "id": PLANTED, "gender": "female",
        "name": [{"family": PLANTED, "given": [PLANTED]}], "birthDate": "1971-01-01"});
    clients.fhir.put(&patient).await?;
    let seen = format!("SELECT count(*) FROM sqlonfhir.patient_simple WHERE id = '{PLANTED}'");
    clients
        .reader
        .until(&seen, Duration::from_secs(10), |count| count == Some("1"))
        .await?;

    // Webhooks that are refused: the answer says why without saying what.
    for (path, body) in [
        (format!("Patient/{PLANTED}"), format!("{{\"{PLANTED}\": ")),
        (
            format!("Patient/{PLANTED}"),
            json!({"resourceType": "Patient", "id": format!("{PLANTED}-other")}).to_string(),
        ),
        (
            format!("Patient/{PLANTED}"),
            json!({"resourceType": "Patient", "id": PLANTED, "name": PLANTED}).to_string(),
        ),
    ] {
        let answer = http_client()?
            .put(format!("{}/{path}", endpoints.webhook))
            .header("authorization", format!("Bearer {}", endpoints.webhook_secret))
            .header("content-type", "application/fhir+json")
            .body(body)
            .send()
            .await?;
        anyhow::ensure!(
            answer.status().is_client_error(),
            "a bad webhook got {}",
            answer.status()
        );
        errors.push(answer.text().await?);
    }

    // Questions, answered and refused.
    clients
        .asker
        .ask(rows_where("patient_simple", "id", PLANTED))
        .await?;
    let parameter = |name: &str| SearchParameter {
        name: name.into(),
        modifier: String::new(),
        values: vec![PLANTED.into()],
    };
    for request in [
        QueryRequest {
            view: "patient_simple".into(),
            search: vec![parameter("birthdate")],
            ..QueryRequest::default()
        },
        QueryRequest {
            view: "patient_simple".into(),
            search: vec![parameter("no-such-parameter")],
            ..QueryRequest::default()
        },
        QueryRequest {
            view: "patient_simple".into(),
            filters: vec![equals("active", PLANTED)],
            ..QueryRequest::default()
        },
    ] {
        if let Err(refused) = clients.asker.ask(request).await {
            errors.push(refused.message().to_owned());
        }
    }
    errors.extend(ask_speed(&endpoints.speed_grpc).await?);
    anyhow::ensure!(
        errors.len() >= 8,
        "questions that should be refused were answered: {errors:?}"
    );
    clients.fhir.delete("Patient", PLANTED).await?;
    clients
        .reader
        .until(&seen, Duration::from_secs(10), |count| count == Some("0"))
        .await?;

    for (what, text) in errors.iter().map(|error| ("an error", error.clone())).chain([
        ("the log of batch-refresher", stack.batch.log()),
        ("the log of speed-ingestor", stack.speed.log()),
        ("the log of serving-gateway", stack.serving.log()),
        ("the metrics of batch-refresher", stack.batch.metrics().await?),
        ("the metrics of speed-ingestor", stack.speed.metrics().await?),
        ("the metrics of serving-gateway", stack.serving.metrics().await?),
    ]) {
        let line = text.lines().find(|line| line.contains(PLANTED));
        assert_eq!(line, None, "{what} says what was planted");
    }
    Ok(())
}

/// Scans that are answered, and what the speed layer says to scans and resources that it refuses.
async fn ask_speed(address: &str) -> anyhow::Result<Vec<String>> {
    let mut speed = SpeedServiceClient::connect(format!("http://{address}")).await?;
    let mut errors = Vec::new();
    for (name, value) in [
        ("_id", PLANTED),
        ("gender", PLANTED),
        ("birthdate", PLANTED),
        (&format!("{PLANTED} {PLANTED}"), PLANTED),
    ] {
        let parameter = proto::SearchParameter {
            name: name.into(),
            value: value.into(),
        };
        let scan = proto::ScanRecentResourcesRequest {
            resource_type: "Patient".into(),
            parameters: vec![parameter],
            ..proto::ScanRecentResourcesRequest::default()
        };
        errors.extend(speed.scan_recent_resources(scan).await.err());
    }
    let put = proto::PutResourceRequest {
        body: json!({"resourceType": "Patient", "id": PLANTED, "meta": PLANTED})
            .to_string()
            .into_bytes(),
        time_to_live: None,
    };
    errors.extend(speed.put_resource(put).await.err());
    Ok(errors.iter().map(|status| status.message().to_owned()).collect())
}
