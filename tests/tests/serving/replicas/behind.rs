//! Replicas that are behind: who may still read them, and who never does.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use api::proto::serving::{
    CohortRequest, DegradationReason as Reason, FreshnessDemand, QueryRequest, SqlRequest,
};
use e2e::deadline;
use e2e::postgres::until_true;

use super::{
    ANY_LAG, at_least, change, no_older_than, over, over_both, pair, staleness, until_metric, until_read_at,
};
use crate::cohort::filtered;
use crate::fakes::PATIENCE;
use crate::fixture::{CONDITION, all, mark, three};
use crate::sql::statement;

#[tokio::test]
async fn a_paused_replica_is_never_taken_for_fresh_and_is_read_again_when_it_goes_on() -> anyhow::Result<()> {
    let (primary, pair) = pair().await?;
    let standby = &pair[0];
    let fixture = over(primary, &[standby], &three(), |_| {}).await?;
    until_read_at(&fixture, "replica-1", all()).await?;
    standby.pause().await?;
    change(&fixture, "c-4", 5);
    let answer = deadline::until("the primary is read", PATIENCE, || async {
        let answer = fixture.ask(all()).await.ok()?;
        (answer.ids().len() == 4).then_some(answer)
    })
    .await?;
    assert_eq!(answer.freshness().read_at, "primary");
    until_metric(&fixture, &super::standing("replica-1", "paused")).await?;

    // Whoever allows it gets the older rows, with their own time and the reason.
    let old = until_read_at(&fixture, "replica-1", no_older_than(ANY_LAG)).await?;
    assert_eq!(old.ids(), ["c-1", "c-2", "c-3"]);
    assert!(old.freshness().speed_as_of.is_none() && old.freshness().as_of == old.freshness().batch_as_of);
    assert!(staleness(&old) > staleness(&answer));
    deadline::until("the lag is beyond the bound", PATIENCE, || async {
        let older = fixture.ask(no_older_than(ANY_LAG)).await.ok()?;
        let grown = older.freshness().as_of == old.freshness().as_of && staleness(&older) > staleness(&old);
        (grown && older.degradations().contains(&Reason::ReplicaBehind)).then_some(())
    })
    .await?;

    // Whoever does not is answered at the primary, or refused: the tail goes on, the replica does not.
    let bound = Duration::from_secs(3);
    let n = AtomicI64::new(6);
    for _ in 0..6 {
        let fresh = deadline::until("a fresh answer", PATIENCE, || async {
            let next = mark(n.fetch_add(1, Ordering::Relaxed));
            fixture.speed.round(CONDITION, vec![], next);
            fixture.ask(no_older_than(bound)).await.ok()
        })
        .await?;
        assert_eq!(
            (fresh.freshness().read_at.as_str(), fresh.ids().len()),
            ("primary", 4)
        );
        assert!(staleness(&fresh).to_std()? <= bound);
    }

    standby.resume().await?;
    let fresh = until_read_at(&fixture, "replica-1", all()).await?;
    assert_eq!(fresh.ids(), ["c-1", "c-2", "c-3", "c-4"]);
    assert!(!fresh.degradations().contains(&Reason::ReplicaBehind));
    Ok(())
}

#[tokio::test]
async fn at_least_is_read_where_the_version_is_and_waited_for_at_the_primary() -> anyhow::Result<()> {
    let (primary, pair) = pair().await?;
    let standby = &pair[0];
    let fixture = over(primary, &[standby], &three(), |config| {
        config.views.max_replica_lag_seconds = ANY_LAG;
    })
    .await?;
    until_read_at(&fixture, "replica-1", all()).await?;
    standby.pause().await?;
    change(&fixture, "c-4", 5);
    // Near enough by the bound, and yet it does not hold the version.
    for _ in 0..5 {
        let answer = fixture.ask(at_least("c-4", 1)).await?;
        assert_eq!(
            (answer.freshness().read_at.as_str(), answer.ids().len()),
            ("primary", 4)
        );
        let known = fixture.ask(at_least("c-3", 3)).await?;
        assert_eq!(
            (known.freshness().read_at.as_str(), known.ids().len()),
            ("replica-1", 3)
        );
    }
    standby.resume().await?;
    let answer = until_read_at(&fixture, "replica-1", at_least("c-4", 1)).await?;
    assert_eq!(answer.ids().len(), 4);
    Ok(())
}

