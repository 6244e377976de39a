//! Which requests are recorded, and that logs name traces in any case.

use e2e::collector::Collector;
use serde_json::Value;

use crate::world::{Caller, World, exported_to};

const QUERY: &str = "researchflow.serving.v1.ServingService/Query";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_recorded_is_said_by_the_ratio_or_by_the_caller() -> anyhow::Result<()> {
    let collector = Collector::start_http().await?;
    let endpoint = collector.endpoint();
    let http = ("DAEMON__TRACING__PROTOCOL", "http/protobuf");
    let [to] = exported_to(&endpoint);
    let mut world = World::start(&[to, http, ("DAEMON__TRACING__SAMPLE_RATIO", "0")]).await?;
    let (recorded, not) = (Caller::new(true), Caller::new(false));
    world.query(None).await?;
    world.query(Some(&not)).await?;
    world.webhook("a", 1, None).await?;
    world.query(Some(&recorded)).await?;
    collector.span(&recorded.trace, "serving-gateway", QUERY).await?;
    // The tail, the merger and the watches of views ask all the time, in no trace.
    let others: Vec<_> = collector
        .seen()
        .into_iter()
        .filter(|seen| seen.trace() != recorded.trace)
        .collect();
    assert!(others.is_empty(), "{others:?}");

    world.set(&[("DAEMON__TRACING__SAMPLE_RATIO", "1")]).await?;
    world.query(Some(&not)).await?;
    world.query(None).await?;
    collector.span("", "serving-gateway", QUERY).await?;
    let begun = || {
        let seen = collector.seen().into_iter();
        let mut own = seen.filter(|seen| seen.span.name == QUERY && seen.trace() != recorded.trace);
        own.next()
    };
    let own = e2e::deadline::until(
        "a trace of the gateway's own",
        std::time::Duration::from_secs(20),
        || async { begun() },
    )
    .await?;
    assert_eq!(own.parent(), "");
    assert!(collector.seen().iter().all(|seen| seen.trace() != not.trace));
    // What daemons do of themselves is in none of them.
    let polled = ["ReadChanges", "WatchViews", "Changes"];
    let polling = |seen: &e2e::collector::Seen| polled.contains(&seen.attribute("rpc.method").as_str());
    assert!(!collector.seen().iter().any(polling));
    Ok(())
}

/// The lines that a gateway logs of a request it cannot answer, since the batch layer is away.
async fn unanswered(world: &World, caller: &Caller) -> anyhow::Result<String> {
    let answer = world.run_over_hapi(caller)?.send().await?;
    anyhow::ensure!(
        answer.status().as_u16() == 503,
        "it is answered: {}",
        answer.status()
    );
    let log = world.serving.log();
    let line = log.lines().find(|line| line.contains(&caller.trace));
    Ok(line.unwrap_or_default().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_lines_name_the_trace_in_both_forms_with_a_collector_and_without() -> anyhow::Result<()> {
    let collector = Collector::start().await?;
    let endpoint = collector.endpoint();
    let [to] = exported_to(&endpoint);
    let mut world = World::start(&[]).await?;
    world.house.batch.kill9();
    let text = unanswered(&world, &Caller::new(true)).await?;
    assert!(
        text.contains("trace_id=") && text.contains("request_id="),
        "{text}"
    );

    world
        .set_gateway(&[to, ("DAEMON__LOG_FORMAT", "json"), ("DAEMON__LOG", "warn")])
        .await?;
    let caller = Caller::new(true);
    let line = unanswered(&world, &caller).await?;
    let line: Value = serde_json::from_str(&line)?;
    assert_eq!(line["span"]["trace_id"], caller.trace, "{line}");
    let failed = collector
        .span(
            &caller.trace,
            "serving-gateway",
            "GET /ViewDefinition/{id}/$viewdefinition-run",
        )
        .await?;
    assert!(failed.has_failed(), "{failed:?}");
    assert_eq!(failed.attribute("http.response.status_code"), "503");
    let asked = collector
        .span(
            &caller.trace,
            "serving-gateway",
            "researchflow.batch.v1.BatchService/RunView",
        )
        .await?;
    assert!(asked.has_failed(), "{asked:?}");
    Ok(())
}
