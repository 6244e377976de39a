//! Fifty clients at once: over gRPC, and by fifty bare connections.

use std::time::{Duration, Instant};

use api::proto::serving::Layers;
use futures::future::try_join_all;

use crate::{Arguments, point, servers::Servers};

const CLIENTS: i64 = 50;
const ROUNDS: usize = 3;

pub(crate) async fn measure(servers: &Servers, arguments: &Arguments) -> anyhow::Result<()> {
    let time = Duration::from_secs(arguments.seconds) / 2;
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let over_grpc =
            try_join_all((0..CLIENTS).map(|number| ask(servers, arguments, number, time))).await?;
        let connections =
            try_join_all((0..CLIENTS).map(|number| select(servers, arguments, number, time))).await?;
        if round > 0 {
            ours.push(over_grpc.iter().sum::<u64>() as f64 / time.as_secs_f64());
            bare.push(connections.iter().sum::<u64>() as f64 / time.as_secs_f64());
        }
    }
    ours.sort_by(f64::total_cmp);
    bare.sort_by(f64::total_cmp);
    let (ours, bare) = (ours[ROUNDS / 2], bare[ROUNDS / 2]);
    println!(
        "RATIO queries_at_{CLIENTS}_clients_vs_bare_connections {:.2} ({ours:.0} /s / {bare:.0} /s)",
        ours / bare
    );
    Ok(())
}

fn id(arguments: &Arguments, client: i64, number: i64) -> String {
    format!(
        "p{}",
        (client * 1_000_003 + number * 7_919) % arguments.patients + 1
    )
}

async fn ask(servers: &Servers, arguments: &Arguments, number: i64, time: Duration) -> anyhow::Result<u64> {
    let mut client = servers.client().await?;
    let (begun, mut count) = (Instant::now(), 0);
    while begun.elapsed() < time {
        point::ask(&mut client, &id(arguments, number, count), Layers::Merged).await?;
        count += 1;
    }
    Ok(count.unsigned_abs())
}

async fn select(
    servers: &Servers,
    arguments: &Arguments,
    number: i64,
    time: Duration,
) -> anyhow::Result<u64> {
    let mut connection = servers.views().await?;
    let (begun, mut count) = (Instant::now(), 0);
    while begun.elapsed() < time {
        point::select(&mut connection, &id(arguments, number, count)).await?;
        count += 1;
    }
    Ok(count.unsigned_abs())
}
