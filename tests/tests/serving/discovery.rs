//! Discovery: every question that `DescribeView` says can be asked is asked, made of its answer alone.

use std::path::Path;

use api::FILE_DESCRIPTOR_SET;
use api::proto::serving::{
    CohortRequest, DescribeViewRequest, DescribeViewResponse, ListViewsRequest, Operator, QueryRequest,
    SearchParameter, ViewSummary,
};
use e2e::deadline;
use fhir_core::resource::State;
use fhir_core::view::CompiledView;
use prost_reflect::{DescriptorPool, DynamicMessage};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use view_store::ViewStore;

use crate::cohort::{gone, in_view, request, state};
use crate::fakes::PATIENCE;
use crate::fixture::{CONDITION, Fixture, compare, condition, join_type, mark, now, put, three};

/// A column of each type, single and several, and parameters bound by tags.
const EVERYTHING: &str = r#"{"resourceType": "ViewDefinition", "name": "everything", "resource": "Observation", "status": "active",
  "url": "urn:view:everything", "description": "each kind of column", "select": [{"column": [
    {"name": "id", "path": "getResourceKey()", "type": "id"},
    {"name": "whose", "path": "subject.reference"},
    {"name": "flag", "path": "value.ofType(boolean)", "type": "boolean", "tag": [{"name": "search-param", "value": "flag"}]},
    {"name": "whole", "path": "value.ofType(integer)", "type": "integer", "tag": [{"name": "search-param", "value": "whole"}]},
    {"name": "large", "path": "value.ofType(integer)", "tag": [{"name": "ansi/type", "value": "BIGINT"}]},
    {"name": "exact", "path": "value.ofType(Quantity).value", "type": "decimal"},
    {"name": "rounded", "path": "value.ofType(Quantity).value", "type": "decimal", "tag": [{"name": "ansi/type", "value": "NUMERIC(6,2)"}]},
    {"name": "about", "path": "value.ofType(Quantity).value", "tag": [{"name": "ansi/type", "value": "DOUBLE PRECISION"}]},
    {"name": "taken", "path": "effective.ofType(dateTime)", "type": "dateTime"},
    {"name": "day", "path": "effective.ofType(dateTime)", "tag": [{"name": "ansi/type", "value": "DATE"}, {"name": "search-param", "value": "day"}]},
    {"name": "clock", "path": "effective.ofType(dateTime)", "tag": [{"name": "ansi/type", "value": "TIMESTAMP"}, {"name": "search-param", "value": "clock"}]},
    {"name": "hour", "path": "value.ofType(time)", "tag": [{"name": "ansi/type", "value": "TIME"}]},
    {"name": "issued", "path": "issued", "type": "instant", "tag": [{"name": "search-param", "value": "issued"}]},
    {"name": "quantity", "path": "value.ofType(Quantity)", "type": "Quantity"},
    {"name": "codes", "path": "code.coding.code", "type": "code", "collection": true},
    {"name": "counts", "path": "component.value.ofType(integer)", "type": "integer", "collection": true},
    {"name": "status", "path": "status", "type": "code"},
    {"name": "note", "path": "code.text", "type": "string"}
  ]}, {"forEach": "code.coding", "column": [
    {"name": "system", "path": "system", "type": "uri"},
    {"name": "code", "path": "code", "type": "code"}]}]}"#;

async fn register(owner: &ViewStore, text: &str) -> anyhow::Result<String> {
    let view = CompiledView::from_json(text)?;
    owner.put_view(&view, text, false).await?;
    Ok(view.resource_type().to_owned())
}

/// A resource of each type, as bare as may be.
fn states(resource_type: &str) -> Vec<State> {
    if resource_type == CONDITION {
        return three();
    }
    let body = |id: &str| {
        format!(
            r#"{{"resourceType":"{resource_type}","id":"{id}","subject":{{"reference":"Patient/p-1"}},"status":"final","code":{{"text":"example"}},
                "category":[{{"coding":[{{"code":"laboratory"}}]}}],"valueQuantity":{{"value":7.1}},"effectiveDateTime":"2020-01-31T10:00:00Z"}}"#
        )
    };
    vec![state("x-1", 1, body("x-1")), state("x-2", 1, body("x-2"))]
}

