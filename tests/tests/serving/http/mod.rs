//! The gateway over HTTP: every format, parameter and error, by clients of which one is not of this project.

mod definitions;
mod documented;
mod errors;
mod independent;
mod rows;
mod streams;

use anyhow::Context as _;
use chrono::TimeDelta;
use e2e::deadline;
use e2e::fhir::http_client;
use fhir_core::resource::{Content, State};
use fhir_core::view::CompiledView;
use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use crate::fakes::PATIENCE;
use crate::fixture::{Fixture, join, now};

/// An answer, whole.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Said {
    /// As JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {}", self.text))
    }

    /// The rows of an answer in ndjson, in the order of their first columns.
    pub(crate) fn rows(&self) -> Vec<Value> {
        assert_eq!(self.status, StatusCode::OK, "{}", self.text);
        let mut lines: Vec<&str> = self.text.lines().collect();
        lines.sort_unstable();
        let read = |line: &str| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
        lines.into_iter().map(read).collect()
    }

    /// The column `id` of each row.
    pub(crate) fn ids(&self) -> Vec<String> {
        let rows = self.rows();
        rows.iter()
            .map(|row| row["id"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    /// A header, or nothing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// Status, code and first parameter of an OperationOutcome.
    pub(crate) fn refused(&self) -> (u16, String, String) {
        let outcome = self.json();
        assert_eq!(outcome["resourceType"], "OperationOutcome", "{}", self.text);
        let issue = &outcome["issue"][0];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (
            self.status.as_u16(),
            text(&issue["code"]),
            text(&issue["expression"][0]),
        )
    }
}

async fn said(request: reqwest::RequestBuilder) -> anyhow::Result<Said> {
    let answer = request.send().await?;
    Ok(Said {
        status: answer.status(),
        headers: answer.headers().clone(),
        text: answer.text().await?,
    })
}

/// `GET` of a path with what follows it.
pub(crate) async fn get(fixture: &Fixture, path: &str) -> anyhow::Result<Said> {
    said(http_client()?.get(format!("{}{path}", fixture.gateway.http))).await
}

/// The same with headers.
async fn get_with(fixture: &Fixture, path: &str, headers: &[(&str, &str)]) -> anyhow::Result<Said> {
    let mut request = http_client()?.get(format!("{}{path}", fixture.gateway.http));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    said(request).await
}

/// `POST $sql-run` of these parameters.
async fn post(fixture: &Fixture, parameters: &Value) -> anyhow::Result<Said> {
    let body = json!({"resourceType": "Parameters", "parameter": parameters});
    let request = http_client()?.post(format!("{}/$sql-run", fixture.gateway.http));
    said(
        request
            .header("content-type", "application/fhir+json")
            .body(body.to_string()),
    )
    .await
}

/// A condition with all that the view `typed` looks at.
fn typed(id: &str, patient: &str, rest: &str) -> State {
    let body = format!(
        r#"{{"resourceType":"Condition","id":"{id}","subject":{{"reference":"Patient/{patient}"}}{rest}}}"#
    );
    State {
        id: id.into(),
        version: 1,
        last_updated: now() - TimeDelta::hours(1),
        content: Content::Body(body.into_bytes()),
    }
}

/// What the independent client expects.
pub(crate) fn sample() -> Vec<State> {
    let severity =
        |decimal: &str| format!(r#","extension":[{{"url":"urn:severity","valueDecimal":{decimal}}}]"#);
    let code = |codes: &str, text: &str| format!(r#","code":{{"coding":[{codes}],"text":"{text}"}}"#);
    let updated = |at: &str| format!(r#","meta":{{"lastUpdated":"{at}"}}"#);
    let first = code(r#"{"code":"100"}"#, r#"Diabetes, \"type 2\""#)
        + &severity("1.50")
        + &updated("2026-01-31T10:00:00.5Z");
    let second = code(r#"{"code":"200"},{"code":"201"}"#, r"Asthma\nof childhood")
        + &severity("10")
        + &updated("2026-02-28T13:00:00+01:00");
    vec![
        typed("c-1", "p-1", &first),
        typed("c-2", "p-1", &second),
        typed("c-3", "p-2", ""),
    ]
}

const TYPED: &str = r#"{"resourceType": "ViewDefinition", "id": "typed-view", "url": "http://example.org/ViewDefinition/typed", "version": "2.0.0", "name": "typed",
    "status": "draft", "resource": "Condition", "select": [{"column": [
        {"name": "id", "path": "getResourceKey()"},
        {"name": "patient_id", "path": "subject.getReferenceKey(Patient)"},
        {"name": "label", "path": "code.text"},
        {"name": "severity", "path": "extension('urn:severity').value.ofType(decimal).first()", "type": "decimal"},
        {"name": "coded", "path": "code.exists()", "type": "boolean"},
        {"name": "codings", "path": "code.coding.count()", "type": "integer"},
        {"name": "updated", "path": "meta.lastUpdated", "type": "instant"}]}]}"#;

/// Its rows do not say whose they are but for a text that merely looks like it, and hold an array.
const LISTS: &str = r#"{"resourceType": "ViewDefinition", "url": "http://example.org/ViewDefinition/lists", "name": "code_lists", "status": "active",
    "resource": "Condition", "select": [{"column": [
        {"name": "id", "path": "getResourceKey()"},
        {"name": "about", "path": "subject.reference.substring(0)", "tag": [{"name": "search-param", "value": "patient"}]},
        {"name": "codes", "path": "code.coding.code", "collection": true, "type": "code"}]}]}"#;

/// It is registered, and not materialised.
const WAITING: &str = r#"{"resourceType": "ViewDefinition", "name": "waiting", "status": "active",
    "resource": "Condition", "select": [{"column": [{"name": "id", "path": "getResourceKey()"}, {"name": "label", "path": "code.text"}]}]}"#;

/// A gateway over the sample: `conditions`, `typed` and `code_lists` are materialised, `waiting` is not; HAPI holds c-9 and what the Groups need.
pub(crate) async fn fixture() -> anyhow::Result<Fixture> {
    let fixture = Fixture::over(&sample()).await?;
    register(&fixture, TYPED).await?;
    register(&fixture, LISTS).await?;
    join(&fixture.owner, 2, &sample()).await?;
    register(&fixture, WAITING).await?;
    fixture
        .batch
        .hold(now(), vec![typed("c-9", "p-1", r#","code":{"text":"raw"}"#)]);
    for patient in ["p-1", "p-2", "p-3"] {
        fixture.batch.put(&format!("Patient/{patient}"), "{}");
    }
    for (id, body) in [
        (
            "g-1",
            r#"{"actual":true,"member":[{"entity":{"reference":"Patient/p-1"}},{"entity":{"reference":"Patient/p-2"},"inactive":true}]}"#,
        ),
        ("g-none", r#"{"actual":true}"#),
        ("g-criteria", r#"{"actual":false}"#),
    ] {
        fixture.batch.put(&format!("Group/{id}"), body);
    }
    for view in ["typed", "code_lists"] {
        deadline::until("the gateway knows that the view is there", PATIENCE, || async {
            let path = format!("/$sql-run?subjectReference=ViewDefinition/{view}");
            let said = get(&fixture, &path).await.ok()?;
            (said.header("x-researchflow-source") == "materialized").then_some(())
        })
        .await?;
    }
    Ok(fixture)
}

async fn register(fixture: &Fixture, definition: &str) -> anyhow::Result<()> {
    let view = CompiledView::from_json(definition).context("a view of the test")?;
    fixture.owner.put_view(&view, definition, false).await?;
    Ok(())
}
