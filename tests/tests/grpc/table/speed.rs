//! SpeedService.

use api::proto::speed as proto;
use tonic::Code;

use super::Row;

pub(super) fn rows() -> Vec<(&'static str, Row)> {
    let patient = || "Patient".to_owned();
    let unkept = |row: Row| Row {
        of_good: Code::FailedPrecondition,
        ..row
    };
    let cursor = proto::TypeCursor {
        resource_type: patient(),
        n: 0,
    };
    let wait = prost_types::Duration {
        seconds: 0,
        nanos: 50_000_000,
    };
    let put = |body: &str| proto::PutResourceRequest {
        body: body.into(),
        time_to_live: None,
    };
    let good = r#"{"resourceType":"Patient","id":"put-1","meta":{"versionId":"1","lastUpdated":"2026-01-01T00:00:00Z"}}"#;
    vec![
        (
            "Changes",
            Row {
                any_number: &["n"],
                ..Row::of(&proto::ChangesRequest {
                    cursors: vec![cursor],
                    wait: Some(wait),
                })
            },
        ),
        ("ScanRecentResources", scan()),
        (
            "Pull",
            Row::of_nothing(&proto::PullRequest {
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
            Row::of(&proto::FlushRequest {
                resource_types: vec![patient()],
                confirm: "flush".into(),
            }),
        ),
        (
            "RegisterSubscriptions",
            unkept(Row {
                of_empty: Code::FailedPrecondition,
                ..Row::of(&proto::RegisterSubscriptionsRequest {})
            }),
        ),
        (
            "Backup",
            unkept(Row {
                of_empty: Code::FailedPrecondition,
                ..Row::of(&proto::BackupRequest {})
            }),
        ),
        (
            "ListBackups",
            unkept(Row {
                of_empty: Code::FailedPrecondition,
                ..Row::of(&proto::ListBackupsRequest {})
            }),
        ),
        (
            "Restore",
            unkept(Row {
                of_empty: Code::FailedPrecondition,
                ..Row::of(&proto::RestoreRequest {
                    name: String::new(),
                    confirm: "restore".into(),
                })
            }),
        ),
        ("GetStatus", Row::of_nothing(&proto::GetStatusRequest {})),
    ]
}

fn scan() -> Row {
    let of = |parameters| proto::ScanRecentResourcesRequest {
        resource_type: "Patient".into(),
        parameters,
        ..Default::default()
    };
    let gender = |value: &str| proto::SearchParameter {
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
            "parameters.value",
        );
    Row {
        names: &["name"],
        ..row
    }
}