/// The deployed views, one with everything, and one that is not materialised.
async fn over_all_views() -> anyhow::Result<(Fixture, usize)> {
    let fixture = Fixture::over(&three()).await?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/views");
    let mut types = std::collections::BTreeSet::new();
    let mut views = 3;
    for entry in std::fs::read_dir(folder)? {
        types.insert(register(&fixture.owner, &std::fs::read_to_string(entry?.path())?).await?);
        views += 1;
    }
    types.insert(register(&fixture.owner, EVERYTHING).await?);
    for (n, resource_type) in (2..).zip(&types) {
        join_type(&fixture.owner, resource_type, n, &states(resource_type)).await?;
    }
    put(&fixture.owner, "later").await?;
    fixture.batch.hold(now(), three());
    Ok((fixture, views))
}

impl Fixture {
    async fn list(&self) -> anyhow::Result<Vec<ViewSummary>> {
        let mut client = self.gateway.client.clone();
        Ok(client.list_views(ListViewsRequest {}).await?.into_inner().views)
    }

    async fn describe(&self, view: &str) -> anyhow::Result<DescribeViewResponse> {
        let request = DescribeViewRequest { view: view.into() };
        Ok(self
            .gateway
            .client
            .clone()
            .describe_view(request)
            .await?
            .into_inner())
    }
}

/// Reads JSON as protobuf's mapping has it: by the descriptors, as any client in any language does.
fn from_json<T: prost::Message + Default>(message: &str, json: &str) -> anyhow::Result<T> {
    let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET)?;
    let descriptor = pool
        .get_message_by_name(&format!("researchflow.serving.v1.{message}"))
        .expect("the contract has it");
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let dynamic = DynamicMessage::deserialize(descriptor, &mut deserializer)?;
    deserializer.end()?;
    Ok(dynamic.transcode_to()?)
}

#[tokio::test]
async fn whatever_is_described_can_be_asked() -> anyhow::Result<()> {
    let (fixture, expected) = over_all_views().await?;
    let mut reader = PgConnection::connect(&fixture.owner_url).await?;
    sqlx::raw_sql("SET ROLE researchflow_reader")
        .execute(&mut reader)
        .await?;
    let views = fixture.list().await?;
    assert_eq!(views.len(), expected);
    let (mut searches, mut filters) = (0, 0);
    for view in views {
        let described = fixture.describe(&view.name).await?;
        assert_eq!(described.summary.as_ref().map(|s| &s.name), Some(&view.name));
        let of_view = || QueryRequest {
            view: view.name.clone(),
            ..Default::default()
        };
        for binding in &described.search {
            assert!(!binding.forms.is_empty(), "{binding:?}");
            for form in &binding.forms {
                assert!(
                    form.modifier.is_empty() || binding.modifiers.contains(&form.modifier),
                    "{binding:?}"
                );
                assert!(
                    !form.values.is_empty() && !form.examples.is_empty(),
                    "{binding:?}"
                );
                for example in &form.examples {
                    let search = vec![SearchParameter {
                        name: binding.name.clone(),
                        modifier: form.modifier.clone(),
                        values: vec![example.clone()],
                    }];
                    let asked = fixture.ask(QueryRequest { search, ..of_view() }).await;
                    asked.unwrap_or_else(|error| {
                        panic!(
                            "{} {}:{} {example}: {error}",
                            view.name, binding.name, form.modifier
                        )
                    });
                    searches += 1;
                }
            }
        }
        assert_eq!(described.filters.len(), described.columns.len());
        for (filter, column) in described.filters.iter().zip(&described.columns) {
            assert!(
                filter.column == column.name && !filter.operators.is_empty(),
                "{filter:?}"
            );
            for operator in filter.operators() {
                let takes_none = [Operator::IsNull, Operator::IsNotNull].contains(&operator);
                let values: &[&str] = if takes_none { &[] } else { &[&filter.example] };
                let asked = QueryRequest {
                    filters: vec![compare(&filter.column, operator, values)],
                    ..of_view()
                };
                let answer = fixture.ask(asked).await;
                answer
                    .unwrap_or_else(|error| panic!("{} {} {operator:?}: {error}", view.name, filter.column));
                filters += 1;
            }
        }
        let query: QueryRequest = from_json("QueryRequest", &described.example_query)?;
        assert_eq!(query.view, view.name);
        fixture.ask(query).await?;
        let used = described.cohort_use.clone().expect("said of every view");
        assert_eq!(
            used.usable,
            used.reason.is_empty() && !described.example_cohort.is_empty(),
            "{used:?}"
        );
        if used.usable {
            let cohort: CohortRequest = from_json("CohortRequest", &described.example_cohort)?;
            fixture.gateway.cohort(cohort).await?;
        } else {
            fixture
                .gateway
                .cohort(request(in_view(&view.name)))
                .await
                .expect_err("it says so");
        }
        assert_eq!(view.materialized, !described.example_sql.is_empty());
        if view.materialized {
            sqlx::raw_sql(AssertSqlSafe(described.example_sql.clone()))
                .execute(&mut reader)
                .await?;
        }
        assert!(serde_json::from_str::<serde_json::Value>(&described.definition_json).is_ok());
    }
    assert!(
        searches > 120 && filters > 500,
        "{searches} searches, {filters} filters"
    );
    Ok(())
}

