//! All patients: streamed over gRPC, and by a bare SELECT over one connection.

use std::time::{Duration, Instant};

use anyhow::ensure;
use api::proto::serving::{QueryRequest, query_response::Part};
use futures::TryStreamExt as _;
use sqlx::Row as _;

use crate::{
    report::{median, ratio},
    servers::Servers,
};

const ROUNDS: usize = 5;
const SQL: &str =
    "SELECT id, gender, birth_date, active, deceased, deceased_at FROM sqlonfhir.patient_simple";

pub(crate) async fn measure(servers: &Servers) -> anyhow::Result<()> {
    let (mut ours, mut bare, mut rows) = (Vec::new(), Vec::new(), 0);
    for round in 0..=ROUNDS {
        let (took, count) = stream(servers).await?;
        let (alone, expected) = select(servers).await?;
        ensure!(count == expected, "{count} rows of {expected}");
        rows = count;
        if round > 0 {
            ours.push(took);
            bare.push(alone);
        }
    }
    println!("-- {rows} rows streamed");
    ratio("stream_1M_rows_vs_bare_select", median(ours), median(bare));
    Ok(())
}

async fn stream(servers: &Servers) -> anyhow::Result<(Duration, usize)> {
    let mut client = servers
        .client()
        .await?
        .max_decoding_message_size(64 * 1024 * 1024);
    let begun = Instant::now();
    let request = QueryRequest {
        view: "patient_simple".into(),
        ..Default::default()
    };
    let mut parts = client.query(request).await?.into_inner();
    let mut count = 0;
    while let Some(message) = parts.message().await? {
        if let Some(Part::Rows(batch)) = message.part {
            // As values, like those of the other side.
            let rows = batch.rows()?;
            count += rows.iter().filter(|row| !row.values.is_empty()).count();
        }
    }
    Ok((begun.elapsed(), count))
}

async fn select(servers: &Servers) -> anyhow::Result<(Duration, usize)> {
    let mut connection = servers.views().await?;
    let begun = Instant::now();
    let mut rows = sqlx::query(SQL).fetch(&mut connection);
    let (mut count, mut bytes) = (0, 0);
    while let Some(row) = rows.try_next().await? {
        // As values, like those of the other side.
        let texts: [Option<String>; 4] = [row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(5)?];
        let flags: [Option<bool>; 2] = [row.try_get(3)?, row.try_get(4)?];
        bytes += texts.iter().flatten().map(String::len).sum::<usize>() + flags.iter().flatten().count();
        count += 1;
    }
    ensure!(bytes > 0, "no values");
    Ok((begun.elapsed(), count))
}