#[tokio::test]
async fn pages_do_not_go_back_to_a_replica_that_lacks_what_was_shown() -> anyhow::Result<()> {
    let (primary, pair) = pair().await?;
    let [one, two] = &*pair;
    let fixture = over_both(primary, [one, two]).await?;
    two.pause().await?;
    // It comes before all others: the first page has it.
    change(&fixture, "c-0", 5);
    let page = |token: &str| QueryRequest {
        page_size: 1,
        page_token: token.into(),
        ..all()
    };
    let first = deadline::until("a first page with the change", PATIENCE, || async {
        let answer = until_read_at(&fixture, "replica-1", page("")).await.ok()?;
        (answer.in_order() == ["c-0"]).then_some(answer)
    })
    .await?;
    let mut token = first.footer().next_page_token;
    let mut seen = vec!["c-0".to_owned()];
    let mut elsewhere = 0;
    for _ in 0..3 {
        // Several times, so that it would have been the other one's turn.
        for _ in 0..4 {
            let again = fixture.ask(page(&token)).await?;
            assert_ne!(again.freshness().read_at, "replica-2", "it lacks the change");
        }
        for _ in 0..2 {
            elsewhere += u32::from(fixture.ask(page("")).await?.freshness().read_at == "replica-2");
        }
        let next = fixture.ask(page(&token)).await?;
        seen.extend(next.in_order());
        token = next.footer().next_page_token;
    }
    assert_eq!(seen, ["c-0", "c-1", "c-2", "c-3"]);
    assert!(elsewhere > 0, "first pages are read at both");
    two.resume().await?;
    until_read_at(&fixture, "replica-2", page(&first.footer().next_page_token)).await?;
    Ok(())
}

#[tokio::test]
async fn questions_of_one_caller_do_not_go_back_if_they_say_so() -> anyhow::Result<()> {
    let (primary, pair) = pair().await?;
    let [one, two] = &*pair;
    let fixture = over_both(primary, [one, two]).await?;
    two.pause().await?;
    change(&fixture, "c-4", 5);
    let demand = |not_before: &str| FreshnessDemand {
        not_before: not_before.into(),
        ..Default::default()
    };
    let asked = |not_before: &str| QueryRequest {
        freshness: Some(demand(not_before)),
        ..all()
    };
    let first = deadline::until("the change is read at a replica", PATIENCE, || async {
        let answer = until_read_at(&fixture, "replica-1", asked("start")).await.ok()?;
        (answer.ids().len() == 4).then_some(answer)
    })
    .await?;
    let gateway = &fixture.gateway;
    let mut position = first.freshness().position;
    let mut went_back = 0;
    for _ in 0..8 {
        let answer = fixture.ask(asked(&position)).await?;
        assert_eq!(answer.ids().len(), 4, "read at {}", answer.freshness().read_at);
        let sql = SqlRequest {
            freshness: Some(demand(&position)),
            ..statement("SELECT count(*) FROM conditions")
        };
        assert_eq!(gateway.sql(sql).await?.lines(), ["4"]);
        let cohort = CohortRequest {
            criteria: Some(filtered("conditions", vec![])),
            freshness: Some(demand(&position)),
            ..Default::default()
        };
        assert_eq!(gateway.cohort(cohort).await?.ids.len(), 3);
        // An odd number of questions in all, so that each comes to each server in turn.
        went_back += u32::from(fixture.ask(all()).await?.ids().len() == 3);
        fixture.ask(all()).await?;
        position = answer.freshness().position;
    }
    assert!(went_back > 0, "whoever does not say so may go back");
    let refused = fixture.ask(asked("s3cret")).await.expect_err("no position");
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    assert!(!refused.message().contains("s3cret"), "{refused}");
    Ok(())
}

#[tokio::test]
async fn a_question_that_stands_in_the_way_of_replaying_is_asked_elsewhere() -> anyhow::Result<()> {
    let (primary, pair) = pair().await?;
    let standby = &pair[0];
    // Nothing waits for questions.
    standby.set("max_standby_streaming_delay", "0").await?;
    let fixture = over(primary, &[standby], &three(), |config| {
        config.views.max_replica_lag_seconds = ANY_LAG;
    })
    .await?;
    until_read_at(&fixture, "replica-1", all()).await?;
    let gateway = &fixture.gateway;
    let long = "SELECT count(*) FROM conditions, generate_series(1, 3000) a, generate_series(1, 3000) b";
    let conflicting = async {
        let database = fixture.owner_url.rsplit('/').next().unwrap_or_default();
        let at_work = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() \
                       AND state = 'active' AND query LIKE 'SELECT%generate_series%' AND pid <> pg_backend_pid())";
        until_true(&standby.url_as("postgres", database), at_work, PATIENCE).await?;
        let exclusive = "BEGIN; LOCK TABLE sqlonfhir_base.conditions IN ACCESS EXCLUSIVE MODE; COMMIT";
        primary.execute(database, exclusive).await
    };
    let (answer, conflicted) = tokio::join!(gateway.sql(statement(long)), conflicting);
    conflicted?;
    let answer = answer?;
    assert_eq!(answer.lines(), ["27000000"]);
    let read_at = answer.header.freshness.unwrap_or_default().read_at;
    assert_eq!(read_at, "primary");
    until_metric(&fixture, "reads_missed_total{server=\"replica-1\"} 1").await?;
    standby.set("max_standby_streaming_delay", "30s").await
}
