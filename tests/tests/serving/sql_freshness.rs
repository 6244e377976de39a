//! Layers and freshness of answers to questions in SQL.

use anyhow::Context as _;
use api::proto::serving::{
    Degradation, DegradationReason as Reason, FreshnessDemand, GetStatisticsRequest, Layers, ResourceVersion,
    SqlRequest,
};
use chrono::TimeDelta;
use e2e::deadline;
use fhir_core::view::CompiledView;
use tonic::Code;

use crate::fakes::PATIENCE;
use crate::fixture::{CONDITION, Fixture, condition, join, join_type, mark, put, three};
use crate::sql::{refused, statement};

fn asked_with(text: &str, demand: FreshnessDemand) -> SqlRequest {
    SqlRequest {
        freshness: Some(demand),
        ..statement(text)
    }
}

#[tokio::test]
async fn rows_and_freshness_are_of_one_snapshot_and_of_the_layers_asked() -> anyhow::Result<()> {
    let fixture = Fixture::over(&three()).await?;
    put(&fixture.owner, "others").await?;
    join(&fixture.owner, 2, &three()).await?;
    let changed = condition("c-1", 2, "p-1", "101", "changed", "1");
    fixture.speed.round(CONDITION, vec![changed], mark(5));
    let code_of = "SELECT a.code, b.code FROM conditions a JOIN others b USING (id) WHERE id = 'c-1'";
    let merged = deadline::until("the change is merged", PATIENCE, || async {
        let answer = fixture.gateway.sql(statement(code_of)).await.ok()?;
        (answer.lines() == ["101|101"]).then_some(answer)
    })
    .await?;
    let freshness = merged.header.freshness.expect("freshness");
    assert!(freshness.speed_as_of.is_some() && freshness.as_of == freshness.speed_as_of);
    assert!(freshness.batch_as_of.is_some() && freshness.staleness.is_some());
    assert_eq!(freshness.view_state, "active");

    let demand = |layers: Layers| FreshnessDemand {
        layers: layers.into(),
        ..Default::default()
    };
    let of = asked_with;
    let batch = fixture.gateway.sql(of(code_of, demand(Layers::Batch))).await?;
    assert_eq!(batch.lines(), ["100|100"]);
    let freshness = batch.header.freshness.expect("freshness");
    assert!(freshness.speed_as_of.is_none() && freshness.as_of == freshness.batch_as_of);
    let reasons = freshness.degradations.iter().map(Degradation::reason);
    assert!(reasons.into_iter().any(|reason| reason == Reason::SpeedLayerOff));
    let qualified = "SELECT code FROM sqlonfhir_batch.conditions WHERE id = 'c-1'";
    assert_eq!(
        fixture
            .gateway
            .sql(of(qualified, demand(Layers::Batch)))
            .await?
            .lines(),
        ["100"]
    );
    refused(&fixture, statement(qualified), Code::InvalidArgument).await;
    refused(
        &fixture,
        of("SELECT * FROM sqlonfhir.conditions", demand(Layers::Batch)),
        Code::InvalidArgument,
    )
    .await;
    let statistics = fixture
        .gateway
        .client
        .clone()
        .get_statistics(GetStatisticsRequest {})
        .await?
        .into_inner();
    let of_view = |name: &str| {
        statistics
            .views
            .iter()
            .find(|view| view.view == name)
            .map_or(0, |view| view.queries)
    };
    assert!(of_view("others") >= 2 && of_view("conditions") > of_view("others"));
    assert!(statistics.speed_layer_queries < statistics.total_queries && statistics.raw_queries == 0);
    Ok(())
}

#[tokio::test]
async fn an_answer_is_as_fresh_as_was_asked() -> anyhow::Result<()> {
    let fixture = Fixture::over(&three()).await?;
    fixture.speed.round(CONDITION, vec![], mark(5));
    deadline::until("the mark is applied", PATIENCE, || async {
        let answer = fixture.gateway.sql(statement("TABLE conditions")).await.ok()?;
        answer.header.freshness?.speed_as_of
    })
    .await?;
    let of = asked_with;
    // As fresh as the least fresh view that it names: of another type no mark was applied.
    let text = r#"{"resourceType": "ViewDefinition", "name": "patients", "resource": "Patient", "status": "active",
        "select": [{"column": [{"name": "id", "path": "getResourceKey()"}]}]}"#;
    fixture
        .owner
        .put_view(&CompiledView::from_json(text)?, text, false)
        .await?;
    join_type(&fixture.owner, "Patient", 3, &[]).await?;
    let as_of = async |text: &str| -> anyhow::Result<_> {
        let freshness = fixture
            .gateway
            .sql(statement(text))
            .await?
            .header
            .freshness
            .context("freshness")?;
        Ok((
            freshness.as_of.context("as_of")?.seconds,
            freshness.speed_as_of.is_some(),
        ))
    };
    let (patients, conditions) = (as_of("TABLE patients").await?, as_of("TABLE conditions").await?);
    let both = as_of("SELECT * FROM conditions CROSS JOIN patients").await?;
    assert!(
        patients.0 + 5 < conditions.0 && conditions.1 && !patients.1,
        "{patients:?} {conditions:?}"
    );
    assert_eq!(both, patients);

    // Read your own write, through the pull.
    fixture.speed.at_pull(
        CONDITION,
        vec![condition("c-3", 4, "p-2", "104", "pulled", "1")],
        6,
    );
    let at_least = FreshnessDemand {
        at_least: vec![ResourceVersion {
            resource_type: CONDITION.into(),
            id: "c-3".into(),
            version: 4,
        }],
        ..Default::default()
    };
    let pulled = fixture
        .gateway
        .sql(of("SELECT code FROM conditions WHERE id = 'c-3'", at_least))
        .await?;
    assert_eq!(pulled.lines(), ["104"]);

    // Served or refused, never silently older; what names no view cannot be too old.
    let within = |span| FreshnessDemand {
        max_staleness: Some(api::time::duration(span)),
        layers: Layers::Batch.into(),
        ..Default::default()
    };
    refused(
        &fixture,
        of("SELECT 1 FROM conditions", within(TimeDelta::seconds(2))),
        Code::FailedPrecondition,
    )
    .await;
    fixture
        .gateway
        .sql(of("SELECT 1 FROM conditions", within(TimeDelta::hours(1))))
        .await?;
    let none = fixture
        .gateway
        .sql(of("SELECT 1", within(TimeDelta::zero())))
        .await?;
    assert!(none.header.freshness.expect("freshness").as_of.is_none());

    Ok(())
}
