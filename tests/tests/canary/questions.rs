//! Questions over gRPC: answered ones and refused ones, to all three services.

use std::collections::HashMap;

use api::proto::{
    batch::{
        PutViewRequest, ReadPatientResourcesRequest, ReadResourcesRequest, RunViewRequest, VerifyRequest,
        read_resources_request::Reference, run_view_request,
    },
    serving::{
        CohortRequest, Criterion, CriterionTree, FreshnessDemand, QueryRequest, ResourceVersion,
        SearchParameter, SqlRequest, Value, criterion_tree::Tree, value::Kind,
    },
    speed::{self, PutResourceRequest, ScanRecentResourcesRequest},
};
use e2e::{
    ask::{all_of, equals, rows_where},
    house::{versions_of, view_of},
};
use serde_json::json;
use tonic::{Request, Status, Streaming};

use crate::{planted::Canary, world::World};

/// Reads an answer to its end.
async fn whole<T>(answer: Result<tonic::Response<Streaming<T>>, Status>) -> Result<(), Status> {
    let mut parts = answer?.into_inner();
    while parts.message().await?.is_some() {}
    Ok(())
}

/// Asks them all.
pub(crate) async fn ask(world: &mut World) -> anyhow::Result<()> {
    queries(world).await?;
    statements(world).await?;
    cohorts(world).await?;
    speed(world).await?;
    batch(world).await
}

fn search(name: &str, value: Canary) -> SearchParameter {
    SearchParameter {
        name: name.into(),
        modifier: String::new(),
        values: vec![value.text()],
    }
}

async fn queries(world: &mut World) -> anyhow::Result<()> {
    let patients = || all_of(&view_of("Patient"));
    let versions = |id: Canary| FreshnessDemand {
        at_least: vec![ResourceVersion {
            resource_type: "Patient".into(),
            id: id.text(),
            version: 99,
        }],
        ..FreshnessDemand::default()
    };
    let mut requests: Vec<QueryRequest> = ["id", "gender", "family", "version", "birth_date"]
        .map(|column| rows_where(&view_of("Patient"), column, &Canary::Filter.text()))
        .into();
    for name in ["gender", "birthdate", "_id", "_lastUpdated", "patient", "unknown"] {
        requests.push(QueryRequest {
            search: vec![search(name, Canary::Search)],
            ..patients()
        });
    }
    requests.extend([
        QueryRequest {
            filters: vec![equals("count", &Canary::Filter.text())],
            ..all_of(&view_of("Condition"))
        },
        QueryRequest {
            page_size: 1,
            page_token: Canary::Token.text(),
            ..patients()
        },
        QueryRequest {
            freshness: Some(FreshnessDemand {
                not_before: Canary::Token.text(),
                ..FreshnessDemand::default()
            }),
            ..patients()
        },
        QueryRequest {
            freshness: Some(versions(Canary::OtherId)),
            ..patients()
        },
    ]);
    let mut client = world.serving().await?;
    for request in requests {
        let mut request = Request::new(request);
        let metadata = request.metadata_mut();
        for name in [
            "x-planted",
            "authorization",
            "user-agent",
            "traceparent",
            "tracestate",
        ] {
            metadata.insert(name, Canary::Header.text().parse()?);
        }
        request.set_timeout(std::time::Duration::from_millis(500));
        let result = whole(client.query(request).await).await;
        world.keep_status("Query", result);
    }
    Ok(())
}

async fn statements(world: &mut World) -> anyhow::Result<()> {
    let (view, literal) = (view_of("Patient"), Canary::Sql.text());
    let planted = format!("'{literal}'");
    let statements = [
        format!("SELECT * FROM {view} WHERE family = {planted}"),
        format!("SELECT {planted}::int"),
        format!("SELECT CAST({planted} AS date) FROM {view}"),
        format!("SELECT id FROM {view} WHERE version = {planted}"),
        format!("SELECT id FROM {view} WHERE family = {planted} AND ("),
        format!("SELECT id FROM {view} WHERE family = {planted} {planted}"),
        format!("SELECT no_such_column FROM {view} WHERE family = {planted}"),
        format!("SELECT id FROM no_such_view WHERE family = {planted}"),
        format!("SELECT pg_sleep(1) FROM {view} WHERE family = {planted}"),
        format!("SELECT 1 / (length({planted}) - length({planted}))"),
        format!("SELECT family + 1 FROM {view} WHERE family = {planted}"),
        format!("SELECT substring({planted} FROM 1 FOR -5)"),
        format!("SELECT regexp_replace(family, '(' || {planted}, '') FROM {view}"),
        format!("SELECT json_array_length({planted}::json)"),
        format!("SELECT to_timestamp({planted}, 'YYYY')"),
        format!("SELECT ({planted} || family)::numeric FROM {view}"),
        format!("SELECT {planted}::interval"),
        format!("SELECT {planted}::inet"),
        format!("DELETE FROM {view} WHERE family = {planted}"),
        format!("SELECT * FROM {view} WHERE family = {planted}; DROP TABLE x"),
        format!("SELECT id FROM {view} /* {literal} */ WHERE ~"),
        format!("SELECT :given::int WHERE {planted} = ''"),
        format!("SELECT E'\\\\x{literal}"),
    ];
    let mut client = world.serving().await?;
    for statement in statements {
        let named = HashMap::from([(
            "given".to_owned(),
            Value {
                kind: Some(Kind::Text(Canary::Parameter.text())),
            },
        )]);
        let named_parameters = if statement.contains(":given") {
            named
        } else {
            HashMap::new()
        };
        let request = SqlRequest {
            statement,
            named_parameters,
            ..SqlRequest::default()
        };
        for explain in [false, true] {
            let request = SqlRequest {
                explain,
                ..request.clone()
            };
            let result = whole(client.sql(request).await).await;
            world.keep_status("Sql", result);
        }
    }
    let parameters = [
        Kind::Text(Canary::Parameter.text()),
        Kind::Json(Canary::Parameter.text()),
        Kind::Decimal(Canary::Parameter.text()),
    ];
    for kind in parameters {
        for statement in ["SELECT $1::int", "SELECT $1::date", "SELECT $1"] {
            let request = SqlRequest {
                statement: statement.into(),
                parameters: vec![Value {
                    kind: Some(kind.clone()),
                }],
                ..SqlRequest::default()
            };
            let result = whole(client.sql(request).await).await;
            world.keep_status("Sql with a parameter", result);
        }
    }
    Ok(())
}

