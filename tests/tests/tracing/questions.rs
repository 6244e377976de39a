//! From a question to its statement, and to the batch layer.

use std::time::Duration;

use e2e::{
    collector::{Collector, kind},
    house::view_of,
};

use crate::world::{Caller, World, exported_to};

const GATEWAY: &str = "serving-gateway";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_is_one_trace_down_to_its_statement_and_to_the_batch_layer() -> anyhow::Result<()> {
    let collector = Collector::start().await?;
    let mut world = World::start(&exported_to(&collector.endpoint())).await?;

    let caller = Caller::new(true);
    world.query(Some(&caller)).await?;
    let query = "researchflow.serving.v1.ServingService/Query";
    let call = collector.span(&caller.trace, GATEWAY, query).await?;
    assert_eq!(
        (call.parent(), kind(&call)),
        (caller.span.clone(), "SPAN_KIND_SERVER")
    );
    for (name, value) in [
        ("rpc.system", "grpc"),
        ("rpc.service", "researchflow.serving.v1.ServingService"),
        ("rpc.method", "Query"),
        ("rpc.grpc.status_code", "0"),
    ] {
        assert_eq!(call.attribute(name), value, "{name}: {call:?}");
    }
    let select = collector.span(&caller.trace, GATEWAY, "SELECT").await?;
    assert_eq!((select.parent(), kind(&select)), (call.id(), "SPAN_KIND_CLIENT"));
    assert_eq!(select.attribute("db.system.name"), "postgresql");
    assert_eq!(select.attribute("db.collection.name"), view_of("Patient"));
    let turn = collector.span(&caller.trace, GATEWAY, "turn").await?;
    assert_eq!(turn.parent(), select.id());
    for inner in ["catalog", "route", "rows"] {
        let span = collector.span(&caller.trace, GATEWAY, inner).await?;
        assert_eq!(span.parent(), call.id(), "{inner}");
    }
    // The whole answer is within its call.
    let rows = collector.span(&caller.trace, GATEWAY, "rows").await?;
    assert!(rows.span.end_time_unix_nano <= call.span.end_time_unix_nano);

    let caller = Caller::new(true);
    let statement = format!("SELECT count(*) FROM {} WHERE id = 'planted'", view_of("Patient"));
    world.sql(&caller, &statement).await?;
    let select = collector.span(&caller.trace, GATEWAY, "SELECT").await?;
    assert_eq!(select.attribute("db.operation.name"), "SELECT");
    let refused = Caller::new(true);
    assert!(world.sql(&refused, "SELECT nothing").await.is_err());
    let sql = "researchflow.serving.v1.ServingService/Sql";
    let call = collector.span(&refused.trace, GATEWAY, sql).await?;
    // INVALID_ARGUMENT is the caller's own fault, and no statement was made of it.
    assert_eq!(
        (call.attribute("rpc.grpc.status_code").as_str(), call.has_failed()),
        ("3", false)
    );

    let refused = Caller::new(true);
    let divided = format!("SELECT 1 / (count(*) - count(*)) FROM {}", view_of("Patient"));
    assert!(world.sql(&refused, &divided).await.is_err());
    let select = collector.span(&refused.trace, GATEWAY, "SELECT").await?;
    assert!(select.has_failed(), "{select:?}");

    let caller = Caller::new(true);
    let request = world.run_over_hapi(&caller)?.header("x-request-id", "mine-1");
    let answer = request.send().await?.error_for_status()?;
    assert_eq!(answer.headers()["x-request-id"], "mine-1");
    answer.bytes().await?;
    let route = "GET /ViewDefinition/{id}/$viewdefinition-run";
    let request = collector.span(&caller.trace, GATEWAY, route).await?;
    assert_eq!(request.parent(), caller.span);
    assert_eq!(request.attribute("http.request.method"), "GET");
    assert_eq!(request.attribute("http.response.status_code"), "200");
    let run = "researchflow.batch.v1.BatchService/RunView";
    let asks = collector.span(&caller.trace, GATEWAY, run).await?;
    assert_eq!((asks.parent(), kind(&asks)), (request.id(), "SPAN_KIND_CLIENT"));
    assert_eq!(asks.attribute("rpc.grpc.status_code"), "0");
    let asked = collector.span(&caller.trace, "batch-refresher", run).await?;
    assert_eq!((asked.parent(), kind(&asked)), (asks.id(), "SPAN_KIND_SERVER"));
    // The request's id has come as far as that.
    assert_eq!(asked.attribute("request_id"), "mine-1");

    // What has ended is sent before a stop is over.
    let last = Caller::new(true);
    world.query(Some(&last)).await?;
    let status = world.serving.terminate(Duration::from_secs(6)).await?;
    assert!(status.success(), "{status}");
    collector.span(&last.trace, GATEWAY, query).await?;
    Ok(())
}
