//! The harness itself: private servers start, crash, come back with what they had, and leave nothing behind.

use e2e::postgres::{Auth, Postgres, Settings};
use e2e::redis::Redis;
use redis::AsyncCommands;
use sqlx::{Connection, PgConnection};

#[tokio::test]
async fn postgres_survives_a_crash_and_leaves_nothing() -> anyhow::Result<()> {
    let mut postgres = Postgres::start().await?;
    let url = postgres.create_database("Names as given").await?;
    let mut connection = PgConnection::connect(&url).await?;
    sqlx::raw_sql("CREATE TABLE kept (n int); INSERT INTO kept VALUES (7)")
        .execute(&mut connection)
        .await?;
    postgres.kill9();
    postgres.restart().await?;
    let mut connection = PgConnection::connect(&url).await?;
    let n: i32 = sqlx::query_scalar("SELECT n FROM kept")
        .fetch_one(&mut connection)
        .await?;
    assert_eq!(n, 7);
    let (pid, folder) = (postgres.pid(), postgres.folder().to_path_buf());
    drop(postgres);
    assert!(!e2e::server::is_running(pid));
    assert!(!folder.try_exists()?);
    Ok(())
}

#[tokio::test]
async fn postgres_with_passwords_refuses_a_wrong_one() -> anyhow::Result<()> {
    let settings = Settings {
        auth: Auth::Scram,
        ..Settings::default()
    };
    let postgres = Postgres::start_with(settings).await?;
    postgres
        .execute("postgres", "CREATE ROLE someone LOGIN PASSWORD 'right'")
        .await?;
    PgConnection::connect(&postgres.url_as("someone", "right", "postgres")).await?;
    assert!(
        PgConnection::connect(&postgres.url_as("someone", "wrong", "postgres"))
            .await
            .is_err()
    );
    Ok(())
}

#[tokio::test]
async fn redis_survives_a_crash_and_leaves_nothing() -> anyhow::Result<()> {
    let mut server = Redis::start().await?;
    let client = redis::Client::open(server.url())?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    connection.set::<_, _, ()>("kept", 7).await?;
    server.kill9();
    server.restart().await?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    assert_eq!(connection.get::<_, i32>("kept").await?, 7);
    let (pid, folder) = (server.pid(), server.folder().to_path_buf());
    drop(server);
    assert!(!e2e::server::is_running(pid));
    assert!(!folder.try_exists()?);
    Ok(())
}
