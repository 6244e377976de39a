//! Bad input gets a clear error and changes nothing.

use std::path::Path;
use std::time::Duration;

use e2e::ask::{all_of, equals};
use e2e::fhir::http_client;
use e2e::process::{Daemon, Plan, binary};
use e2e::server::{self, Launch, Lifetime};
use e2e::stack::{Stack, project_folder};
use serde_json::{Value, json};

use api::proto::serving::{QueryRequest, SearchParameter};

use crate::stack::{Clients, shared};

const VERSIONED: &str = r#"{"resourceType":"Patient","id":"bad-1","meta":{"versionId":"1","lastUpdated":"2031-01-01T00:00:00.000+00:00"}}"#;

/// Sends a webhook; the status and the resource type of the answer's body.
async fn send(stack: &Stack, path: &str, secret: &str, body: String) -> anyhow::Result<(u16, String)> {
    let url = format!("{}/{path}", stack.endpoints()?.webhook);
    let answer = http_client()?
        .put(url)
        .header("authorization", format!("Bearer {secret}"))
        .header("content-type", "application/fhir+json; charset=UTF-8")
        .body(body)
        .send()
        .await?;
    let status = answer.status().as_u16();
    let text = answer.text().await?;
    let outcome: Value = serde_json::from_str(&text).unwrap_or_default();
    Ok((
        status,
        outcome["resourceType"].as_str().unwrap_or_default().to_owned(),
    ))
}

#[tokio::test]
async fn a_webhook_that_cannot_be_used_is_refused_with_an_outcome_and_changes_nothing() -> anyhow::Result<()>
{
    let stack = shared().await?;
    let clients = Clients::of(&stack).await?;
    clients.catch_up().await?;
    let secret = stack.endpoints()?.webhook_secret;
    let before = clients.answers().await?;
    let deep = format!(
        "{{\"resourceType\":\"Patient\",\"id\":\"bad-1\",\"x\":{}1{}}}",
        "[".repeat(500),
        "]".repeat(500)
    );
    let large = format!(
        "{{\"resourceType\":\"Patient\",\"id\":\"bad-1\",\"x\":\"{}\"}}",
        "x".repeat(50 << 20)
    );
    let cases: [(&str, &str, &str, String); 8] = [
        (
            "not JSON",
            "Patient/bad-1",
            &secret,
            "{\"resourceType\":".to_owned(),
        ),
        ("not a resource", "Patient/bad-1", &secret, "[1, 2]".to_owned()),
        ("another type", "Condition/bad-1", &secret, VERSIONED.to_owned()),
        ("another id", "Patient/bad-2", &secret, VERSIONED.to_owned()),
        (
            "no version",
            "Patient/bad-1",
            &secret,
            "{\"resourceType\":\"Patient\",\"id\":\"bad-1\"}".to_owned(),
        ),
        ("a wrong secret", "Patient/bad-1", "guessed", VERSIONED.to_owned()),
        ("500 levels", "Patient/bad-1", &secret, deep),
        ("50 MB", "Patient/bad-1", &secret, large),
    ];
    for (case, path, secret, body) in cases {
        let size = body.len();
        match send(&stack, path, secret, body).await {
            Ok((status, outcome)) => {
                assert!((400..500).contains(&status), "{case}: status {status}");
                assert_eq!(outcome, "OperationOutcome", "{case}: status {status}");
            }
            // The server has answered and hung up before it was sent all of it; a client need not get to read the answer then.
            Err(error) => assert!(size > 1 << 20, "{case}: {error:#}"),
        }
    }
    clients.catch_up().await?;
    for ((view, before), (_, after)) in before.iter().zip(&clients.answers().await?) {
        assert_eq!(before.sorted(), after.sorted(), "{view} was changed by bad input");
    }
    Ok(())
}

#[tokio::test]
async fn an_unknown_view_column_or_search_parameter_is_refused_with_those_that_exist() -> anyhow::Result<()> {
    let stack = shared().await?;
    let clients = Clients::of(&stack).await?;
    let parameter = |name: &str| SearchParameter {
        name: name.to_owned(),
        values: vec!["x".to_owned()],
        ..SearchParameter::default()
    };
    let cases: [(QueryRequest, &str, &str); 4] = [
        (all_of("patient_simpel"), "patient_simpel", "patient_simple"),
        (
            QueryRequest {
                columns: vec!["sex".to_owned()],
                ..all_of("patient_simple")
            },
            "sex",
            "gender",
        ),
        (
            QueryRequest {
                filters: vec![equals("sex", "secret-value")],
                ..all_of("patient_simple")
            },
            "sex",
            "gender",
        ),
        (
            QueryRequest {
                search: vec![parameter("telecom")],
                ..all_of("patient_simple")
            },
            "telecom",
            "gender",
        ),
    ];
    for (query, named, offered) in cases {
        let status = clients.asker.ask(query).await.expect_err(named);
        assert_eq!(status.code(), tonic::Code::InvalidArgument, "{named}: {status}");
        assert!(
            status.message().contains(named) && status.message().contains(offered),
            "{named}: {status}"
        );
        assert!(
            !status.message().contains("secret-value"),
            "a value stands in an error"
        );
    }
    Ok(())
}

