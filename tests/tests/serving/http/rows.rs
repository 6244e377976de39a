//! Which rows an answer has: live ones, those of patients, those since, those of the request itself.

use chrono::TimeDelta;
use e2e::deadline;
use reqwest::StatusCode;
use serde_json::json;

use super::{fixture, get, get_with, post, sample, typed};
use crate::fakes::PATIENCE;
use crate::fixture::{CONDITION, Fixture, condition, mark, now};

const BY_NAME: &str = "/$sql-run?subjectReference=ViewDefinition/typed";

#[tokio::test]
async fn live_rows_are_in_and_the_headers_say_how_fresh_they_are() -> anyhow::Result<()> {
    let fixture = fixture().await?;
    fixture
        .speed
        .round(CONDITION, vec![typed("c-4", "p-3", "")], mark(5));
    let said = deadline::until("the live row is visible", PATIENCE, || async {
        let said = get(&fixture, BY_NAME).await.ok()?;
        (said.ids() == ["c-1", "c-2", "c-3", "c-4"]).then_some(said)
    })
    .await?;
    assert_eq!(
        said.header("x-researchflow-as-of"),
        said.header("x-researchflow-speed-as-of")
    );
    assert_ne!(
        said.header("x-researchflow-as-of"),
        said.header("x-researchflow-batch-as-of")
    );
    let batch = get_with(&fixture, BY_NAME, &[("X-ResearchFlow-Layers", "batch")]).await?;
    assert_eq!(batch.ids(), ["c-1", "c-2", "c-3"]);
    assert_eq!(batch.header("x-researchflow-speed-as-of"), "");

    // Read your own writes: the version is pulled in.
    fixture.speed.at_pull(CONDITION, vec![typed("c-5", "p-3", "")], 6);
    let at_least = [("X-ResearchFlow-At-Least", "Condition/c-5/_history/1")];
    let said = get_with(&fixture, BY_NAME, &at_least).await?;
    assert_eq!(said.ids().last().map(String::as_str), Some("c-5"));
    Ok(())
}

#[tokio::test]
async fn rows_of_patients_are_found_also_where_the_view_does_not_say_whose_they_are() -> anyhow::Result<()> {
    let fixture = fixture().await?;
    fixture.batch.hold(now(), sample());
    let lists = "/$sql-run?subjectReference=ViewDefinition/code-lists";
    let all = get(&fixture, lists).await?;
    assert_eq!(all.header("x-researchflow-source"), "materialized");
    assert_eq!(
        all.rows()[1],
        json!({"id": "c-2", "about": "Patient/p-1", "codes": ["200", "201"]})
    );
    assert_eq!(
        all.rows()[2],
        json!({"id": "c-3", "about": "Patient/p-2", "codes": []})
    );
    for (patients, ids) in [
        ("&patient=Patient/p-1", vec!["c-1", "c-2"]),
        ("&patient=p-2", vec!["c-3"]),
        ("&patient=p-2&_limit=0", vec![]),
        ("&patient=p-2&group=Group/g-1", vec![]),
        ("&group=g-1", vec!["c-1", "c-2"]),
    ] {
        let of_lists = get(&fixture, &format!("{lists}{patients}")).await?;
        assert_eq!(of_lists.ids(), ids, "{patients}");
        // HAPI's own references say whose a resource is.
        assert_eq!(of_lists.header("x-researchflow-source"), "raw", "{patients}");
        let of_typed = get(&fixture, &format!("{BY_NAME}{patients}")).await?;
        assert_eq!(of_typed.ids(), ids, "{patients}");
        assert_eq!(
            of_typed.header("x-researchflow-source"),
            "materialized",
            "{patients}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn since_means_later_than() -> anyhow::Result<()> {
    let state = condition("c-1", 1, "p-1", "100", "x", "1");
    let at = state.last_updated;
    let fixture = Fixture::over(&[state]).await?;
    let since = |at: chrono::DateTime<chrono::Utc>| {
        let at = at.format("%Y-%m-%dT%H:%M:%S%.6fZ");
        format!("/$sql-run?subjectReference=ViewDefinition/conditions&_since={at}")
    };
    assert!(get(&fixture, &since(at)).await?.ids().is_empty());
    assert_eq!(
        get(&fixture, &since(at - TimeDelta::microseconds(1)))
            .await?
            .ids(),
        ["c-1"]
    );
    Ok(())
}

#[tokio::test]
async fn a_batch_layer_that_is_away_leaves_patients_unchecked_and_groups_unanswered() -> anyhow::Result<()> {
    let nowhere = "http://127.0.0.1:9".to_owned();
    let fixture = Fixture::with_settings(&sample(), |config| config.services.batch = nowhere).await?;
    let by_name = "/$sql-run?subjectReference=ViewDefinition/conditions";
    let said = get(&fixture, &format!("{by_name}&patient=p-1")).await?;
    assert_eq!(said.ids(), ["c-1", "c-2"]);
    let degradations: Vec<_> = said
        .headers
        .get_all("x-researchflow-degradation")
        .iter()
        .collect();
    assert!(
        degradations
            .iter()
            .any(|one| one.to_str().is_ok_and(|one| one.contains("was not checked"))),
        "{degradations:?}"
    );
    let said = get(&fixture, &format!("{by_name}&group=g-1")).await?;
    assert_eq!(said.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(said.header("retry-after"), "1");
    Ok(())
}

#[tokio::test]
async fn resources_of_the_request_are_evaluated_as_everywhere() -> anyhow::Result<()> {
    let fixture = fixture().await?;
    let reference =
        json!({"name": "subjectReference", "valueReference": {"reference": "ViewDefinition/typed-view"}});
    let body = |id: &str, decimal: &str| -> serde_json::Value {
        let text = format!(
            r#"{{"resourceType":"Condition","id":"{id}","extension":[{{"url":"urn:severity","valueDecimal":{decimal}}}]}}"#
        );
        serde_json::from_str(&text).unwrap_or_default()
    };
    let resource = |resource: serde_json::Value| json!({"name": "resource", "resource": resource});
    let parameters = json!([
        reference,
        resource(body("x-1", "1.10")),
        resource(json!({"resourceType": "Patient", "id": "y"})),
        resource(body("x-2", "7"))
    ]);
    let said = post(&fixture, &parameters).await?;
    assert_eq!(said.ids(), ["x-1", "x-2"]);
    assert!(said.text.contains("\"severity\":1.10,"), "{}", said.text);
    // Nothing of the server's is in, and nothing says how fresh that would be.
    assert_eq!(said.header("x-researchflow-as-of"), "");
    Ok(())
}

#[tokio::test]
async fn an_answer_that_the_batch_layer_has_cut_is_refused_rather_than_given_as_whole() -> anyhow::Result<()>
{
    let fixture = fixture().await?;
    fixture.batch.cut();
    let said = get(&fixture, "/$sql-run?subjectReference=ViewDefinition/waiting").await?;
    assert_eq!(said.refused(), (429, "throttled".into(), String::new()));
    Ok(())
}
