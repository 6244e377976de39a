//! A full refresh beside a materialized view over the same joins of HAPI's tables: written by hand, each text parsed once.
//!
//! Both end with the same indexes (those that our table has are read from the catalogue) and with statistics, and hold the same values, which is
//! checked. The materialized view runs as PostgreSQL plans it, with parallel workers where it likes.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::{
    catalogue::Catalogue,
    fill::Filled,
    indexes::indexes,
    refresh,
    report::{ROUNDS, listed, median, ratio, speed},
    servers::{Databases, execute},
};

/// Name, type, and the query by hand. Each has the view's columns, and `_row`, the number of the row within its resource.
const BY_HAND: [(&str, &str, &str); 5] = [
    (
        "observation_lab",
        "Observation",
        include_str!("matviews/observation_lab.sql"),
    ),
    (
        "observation_bloodpressure",
        "Observation",
        include_str!("matviews/observation_bloodpressure.sql"),
    ),
    (
        "patient_demographics",
        "Patient",
        include_str!("matviews/patient_demographics.sql"),
    ),
    (
        "condition_flat",
        "Condition",
        include_str!("matviews/condition_flat.sql"),
    ),
    (
        "encounter_flat",
        "Encounter",
        include_str!("matviews/encounter_flat.sql"),
    ),
];

/// Each view beside the one by hand.
pub(crate) async fn measure(
    databases: &Databases,
    catalogue: &Catalogue,
    filled: &[Filled],
) -> anyhow::Result<()> {
    for (view, resource_type, query) in BY_HAND {
        let filled = filled
            .iter()
            .find(|filled| filled.resource_type == resource_type)
            .context("the type is filled")?;
        println!(
            "-- {view}: {} workers planned for the matview",
            workers(databases, query).await?
        );
        let definition = catalogue.definition(view)?;
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            databases.put(std::slice::from_ref(&definition)).await?;
            databases.checkpoint().await?;
            let refreshed = refresh::in_process(databases, resource_type, filled.resources).await?;
            ours.push(refreshed.time);
            databases.checkpoint().await?;
            theirs.push(by_hand(databases, view, query).await?);
            if round == 0 {
                compare(databases, view).await?;
                println!(
                    "read and evaluated after {:.2} s; peak memory {} MiB",
                    refreshed.read.as_secs_f64(),
                    refreshed.peak / 1024
                );
            }
            databases.drop_views().await?;
            execute(&databases.owner, &format!("DROP MATERIALIZED VIEW bench.{view}")).await?;
        }
        for (side, times) in [("full refresh", &ours), ("matview", &theirs)] {
            let median = speed(filled.resources, filled.bytes, median(times));
            println!("{side}: {median} (rounds: {})", listed(times));
        }
        ratio(
            &format!("full_refresh_vs_matview_{view}"),
            median(&ours),
            median(&theirs),
        );
    }
    Ok(())
}

/// Makes the materialized view, with the indexes of our table and with statistics.
async fn by_hand(databases: &Databases, view: &str, query: &str) -> anyhow::Result<Duration> {
    let mut statements = vec![format!("CREATE MATERIALIZED VIEW bench.{view} AS {query}")];
    for index in indexes(databases, view).await? {
        // The resource's id is a column of the view; it is not kept twice.
        statements.push(index.on(&format!("bench.{view}")).replace("_rid", "id"));
    }
    statements.push(format!("ANALYZE bench.{view}"));
    let mut connection = PgConnection::connect(&databases.owner).await?;
    let start = Instant::now();
    for statement in statements {
        sqlx::raw_sql(AssertSqlSafe(statement))
            .execute(&mut connection)
            .await?;
    }
    let time = start.elapsed();
    connection.close().await?;
    Ok(time)
}

/// Fails unless both hold the same rows, value by value.
async fn compare(databases: &Databases, view: &str) -> anyhow::Result<()> {
    let mut views = PgConnection::connect(&databases.views).await?;
    let columns: String = sqlx::query_scalar(
        "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute \
         WHERE attrelid = ('sqlonfhir.' || quote_ident($1))::regclass AND attnum > 0",
    )
    .bind(view)
    .fetch_one(&mut views)
    .await?;
    let mut hapi = PgConnection::connect(&databases.owner).await?;
    let ours = digest(&mut views, &format!("SELECT {columns} FROM sqlonfhir.{view}")).await?;
    let theirs = digest(&mut hapi, &format!("SELECT {columns} FROM bench.{view}")).await?;
    ensure!(ours.0 > 0, "{view} has no rows of these data");
    ensure!(
        ours.0 == theirs.0,
        "{view}: {} rows, the matview {}",
        ours.0,
        theirs.0
    );
    ensure!(ours.1 == theirs.1, "{view}: the matview has other values");
    println!("both have {} rows, with equal values", ours.0);
    Ok(())
}

/// Number of rows, and a sum over what they hold.
async fn digest(connection: &mut PgConnection, query: &str) -> anyhow::Result<(i64, String)> {
    // Times read the same on both sides only in one zone.
    sqlx::raw_sql("SET TimeZone = 'UTC'")
        .execute(&mut *connection)
        .await?;
    let sql =
        format!("SELECT count(*), coalesce(sum(hashtextextended(t::text, 0)), 0)::text FROM ({query}) t");
    Ok(sqlx::query_as(AssertSqlSafe(sql)).fetch_one(connection).await?)
}

/// Parallel workers that PostgreSQL plans for a query.
async fn workers(databases: &Databases, query: &str) -> anyhow::Result<u64> {
    let mut connection = PgConnection::connect(&databases.owner).await?;
    let plan: Vec<String> = sqlx::query_scalar(AssertSqlSafe(format!("EXPLAIN {query}")))
        .fetch_all(&mut connection)
        .await?;
    let planned = plan
        .iter()
        .find_map(|line| line.trim().strip_prefix("Workers Planned: "));
    Ok(planned.map_or(Ok(0), str::parse)?)
}
