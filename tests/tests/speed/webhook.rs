//! The webhook: what HAPI really sends is taken; what is wrong gets a clear answer and changes nothing.

use std::{io::Write, time::Duration};

use flate2::{
    Compression,
    write::{GzEncoder, ZlibEncoder},
};
use reqwest::{Method, Response, StatusCode, header};
use serde_json::Value;
use speed_ingestor::body::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    kit::{Ingestor, LIMITS, SECRET, http, state},
    recorded,
};

pub(crate) fn good(id: &str, version: i64) -> String {
    format!(
        r#"{{"resourceType":"Patient","id":"{id}","meta":{{"versionId":"{version}","lastUpdated":"2026-01-31T10:09:44.706+00:00"}},"active":true}}"#
    )
}

pub(crate) async fn put(ingestor: &Ingestor, path: &str, body: impl Into<reqwest::Body>) -> Response {
    let url = format!("{}{path}", ingestor.base);
    http()
        .put(url)
        .bearer_auth(SECRET)
        .header(header::CONTENT_TYPE, "application/fhir+json")
        .body(body)
        .send()
        .await
        .unwrap()
}

/// A PUT as bytes on a connection: what a client of HTTP would not send. Gives what is answered until the connection closes.
async fn raw_put(ingestor: &Ingestor, framing: &str, body: &[u8]) -> String {
    let address = ingestor.base.strip_prefix("http://").unwrap();
    let (mut from, mut to) = tokio::net::TcpStream::connect(address)
        .await
        .unwrap()
        .into_split();
    let head = format!(
        "PUT /fhir/Patient/a HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SECRET}\r\nConnection: close\r\n{framing}\r\n\r\n"
    );
    let sent = [head.as_bytes(), body].concat();
    // The connection stays open for writing, as that of a client that has more to send.
    let sending = tokio::spawn(async move {
        to.write_all(&sent).await.unwrap();
        to
    });
    let mut answer = Vec::new();
    tokio::time::timeout(Duration::from_secs(30), from.read_to_end(&mut answer))
        .await
        .unwrap()
        .unwrap();
    sending.await.unwrap();
    String::from_utf8(answer).unwrap()
}

async fn previews(ingestor: &Ingestor, resource_type: &str) -> Vec<(String, i64)> {
    let read = ingestor.store.read_changes(resource_type, 0).await.unwrap();
    read.previews
        .into_iter()
        .map(|preview| (preview.state.id, preview.state.version))
        .collect()
}

#[tokio::test]
async fn every_request_that_hapi_was_recorded_to_send_is_taken() {
    let ingestor = Ingestor::start().await;
    for request in recorded::all() {
        let status = request.send(&http(), &ingestor.base).await;
        let expected = if request.method == Method::POST {
            StatusCode::UNPROCESSABLE_ENTITY
        } else {
            StatusCode::OK
        };
        assert_eq!(status, expected, "{}", request.case);
    }
    let patients = previews(&ingestor, "Patient").await;
    assert_eq!(
        patients[1..8],
        [11, 13, 14, 12, 15, 16, 10].map(|version| ("probe-a".to_owned(), version))
    );
    assert_eq!(
        (patients.len(), previews(&ingestor, "Observation").await.len()),
        (11, 1)
    );
    let accepted = ingestor.accepted.of_type("Patient").webhooks;
    assert_eq!(accepted, 12, "eleven bodies and a delete");
}

