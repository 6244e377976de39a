//! Who may do what, and how a database becomes ready.

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use sqlx::{Connection as _, PgConnection, Row as _};
use view_store::StoreError;

use super::fixture::{Fixture, at, connect, database, everything, observation, rows, server};

#[tokio::test]
async fn roles_hold_the_least_rights() -> anyhow::Result<()> {
    let labs = Fixture::with_labs(&[observation("a", 1, "1")]).await?;
    labs.server
        .execute(
            &labs.database,
            "CREATE ROLE analyst LOGIN PASSWORD 'analyst' IN ROLE researchflow_reader;
             CREATE ROLE gateway LOGIN PASSWORD 'gateway' IN ROLE researchflow_merger",
        )
        .await?;
    let login = |name: &str| {
        let address = labs.url.rsplit('@').next().unwrap_or_default();
        format!(
            "postgres://{name}:{name}@{}",
            address.strip_prefix("postgres://").unwrap_or(address)
        )
    };
    let mut analyst = PgConnection::connect(&login("analyst")).await?;
    assert_eq!(rows(&mut analyst, "sqlonfhir.labs").await?, "a=1");
    assert_eq!(rows(&mut analyst, "sqlonfhir_batch.labs").await?, "a=1");
    let freshness = sqlx::query("TABLE sqlonfhir.freshness")
        .fetch_one(&mut analyst)
        .await?;
    assert_eq!(freshness.get::<String, _>("view"), "labs");
    assert_eq!(freshness.get::<Option<DateTime<Utc>>, _>("as_of"), Some(at(10)));
    assert_eq!(
        (
            freshness.get::<Option<i64>, _>("batch_rows"),
            freshness.get::<Option<i64>, _>("live_rows")
        ),
        (Some(1), Some(0))
    );
    for forbidden in [
        "TABLE sqlonfhir_base.labs",
        "TABLE sqlonfhir_live.labs",
        "TABLE sqlonfhir_meta.ledger",
        "DELETE FROM sqlonfhir.labs",
        "SELECT sqlonfhir_meta.live_rows('labs')",
    ] {
        let refused = sqlx::raw_sql(forbidden)
            .execute(&mut analyst)
            .await
            .expect_err("forbidden");
        assert!(
            refused.to_string().contains("permission denied")
                || refused.to_string().contains("cannot delete"),
            "{forbidden}: {refused}"
        );
    }

    // The gateway applies and answers, but changes no definition and draws no number.
    let gateway = connect(&login("gateway")).await?;
    gateway.check().await?;
    let fixture = Fixture {
        store: gateway,
        ..labs
    };
    assert_eq!(fixture.apply(2, &[observation("a", 2, "2")]).await?, 1);
    assert_eq!(fixture.select(&everything()).await?.len(), 1);
    drop(fixture.store.snapshot(None).await?);
    assert!(fixture.put("more", "").await.is_err());
    assert!(
        fixture
            .store
            .draw_number::<(), StoreError, _>(&[], async || Ok(()))
            .await
            .is_err()
    );
    Ok(())
}

#[tokio::test]
async fn refreshers_may_start_at_once_and_a_missing_schema_says_what_to_do() -> anyhow::Result<()> {
    let server = server().await?;
    let (_, url) = database(&server).await?;
    let store = connect(&url).await?;
    assert!(
        matches!(store.check().await, Err(StoreError::NotMigrated(text)) if text.contains("batch-refresher"))
    );
    let others = [connect(&url).await?, connect(&url).await?];
    let (first, second, third) = tokio::join!(store.migrate(), others[0].migrate(), others[1].migrate());
    first.and(second).and(third)?;
    store.check().await?;
    let wrong = connect("postgres://nobody:a-secret@127.0.0.1:1/views")
        .await
        .err()
        .context("nobody listens there")?;
    assert!(!wrong.to_string().contains("a-secret"));
    Ok(())
}
