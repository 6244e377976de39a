//! Every method of every service: a good request, what an empty one gets, and bad ones that only whoever knows the method can think of.

use std::collections::BTreeMap;

use api::proto::{batch, serving, speed};
use e2e::house::view_of;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor};
use serde_json::json;
use serving::{criterion_tree::Tree, filter::Filter as Kind};
use tonic::Code;

use crate::{made::CANARY, whole::views};

/// How deep is too deep for the services, and still shallow enough for the decoder, which gives up at 100.
const DEEP: usize = 40;

/// What is known of a method.
pub(crate) struct Row {
    /// A request that is answered.
    pub(crate) good: Vec<u8>,
    /// What is said to it.
    pub(crate) of_good: Code,
    /// What is said to a request with nothing in it.
    pub(crate) of_empty: Code,
    /// Its answer has no end.
    pub(crate) endless: bool,
    /// Fields whose value may stand in a message: names of views, columns and parameters, which whoever has mistyped one wants to see.
    pub(crate) names: &'static [&'static str],
    /// Numbers of which any makes sense.
    pub(crate) any_number: &'static [&'static str],
    /// Requests that are bad in ways of their own.
    pub(crate) further: Vec<Bad>,
}

/// A bad request, what it gets, and the field that is to be named.
pub(crate) struct Bad {
    pub(crate) what: &'static str,
    pub(crate) request: Vec<u8>,
    pub(crate) code: Code,
    pub(crate) field: &'static str,
}

impl Row {
    fn of(good: &impl Message) -> Self {
        Self {
            good: good.encode_to_vec(),
            of_good: Code::Ok,
            of_empty: Code::InvalidArgument,
            endless: false,
            names: &[],
            any_number: &[],
            further: Vec::new(),
        }
    }

    /// A method that asks for nothing, or whose every field may be left out.
    fn of_nothing(good: &impl Message) -> Self {
        Self {
            of_empty: Code::Ok,
            ..Self::of(good)
        }
    }

    fn bad(mut self, what: &'static str, request: &impl Message, field: &'static str) -> Self {
        self.further.push(Bad {
            what,
            request: request.encode_to_vec(),
            code: Code::InvalidArgument,
            field,
        });
        self
    }
}

/// The methods of the contracts, by path.
pub(crate) fn methods() -> anyhow::Result<BTreeMap<String, MethodDescriptor>> {
    let pool = DescriptorPool::decode(api::FILE_DESCRIPTOR_SET)?;
    let methods = pool
        .services()
        .flat_map(|service| service.methods().collect::<Vec<_>>());
    Ok(methods
        .map(|method| {
            let service = method.parent_service().full_name().to_owned();
            (format!("/{service}/{}", method.name()), method)
        })
        .collect())
}

/// A good request, as a message of its descriptor.
pub(crate) fn message(method: &MethodDescriptor, row: &Row) -> anyhow::Result<DynamicMessage> {
    Ok(DynamicMessage::decode(method.input(), row.good.as_slice())?)
}

/// What is known of the methods, by path.
pub(crate) fn table() -> BTreeMap<String, Row> {
    [
        ("researchflow.batch.v1.BatchService", batch_rows()),
        ("researchflow.speed.v1.SpeedService", speed_rows()),
        ("researchflow.serving.v1.ServingService", serving_rows()),
    ]
    .into_iter()
    .flat_map(|(service, rows)| {
        rows.into_iter()
            .map(move |(method, row)| (format!("/{service}/{method}"), row))
    })
    .collect()
}

