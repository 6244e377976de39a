//! The refresher: what the batch publishes, and what is run over HAPI's tables.

use std::time::Duration;

use api::proto::serving::{DegradationReason as Reason, QueryRequest, Source};
use chrono::TimeDelta;
use e2e::deadline;
use e2e::fhir::http_client;
use fhir_core::merge::Position;
use tonic::Code;
use view_store::{RunKind, SliceOutcome, SlicePlan};

use super::{Lined, by, is_late, is_live, says, three_and};
use crate::fakes::PATIENCE;
use crate::fixture::{CONDITION, all, condition, mark, now, put, three};

/// A question to the view that is not materialised.
fn raw() -> QueryRequest {
    QueryRequest {
        view: "later".into(),
        ..all()
    }
}

#[tokio::test]
async fn without_the_refresher_views_answer_and_what_only_it_can_run_is_refused() -> anyhow::Result<()> {
    let lined = Lined::start(|_| {}).await?;
    put(&lined.fixture.owner, "later").await?;
    lined.fixture.batch.hold(now(), three());
    let ran = || async {
        let answer = lined.gateway.ask(raw()).await.ok()?;
        (answer.freshness().source() == Source::Raw && answer.ids().len() == 3).then_some(())
    };
    deadline::until("the view is run", PATIENCE, ran).await?;

    lined.batch.cut();
    let speed = &lined.fixture.speed;
    speed.round(
        CONDITION,
        vec![condition("c-4", 4, "p-3", "400", "live", "4")],
        mark(5),
    );
    let told = |answer: &_| says(answer, Reason::BatchUnavailable) && is_live(answer);
    lined
        .until(
            "live changes go on, and it is told",
            &three_and(&[("c-4", "400")]),
            told,
        )
        .await?;
    let refused = lined.gateway.ask(raw()).await.expect_err("nobody can run it");
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    assert!(refused.message().contains("cannot be reached"), "{refused}");

    lined.batch.mend();
    deadline::until("the view is run again", PATIENCE, ran).await?;
    speed.round(CONDITION, vec![], mark(6));
    let untold = |answer: &_| !says(answer, Reason::BatchUnavailable) && is_live(answer);
    lined
        .until("nothing is told any more", &three_and(&[("c-4", "400")]), untold)
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_refresher_that_stands_still_holds_nobody_up() -> anyhow::Result<()> {
    let lined = Lined::start(|_| {}).await?;
    put(&lined.fixture.owner, "later").await?;
    lined.fixture.batch.hold(now(), three());
    lined.batch.hang();
    lined.until("views answer", &three_and(&[]), |_| true).await?;
    let late = lined
        .gateway
        .ask(by(Duration::from_millis(500), raw()))
        .await
        .expect_err("nobody runs it");
    assert!(is_late(&late), "{late}");
    // Whether a patient exists cannot be checked: the answer is given without, and says so.
    let url = format!(
        "{}/$sql-run?subjectReference=ViewDefinition/conditions&patient=Patient/p-1&_format=ndjson",
        lined.gateway.http
    );
    let unchecked = http_client()?.get(&url).send().await?;
    let told = unchecked
        .headers()
        .get_all("x-researchflow-degradation")
        .iter()
        .any(|reason| reason.to_str().is_ok_and(|text| text.contains("was not checked")));
    assert!(unchecked.status().is_success() && told, "{unchecked:?}");
    assert_eq!(unchecked.text().await?.lines().count(), 2);

    lined.batch.mend();
    deadline::until("the view is run", PATIENCE, || async {
        let answer = lined.gateway.ask(raw()).await.ok()?;
        (answer.ids().len() == 3).then_some(())
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn a_batch_that_does_not_publish_is_told_until_it_does() -> anyhow::Result<()> {
    // It has published ten seconds ago.
    let lined =
        Lined::start(|config| config.degradation.batch_behind_seconds = Duration::from_secs(8)).await?;
    let speed = &lined.fixture.speed;
    let live = condition("c-4", 4, "p-3", "400", "live", "4");
    speed.round(CONDITION, vec![live], mark(5));
    let four = three_and(&[("c-4", "400")]);
    let told = |answer: &_| says(answer, Reason::BatchBehind) && is_live(answer);
    lined
        .until("it is told, and live rows are shown", &four, told)
        .await?;

    let run = lined
        .fixture
        .owner
        .begin_run(CONDITION, RunKind::Incremental, false)
        .await?;
    let mut run = run.expect("the type is free");
    let as_of = now() - TimeDelta::seconds(1);
    let position = Position {
        n: 4,
        as_of,
        bound: as_of,
        xmin: 701,
        timeline: "7001/1".into(),
    };
    let plan = SlicePlan {
        resources: 100,
        unchanged_too: false,
    };
    while run.publish_slice(&position, plan).await? == SliceOutcome::More {}
    run.end().await?;
    // A live row of a later reading stays.
    lined
        .until("nothing is told any more", &four, |answer| {
            !says(answer, Reason::BatchBehind)
        })
        .await?;
    Ok(())
}
