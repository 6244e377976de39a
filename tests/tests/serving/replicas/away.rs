//! Servers that do not answer, are not ours, or follow nobody any more.

use std::time::Duration;

use api::proto::serving::{
    DegradationReason as Reason, ListViewsRequest, QueryRequest, query_response::Part,
};
use e2e::deadline;
use e2e::postgres::Postgres;
use e2e::standby::Standby;
use sqlx::{Connection as _, PgConnection};
use tonic::Code;

use super::{
    ANY_LAG, at_least, change, no_older_than, over, pair, primary, replicated, staleness, standing,
    until_metric, until_read_at,
};
use crate::fakes::PATIENCE;
use crate::fixture::{Fixture, all, condition, server, three};
use crate::sql::statement;

#[tokio::test]
async fn a_replica_that_is_frozen_or_gone_holds_up_nobody_and_comes_back() -> anyhow::Result<()> {
    let (primary, mut pair) = pair().await?;
    let standby = &mut pair[0];
    let fixture = over(primary, &[standby], &three(), |config| {
        config.views.max_replica_lag_seconds = ANY_LAG;
    })
    .await?;
    let mut owner = PgConnection::connect(&fixture.owner_url).await?;
    // As a slice of the batch's does it.
    let many = "INSERT INTO sqlonfhir_base.conditions (_rid, _version, _updated, _row, id, label) \
                SELECT 'm-' || n, 1, now(), 0, 'm-' || n, repeat('x', 400) FROM generate_series(1, 60000) n; \
                UPDATE sqlonfhir_meta.view SET row_count = row_count + 60000 WHERE name = 'conditions'";
    sqlx::raw_sql(many).execute(&mut owner).await?;
    let few = || QueryRequest { limit: 1, ..all() };

    for harm in ["STOP", "KILL"] {
        deadline::until("the replica has all rows", PATIENCE, || async {
            let answer = until_read_at(
                &fixture,
                "replica-1",
                QueryRequest {
                    count_only: true,
                    ..all()
                },
            );
            (answer.await.ok()?.footer().row_count == 60_003).then_some(())
        })
        .await?;
        until_read_at(&fixture, "replica-1", few()).await?;
        // An answer is under way there: it ends with an error, and not as if it were whole.
        let mut under_way = fixture.gateway.client.clone().query(all()).await?.into_inner();
        let Some(Part::Header(header)) = under_way.message().await?.and_then(|message| message.part) else {
            anyhow::bail!("an answer begins with its header");
        };
        assert_eq!(header.freshness.unwrap_or_default().read_at, "replica-1");
        standby.signal_all(harm)?;
        // Whoever comes next is answered, whether or not it is known yet.
        for _ in 0..3 {
            let answer = tokio::time::timeout(PATIENCE, fixture.ask(few())).await??;
            assert_eq!(
                (answer.freshness().read_at.as_str(), answer.rows.len()),
                ("primary", 1)
            );
        }
        until_metric(&fixture, &standing("replica-1", "lost")).await?;
        let broken = tokio::time::timeout(PATIENCE, async {
            loop {
                match under_way.message().await {
                    Ok(Some(_)) => {}
                    ended => break ended,
                }
            }
        });
        assert_eq!(broken.await?.expect_err(harm).code(), Code::Unavailable, "{harm}");
        if harm == "STOP" {
            standby.signal_all("CONT")?;
        } else {
            standby.restart().await?;
        }
        until_read_at(&fixture, "replica-1", few()).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_server_of_another_cluster_is_never_read() -> anyhow::Result<()> {
    let primary = primary().await?;
    // Whole, and of someone else: nothing but its identity tells.
    let other: Postgres = server().await?;
    let strange = [condition("strange", 1, "p-9", "900", "strange", "1")];
    let theirs = Box::pin(Fixture::on(&other, &strange, |_| {})).await?;
    let another_database = primary.url_as("gateway", "", "postgres");
    let fixture = over(primary, &[], &three(), |config| {
        let urls = [theirs.url.clone(), another_database];
        config.views.read_urls = urls.into_iter().map(daemon::Secret::new).collect();
        config.views.max_replica_lag_seconds = ANY_LAG;
    })
    .await?;
    for server in ["replica-1", "replica-2"] {
        until_metric(&fixture, &standing(server, "foreign")).await?;
    }
    for _ in 0..10 {
        let answer = fixture.ask(no_older_than(ANY_LAG)).await?;
        assert_eq!(
            (answer.freshness().read_at.as_str(), answer.ids().len()),
            ("primary", 3)
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_replica_that_was_promoted_is_left_alone_and_the_primary_in_the_list_is_read() -> anyhow::Result<()>
{
    let primary = primary().await?;
    let standby = Standby::of(primary).await?;
    let fixture = over(primary, &[&standby], &three(), |config| {
        config.views.max_replica_lag_seconds = ANY_LAG;
        // The primary itself, as a name that leads to all servers would have it.
        let promoted = config.views.read_urls[0].clone();
        config.views.read_urls = vec![promoted, config.views.url.clone()];
    })
    .await?;
    until_read_at(&fixture, "replica-1", all()).await?;
    standby.promote().await?;
    until_metric(&fixture, &standing("replica-1", "promoted")).await?;
    until_metric(&fixture, &standing("replica-2", "primary")).await?;
    change(&fixture, "c-4", 5);
    fixture.until_ids(&["c-1", "c-2", "c-3", "c-4"]).await?;
    for _ in 0..10 {
        let answer = fixture.ask(no_older_than(ANY_LAG)).await?;
        assert_eq!(
            (answer.freshness().read_at.as_str(), answer.ids().len()),
            ("replica-2", 4)
        );
    }
    Ok(())
}

#[tokio::test]
async fn reads_go_on_while_the_primary_is_away_and_say_so() -> anyhow::Result<()> {
    let mut primary = replicated().await?;
    let standby = Standby::of(&primary).await?;
    let fixture = over(&primary, &[&standby], &three(), |_| {}).await?;
    change(&fixture, "c-4", 5);
    deadline::until("the replica has the live row", PATIENCE, || async {
        let answer = until_read_at(&fixture, "replica-1", all()).await.ok()?;
        (answer.ids().len() == 4).then_some(())
    })
    .await?;
    primary.kill9();
    let first = deadline::until("it is said", PATIENCE, || async {
        let answer = fixture.ask(all()).await.ok()?;
        answer
            .degradations()
            .contains(&Reason::PrimaryUnavailable)
            .then_some(answer)
    })
    .await?;
    assert_eq!(first.freshness().read_at, "replica-1");
    let behind = deadline::until("the replica is beyond the bound", PATIENCE, || async {
        let answer = fixture.ask(all()).await.ok()?;
        answer
            .degradations()
            .contains(&Reason::ReplicaBehind)
            .then_some(answer)
    })
    .await?;
    assert_eq!(behind.ids(), ["c-1", "c-2", "c-3", "c-4"]);
    assert!(staleness(&behind) > staleness(&first) && behind.freshness().as_of == first.freshness().as_of);

    let refused = fixture
        .ask(no_older_than(Duration::from_millis(1)))
        .await
        .expect_err("older than is allowed");
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    let held = fixture.ask(at_least("c-4", 1)).await?;
    assert_eq!(
        (held.freshness().read_at.as_str(), held.ids().len()),
        ("replica-1", 4)
    );
    let not_held = fixture.ask(at_least("c-4", 2)).await.expect_err("nobody has it");
    assert_eq!(not_held.code(), Code::Unavailable, "{not_held}");
    let gateway = &fixture.gateway;
    assert_eq!(
        gateway
            .sql(statement("SELECT count(*) FROM conditions"))
            .await?
            .lines(),
        ["4"]
    );
    let listed = gateway
        .client
        .clone()
        .list_views(ListViewsRequest {})
        .await?
        .into_inner();
    assert_eq!(listed.views[0].row_count, Some(4));

    let ready = || async { gateway.readiness.missing().is_empty().then_some(()) };
    deadline::until("it stays ready", PATIENCE, ready).await?;

    primary.restart().await?;
    change(&fixture, "c-5", 6);
    let whole = fixture.until_ids(&["c-1", "c-2", "c-3", "c-4", "c-5"]).await?;
    assert!(!whole.degradations().contains(&Reason::PrimaryUnavailable));
    until_read_at(&fixture, "replica-1", all()).await?;
    Ok(())
}