fn batch_rows() -> Vec<(&'static str, Row)> {
    let patient = || "Patient".to_owned();
    let [definition, _] = views().map(|view| view.to_string());
    vec![
        ("ListViews", Row::of_nothing(&batch::ListViewsRequest {})),
        (
            "WatchViews",
            Row {
                endless: true,
                ..Row::of_nothing(&batch::WatchViewsRequest {})
            },
        ),
        ("PutView", put_view(definition)),
        (
            "DropView",
            Row {
                of_good: Code::NotFound,
                of_empty: Code::NotFound,
                names: &["name"],
                ..Row::of(&batch::DropViewRequest {
                    name: "absent".into(),
                })
            },
        ),
        (
            "Refresh",
            Row {
                names: &["resource_types"],
                ..Row::of_nothing(&batch::RefreshRequest {
                    resource_types: vec![patient()],
                    kind: batch::RefreshKind::Incremental.into(),
                })
            },
        ),
        (
            "CancelRefresh",
            Row::of(&batch::CancelRefreshRequest {
                resource_type: patient(),
            }),
        ),
        ("RunView", run_view()),
        (
            "ReadChanges",
            Row {
                any_number: &["n", "xmin"],
                ..Row::of(&batch::ReadChangesRequest {
                    since: vec![batch::TypePosition {
                        resource_type: patient(),
                        position: None,
                    }],
                    ..Default::default()
                })
            },
        ),
        (
            "ReadResources",
            Row::of_nothing(&batch::ReadResourcesRequest {
                references: vec![reference("a")],
            })
            .bad(
                "too many references",
                &batch::ReadResourcesRequest {
                    references: vec![reference("a"); 10_001],
                },
                "references",
            ),
        ),
        (
            "ReadPatientResources",
            Row::of(&batch::ReadPatientResourcesRequest {
                resource_types: vec!["Condition".into()],
                patient_ids: vec!["a".into()],
            })
            .bad(
                "a type that is nobody's",
                &batch::ReadPatientResourcesRequest {
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
                ..Row::of_nothing(&batch::VerifyRequest {
                    views: vec![view_of("Patient")],
                    sample: 1.0,
                })
            }
            .bad(
                "more than all",
                &batch::VerifyRequest {
                    views: Vec::new(),
                    sample: 1.5,
                },
                "sample",
            ),
        ),
        ("GetStatus", Row::of_nothing(&batch::GetStatusRequest {})),
    ]
}

fn reference(id: &str) -> batch::read_resources_request::Reference {
    batch::read_resources_request::Reference {
        resource_type: "Patient".into(),
        id: id.into(),
        version: 0,
    }
}

fn put_view(definition: String) -> Row {
    let of = |definition_json: String| batch::PutViewRequest {
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
    use batch::run_view_request::View;
    let good = batch::RunViewRequest {
        view: Some(View::Name(view_of("Patient"))),
        ..Default::default()
    };
    let row = Row::of(&good).bad(
        "no definition",
        &batch::RunViewRequest {
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

fn speed_rows() -> Vec<(&'static str, Row)> {
    let patient = || "Patient".to_owned();
    let unkept = |row: Row| Row {
        of_good: Code::FailedPrecondition,
        ..row
    };
    let cursor = speed::TypeCursor {
        resource_type: patient(),
        n: 0,
    };
    let wait = prost_types::Duration {
        seconds: 0,
        nanos: 50_000_000,
    };
    let put = |body: &str| speed::PutResourceRequest {
        body: body.into(),
        time_to_live: None,
    };
    let good = r#"{"resourceType":"Patient","id":"put-1","meta":{"versionId":"1","lastUpdated":"2026-01-01T00:00:00Z"}}"#;
    vec![
        (
            "Changes",
            Row {
                any_number: &["n"],
                ..Row::of(&speed::ChangesRequest {
                    cursors: vec![cursor],
                    wait: Some(wait),
                })
            },
        ),
        ("ScanRecentResources", scan()),
        (
            "Pull",
            Row::of_nothing(&speed::PullRequest {
                resource_types: vec![patient()],
            }),
        ),
        (
            "PutResource",
            Row::of(&put(good))
                .bad("nested JSON", &put(&"[".repeat(100_000)), "body")
                .bad("no resource", &put("[1]"), "body")
                .bad(
                    "no version",
                    &put(r#"{"resourceType":"Patient","id":"put-1"}"#),
                    "body",
                ),
        ),
        (
            "Flush",
            Row::of(&speed::FlushRequest {
                resource_types: vec![patient()],
                confirm: "flush".into(),
            }),
        ),
        (
            "RegisterSubscriptions",
            unkept(Row {
                of_empty: Code::FailedPrecondition,
                ..Row::of(&speed::RegisterSubscriptionsRequest {})
            }),
        ),
        (
            "Backup",
            unkept(Row {
                of_empty: Code::FailedPrecondition,
                ..Row::of(&speed::BackupRequest {})
            }),
        ),
        (
            "ListBackups",
            unkept(Row {
                of_empty: Code::FailedPrecondition,
                ..Row::of(&speed::ListBackupsRequest {})
            }),
        ),
        (
            "Restore",
            unkept(Row {
                of_empty: Code::FailedPrecondition,
                ..Row::of(&speed::RestoreRequest {
                    name: String::new(),
                    confirm: "restore".into(),
                })
            }),
        ),
        ("GetStatus", Row::of_nothing(&speed::GetStatusRequest {})),
    ]
}

fn scan() -> Row {
    let of = |parameters| speed::ScanRecentResourcesRequest {
        resource_type: "Patient".into(),
        parameters,
        ..Default::default()
    };
    let gender = |value: &str| speed::SearchParameter {
        name: "gender".into(),
        value: value.into(),
    };
    let row = Row::of(&of(Vec::new()))
        .bad(
            "too many parameters",
            &of(vec![gender("female"); 51]),
            "parameters",
        )
        .bad(
            "too many values",
            &of(vec![gender(&"female,".repeat(2_000))]),
            "parameters",
        );
    Row {
        names: &["name"],
        ..row
    }
}

fn serving_rows() -> Vec<(&'static str, Row)> {
    vec![
        ("Query", query()),
        ("Sql", sql()),
        ("Cohort", cohort()),
        ("ListViews", Row::of_nothing(&serving::ListViewsRequest {})),
        (
            "DescribeView",
            Row {
                names: &["view"],
                ..Row::of(&serving::DescribeViewRequest {
                    view: view_of("Patient"),
                })
            },
        ),
        (
            "GetStatistics",
            Row::of_nothing(&serving::GetStatisticsRequest {}),
        ),
        (
            "ResetStatistics",
            Row::of_nothing(&serving::ResetStatisticsRequest {}),
        ),
        (
            "ClearViewCache",
            Row::of_nothing(&serving::ClearViewCacheRequest {}),
        ),
    ]
}

fn compare(column: &str, values: &[&str]) -> serving::Filter {
    let comparison = serving::Comparison {
        column: column.into(),
        operator: serving::Operator::In.into(),
        values: values.iter().map(|&value| value.to_owned()).collect(),
    };
    serving::Filter {
        filter: Some(Kind::Comparison(comparison)),
    }
}

fn search() -> serving::SearchParameter {
    serving::SearchParameter {
        name: "gender".into(),
        modifier: String::new(),
        values: vec!["female".into()],
    }
}

fn deep_filter() -> serving::Filter {
    (0..DEEP).fold(compare("id", &[CANARY]), |inner, _| serving::Filter {
        filter: Some(Kind::Negation(Box::new(inner))),
    })
}

fn query() -> Row {
    let good = serving::QueryRequest {
        view: view_of("Patient"),
        filters: vec![compare("active", &["true"])],
        search: vec![search()],
        order: vec![serving::Order {
            column: "id".into(),
            descending: true,
        }],
        ..Default::default()
    };
    let of = |change: &dyn Fn(&mut serving::QueryRequest)| {
        let mut request = good.clone();
        change(&mut request);
        request
    };
    let row = Row::of(&good)
        .bad(
            "a deep filter",
            &of(&|r| r.filters = vec![deep_filter()]),
            "filters",
        )
        .bad(
            "thousands of values",
            &of(&|r| r.filters = vec![compare("id", &[CANARY; 10_001])]),
            "filters",
        )
        .bad(
            "a list without conditions",
            &of(&|r| {
                r.filters = vec![serving::Filter {
                    filter: Some(Kind::All(serving::FilterList::default())),
                }];
            }),
            "filters",
        )
        .bad(
            "a token that is none",
            &of(&|r| (r.page_size, r.page_token) = (1, CANARY.into())),
            "page_token",
        )
        .bad(
            "pages of a count",
            &of(&|r| (r.page_size, r.count_only) = (1, true)),
            "count_only",
        )
        .bad(
            "thousands of versions",
            &of(&|r| {
                let version = serving::ResourceVersion {
                    resource_type: "Patient".into(),
                    id: CANARY.into(),
                    version: 1,
                };
                r.freshness = Some(serving::FreshnessDemand {
                    at_least: vec![version; 1_001],
                    ..Default::default()
                });
            }),
            "freshness.at_least",
        );
    Row {
        names: &["view", "columns", "column", "name", "modifier"],
        ..row
    }
}

fn sql() -> Row {
    let of = |statement: &str, parameters: Vec<serving::Value>| serving::SqlRequest {
        statement: statement.into(),
        parameters,
        ..Default::default()
    };
    let text = |text: &str| serving::Value {
        kind: Some(serving::value::Kind::Text(text.into())),
    };
    let row = Row::of(&of(
        &format!("SELECT count(*) FROM {} WHERE id = $1", view_of("Patient")),
        vec![text("a")],
    ))
    .bad(
        "nested",
        &of(
            &format!("SELECT {}1{}", "(".repeat(5_000), ")".repeat(5_000)),
            Vec::new(),
        ),
        "statement",
    )
    .bad(
        "two statements",
        &of("SELECT 1; SELECT 2", Vec::new()),
        "statement",
    )
    .bad(
        "a value of another type",
        &of("SELECT $1::int", vec![text(CANARY)]),
        "parameters",
    )
    .bad(
        "too many values",
        &of("SELECT 1", vec![text(CANARY); 1_001]),
        "parameters",
    );
    Row {
        // What is no name of a view is one of something else, and told by its place alone; names of parameters are told.
        names: &["key"],
        ..row
    }
}

fn cohort() -> Row {
    let criterion = || serving::CriterionTree {
        tree: Some(Tree::Criterion(serving::Criterion {
            view: view_of("Patient"),
            filters: vec![compare("active", &["true"])],
            search: vec![search()],
            since: None,
        })),
    };
    let of = |criteria| serving::CohortRequest {
        criteria: Some(criteria),
        ..Default::default()
    };
    let deep = (0..DEEP).fold(criterion(), |inner, _| serving::CriterionTree {
        tree: Some(Tree::Negation(Box::new(inner))),
    });
    let wide = serving::CriterionTree {
        tree: Some(Tree::Any(serving::CriterionList {
            criteria: vec![criterion(); 51],
        })),
    };
    let nothing = serving::CriterionTree {
        tree: Some(Tree::All(serving::CriterionList::default())),
    };
    let row = Row::of(&of(criterion()))
        .bad("a deep tree", &of(deep), "criteria")
        .bad("a wide tree", &of(wide), "criteria")
        .bad("a list without criteria", &of(nothing), "criteria")
        .bad(
            "resources with a count",
            &serving::CohortRequest {
                count_only: true,
                resource_types: vec!["Condition".into()],
                ..of(criterion())
            },
            "resource_types",
        );
    Row {
        names: &["view", "column", "name", "modifier"],
        ..row
    }
}
