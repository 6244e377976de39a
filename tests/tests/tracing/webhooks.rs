//! From a webhook to the visible row.

use std::time::Duration;

use e2e::{
    ask::all_of,
    collector::{Collector, Seen, kind},
    deadline,
    house::{asker, view_of},
};

use crate::world::{Caller, World, exported_to};

const GATEWAY: &str = "serving-gateway";
const INGESTOR: &str = "speed-ingestor";

/// Fails unless the trace of a webhook goes on to the transaction that shows its row; that span.
async fn whole(collector: &Collector, caller: &Caller) -> anyhow::Result<Seen> {
    let webhook = collector
        .span(&caller.trace, INGESTOR, "PUT /fhir/{type}/{id}")
        .await?;
    assert_eq!(
        (webhook.parent(), kind(&webhook)),
        (caller.span.clone(), "SPAN_KIND_SERVER")
    );
    let offer = collector.span(&caller.trace, INGESTOR, "offer").await?;
    assert_eq!(
        (offer.parent(), kind(&offer)),
        (webhook.id(), "SPAN_KIND_PRODUCER")
    );
    let apply = collector.span(&caller.trace, GATEWAY, "apply").await?;
    assert_eq!((apply.parent(), kind(&apply)), (offer.id(), "SPAN_KIND_CONSUMER"));
    assert_eq!(apply.attribute("fhir.resource_type"), "Patient");
    Ok(apply)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_is_one_trace_up_to_the_visible_row() -> anyhow::Result<()> {
    let collector = Collector::start().await?;
    let world = World::start(&exported_to(&collector.endpoint())).await?;
    let caller = Caller::new(true);
    world.webhook("w", 1, Some(&caller)).await?;
    whole(&collector, &caller).await?;
    let asker = asker(&world.serving).await?;
    deadline::until("the row", Duration::from_secs(20), || async {
        let answer = asker.ask(all_of(&view_of("Patient"))).await.ok()?;
        answer
            .sorted()
            .iter()
            .any(|row| row.starts_with('w'))
            .then_some(())
    })
    .await?;

    // Many in one transaction: each has its trace to the end, and links to the others.
    world.serving.signal("STOP");
    let callers: Vec<Caller> = (0..5).map(|_| Caller::new(true)).collect();
    for (number, caller) in callers.iter().enumerate() {
        world.webhook(&format!("b-{number}"), 1, Some(caller)).await?;
    }
    world.serving.signal("CONT");
    let mut linked = 0;
    for caller in &callers {
        linked += whole(&collector, caller).await?.span.links.len();
    }
    // The first alone may have been on its way already.
    assert!(linked >= 6, "only {linked} links");
    Ok(())
}
