//! Bad input to every path of the gateway's HTTP: an OperationOutcome with a status of the caller's, and without a value.

use e2e::fhir::http_client;
use e2e::house::view_of;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{made::CANARY, whole::Whole};

/// Every path, by the method that is served, with something that is there in place of what varies.
fn paths() -> Vec<(Method, String)> {
    let there = |path: String| {
        let id = if path.starts_with("/OperationDefinition") {
            "sql-run".to_owned()
        } else {
            // An id of FHIR has no underscores.
            view_of("Patient").replace('_', "-")
        };
        path.replace("{id}", &id)
    };
    let methods = |path: String| {
        let posted = path.contains("-run") && !path.contains("OperationDefinition");
        let get = (Method::GET, path.clone());
        std::iter::once(get).chain(posted.then_some((Method::POST, path)))
    };
    serving_gateway::http_paths()
        .into_iter()
        .map(there)
        .flat_map(methods)
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_input_to_any_path_is_the_callers_fault_and_told_without_a_value() -> anyhow::Result<()> {
    let whole = Whole::start().await?;
    let base = format!("http://{}", whole.serving.address("http")?);
    let client = http_client()?;
    let endless = CANARY.repeat(3_000);
    let mut faults = Vec::new();
    let mut asked = 0;
    for (method, path) in paths() {
        let mut requests = vec![];
        for query in [
            format!("planted={CANARY}"),
            "%ff=%fe".into(),
            format!("_limit={CANARY}"),
            "_limit=-1".into(),
            "_limit=99999999999999999999".into(),
            format!("_format={CANARY}"),
            format!("_since={CANARY}"),
            format!("patient={CANARY}%00"),
            format!("subjectReference={CANARY}"),
            format!("subjectReference=ViewDefinition/{CANARY}%00"),
            format!("subjectCanonical={endless}"),
            format!("header={CANARY}"),
        ] {
            requests.push((
                query.clone(),
                client.request(method.clone(), format!("{base}{path}?{query}")),
            ));
        }
        for (kind, body) in [
            ("application/fhir+json", CANARY.to_owned()),
            ("application/fhir+json", "[".repeat(100_000)),
            ("application/fhir+json", "[]".into()),
            ("application/fhir+json", "{}".into()),
            ("application/json", json!({"resourceType": CANARY}).to_string()),
            (
                "application/json",
                json!({"resourceType": "Parameters", "parameter": [{"name": "planted", "valueString": CANARY}]})
                    .to_string(),
            ),
            (
                "application/json",
                json!({"resourceType": "Parameters", "parameter": CANARY}).to_string(),
            ),
            ("text/plain", CANARY.into()),
            ("application/x-www-form-urlencoded", format!("_limit={CANARY}")),
        ] {
            if method == Method::POST {
                let request = client
                    .post(format!("{base}{path}"))
                    .header("content-type", kind)
                    .body(body);
                requests.push((format!("a body of {kind}"), request));
            }
        }
        for (what, request) in requests {
            asked += 1;
            let answer = match request.send().await {
                Ok(answer) => answer,
                Err(error) => {
                    faults.push(format!("{method} {path} is not answered: {error}"));
                    continue;
                }
            };
            let (status, id) = (answer.status(), answer.headers().contains_key("x-request-id"));
            let text = answer.text().await?;
            let outcome: Value = serde_json::from_str(&text).unwrap_or_default();
            let told = outcome["resourceType"] == "OperationOutcome";
            if !(status.is_client_error() && told && id) || text.contains(CANARY) {
                let begin: String = text.chars().take(200).collect();
                let what: String = what.chars().take(60).collect();
                faults.push(format!("{method} {path} with {what}: {status} {begin}"));
            }
        }
    }
    assert!(
        faults.is_empty(),
        "{} of {asked}:\n{}",
        faults.len(),
        faults.join("\n")
    );
    assert!(asked > 100, "only {asked} requests were made");
    let log = whole.serving.log();
    assert!(!log.contains(CANARY) && !log.contains("a panic"), "{log}");
    Ok(())
}
