//! Merged views beside the batch's tables alone, in SQL: what psql and BI tools pay for live rows.

use std::time::Instant;

use sqlx::{AssertSqlSafe, PgConnection};

use crate::{
    report::{median, ratio},
    servers::Servers,
};

/// Name, SQL with `{from}` for the schema, how often.
const STATEMENTS: [(&str, &str, usize); 3] = [
    (
        "scan",
        "SELECT count(*) FROM (SELECT * FROM {from}.observation_lab WHERE value >= 0 OFFSET 0) rows",
        11,
    ),
    (
        "aggregate",
        "SELECT code, count(*), avg(value) FROM {from}.observation_lab GROUP BY code",
        11,
    ),
    (
        "ordered_page",
        "SELECT * FROM {from}.patient_simple ORDER BY id LIMIT 50",
        200,
    ),
];

pub(crate) async fn measure(servers: &Servers) -> anyhow::Result<()> {
    let mut connection = servers.views().await?;
    for (name, sql, times) in STATEMENTS {
        let (mut merged, mut alone) = (Vec::new(), Vec::new());
        for number in 0..=times {
            let times = [
                run(&mut connection, &sql.replace("{from}", "sqlonfhir")).await?,
                run(&mut connection, &sql.replace("{from}", "sqlonfhir_base")).await?,
            ];
            if number > 0 {
                merged.push(times[0]);
                alone.push(times[1]);
            }
        }
        ratio(name, median(merged), median(alone));
    }
    Ok(())
}

async fn run(connection: &mut PgConnection, sql: &str) -> anyhow::Result<std::time::Duration> {
    let begun = Instant::now();
    sqlx::query(AssertSqlSafe(sql.to_owned()))
        .fetch_all(connection)
        .await?;
    Ok(begun.elapsed())
}
