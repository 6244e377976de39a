//! Webhooks: good ones, and every kind that is refused.

use std::time::Duration;

use e2e::{ask::rows_where, deadline, fhir::http_client, house::SECRET, house::view_of};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{planted::Canary, world::World};

fn patient(id: &str, version: i64) -> Value {
    json!({"resourceType": "Patient", "id": id, "name": [{"family": Canary::Family.text()}],
        "address": [{"line": [Canary::Address.text()]}],
        "meta": {"versionId": version.to_string(), "lastUpdated": "2090-01-01T00:00:00.000+00:00"}})
}

/// Sends them all.
pub(crate) async fn send(world: &mut World) -> anyhow::Result<()> {
    let base = format!("http://{}/fhir", world.speed.address("http")?);
    let client = http_client()?;
    let (id, broken) = (Canary::PatientId.text(), Canary::Broken.text());
    let good = patient(&id, 2);
    let there = format!("Patient/{id}");
    let mut no_meta = good.clone();
    no_meta["meta"] = json!(broken);
    let mut bad_time = good.clone();
    bad_time["meta"]["lastUpdated"] = json!(broken);
    let mut bad_version = good.clone();
    bad_version["meta"]["versionId"] = json!(broken);
    let bundle = |entry: Value| json!({"resourceType": "Bundle", "type": "history", "entry": [entry]});
    let bodies: Vec<(Method, &str, Vec<u8>)> = [
        (Method::PUT, there.as_str(), good.to_string()),
        (Method::PUT, &there, format!("{{{}: ", json!(broken))),
        (Method::PUT, &there, no_meta.to_string()),
        (Method::PUT, &there, bad_time.to_string()),
        (Method::PUT, &there, bad_version.to_string()),
        (
            Method::PUT,
            &there,
            patient(&Canary::OtherId.text(), 2).to_string(),
        ),
        (Method::PUT, &there, json!({"resourceType": broken}).to_string()),
        (Method::PUT, &there, "[".repeat(10_000) + &broken),
        (Method::PUT, &there, format!("{}{}", good, " ".repeat(70_000))),
        (
            Method::PUT,
            "Patient/not%20an%20id%20zq7-url-kanari",
            good.to_string(),
        ),
        (Method::PUT, "zq7-url-kanari/a", good.to_string()),
        (Method::DELETE, &there, String::new()),
        (Method::POST, "", bundle(json!({"resource": good})).to_string()),
        (Method::POST, "", bundle(json!({"resource": broken})).to_string()),
        (
            Method::POST,
            "",
            bundle(json!({"request": {"method": "PUT", "url": broken}})).to_string(),
        ),
        (
            Method::POST,
            "",
            bundle(
                json!({"request": {"method": "PUT", "url": format!("Patient/{}", Canary::OtherId.text())}}),
            )
            .to_string(),
        ),
        (
            Method::POST,
            "",
            json!({"resourceType": "Bundle", "type": broken}).to_string(),
        ),
        (Method::POST, "", String::new()),
        (Method::POST, "zq7-url-kanari/too/many/parts", good.to_string()),
        (Method::PATCH, &there, good.to_string()),
        (Method::GET, &there, String::new()),
    ]
    .into_iter()
    .map(|(method, path, body)| (method, path, body.into_bytes()))
    .chain([(
        Method::PUT,
        there.as_str(),
        [&[0xff, 0xfe], broken.as_bytes()].concat(),
    )])
    .collect();
    let mut statuses = Vec::new();
    for (method, path, body) in bodies {
        let request = client
            .request(
                method.clone(),
                format!("{base}/{path}?planted={}", Canary::Url.text()),
            )
            .header("authorization", format!("Bearer {SECRET}"))
            .header("content-type", "application/fhir+json")
            .header("user-agent", Canary::Header.text())
            .body(body);
        statuses.push(world.keep_answer(&format!("a webhook {method}"), request).await?);
    }
    assert!(
        statuses.contains(&200) && statuses.contains(&400) && statuses.contains(&413),
        "{statuses:?}"
    );
    with_headers(world, &good).await?;
    // What the tail reads in HAPI takes the place of what only webhooks have told.
    deadline::until("the patient as HAPI has it", Duration::from_secs(30), || async {
        let rows = world
            .rows(rows_where(&view_of("Patient"), "id", &id))
            .await
            .ok()?;
        rows.contains(&id).then_some(())
    })
    .await
}

/// The good one, with a header that is not.
async fn with_headers(world: &mut World, good: &Value) -> anyhow::Result<()> {
    let there = format!(
        "http://{}/fhir/Patient/{}",
        world.speed.address("http")?,
        Canary::PatientId.text()
    );
    let client = http_client()?;
    for (name, value) in [
        ("authorization", format!("Bearer {}", Canary::Token.text())),
        ("if-match", format!("W/\"{}\"", Canary::Header.text())),
        ("if-match", "W/\"9\"".to_owned()),
        ("content-encoding", Canary::Header.text()),
        ("content-encoding", "gzip".to_owned()),
        ("content-type", format!("text/{}", Canary::Header.text())),
        (
            "content-type",
            format!("application/fhir+json; charset={}", Canary::Header.text()),
        ),
        ("traceparent", Canary::Header.text()),
        ("tracestate", format!("vendor={}", Canary::Header.text())),
        ("x-request-id", format!("not a word {}", Canary::Header.text())),
        ("cookie", Canary::Token.text()),
    ] {
        let mut request = client.put(&there).body(good.to_string());
        if name != "authorization" {
            request = request.header("authorization", format!("Bearer {SECRET}"));
        }
        if name == "tracestate" {
            request = request.header(
                "traceparent",
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            );
        }
        world
            .keep_answer(&format!("a webhook with {name}"), request.header(name, value))
            .await?;
    }
    Ok(())
}
