//! Requests that are wrong in ways of HTTP: methods, paths, bodies, kinds; each with an OperationOutcome, and none with what was sent.

use std::io::Write as _;

use anyhow::Context as _;
use e2e::fhir::http_client;
use e2e::process::{Daemon, Plan};
use e2e::server::{Lifetime, new_folder};
use flate2::{Compression, write::GzEncoder};
use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{fixture, get, said};
use crate::fixture::Fixture;

const PLANTED: &str = "planted-Jane-Doe";

#[tokio::test]
async fn every_path_refuses_what_it_does_not_serve_with_an_outcome() -> anyhow::Result<()> {
    let fixture = fixture().await?;
    let client = http_client()?;
    let view = "/ViewDefinition/typed-view";
    let runs = [
        "/$sql-run",
        "/$viewdefinition-run",
        "/ViewDefinition/$viewdefinition-run",
    ];
    let of_view = format!("{view}/$viewdefinition-run");
    let reads = [
        "/metadata",
        "/ViewDefinition",
        view,
        "/OperationDefinition/sql-run",
    ];
    for path in runs.iter().chain(&reads).chain([&of_view.as_str()]) {
        let run = path.contains("-run") && !path.contains("OperationDefinition");
        for method in [Method::PUT, Method::DELETE, Method::PATCH, Method::POST] {
            if run && method == Method::POST {
                continue;
            }
            let answer =
                said(client.request(method.clone(), format!("{}{path}", fixture.gateway.http))).await?;
            assert_eq!(answer.refused().0, 405, "{method} {path}");
            assert!(
                answer.header("allow").contains("GET"),
                "{method} {path}: {:?}",
                answer.headers
            );
        }
        let unknown = get(
            &fixture,
            &format!("{path}?planted={PLANTED}&subjectReference=ViewDefinition/typed"),
        )
        .await?;
        assert_eq!(unknown.refused().0, 400, "{path}");
        assert!(!unknown.text.contains(PLANTED), "{path}: {}", unknown.text);
        if run {
            let answer = said(
                client
                    .post(format!("{}{path}", fixture.gateway.http))
                    .json(&json!({"resourceType": PLANTED})),
            )
            .await?;
            assert_eq!(answer.refused().0, 400, "{path}");
            assert!(!answer.text.contains(PLANTED), "{path}: {}", answer.text);
        }
    }
    for path in [
        "/",
        "/$sql-export",
        "/Library/x",
        "/ViewDefinition/planted-Jane-Doe",
        "/OperationDefinition/planted-Jane-Doe",
    ] {
        let answer = get(&fixture, path).await?;
        assert_eq!(answer.refused().0, 404, "{path}");
        assert!(!answer.text.contains(PLANTED), "{path}: {}", answer.text);
    }
    let metrics = fixture.gateway.metrics.encode()?;
    assert!(!metrics.contains(PLANTED), "{metrics}");
    assert!(
        metrics.contains("http_requests_total{route=\"sql-run\",status=\"405\"} 3"),
        "{metrics}"
    );
    Ok(())
}

