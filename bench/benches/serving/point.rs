//! One resource's row by its key: over gRPC, and by a bare prepared statement with an empty call to the same server.

use std::time::{Duration, Instant};

use api::proto::serving::{
    Comparison, Filter, FreshnessDemand, GetStatisticsRequest, Layers, Operator, QueryRequest, filter,
    serving_service_client::ServingServiceClient,
};
use sqlx::{PgConnection, Row as _};
use tonic::transport::Channel;

use crate::{
    Arguments,
    report::{Times, ratio},
    servers::Servers,
};

const QUERIES: i64 = 3_000;
/// The same, bare.
pub(crate) const SQL: &str = "SELECT id, gender, birth_date, active, deceased, deceased_at FROM sqlonfhir.patient_simple WHERE id = $1";

pub(crate) async fn measure(servers: &Servers, arguments: &Arguments) -> anyhow::Result<()> {
    let (mut client, mut bare) = (servers.client().await?, servers.views().await?);
    let id = |number: i64| format!("p{}", number * 7_919 % arguments.patients + 1);
    let (mut ours, mut batch_only, mut selects, mut empty) = (vec![], vec![], vec![], vec![]);
    for number in -500..QUERIES {
        let id = id(number.abs());
        let merged = ask(&mut client, &id, Layers::Merged).await?;
        let batch = ask(&mut client, &id, Layers::Batch).await?;
        let select = select(&mut bare, &id).await?;
        let call = call(&mut client).await?;
        // Plans, pages and connections warm up.
        if number >= 0 {
            ours.push(merged);
            batch_only.push(batch);
            selects.push(select);
            empty.push(select + call);
        }
    }
    let [ours, batch_only, selects, floor] = [ours, batch_only, selects, empty].map(Times::of);
    for (name, hundredths) in [("point_query_vs_floor", 50), ("point_query_vs_floor_p99", 99)] {
        ratio(name, ours.percentile(hundredths), floor.percentile(hundredths));
    }
    println!(
        "-- the bare SELECT alone: p50 {:.2} ms; of a merged query over one of the batch alone: {:+.3} ms",
        selects.percentile(50),
        ours.percentile(50) - batch_only.percentile(50)
    );
    Ok(())
}

pub(crate) fn request(id: &str, layers: Layers) -> QueryRequest {
    let comparison = Comparison {
        column: "id".into(),
        operator: Operator::Equal.into(),
        values: vec![id.to_owned()],
    };
    QueryRequest {
        view: "patient_simple".into(),
        filters: vec![Filter {
            filter: Some(filter::Filter::Comparison(comparison)),
        }],
        freshness: Some(FreshnessDemand {
            layers: layers.into(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// To the end of the answer.
pub(crate) async fn ask(
    client: &mut ServingServiceClient<Channel>,
    id: &str,
    layers: Layers,
) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    let mut parts = client.query(request(id, layers)).await?.into_inner();
    while parts.message().await?.is_some() {}
    Ok(begun.elapsed())
}

pub(crate) async fn select(bare: &mut PgConnection, id: &str) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    let row = sqlx::query(SQL).bind(id).fetch_one(bare).await?;
    let _id: String = row.try_get(0)?;
    Ok(begun.elapsed())
}

/// A call that does next to nothing.
async fn call(client: &mut ServingServiceClient<Channel>) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    client.get_statistics(GetStatisticsRequest {}).await?;
    Ok(begun.elapsed())
}
