//! What operators and tools rely on: reflection, health, freshness in SQL, options, and a stop that drains.

use std::process::Command;
use std::time::Duration;

use api::proto::batch::{ListViewsRequest, WatchViewsRequest};
use api::proto::speed::{
    ChangesRequest, GetStatusRequest, TypeCursor, speed_service_client::SpeedServiceClient,
};
use e2e::ask::{all_of, channel};
use e2e::process::binary;
use e2e::stack::project_folder;
use sqlx::Row;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::stack::{Clients, shared};

const DAEMONS: [&str; 3] = ["batch-refresher", "speed-ingestor", "serving-gateway"];

/// The method that the grpcurl line at the top of a contract calls, as `service`, `method`.
fn method_of_the_line(contract: &str) -> anyhow::Result<(String, String)> {
    let text = std::fs::read_to_string(project_folder().join(contract))?;
    let line = text
        .lines()
        .find(|line| line.contains("grpcurl"))
        .unwrap_or_default();
    let (service, method) = line
        .rsplit(' ')
        .next()
        .and_then(|last| last.rsplit_once('/'))
        .unwrap_or_default();
    Ok((service.to_owned(), method.to_owned()))
}

async fn reflect(address: &str, request: MessageRequest) -> anyhow::Result<MessageResponse> {
    let mut client = ServerReflectionClient::new(channel(address).await?);
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(request),
    };
    let mut answers = client
        .server_reflection_info(tokio_stream::iter([request]))
        .await?
        .into_inner();
    let answer = answers
        .message()
        .await?
        .and_then(|answer| answer.message_response);
    answer.ok_or_else(|| anyhow::anyhow!("reflection gave no answer"))
}

#[tokio::test]
async fn what_grpcurl_needs_is_served_and_the_line_at_the_top_of_each_contract_works() -> anyhow::Result<()> {
    let stack = shared().await?;
    let clients = Clients::of(&stack).await?;
    let speed = stack.speed.address("grpc")?;
    let contracts = [
        (
            "proto/researchflow/batch/v1/batch.proto",
            stack.batch.address("grpc")?,
        ),
        ("proto/researchflow/speed/v1/speed.proto", speed.clone()),
        (
            "proto/researchflow/serving/v1/serving.proto",
            stack.serving.address("grpc")?,
        ),
    ];
    for (contract, address) in contracts {
        let (service, method) = method_of_the_line(contract)?;
        let MessageResponse::ListServicesResponse(list) =
            reflect(&address, MessageRequest::ListServices(String::new())).await?
        else {
            anyhow::bail!("{service}: reflection does not list the services");
        };
        assert!(
            list.service.iter().any(|one| one.name == service),
            "{service} is not listed"
        );
        let symbol = MessageRequest::FileContainingSymbol(format!("{service}.{method}"));
        assert!(
            matches!(
                reflect(&address, symbol).await?,
                MessageResponse::FileDescriptorResponse(_)
            ),
            "{service}/{method} is unknown to reflection"
        );
        let health = HealthClient::new(channel(&address).await?)
            .check(HealthCheckRequest {
                service: service.clone(),
            })
            .await?;
        assert_eq!(health.into_inner().status(), ServingStatus::Serving, "{service}");
    }
    // What the lines call.
    assert_eq!(
        clients
            .operator
            .client
            .clone()
            .list_views(ListViewsRequest {})
            .await?
            .into_inner()
            .views
            .len(),
        5
    );
    SpeedServiceClient::new(channel(&speed).await?)
        .get_status(GetStatusRequest {})
        .await?;
    clients
        .asker
        .ask(api::proto::serving::QueryRequest {
            limit: 3,
            ..all_of("patient_simple")
        })
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_reader_sees_the_freshness_of_every_view_and_nothing_inside() -> anyhow::Result<()> {
    let stack = shared().await?;
    let mut clients = Clients::of(&stack).await?;
    let rows = sqlx::query("TABLE sqlonfhir.freshness")
        .fetch_all(clients.reader.connection())
        .await?;
    let mut views: Vec<String> = rows.iter().map(|row| row.get("view")).collect();
    views.sort();
    assert_eq!(
        views,
        [
            "condition_simple",
            "encounter_simple",
            "observation_lab",
            "patient_demographics",
            "patient_simple"
        ]
    );
    for inside in [
        "sqlonfhir_meta.ledger",
        "sqlonfhir_base.patient_simple",
        "sqlonfhir_live.patient_simple",
    ] {
        assert!(
            clients
                .reader
                .value(&format!("SELECT count(*) FROM {inside}"))
                .await
                .is_err(),
            "a reader can read {inside}"
        );
    }
    assert!(
        clients
            .reader
            .value("SELECT count(*) FROM sqlonfhir.patient_simple")
            .await?
            .is_some()
    );
    Ok(())
}

#[tokio::test]
async fn options_help() -> anyhow::Result<()> {
    for name in DAEMONS {
        let run = |option: &str| {
            Command::new(binary(name)?)
                .arg(option)
                .env("RF_SPEED__WEBHOOK__SECRET", "set")
                .output()
                .map_err(anyhow::Error::from)
        };
        let help = run("--help")?;
        assert!(
            help.status.success() && String::from_utf8_lossy(&help.stdout).contains("--check-config"),
            "{name}"
        );
        let version = run("--version")?;
        assert!(
            version.status.success()
                && String::from_utf8_lossy(&version.stdout).contains(env!("CARGO_PKG_VERSION")),
            "{name}"
        );
        let check = run("--check-config")?;
        assert!(
            check.status.success(),
            "{name}: {}",
            String::from_utf8_lossy(&check.stderr)
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_sigterm_each_daemon_drains_and_ends_with_code_0_within_five_seconds_though_streams_are_open()
-> anyhow::Result<()> {
    let mut stack = shared().await?;
    let clients = Clients::of(&stack).await?;
    let mut watching = clients
        .operator
        .client
        .clone()
        .watch_views(WatchViewsRequest {})
        .await?
        .into_inner();
    watching.message().await?;
    let cursors = vec![TypeCursor {
        resource_type: "Patient".to_owned(),
        n: i64::MAX,
    }];
    let wait = prost_types::Duration {
        seconds: 30,
        nanos: 0,
    };
    let asked = tokio_stream::StreamExt::chain(
        tokio_stream::once(ChangesRequest {
            cursors,
            wait: Some(wait),
        }),
        tokio_stream::pending(),
    );
    let mut speed = SpeedServiceClient::new(channel(&stack.speed.address("grpc")?).await?);
    let changes = tokio::spawn(async move {
        let mut changes = speed.changes(asked).await?.into_inner();
        while changes.message().await?.is_some() {}
        Ok::<_, tonic::Status>(())
    });
    let querying = {
        let client = clients.asker.clone();
        tokio::spawn(async move { while client.ask(all_of("patient_simple")).await.is_ok() {} })
    };
    let limit = Duration::from_secs(5);
    for daemon in [0, 1, 2] {
        let daemon = match daemon {
            0 => &mut stack.serving,
            1 => &mut stack.speed,
            _ => &mut stack.batch,
        };
        let status = daemon.terminate(limit).await?;
        assert!(
            status.success(),
            "ended with {status}: {}",
            daemon.log().lines().last().unwrap_or_default()
        );
    }
    querying.await?;
    // An error or an end, whichever: it must not hang.
    let _ended = tokio::time::timeout(limit, changes).await?;
    stack.batch.restart().await?;
    stack.speed.restart().await?;
    stack.serving.restart().await
}
