//! BatchService.

use api::proto::batch as proto;
use e2e::house::view_of;
use serde_json::json;
use tonic::Code;

use super::Row;
use crate::{made::CANARY, whole::views};

pub(super) fn rows() -> Vec<(&'static str, Row)> {
    let patient = || "Patient".to_owned();
    let [definition, _] = views().map(|view| view.to_string());
    vec![
        ("ListViews", Row::of_nothing(&proto::ListViewsRequest {})),
        (
            "WatchViews",
            Row {
                endless: true,
                ..Row::of_nothing(&proto::WatchViewsRequest {})
            },
        ),
        ("PutView", put_view(definition)),
        (
            "DropView",
            Row {
                of_good: Code::NotFound,
                of_empty: Code::NotFound,
                names: &["name"],
                ..Row::of(&proto::DropViewRequest {
                    name: "absent".into(),
                })
            },
        ),
        (
            "Refresh",
            Row {
                names: &["resource_types"],
                ..Row::of_nothing(&proto::RefreshRequest {
                    resource_types: vec![patient()],
                    kind: proto::RefreshKind::Incremental.into(),
                })
            },
        ),
        (
            "CancelRefresh",
            Row::of(&proto::CancelRefreshRequest {
                resource_type: patient(),
            }),
        ),
        ("RunView", run_view()),
        (
            "ReadChanges",
            Row {
                any_number: &["n", "xmin"],
                ..Row::of(&proto::ReadChangesRequest {
                    since: vec![proto::TypePosition {
                        resource_type: patient(),
                        position: None,
                    }],
                    ..Default::default()
                })
            },
        ),
        ("ReadResources", read_resources()),
        (
            "ReadPatientResources",
            Row::of(&proto::ReadPatientResourcesRequest {
                resource_types: vec!["Condition".into()],
                patient_ids: vec!["a".into()],
            })
            .bad(
                "a type that is nobody's",
                &proto::ReadPatientResourcesRequest {
                    resource_types: vec!["StructureDefinition".into()],
                    patient_ids: vec![CANARY.into()],
                },
                "resource_types",
            ),
        ),
        (
            "Verify",
            Row {
                names: &["views"],
                ..Row::of_nothing(&proto::VerifyRequest {
                    views: vec![view_of("Patient")],
                    sample: 1.0,
                })
            }
            .bad(
                "more than all",
                &proto::VerifyRequest {
                    views: Vec::new(),
                    sample: 1.5,
                },
                "sample",
            ),
        ),
        ("GetStatus", Row::of_nothing(&proto::GetStatusRequest {})),
    ]
}

fn read_resources() -> Row {
    Row::of_nothing(&proto::ReadResourcesRequest {
        references: vec![reference("a")],
    })
    .bad(
        "too many references",
        &proto::ReadResourcesRequest {
            references: vec![reference("a"); 10_001],
        },
        "references",
    )
}

fn reference(id: &str) -> proto::read_resources_request::Reference {
    proto::read_resources_request::Reference {
        resource_type: "Patient".into(),
        id: id.into(),
        version: 0,
    }
}

fn put_view(definition: String) -> Row {
    let of = |definition_json: String| proto::PutViewRequest {
        definition_json,
        force: false,
    };
    let columns: Vec<_> = (0..2_000)
        .map(|number| json!({"name": format!("{number}bad"), "path": "gender..x"}))
        .collect();
    let bad = json!({
        "resourceType": "ViewDefinition", "name": "bad", "status": "active", "resource": "Patient", "select": [{"column": columns}],
    });
    let nested = format!("{}1{}", "[".repeat(20_000), "]".repeat(20_000));
    let path = format!("{}id{}", "(".repeat(20_000), ")".repeat(20_000));
    let deep = json!({
        "resourceType": "ViewDefinition", "name": "deep", "status": "active", "resource": "Patient",
        "select": [{"column": [{"name": "id", "path": path}]}],
    });
    Row::of(&of(definition))
        .bad("nested JSON", &of(nested), "definition_json")
        .bad("a nested path", &of(deep.to_string()), "definition_json")
        .bad("thousands of mistakes", &of(bad.to_string()), "definition_json")
        .bad(
            "another resource",
            &of("{\"resourceType\":\"Patient\"}".into()),
            "definition_json",
        )
}

fn run_view() -> Row {
    use proto::run_view_request::View;
    let good = proto::RunViewRequest {
        view: Some(View::Name(view_of("Patient"))),
        ..Default::default()
    };
    let row = Row::of(&good).bad(
        "no definition",
        &proto::RunViewRequest {
            view: Some(View::DefinitionJson("{}".into())),
            ..good.clone()
        },
        "definition_json",
    );
    Row {
        names: &["name"],
        ..row
    }
}
