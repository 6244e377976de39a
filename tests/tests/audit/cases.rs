//! One request for each operation that is recorded, and what its record must say.

use api::proto::{batch, serving, speed};
use e2e::{
    ask::equals,
    house::{versions_of, view_of},
};
use prost::Message;

use crate::whole::PATIENTS;

/// A request, and its record.
pub(crate) struct Case {
    /// `package.Service/Method`
    pub(crate) operation: &'static str,
    pub(crate) request: Vec<u8>,
    pub(crate) outcome: &'static str,
    pub(crate) rows: usize,
    pub(crate) resources: usize,
}

fn case(operation: &'static str, request: &impl Message) -> Case {
    Case {
        operation,
        request: request.encode_to_vec(),
        outcome: "ok",
        rows: 0,
        resources: 0,
    }
}

impl Case {
    fn rows(self, rows: usize) -> Self {
        Self { rows, ..self }
    }

    fn resources(self, resources: usize) -> Self {
        Self { resources, ..self }
    }

    fn outcome(self, outcome: &'static str) -> Self {
        Self { outcome, ..self }
    }
}

/// All of them, in an order in which each has what it needs.
pub(crate) fn all() -> Vec<Case> {
    [of_serving(), of_batch(), of_speed()]
        .into_iter()
        .flatten()
        .collect()
}

fn of_serving() -> Vec<Case> {
    let criterion = serving::Criterion {
        view: view_of("Patient"),
        filters: vec![equals("gender", "female")],
        ..Default::default()
    };
    let criteria = serving::CriterionTree {
        tree: Some(serving::criterion_tree::Tree::Criterion(criterion)),
    };
    vec![
        case(
            "researchflow.serving.v1.ServingService/Query",
            &serving::QueryRequest {
                view: view_of("Patient"),
                filters: vec![equals("active", "true")],
                ..Default::default()
            },
        )
        .rows(PATIENTS),
        case(
            "researchflow.serving.v1.ServingService/Sql",
            &serving::SqlRequest {
                statement: format!("SELECT id FROM {} WHERE id = 'p7' OR id = $1", view_of("Patient")),
                parameters: vec![serving::Value {
                    kind: Some(serving::value::Kind::Text("p8".into())),
                }],
                ..Default::default()
            },
        )
        .rows(2),
        case(
            "researchflow.serving.v1.ServingService/Cohort",
            &serving::CohortRequest {
                criteria: Some(criteria),
                ..Default::default()
            },
        )
        .rows(1),
        case(
            "researchflow.serving.v1.ServingService/ResetStatistics",
            &serving::ResetStatisticsRequest {},
        ),
        case(
            "researchflow.serving.v1.ServingService/ClearViewCache",
            &serving::ClearViewCacheRequest {},
        ),
    ]
}

fn of_batch() -> Vec<Case> {
    let definition = versions_of("Patient", &[("gender", "gender"), ("active", "active")]);
    let reference = |id: &str| batch::read_resources_request::Reference {
        resource_type: "Patient".into(),
        id: id.into(),
        version: 0,
    };
    let patient = || vec!["Patient".to_owned()];
    vec![
        case(
            "researchflow.batch.v1.BatchService/PutView",
            &batch::PutViewRequest {
                definition_json: definition.to_string(),
                force: false,
            },
        ),
        case(
            "researchflow.batch.v1.BatchService/DropView",
            &batch::DropViewRequest {
                name: "absent".into(),
            },
        )
        .outcome("not_found"),
        case(
            "researchflow.batch.v1.BatchService/CancelRefresh",
            &batch::CancelRefreshRequest {
                resource_type: "Patient".into(),
            },
        ),
        case(
            "researchflow.batch.v1.BatchService/RunView",
            &batch::RunViewRequest {
                view: Some(batch::run_view_request::View::Name(view_of("Patient"))),
                ids: vec!["p1".into(), "p2".into()],
                ..Default::default()
            },
        )
        .rows(2),
        // From the first version on.
        case(
            "researchflow.batch.v1.BatchService/ReadChanges",
            &batch::ReadChangesRequest {
                since: vec![batch::TypePosition {
                    resource_type: "Patient".into(),
                    position: None,
                }],
                ..Default::default()
            },
        )
        .resources(PATIENTS),
        case(
            "researchflow.batch.v1.BatchService/ReadResources",
            &batch::ReadResourcesRequest {
                references: vec![reference("p1"), reference("p2"), reference("p3")],
            },
        )
        .resources(3),
        case(
            "researchflow.batch.v1.BatchService/ReadPatientResources",
            &batch::ReadPatientResourcesRequest {
                resource_types: patient(),
                patient_ids: vec!["p1".into(), "p2".into()],
            },
        )
        .resources(2),
        case(
            "researchflow.batch.v1.BatchService/Verify",
            &batch::VerifyRequest {
                views: vec![view_of("Patient")],
                sample: 1.0,
            },
        ),
    ]
}

fn of_speed() -> Vec<Case> {
    let patient = || vec!["Patient".to_owned()];
    let put = r#"{"resourceType":"Patient","id":"put-1","meta":{"versionId":"1","lastUpdated":"2026-01-01T00:00:00Z"}}"#;
    vec![
        case(
            "researchflow.speed.v1.SpeedService/Changes",
            &speed::ChangesRequest {
                cursors: vec![speed::TypeCursor {
                    resource_type: "Patient".into(),
                    n: 0,
                }],
                wait: None,
            },
        )
        .resources(PATIENTS),
        case(
            "researchflow.speed.v1.SpeedService/ScanRecentResources",
            &speed::ScanRecentResourcesRequest {
                resource_type: "Patient".into(),
                max_resources: 10,
                ..Default::default()
            },
        )
        .resources(10)
        // And the ids of all whom they are of.
        .rows(PATIENTS),
        case(
            "researchflow.speed.v1.SpeedService/PutResource",
            &speed::PutResourceRequest {
                body: put.into(),
                time_to_live: None,
            },
        ),
        case(
            "researchflow.speed.v1.SpeedService/RegisterSubscriptions",
            &speed::RegisterSubscriptionsRequest {},
        )
        .outcome("failed_precondition"),
        case(
            "researchflow.speed.v1.SpeedService/Backup",
            &speed::BackupRequest {},
        )
        .outcome("failed_precondition"),
        case(
            "researchflow.speed.v1.SpeedService/Restore",
            &speed::RestoreRequest {
                name: String::new(),
                confirm: "restore".into(),
            },
        )
        .outcome("failed_precondition"),
        case(
            "researchflow.speed.v1.SpeedService/Flush",
            &speed::FlushRequest {
                resource_types: patient(),
                confirm: "flush".into(),
            },
        ),
        // Last: the batch takes over what the speed layer holds.
        case(
            "researchflow.batch.v1.BatchService/Refresh",
            &batch::RefreshRequest {
                resource_types: patient(),
                kind: batch::RefreshKind::Incremental.into(),
            },
        ),
    ]
}