#[tokio::test]
async fn a_body_is_kept_byte_by_byte() {
    let ingestor = Ingestor::start().await;
    let body = good("a", 1).replace("true", "true,\"x\":1.50e+02 , \"y\" : \"\\u00e9é\"");
    assert_eq!(
        put(&ingestor, "/fhir/Patient/a", body.clone()).await.status(),
        200
    );
    let read = ingestor.store.read_changes("Patient", 0).await.unwrap();
    assert_eq!(
        read.previews[0].state.content,
        fhir_core::resource::Content::Body(body.into_bytes())
    );
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "it is a table")]
async fn bad_input_gets_a_clear_error_and_changes_nothing() {
    let ingestor = Ingestor::start().await;
    let before = ingestor.contents().await;
    let deep = format!(
        r#"{{"resourceType":"Patient","x":{}{}}}"#,
        "[".repeat(500),
        "]".repeat(500)
    );
    let without_version = good("a", 1).replace(r#""versionId":"1","#, "");
    let cases: &[(&str, &str, &str, u16, &str)] = &[
        (
            "/fhir/Patient/a",
            "Zaphod",
            "application/fhir+json",
            400,
            "not JSON",
        ),
        ("/fhir/Patient/a", "", "application/fhir+json", 400, "empty"),
        (
            "/fhir/Patient/a",
            r#"{"name":"Zaphod"}"#,
            "application/fhir+json",
            400,
            "resourceType",
        ),
        (
            "/fhir/Patient/a",
            "[1,2]",
            "application/fhir+json",
            400,
            "not a FHIR resource",
        ),
        (
            "/fhir/Patient/b",
            &good("a", 1),
            "application/fhir+json",
            400,
            "id of the body",
        ),
        (
            "/fhir/Condition/a",
            &good("a", 1),
            "application/fhir+json",
            400,
            "resourceType of the body",
        ),
        (
            "/fhir/Patient/a",
            &without_version,
            "application/fhir+json",
            400,
            "versionId is missing",
        ),
        (
            "/fhir/Patient/a",
            &good("a", 0),
            "application/fhir+json",
            400,
            "above 0",
        ),
        (
            "/fhir/Patient/a",
            &good("a", 1).replace("2026-01-31T", "31.1. "),
            "application/fhir+json",
            400,
            "instant",
        ),
        ("/fhir/Patient/a", &deep, "application/fhir+json", 400, "200 deep"),
        (
            "/fhir/patient/a",
            &good("a", 1),
            "application/fhir+json",
            400,
            "FHIR resource type",
        ),
        (
            "/fhir/Patient/a_b",
            &good("a", 1),
            "application/fhir+json",
            400,
            "64 letters",
        ),
        (
            "/fhir/Patient/a",
            "<Patient/>",
            "application/fhir+xml; charset=UTF-8",
            415,
            "channel.payload",
        ),
        (
            "/fhir/Patient/a/_history/1",
            &good("a", 1),
            "application/fhir+json",
            404,
            "no such path",
        ),
        (
            "/Patient/a",
            &good("a", 1),
            "application/fhir+json",
            404,
            "no such path",
        ),
    ];
    for (path, body, content_type, status, said) in cases {
        let request = http()
            .put(format!("{}{path}", ingestor.base))
            .bearer_auth(SECRET)
            .header(header::CONTENT_TYPE, *content_type);
        let response = request.body((*body).to_owned()).send().await.unwrap();
        expect_outcome(response, *status, said).await;
    }
    assert_eq!(ingestor.contents().await, before);
    assert!(
        ingestor
            .store
            .health(&daemon::SystemClock)
            .await
            .unwrap()
            .dead_letters
            >= 11
    );
}

pub(crate) async fn expect_outcome(response: Response, status: u16, said: &str) {
    assert_eq!(response.status(), status, "{said}");
    assert_eq!(
        response.headers()[header::CONTENT_TYPE],
        "application/fhir+json;charset=utf-8"
    );
    let outcome: Value = response.json().await.unwrap();
    assert_eq!(outcome["resourceType"], "OperationOutcome");
    let diagnostics = outcome["issue"][0]["diagnostics"].as_str().unwrap();
    assert!(diagnostics.contains(said), "{said}: {diagnostics}");
    assert!(!diagnostics.contains("Zaphod"), "{diagnostics}");
}

#[tokio::test]
async fn a_path_that_cannot_be_read_gets_an_outcome_and_a_letter() {
    let ingestor = Ingestor::start().await;
    for method in [Method::PUT, Method::DELETE] {
        let url = format!("{}/fhir/Patient/%ff", ingestor.base);
        let request = http().request(method, url).bearer_auth(SECRET).body(good("a", 1));
        expect_outcome(request.send().await.unwrap(), 400, "path").await;
    }
    let health = ingestor.store.health(&daemon::SystemClock).await.unwrap();
    assert_eq!(health.dead_letters, 2);
}

#[tokio::test]
async fn if_match_must_agree_with_the_body_weak_or_strong() {
    let ingestor = Ingestor::start().await;
    for (tag, status) in [
        ("W/\"3\"", 200),
        ("\"3\"", 200),
        ("W/\"2\"", 400),
        ("W/\"x\"", 400),
    ] {
        let request = http()
            .put(format!("{}/fhir/Patient/a", ingestor.base))
            .bearer_auth(SECRET)
            .header(header::IF_MATCH, tag);
        assert_eq!(
            request.body(good("a", 3)).send().await.unwrap().status(),
            status,
            "{tag}"
        );
    }
    assert_eq!(previews(&ingestor, "Patient").await.len(), 2);
}

#[tokio::test]
async fn without_the_secret_nothing_is_taken() {
    let ingestor = Ingestor::start().await;
    let before = ingestor.contents().await;
    let url = format!("{}/fhir/Patient/a", ingestor.base);
    for request in [
        http().put(&url),
        http().put(&url).bearer_auth("s3cre"),
        http().put(&url).bearer_auth("s3cret2"),
        http().delete(&url),
    ] {
        expect_outcome(
            request.body(good("a", 1)).send().await.unwrap(),
            401,
            "shared secret",
        )
        .await;
    }
    expect_outcome(
        http()
            .post(format!("{}/fhir", ingestor.base))
            .send()
            .await
            .unwrap(),
        401,
        "shared secret",
    )
    .await;
    assert_eq!(ingestor.contents().await, before);
}

#[tokio::test]
async fn a_body_of_50_mb_is_refused_declared_or_not() {
    let ingestor = Ingestor::start().await;
    let body = vec![b' '; 50_000_000];
    expect_outcome(
        put(&ingestor, "/fhir/Patient/a", body.clone()).await,
        413,
        "16777216",
    )
    .await;
    let chunk = [
        format!("{:x}\r\n", 1 << 20).as_bytes(),
        &vec![b' '; 1 << 20],
        b"\r\n",
    ]
    .concat();
    let mut chunked = chunk.repeat(50);
    chunked.extend(b"0\r\n\r\n");
    let answer = raw_put(&ingestor, "Transfer-Encoding: chunked", &chunked).await;
    assert!(
        answer.starts_with("HTTP/1.1 413") && answer.contains("OperationOutcome"),
        "{answer}"
    );
    assert_eq!(previews(&ingestor, "Patient").await, []);
}

#[tokio::test]
async fn compressed_bodies_are_opened_within_bounds() {
    let ingestor = Ingestor::start().await;
    let send = async |encoding: &'static str, body: Vec<u8>| {
        let request = http()
            .put(format!("{}/fhir/Patient/a", ingestor.base))
            .bearer_auth(SECRET);
        request
            .header(header::CONTENT_ENCODING, encoding)
            .body(body)
            .send()
            .await
            .unwrap()
    };
    let gzip = |bytes: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    assert_eq!(send("gzip", gzip(good("a", 1).as_bytes())).await.status(), 200);
    let mut deflate = ZlibEncoder::new(Vec::new(), Compression::fast());
    deflate.write_all(good("a", 2).as_bytes()).unwrap();
    assert_eq!(send("deflate", deflate.finish().unwrap()).await.status(), 200);
    assert_eq!(previews(&ingestor, "Patient").await.len(), 2);
    let bomb = gzip(&vec![b' '; 200 << 20]);
    assert!(bomb.len() < 1 << 20);
    expect_outcome(send("gzip", bomb).await, 413, "16777216").await;
    expect_outcome(send("gzip", b"not gzip".to_vec()).await, 400, "cannot be read").await;
    expect_outcome(send("br", b"x".to_vec()).await, 415, "gzip, deflate or none").await;
    assert_eq!(previews(&ingestor, "Patient").await, []);
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let limits = Limits {
        body_time: Duration::from_millis(200),
        ..LIMITS
    };
    let ingestor = Ingestor::start_with(limits).await;
    let answer = raw_put(&ingestor, "Content-Length: 100", b"{").await;
    assert!(
        answer.starts_with("HTTP/1.1 408") && answer.contains("in time"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_webhook_brings_a_round_at_once() {
    let ingestor = Ingestor::start().await;
    ingestor.hapi.finds(&[state("b", 1)]);
    assert_eq!(
        put(&ingestor, "/fhir/Patient/a", good("a", 1)).await.status(),
        200
    );
    let limit = Duration::from_millis(150);
    let held = async || (!crate::kit::held(&ingestor.store, 0).await.is_empty()).then_some(());
    e2e::deadline::until("the tail's reading", limit, held)
        .await
        .unwrap();
}

#[tokio::test]
async fn what_no_view_needs_is_counted_and_not_stored() {
    let ingestor = Ingestor::start().await;
    let before = ingestor.contents().await;
    assert_eq!(put(&ingestor, "/fhir/Goal/a", good("a", 1)).await.status(), 200);
    let url = format!("{}/fhir/Goal/a", ingestor.base);
    assert_eq!(
        http()
            .delete(url)
            .bearer_auth(SECRET)
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
    assert_eq!(ingestor.contents().await, before);
}

#[tokio::test]
async fn bundles_of_topic_subscriptions_are_taken_apart() {
    let ingestor = Ingestor::start().await;
    let post = async |body: String| {
        http()
            .post(format!("{}/fhir", ingestor.base))
            .bearer_auth(SECRET)
            .body(body)
            .send()
            .await
            .unwrap()
    };
    let entry = good("a", 4);
    let bundle = format!(
        r#"{{"resourceType":"Bundle","type":"history","entry":[{{"resource":{{"resourceType":"Parameters"}}}},{{"resource":{entry}}},{{"request":{{"method":"DELETE","url":"Patient/b"}}}}]}}"#
    );
    let response = post(bundle).await;
    assert_eq!(response.status(), 200);
    assert_eq!(
        response.json::<Value>().await.unwrap()["type"],
        "transaction-response"
    );
    assert_eq!(previews(&ingestor, "Patient").await, [("a".to_owned(), 4)]);
    expect_outcome(post(good("a", 1)).await, 400, "Bundle").await;
    expect_outcome(post(String::new()).await, 422, "channel.payload").await;
}

#[tokio::test]
async fn probes_are_answered_without_a_secret() {
    let ingestor = Ingestor::start().await;
    for path in ["/fhir", "/fhir/", "/fhir/metadata", "/fhir/Patient/a"] {
        let url = format!("{}{path}", ingestor.base);
        assert_eq!(http().get(&url).send().await.unwrap().status(), 200, "{path}");
        assert_eq!(http().head(&url).send().await.unwrap().status(), 200, "{path}");
    }
    let patch = http()
        .patch(format!("{}/fhir/Patient/a", ingestor.base))
        .send()
        .await
        .unwrap();
    expect_outcome(patch, 405, "no such method").await;
}
