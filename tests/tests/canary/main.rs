//! Nothing of a patient, of a question or of a secret leaves the answers: everything that a daemon says beside them is searched for what was planted everywhere.
//!
//! Planted are names, ids, codes, addresses, search values, literals of SQL, values of filters, tokens and passwords: in resources by HAPI's tables and by webhooks, in
//! requests, headers, URLs and bodies that are broken. Searched are logs (all levels, of libraries too), metrics, spans, errors of gRPC and HTTP with their details and
//! headers, dead letters and what daemons say of their state; in plain, and as JSON, URLs, base64 and hexadecimal digits write it.

mod faults;
mod hapi;
mod planted;
mod questions;
mod requests;
mod webhooks;
mod world;

use std::time::Duration;

use e2e::{ask::all_of, deadline, house::view_of};

use crate::{
    planted::{Canary, search},
    world::World,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_9_nothing_that_was_planted_leaves_the_answers() -> anyhow::Result<()> {
    let mut world = World::start().await?;
    hapi::write(&world).await?;
    webhooks::send(&mut world).await?;
    questions::ask(&mut world).await?;
    requests::send(&mut world).await?;
    faults::provoke(&mut world).await?;

    // The search finds what is there: answers hold what was planted, and Redis does.
    let rows = world.rows(all_of(&view_of("Patient"))).await?;
    let found: Vec<Canary> = search("rows", rows.as_bytes())
        .into_iter()
        .map(|hit| hit.canary)
        .collect();
    for expected in [Canary::PatientId, Canary::Family, Canary::Address] {
        assert!(
            found.contains(&expected),
            "{expected:?} is not in an answer that holds it: {rows}"
        );
    }

    // The last spans are on their way.
    deadline::until("spans of all daemons", Duration::from_secs(20), || async {
        let seen = world.collector.seen();
        let all = ["batch-refresher", "speed-ingestor", "serving-gateway"];
        all.iter()
            .all(|service| seen.iter().any(|seen| seen.service == *service))
            .then_some(())
    })
    .await?;
    let said = world.said().await?;
    for (what, least) in [
        ("log of", 3),
        ("metrics of", 3),
        ("spans", 1),
        ("dead letters", 1),
        ("status", 4),
        ("error", 100),
    ] {
        let count = said
            .iter()
            .filter(|(of, text)| of.starts_with(what) && !text.is_empty())
            .count();
        assert!(count >= least, "only {count} of {what} were searched");
    }
    // Of all levels, or it was not asked for.
    for (what, text) in said.iter().filter(|(what, _)| what.starts_with("log of")) {
        let traced = String::from_utf8_lossy(text).contains("TRACE");
        assert!(
            traced || std::env::var_os("CANARY_LOG").is_some(),
            "{what} has no lines of TRACE"
        );
    }
    let hits: Vec<String> = said
        .iter()
        .flat_map(|(what, text)| search(what, text))
        .map(|hit| hit.to_string())
        .collect();
    assert!(hits.is_empty(), "{} canaries:\n{}", hits.len(), hits.join("\n"));
    Ok(())
}