fn batch_plan(stack: &Stack, folder: &Path, views: &Path, views_url: &str) -> Plan {
    let config = format!(
        "[daemon]\ngrpc_listen = \"{{grpc}}\"\nadmin_listen = \"{{admin}}\"\n[hapi]\nurl = \"{}\"\n[views]\nurl = \"{views_url}\"\nfolder = \"{}\"\n",
        stack.servers.url_as("refresher", "hapi"),
        views.display(),
    );
    Plan {
        name: "batch-refresher",
        config,
        environment: Vec::new(),
        folder: folder.to_owned(),
        lifetime: Lifetime::Program,
    }
}

#[tokio::test]
async fn an_invalid_view_is_named_with_its_file_place_and_rule_and_the_others_go_on() -> anyhow::Result<()> {
    let stack = shared().await?;
    let folder = server::new_folder("invalid-view", None, Lifetime::Program)?;
    let views = folder.join("views");
    std::fs::create_dir(&views)?;
    std::fs::copy(
        project_folder().join("deploy/views/patient_simple.json"),
        views.join("good.json"),
    )?;
    let broken = json!({
        "resourceType": "ViewDefinition", "name": "broken_view", "status": "active", "resource": "Patient",
        "select": [{"column": [{"name": "ok", "path": "id"}, {"name": "1bad", "path": "gender"}]}],
    });
    std::fs::write(views.join("broken.json"), broken.to_string())?;
    stack
        .servers
        .postgres
        .execute("postgres", "DROP DATABASE IF EXISTS other_views")
        .await?;
    stack
        .servers
        .postgres
        .execute("postgres", "CREATE DATABASE other_views OWNER refresher")
        .await?;
    let url = stack.servers.url_as("refresher", "other_views");
    let daemon = Daemon::start(batch_plan(&stack, &folder, &views, &url)).await?;
    let log = daemon.log();
    let line = log
        .lines()
        .find(|line| line.contains("broken.json"))
        .unwrap_or_default();
    assert!(
        line.contains("select[0].column[1].name"),
        "the log names no place: {log}"
    );
    let operator = e2e::operate::Operator::connect(&daemon.address("grpc")?).await?;
    let active = operator.all_active(Duration::from_mins(1)).await?;
    assert_eq!(
        active.iter().map(|view| view.name.as_str()).collect::<Vec<_>>(),
        ["patient_simple"]
    );
    Ok(())
}

/// Runs a daemon that is to end by itself at once: its exit code and what it said.
async fn run_to_the_end(name: &'static str, config: &str) -> anyhow::Result<(Option<i32>, String)> {
    let folder = server::new_folder("refused", None, Lifetime::Program)?;
    let (file, log) = (folder.join("config.toml"), folder.join("log"));
    std::fs::write(&file, config)?;
    let mut running = Launch::new(name, binary(name)?, log.clone())
        .arg("--config")
        .arg(file)
        .spawn()?;
    let status = running.wait(Duration::from_secs(20)).await?;
    Ok((status.code(), std::fs::read_to_string(log)?))
}

#[tokio::test]
async fn an_unknown_configuration_key_ends_a_daemon_with_code_2_before_it_binds() -> anyhow::Result<()> {
    for name in ["batch-refresher", "speed-ingestor", "serving-gateway"] {
        let config =
            "[daemon]\ngrpc_listen = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\ngrcp_listen = \"x\"\n";
        let (code, said) = run_to_the_end(name, config).await?;
        assert_eq!(code, Some(2), "{name}: {said}");
        assert!(
            said.contains("grcp_listen") && !said.contains("listening"),
            "{name}: {said}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_wrong_database_password_is_said_without_the_password() -> anyhow::Result<()> {
    let stack = shared().await?;
    let port = stack.servers.postgres.port();
    let views = format!("[views]\nurl = \"postgresql://gateway:not-the-password@127.0.0.1:{port}/views\"\n");
    let daemon = "[daemon]\ngrpc_listen = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\n";
    for name in ["batch-refresher", "serving-gateway"] {
        let http = if name == "serving-gateway" {
            "[http]\nlisten = \"127.0.0.1:0\"\n"
        } else {
            ""
        };
        let (code, said) = run_to_the_end(name, &format!("{daemon}{http}{views}")).await?;
        assert_eq!(code, Some(1), "{name}: {said}");
        assert!(said.contains("password authentication failed"), "{name}: {said}");
        assert!(
            !said.contains("not-the-password"),
            "{name} has printed the password"
        );
    }
    Ok(())
}