#[tokio::test]
async fn bodies_are_bounded_also_where_they_are_packed() -> anyhow::Result<()> {
    let fixture = Fixture::with_settings(&super::sample(), |config| {
        config.http.max_body_bytes = 2048;
        config.http.max_body_memory_bytes = 4096;
    })
    .await?;
    let client = http_client()?;
    let url = format!("{}/$sql-run", fixture.gateway.http);
    let post = |body: Vec<u8>| {
        client
            .post(&url)
            .header("content-type", "application/fhir+json")
            .body(body)
    };
    let parameters = |padding: usize| {
        let parameter = json!([{"name": "subjectReference", "valueString": "ViewDefinition/conditions"}]);
        json!({"resourceType": "Parameters", "id": "x".repeat(padding), "parameter": parameter})
            .to_string()
            .into_bytes()
    };
    assert_eq!(said(post(parameters(10))).await?.ids().len(), 3);
    assert_eq!(
        said(post(parameters(2048))).await?.refused(),
        (413, "too-long".into(), String::new())
    );
    let packed = |bytes: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes)?;
        encoder.finish()
    };
    let small = post(packed(&parameters(10))?).header("content-encoding", "gzip");
    assert_eq!(said(small).await?.ids().len(), 3);
    let bomb = packed(&parameters(10_000_000))?;
    let answer = said(post(bomb).header("content-encoding", "gzip")).await?;
    assert_eq!(answer.refused().0, 413);
    let other = post(parameters(10)).header("content-encoding", "br");
    assert_eq!(said(other).await?.refused().0, 415);
    let kind = client
        .post(&url)
        .header("content-type", "text/plain")
        .body(parameters(10));
    assert_eq!(said(kind).await?.refused().0, 415);
    assert_eq!(said(post(vec![b'{', 0xff, b'}'])).await?.refused().0, 400);
    Ok(())
}

#[tokio::test]
async fn slow_requests_and_old_protocols_are_ended() -> anyhow::Result<()> {
    let fixture = Fixture::with_settings(&super::sample(), |config| {
        config.http.body_timeout_seconds = std::time::Duration::from_millis(200);
        config.http.head_timeout_seconds = std::time::Duration::from_millis(300);
    })
    .await?;
    let head =
        "POST /$sql-run HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{";
    assert!(raw(&fixture, head).await?.starts_with("HTTP/1.1 408"));
    // A head that does not end ends the connection.
    raw(&fixture, "GET /metadata HTTP/1.1\r\nHost: x\r\n").await?;
    let old = raw(&fixture, "GET /metadata HTTP/1.0\r\n\r\n").await?;
    assert!(old.contains(" 505 ") && old.contains("OperationOutcome"), "{old}");
    Ok(())
}

#[tokio::test]
async fn a_gateway_that_has_not_reached_its_database_says_so_and_what_it_is() -> anyhow::Result<()> {
    let config = "[daemon]\ngrpc_listen = \"{grpc}\"\nadmin_listen = \"{admin}\"\n\n[http]\nlisten = \"{http}\"\n\n[views]\nurl = \"postgres://nobody@127.0.0.1:9/none\"\n";
    let gateway = Daemon::start_unready(Plan {
        name: "serving-gateway",
        config: config.into(),
        environment: Vec::new(),
        folder: new_folder("unready", None, Lifetime::Program)?,
        lifetime: Lifetime::Program,
    })
    .await?;
    let base = format!("http://{}", gateway.address("http")?);
    let client = http_client()?;
    for path in [
        "/$sql-run?subjectReference=ViewDefinition/x",
        "/ViewDefinition/x",
        "/ViewDefinition",
    ] {
        let answer = said(client.get(format!("{base}{path}"))).await?;
        assert_eq!(
            answer.refused(),
            (503, "transient".into(), String::new()),
            "{path}"
        );
        assert_eq!(answer.header("retry-after"), "1", "{path}");
    }
    // What is wrong in itself is told all the same.
    assert_eq!(
        said(client.get(format!("{base}/$sql-run?_limit=x")))
            .await?
            .refused()
            .0,
        400
    );
    assert_eq!(
        said(client.get(format!("{base}/metadata"))).await?.json()["resourceType"],
        "CapabilityStatement"
    );
    Ok(())
}

/// What is said to these bytes, until the connection ends.
async fn raw(fixture: &Fixture, request: &str) -> anyhow::Result<String> {
    let address = fixture
        .gateway
        .http
        .strip_prefix("http://")
        .context("a base URL")?;
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut said = Vec::new();
    let limit = std::time::Duration::from_secs(20);
    tokio::time::timeout(limit, stream.read_to_end(&mut said))
        .await
        .context("the connection must end")??;
    Ok(String::from_utf8_lossy(&said).into_owned())
}
