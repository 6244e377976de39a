//! A backlog in Redis, and a gateway that comes back: how many changes a second become visible.

use std::time::{Duration, Instant};

use api::proto::speed::{GetStatusRequest, speed_service_client::SpeedServiceClient};
use e2e::deadline;

use crate::{
    Arguments,
    hapi::Hapi,
    servers::{AT_ONCE, Servers},
};

const CHANGES: i64 = 20_000;
const PATIENCE: Duration = Duration::from_mins(5);

pub(crate) async fn measure(servers: &mut Servers, arguments: &Arguments) -> anyhow::Result<()> {
    servers.gateway.kill9();
    let before = held(servers).await?;
    let mut hapi = Hapi::connect(&servers.hapi_url).await?;
    let is_live = |number: &i64| (number - 1) % (arguments.patients / arguments.live) == 0;
    let mut others = (1..=arguments.patients).rev().filter(|number| !is_live(number));
    for first in (0..CHANGES).step_by(usize::try_from(AT_ONCE)?) {
        hapi.begin().await?;
        for number in others.by_ref().step_by(3).take(usize::try_from(AT_ONCE)?) {
            hapi.patient(number, "1991-01-01").await?;
        }
        hapi.commit().await?;
        deadline::until("the tail to bring changes to Redis", PATIENCE, || async {
            held(servers)
                .await
                .ok()
                .filter(|held| *held >= before + first + AT_ONCE)
        })
        .await?;
    }
    servers.gateway.restart().await?;
    let applied = || async { servers.applied().await.ok() };
    let first = deadline::until("the first changes to be applied", PATIENCE, || async {
        applied().await.filter(|count| *count > 0)
    })
    .await?;
    let begun = Instant::now();
    let last = deadline::until("all changes to be applied", PATIENCE, || async {
        applied().await.filter(|count| *count >= CHANGES)
    })
    .await?;
    println!(
        "-- applied from Redis: {:.0} changes/s ({} in {:.2} s; bound: 10,000 /s)",
        (last - first) as f64 / begun.elapsed().as_secs_f64(),
        last - first,
        begun.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Readings that Redis holds.
async fn held(servers: &Servers) -> anyhow::Result<i64> {
    let mut client =
        SpeedServiceClient::connect(format!("http://{}", servers.speed.address("grpc")?)).await?;
    let status = client.get_status(GetStatusRequest {}).await?.into_inner();
    Ok(status.types.iter().map(|of| of.readings_held).sum())
}