#[tokio::test]
async fn a_view_says_what_it_is_good_for() -> anyhow::Result<()> {
    let (fixture, _) = over_all_views().await?;
    let uses = async |view: &str| anyhow::Ok(fixture.describe(view).await?.cohort_use.expect("said"));
    let lab = uses("observation_lab").await?;
    assert!(
        lab.usable && !lab.every_patient && lab.patient_columns == ["patient_id"],
        "{lab:?}"
    );
    let people = uses("patient_simple").await?;
    assert!(
        people.usable && people.every_patient && people.patient_columns.is_empty(),
        "{people:?}"
    );
    let later = uses("later").await?;
    assert!(
        !later.usable && later.reason.contains("not materialised"),
        "{later:?}"
    );

    let described = fixture.describe("everything").await?;
    let summary = described.summary.clone().expect("a summary");
    assert_eq!(
        (summary.url.as_str(), summary.resource_type.as_str()),
        ("urn:view:everything", "Observation")
    );
    assert!(
        described
            .notes
            .iter()
            .any(|note| note.contains("count distinct values of id")),
        "{:?}",
        described.notes
    );
    assert!(
        described.notes.iter().any(|note| note.contains("no row at all")),
        "{:?}",
        described.notes
    );
    let form = |name: &str, modifier: &str| {
        let binding = described
            .search
            .iter()
            .find(|binding| binding.name == name)
            .expect("bound");
        let form = binding.forms.iter().find(|form| form.modifier == modifier);
        form.map(|form| form.values.clone()).unwrap_or_default()
    };
    assert!(form("code", "").contains("system|code"));
    assert!(form("code", "text").contains("words"));
    assert!(form("patient", "").contains("Patient/id"));
    assert!(form("day", "").contains("YYYY-MM-DD") && !form("day", "").contains("hh:mm"));
    assert!(form("issued", "").contains("hh:mm:ss"));
    let filter = |name: &str| {
        described
            .filters
            .iter()
            .find(|filter| filter.column == name)
            .cloned()
            .expect("a filter")
    };
    assert!(
        !filter("flag")
            .operators()
            .any(|operator| operator == Operator::Less)
    );
    assert!(
        filter("note")
            .operators()
            .any(|operator| operator == Operator::Like)
    );
    assert!(filter("codes").values.contains("any member"));
    Ok(())
}

#[tokio::test]
async fn rows_are_counted_as_answers_have_them() -> anyhow::Result<()> {
    let fixture = Fixture::over(&three()).await?;
    let counts = async || {
        let views = fixture.list().await?;
        anyhow::Ok((views[0].row_count, views[0].batch_row_count))
    };
    assert_eq!(counts().await?, (Some(3), Some(3)));
    let live = vec![
        condition("c-4", 1, "p-3", "400", "new", "4"),
        condition("c-5", 1, "p-3", "400", "new", "4"),
        condition("c-1", 2, "p-1", "101", "changed", "1"),
        gone("c-2", 3),
    ];
    fixture.speed.round(CONDITION, live, mark(5));
    fixture.until_ids(&["c-1", "c-3", "c-4", "c-5"]).await?;
    assert_eq!(counts().await?, (Some(4), Some(3)));
    put(&fixture.owner, "later").await?;
    deadline::until("the view is listed", PATIENCE, || async {
        let views = fixture.list().await.ok()?;
        let later = views.iter().find(|view| view.name == "later")?;
        assert_eq!(
            (later.row_count, later.batch_row_count, later.materialized),
            (None, None, false)
        );
        Some(())
    })
    .await
}
