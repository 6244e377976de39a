//! What a question in SQL may take, and with whose rights it is run.

use std::time::Duration;

use api::proto::serving::SqlRequest;
use e2e::postgres::until_true;
use serving_gateway::Config;
use sqlx::{Connection as _, PgConnection};
use tonic::Code;

use crate::fakes::PATIENCE;
use crate::fixture::{Fixture, server, three};
use crate::sql::{lines, refused, statement};

#[tokio::test]
async fn bounds_are_told_by_the_setting_that_they_meet() -> anyhow::Result<()> {
    let bounds = |config: &mut Config| {
        config.sql.max_rows = 1_000;
        config.sql.max_bytes = 200_000;
        config.sql.max_statement_bytes = 2_000;
        config.sql.timeout_seconds = Duration::from_millis(700);
        config.sql.max_connections = 2;
    };
    let fixture = Fixture::with_settings(&three(), bounds).await?;
    let numbers = |n: i64| statement(&format!("SELECT n FROM generate_series(1, {n}) n"));
    assert_eq!(fixture.gateway.sql(numbers(1_000)).await?.footer.row_count, 1_000);
    let error = refused(&fixture, numbers(1_001), Code::ResourceExhausted).await;
    assert!(error.contains("sql.max_rows"), "{error}");
    let limited = |n: i64, limit: i64| SqlRequest { limit, ..numbers(n) };
    let part = fixture.gateway.sql(limited(1_000_000, 7)).await?;
    assert_eq!(
        (part.rows.len(), part.footer.row_count, part.footer.truncated),
        (7, 7, true)
    );
    let whole = fixture.gateway.sql(limited(7, 7)).await?;
    assert_eq!((whole.footer.row_count, whole.footer.truncated), (7, false));

    let large = |rows: i64| format!("SELECT string_agg(md5(n::text), '') FROM generate_series(1, {rows}) n");
    assert_eq!(fixture.gateway.sql(statement(&large(5_000))).await?.rows.len(), 1);
    for too_large in [
        // One value, which PostgreSQL keeps back; several values; in an array, and in a type that comes as text.
        large(10_000),
        "SELECT md5(n::text), md5(n::text), md5(n::text), md5(n::text), md5(n::text), md5(n::text) FROM generate_series(1, 1000) n".into(),
        "SELECT array_agg(md5(n::text)) FROM generate_series(1, 10000) n".into(),
        "SELECT row(1, array_agg(n)) FROM generate_series(1, 100000) n".into(),
    ] {
        let error = refused(&fixture, statement(&too_large), Code::ResourceExhausted).await;
        assert!(error.contains("sql.max_bytes"), "{error}");
    }
    let error = refused(
        &fixture,
        statement(&format!("SELECT 1 -- {}", "x".repeat(2_000))),
        Code::ResourceExhausted,
    )
    .await;
    assert!(error.contains("sql.max_statement_bytes"), "{error}");

    let endless =
        "WITH RECURSIVE t(n) AS (SELECT 1::bigint UNION ALL SELECT n + 1 FROM t) SELECT count(*) FROM t";
    let error = refused(&fixture, statement(endless), Code::DeadlineExceeded).await;
    assert!(error.contains("sql.timeout_seconds (0.7 s)"), "{error}");
    // What was refused has left nothing behind: there are two connections.
    for _ in 0..5 {
        assert_eq!(
            lines(&fixture, statement("SELECT count(*) FROM conditions")).await,
            ["3"]
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_statement_ends_when_its_caller_goes() -> anyhow::Result<()> {
    let fixture = Fixture::over(&three()).await?;
    let running = "SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = 'researchflow sql' AND state = 'active' \
                   AND datname = current_database() AND query LIKE '%the one that is left%'";
    // One that works and sends nothing, and one that sends more than is taken.
    for text in [
        "WITH RECURSIVE t(n) AS (SELECT 1::bigint UNION ALL SELECT n + 1 FROM t) SELECT count(*) /* the one that is left */ FROM t",
        "SELECT /* the one that is left */ md5(n::text), md5(n::text), md5(n::text), md5(n::text) FROM generate_series(1, 1000000) n",
    ] {
        let mut client = fixture.gateway.client.clone();
        let asked = tokio::spawn(async move {
            let mut stream = client.sql(statement(text)).await?.into_inner();
            let _header = stream.message().await?;
            let _first = stream.message().await?;
            // It is not read on.
            std::future::pending::<()>().await;
            Ok::<_, tonic::Status>(())
        });
        until_true(&fixture.owner_url, running, PATIENCE).await?;
        asked.abort();
        let ended = format!("SELECT NOT ({running})").replace("SELECT NOT (SELECT", "SELECT NOT (SELECT");
        until_true(&fixture.owner_url, &ended, PATIENCE).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_login_for_statements_must_be_a_readers_and_sql_can_be_switched_off() -> anyhow::Result<()> {
    let server = server().await?;
    server
        .execute(
            "postgres",
            "CREATE ROLE analyst LOGIN IN ROLE researchflow_reader; CREATE ROLE nobody LOGIN; \
             CREATE ROLE files LOGIN IN ROLE researchflow_reader, pg_read_server_files",
        )
        .await?;
    let settings = |login: &'static str| {
        let url = server.url_as(login, "", "views_of_logins");
        move |config: &mut Config| config.sql.url = daemon::Secret::new(&url)
    };
    let url = server.create_database("views_of_logins").await?;
    let fixture =
        Fixture::on_database(&server, "views_of_logins", &url, &three(), settings("analyst")).await?;
    assert_eq!(
        lines(&fixture, statement("SELECT count(*) FROM conditions")).await,
        ["3"]
    );
    for login in ["gateway", "nobody", "files", "postgres"] {
        let gateway = fixture.another_with(settings(login)).await?;
        let error = gateway.sql(statement("SELECT 1")).await.expect_err(login);
        assert_eq!(error.code(), Code::FailedPrecondition, "{login}: {error}");
        assert!(error.message().contains("sql.url"), "{error}");
    }
    // The gateway's own login takes on the role of a reader, unless it may not.
    let gateway = fixture.another_with(|_| {}).await?;
    assert_eq!(
        gateway
            .sql(statement("SELECT count(*) FROM conditions"))
            .await?
            .lines(),
        ["3"]
    );
    let mut owner = PgConnection::connect(&fixture.owner_url).await?;
    sqlx::raw_sql("REVOKE researchflow_reader FROM researchflow_merger")
        .execute(&mut owner)
        .await?;
    let gateway = fixture.another_with(|_| {}).await?;
    let error = gateway.sql(statement("SELECT 1")).await.expect_err("no role");
    assert!(error.message().contains("GRANT researchflow_reader"), "{error}");
    sqlx::raw_sql("GRANT researchflow_reader TO researchflow_merger")
        .execute(&mut owner)
        .await?;

    let gateway = fixture.another_with(|config| config.sql.enabled = false).await?;
    let error = gateway.sql(statement("SELECT 1")).await.expect_err("off");
    assert_eq!(error.code(), Code::FailedPrecondition);
    Ok(())
}