async fn cohorts(world: &mut World) -> anyhow::Result<()> {
    let mut client = world.serving().await?;
    for (column, types) in [
        ("id", vec!["Condition".to_owned()]),
        ("gender", vec![]),
        ("version", vec![]),
        ("id", vec![Canary::Search.text()]),
    ] {
        let criterion = Criterion {
            view: view_of("Patient"),
            filters: vec![equals(column, &Canary::PatientId.text())],
            search: vec![search("birthdate", Canary::Search)],
            ..Criterion::default()
        };
        for search in [true, false] {
            let mut criterion = criterion.clone();
            if !search {
                criterion.search.clear();
            }
            let criteria = CriterionTree {
                tree: Some(Tree::Criterion(criterion)),
            };
            let request = CohortRequest {
                criteria: Some(criteria),
                resource_types: types.clone(),
                ..CohortRequest::default()
            };
            let result = whole(client.cohort(request).await).await;
            world.keep_status("Cohort", result);
        }
    }
    Ok(())
}

async fn speed(world: &mut World) -> anyhow::Result<()> {
    let mut client = world.speed().await?;
    for name in ["_id", "gender", "code", "patient", "birthdate", "code:text"] {
        let parameter = speed::SearchParameter {
            name: name.into(),
            value: Canary::Search.text(),
        };
        let request = ScanRecentResourcesRequest {
            resource_type: "Patient".into(),
            parameters: vec![parameter],
            ..Default::default()
        };
        let result = whole(client.scan_recent_resources(request).await).await;
        world.keep_status("ScanRecentResources", result);
    }
    for body in [
        Canary::Broken.text(),
        json!({"resourceType": "Patient", "id": Canary::PatientId.text(), "meta": Canary::Broken.text()})
            .to_string(),
    ] {
        let request = PutResourceRequest {
            body: body.into_bytes(),
            time_to_live: None,
        };
        let result = client.put_resource(request).await;
        world.keep_status("PutResource", result);
    }
    let flush = speed::FlushRequest {
        resource_types: vec![],
        confirm: Canary::Token.text(),
    };
    let result = client.flush(flush).await;
    world.keep_status("Flush", result);
    let restore = speed::RestoreRequest {
        name: Canary::Token.text(),
        confirm: Canary::Token.text(),
    };
    let result = client.restore(restore).await;
    world.keep_status("Restore", result);
    let result = client
        .register_subscriptions(speed::RegisterSubscriptionsRequest {})
        .await;
    world.keep_status("RegisterSubscriptions", result);
    Ok(())
}

async fn batch(world: &mut World) -> anyhow::Result<()> {
    let mut client = world.house.operator().await?.client;
    let mut constant = versions_of("Patient", &[("family", "name.first().family")]);
    constant["constant"] = json!([{"name": "planted", "valueString": Canary::Filter.text()}]);
    constant["where"] = json!([{"path": "name.family = %planted and %unknown"}]);
    let definitions = [
        Canary::Broken.text(),
        format!("{{\"resourceType\": {}", json!(Canary::Broken.text())),
        json!({"resourceType": Canary::Broken.text()}).to_string(),
        constant.to_string(),
    ];
    for definition in definitions {
        let request = RunViewRequest {
            view: Some(run_view_request::View::DefinitionJson(definition.clone())),
            ..RunViewRequest::default()
        };
        let result = whole(client.run_view(request).await).await;
        world.keep_status("RunView", result);
        let result = client
            .put_view(PutViewRequest {
                definition_json: definition,
                force: false,
            })
            .await;
        world.keep_status("PutView", result);
    }
    let request = RunViewRequest {
        view: Some(run_view_request::View::Name(view_of("Condition"))),
        ids: vec![Canary::PatientId.text(), Canary::Filter.text()],
        patient_ids: vec![Canary::PatientId.text(), Canary::Filter.text()],
        ..RunViewRequest::default()
    };
    let result = whole(client.run_view(request).await).await;
    world.keep_status("RunView", result);
    for id in [Canary::PatientId, Canary::Filter] {
        let request = ReadPatientResourcesRequest {
            resource_types: vec!["Condition".into()],
            patient_ids: vec![id.text()],
        };
        let result = whole(client.read_patient_resources(request).await).await;
        world.keep_status("ReadPatientResources", result);
        let references = vec![Reference {
            resource_type: "Patient".into(),
            id: id.text(),
            version: 7,
        }];
        let result = whole(client.read_resources(ReadResourcesRequest { references }).await).await;
        world.keep_status("ReadResources", result);
    }
    // Its answer lists ids; what is logged of it does not.
    let result = whole(
        client
            .verify(VerifyRequest {
                views: vec![],
                sample: 1.0,
            })
            .await,
    )
    .await;
    world.keep_status("Verify", result);
    Ok(())
}
