//! The examples of docs/serving-http.md, run as they stand.

use std::path::Path;

use anyhow::Context as _;
use e2e::deadline;
use fhir_core::resource::{Content, State};

use super::{get, register};
use crate::fakes::PATIENCE;
use crate::fixture::{Fixture, join_type, now};

/// The blocks of shell in a page.
fn blocks(page: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut rest = page;
    while let Some((_, after)) = rest.split_once("```sh\n") {
        let Some((block, after)) = after.split_once("```") else {
            break;
        };
        blocks.push(block.to_owned());
        rest = after;
    }
    blocks
}

#[tokio::test]
async fn the_examples_of_the_page_answer_as_it_says() -> anyhow::Result<()> {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let fixture = Fixture::over(&[]).await?;
    register(
        &fixture,
        &std::fs::read_to_string(project.join("deploy/views/patient_simple.json"))?,
    )
    .await?;
    let body = br#"{"resourceType":"Patient","id":"a","gender":"female","birthDate":"1950-02-03","name":[{"family":"Cole"}]}"#;
    let patient = State {
        id: "a".into(),
        version: 1,
        last_updated: now(),
        content: Content::Body(body.to_vec()),
    };
    join_type(&fixture.owner, "Patient", 1, &[patient]).await?;
    deadline::until("the view is there", PATIENCE, || async {
        let said = get(
            &fixture,
            "/$sql-run?subjectReference=ViewDefinition/patient-simple",
        )
        .await
        .ok()?;
        (said.header("x-researchflow-source") == "materialized").then_some(())
    })
    .await?;
    let page = std::fs::read_to_string(project.join("docs/serving-http.md"))?;
    let home = tempfile::tempdir()?;
    std::fs::write(home.path().join(".curlrc"), "write-out = \"\\n%{http_code}\"\n")?;
    let blocks = blocks(&page);
    assert!(blocks.len() >= 9, "{} examples", blocks.len());
    for block in blocks {
        let expected = block
            .strip_prefix("# ")
            .and_then(|rest| rest.get(..3))
            .unwrap_or("200");
        let run = tokio::process::Command::new("sh")
            .args(["-euc", &block])
            .env("SERVING_HTTP", &fixture.gateway.http)
            .env("CURL_HOME", home.path())
            .output()
            .await?;
        let said = String::from_utf8_lossy(&run.stdout);
        let status = said.lines().last().context("an answer")?;
        assert!(
            run.status.success() && status == expected,
            "{block}{said}{}",
            String::from_utf8_lossy(&run.stderr)
        );
    }
    Ok(())
}
