//! Redis, the ingestor, HAPI: what brings live changes.

use std::time::Duration;

use api::proto::serving::DegradationReason as Reason;
use chrono::TimeDelta;
use e2e::deadline;
use tonic::Code;

use super::{Lined, by, is_late, is_live, no_older_than, says, three_and, with_version};
use crate::fakes::PATIENCE;
use crate::fixture::{CONDITION, condition, mark, now};

/// The speed layer goes, HAPI goes on, the speed layer comes back.
async fn goes_and_comes(lined: &Lined, goes: impl Fn(&Lined), comes: impl Fn(&Lined)) -> anyhow::Result<()> {
    let speed = &lined.fixture.speed;
    let four = three_and(&[("c-4", "400")]);
    speed.round(
        CONDITION,
        vec![condition("c-4", 4, "p-3", "400", "live", "4")],
        mark(5),
    );
    lined.until("a live row is shown", &four, is_live).await?;

    goes(lined);
    let told = lined
        .until("it is told", &four, |answer| {
            says(answer, Reason::SpeedUnavailable)
        })
        .await?;
    let freshness = told.freshness();
    assert!(
        freshness.speed_as_of.is_some() && freshness.as_of == freshness.speed_as_of,
        "as fresh as it was"
    );
    let refused = lined.until_too_old(TimeDelta::milliseconds(200)).await?;
    assert!(refused.message().contains("speed layer"), "{refused}");
    // What is visible is not waited for; what is not, no longer than the caller waits.
    lined.gateway.ask(with_version("c-4", 4)).await?;
    let late = lined
        .gateway
        .ask(by(Duration::from_millis(500), with_version("c-4", 9)))
        .await
        .expect_err("nobody can read it");
    assert!(is_late(&late), "{late}");
    assert!(
        late.code() == Code::Cancelled || late.message().contains("the speed layer"),
        "{late}"
    );

    let changed = condition("c-1", 7, "p-1", "107", "changed meanwhile", "1");
    let new = condition("c-5", 1, "p-3", "500", "new", "5");
    speed.round(CONDITION, vec![changed, new], mark(6));
    comes(lined);
    let five = [
        ("c-1", "107"),
        ("c-2", "200"),
        ("c-3", "100"),
        ("c-4", "400"),
        ("c-5", "500"),
    ];
    lined
        .until("all of it is shown", &five, |answer| {
            !says(answer, Reason::SpeedUnavailable)
        })
        .await?;
    speed.round(CONDITION, vec![], mark(7));
    lined.until("nothing is told any more", &five, is_live).await?;
    Ok(())
}

#[tokio::test]
async fn an_ingestor_that_is_gone_leaves_answers_as_they_were() -> anyhow::Result<()> {
    let lined = Lined::start(|_| {}).await?;
    goes_and_comes(&lined, |lined| lined.speed.cut(), |lined| lined.speed.mend()).await
}

#[tokio::test]
async fn an_ingestor_that_stands_still_holds_nobody_up() -> anyhow::Result<()> {
    let lined = Lined::start(|_| {}).await?;
    goes_and_comes(&lined, |lined| lined.speed.hang(), |lined| lined.speed.mend()).await
}

#[tokio::test]
async fn without_redis_the_ingestor_refuses_and_answers_go_on() -> anyhow::Result<()> {
    let lined = Lined::start(|_| {}).await?;
    goes_and_comes(
        &lined,
        |lined| lined.fixture.speed.has_redis(false),
        |lined| lined.fixture.speed.has_redis(true),
    )
    .await
}

/// HAPI's database, or the refresher that reads it, is away: the ingestor is there, and its tail finishes no round. (HAPI alone being away changes nothing: what it has
/// committed is read from its database.)
#[tokio::test]
async fn a_tail_that_stands_still_is_told_and_webhooks_are_still_shown() -> anyhow::Result<()> {
    let lined =
        Lined::start(|config| config.degradation.speed_behind_seconds = Duration::from_secs(1)).await?;
    let speed = &lined.fixture.speed;
    speed.round(CONDITION, vec![], mark(5));
    let told = |answer: &_| says(answer, Reason::SpeedBehind) && !says(answer, Reason::SpeedUnavailable);
    lined.until("it is told", &three_and(&[]), told).await?;
    let refused = lined.until_too_old(TimeDelta::seconds(1)).await?;
    assert!(
        refused
            .message()
            .contains("has not finished a round of reading lately"),
        "{refused}"
    );

    speed.preview(
        CONDITION,
        condition("c-4", 4, "p-3", "400", "webhook", "4"),
        now(),
    );
    let four = three_and(&[("c-4", "400")]);
    lined.until("a webhook is shown", &four, told).await?;
    let late = lined
        .gateway
        .ask(by(Duration::from_millis(500), with_version("c-4", 9)))
        .await
        .expect_err("no round is finished");
    assert!(is_late(&late), "{late}");

    let n = std::sync::atomic::AtomicI64::new(6);
    let fresh = || async {
        let n = n.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        speed.round(
            CONDITION,
            vec![condition("c-4", 4, "p-3", "400", "webhook", "4")],
            mark(n),
        );
        let answer = lined
            .gateway
            .ask(no_older_than(TimeDelta::seconds(1)))
            .await
            .ok()?;
        is_live(&answer).then_some(answer)
    };
    let answer = deadline::until("rounds are finished again", PATIENCE, fresh).await?;
    assert_eq!(super::codes(&answer), super::expected(&four));
    Ok(())
}
