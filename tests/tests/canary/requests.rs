//! What no client of ours sends: paths, headers, bodies and calls that are nothing.

use std::time::Duration;

use e2e::{
    ask::channel,
    fhir::http_client,
    house::view_of,
    rpc::{Call, framed},
};
use serde_json::json;

use crate::{planted::Canary, world::World};

/// Sends them all.
pub(crate) async fn send(world: &mut World) -> anyhow::Result<()> {
    over_http(world).await?;
    by_hand(world).await
}

async fn over_http(world: &mut World) -> anyhow::Result<()> {
    let base = format!("http://{}", world.serving.address("http")?);
    let client = http_client()?;
    let condition = view_of("Condition").replace('_', "-");
    let patient = view_of("Patient").replace('_', "-");
    let (url, filter) = (Canary::Url.text(), Canary::Filter.encoded());
    for path in [
        format!("/{url}"),
        format!("/ViewDefinition/{url}"),
        format!("/ViewDefinition/{url}/$viewdefinition-run?_format={url}"),
        format!(
            "/ViewDefinition/{condition}/$viewdefinition-run?patient=Patient/{}",
            Canary::PatientId.text()
        ),
        format!("/ViewDefinition/{condition}/$viewdefinition-run?patient={filter}"),
        format!("/ViewDefinition/{patient}/$viewdefinition-run?_since={filter}"),
        format!("/ViewDefinition/{patient}/$viewdefinition-run?_limit={filter}"),
        format!("/ViewDefinition/{patient}/$viewdefinition-run?group={filter}"),
        format!("/ViewDefinition?name={filter}&_id={filter}"),
        format!("/$sql-run?query={filter}"),
        format!("/OperationDefinition/{url}"),
        format!("/metadata?{filter}={filter}"),
    ] {
        let request = client
            .get(format!("{base}{path}"))
            .header("authorization", format!("Bearer {}", Canary::Token.text()))
            .header("accept", format!("text/{}", Canary::Header.text()))
            .header("traceparent", Canary::Header.text());
        world.keep_answer("HTTP", request).await?;
    }
    let parameters =
        |given: serde_json::Value| json!({"resourceType": "Parameters", "parameter": given}).to_string();
    let resource = json!({"resourceType": "Patient", "id": Canary::PatientId.text(), "name": [{"family": Canary::Family.text()}]});
    let view = |path: String| {
        json!({"resourceType": "ViewDefinition", "resource": "Patient", "status": "active", "name": "given",
        "select": [{"column": [{"name": "a", "path": path}]}]})
    };
    let literal = Canary::Filter.text().replace('"', "");
    for body in [
        Canary::Broken.text(),
        format!("{{{}: ", json!(Canary::Broken.text())),
        parameters(json!([{"name": "patient", "valueReference": {"reference": Canary::Filter.text()}}])),
        parameters(
            json!([{"name": "viewResource", "resource": view(format!("name.where(family = '{literal}').given.first("))}, {"name": "resource", "resource": resource}]),
        ),
        parameters(
            json!([{"name": "viewResource", "resource": view("name.family".into())}, {"name": "resource", "resource": resource}]),
        ),
        parameters(
            json!([{"name": "viewResource", "resource": view("birthDate + 1".into())}, {"name": "resource", "resource": resource}]),
        ),
        parameters(
            json!([{"name": "queryResource", "resource": {"resourceType": "Library", "content": [{"contentType": "application/sql", "data": Canary::Broken.text()}]}}]),
        ),
        "x".repeat(100) + &Canary::Broken.text(),
    ] {
        for path in ["/$sql-run", "/$viewdefinition-run"] {
            for kind in [
                "application/fhir+json",
                "application/x-www-form-urlencoded",
                "text/plain",
            ] {
                let request = client
                    .post(format!("{base}{path}?planted={}", Canary::Url.text()))
                    .header("content-type", kind)
                    .body(body.clone());
                world.keep_answer("HTTP", request).await?;
            }
        }
    }
    Ok(())
}

async fn by_hand(world: &mut World) -> anyhow::Result<()> {
    let broken = Canary::Broken.text();
    let header = Canary::Header.text();
    for (daemon, service) in [
        (&world.serving, "researchflow.serving.v1.ServingService"),
        (&world.speed, "researchflow.speed.v1.SpeedService"),
        (&world.house.batch, "researchflow.batch.v1.BatchService"),
    ]
    .map(|(daemon, service)| (daemon.address("grpc"), service))
    {
        let channel = channel(&daemon?).await?;
        let method = match service {
            name if name.contains("serving") => "Query",
            name if name.contains("speed") => "PutResource",
            _ => "RunView",
        };
        let there = format!("/{service}/{method}");
        for (path, headers, bytes) in [
            (format!("/{service}/{}", Canary::Url.text()), vec![], framed(b"")),
            (
                format!("/{}/{}", Canary::Url.text(), Canary::Url.text()),
                vec![],
                framed(b""),
            ),
            (there.clone(), vec![], broken.clone().into_bytes()),
            (there.clone(), vec![], framed(broken.as_bytes())),
            (
                there.clone(),
                vec![],
                framed(&[&[0x0a, 0x7f], broken.as_bytes()].concat()),
            ),
            (
                there.clone(),
                vec![("grpc-timeout", header.as_str())],
                framed(b""),
            ),
            (
                there.clone(),
                vec![("grpc-encoding", header.as_str())],
                framed(b""),
            ),
            (
                there.clone(),
                vec![("content-type", header.as_str())],
                framed(b""),
            ),
            (
                there.clone(),
                vec![
                    ("x-planted", header.as_str()),
                    ("x-request-id", "not a word zq7-header-kanari"),
                ],
                framed(b""),
            ),
        ] {
            let call = Call {
                headers: &headers,
                limit: Duration::from_secs(10),
                ..Call::to(&path)
            };
            let said = call.send(&channel, bytes).await;
            let text = match said {
                Ok(said) => format!("{:?} {:?} {:?}", said.head, said.status, said.message()),
                // The connection was closed: nothing was said.
                Err(_) => continue,
            };
            world.keep(format!("error of a call to {service}"), text);
        }
    }
    Ok(())
}
