//! The views' PostgreSQL: gone, standing still, read-only, and with no connection left.

use std::time::Duration;

use anyhow::Context as _;
use api::proto::serving::{
    ClearViewCacheRequest, CohortRequest, DegradationReason as Reason, DescribeViewRequest,
    GetStatisticsRequest, ListViewsRequest,
};
use chrono::TimeDelta;
use e2e::deadline;
use e2e::fhir::http_client;
use e2e::postgres::until_true;
use futures::future::join_all;
use sqlx::{Connection as _, PgConnection};
use tonic::Code;

use super::{Lined, by, codes, expected, is_late, is_live, says, three_and, with_version};
use crate::cohort::in_view;
use crate::fakes::PATIENCE;
use crate::fixture::{CONDITION, Fixture, all, condition, mark, now, put, server, three};
use crate::sql::statement;

/// What each kind of question gets.
async fn each(lined: &Lined, within: Option<Duration>) -> Vec<(&'static str, Result<(), tonic::Status>)> {
    let gateway = &lined.gateway;
    let (mut lists, mut describes) = (gateway.client.clone(), gateway.client.clone());
    let describe = DescribeViewRequest {
        view: "conditions".into(),
    };
    let cohort = CohortRequest {
        criteria: Some(in_view("conditions")),
        ..Default::default()
    };
    let within = within.unwrap_or(PATIENCE);
    let (query, sql, cohort, list, describe, version) = tokio::join!(
        gateway.ask(by(within, all())),
        gateway.sql(by(within, statement("SELECT count(*) FROM conditions"))),
        gateway.cohort(by(within, cohort)),
        lists.list_views(by(within, ListViewsRequest {})),
        describes.describe_view(by(within, describe)),
        gateway.ask(by(within, with_version("c-1", 1))),
    );
    vec![
        ("Query", query.map(|_| ())),
        ("Sql", sql.map(|_| ())),
        ("Cohort", cohort.map(|_| ())),
        ("ListViews", list.map(|_| ())),
        ("DescribeView", describe.map(|_| ())),
        ("Query with at_least", version.map(|_| ())),
    ]
}

async fn each_is_unavailable(lined: &Lined) {
    for (what, asked) in each(lined, None).await {
        let refused = asked.expect_err(what);
        assert_eq!(refused.code(), Code::Unavailable, "{what}: {refused}");
    }
}

async fn each_is_answered(lined: &Lined) -> anyhow::Result<()> {
    deadline::until("all questions are answered", PATIENCE, || async {
        let asked = each(lined, None).await;
        asked.iter().all(|(_, asked)| asked.is_ok()).then_some(())
    })
    .await
}

/// What the health service says.
async fn until_ready(lined: &Lined, ready: bool) -> anyhow::Result<()> {
    let what = format!("readiness is {ready}");
    deadline::until(&what, PATIENCE, || async {
        (lined.gateway.readiness.missing().is_empty() == ready).then_some(())
    })
    .await
}

/// Status of an answer over HTTP, and whether it says when to ask again.
async fn over_http(lined: &Lined) -> anyhow::Result<(u16, bool)> {
    let url = format!(
        "{}/$sql-run?subjectReference=ViewDefinition/conditions&_format=ndjson",
        lined.gateway.http
    );
    let answer = http_client()?.get(url).send().await?;
    Ok((
        answer.status().as_u16(),
        answer.headers().contains_key("retry-after"),
    ))
}

#[tokio::test]
async fn a_database_that_is_gone_is_told_at_once_and_back_when_it_is() -> anyhow::Result<()> {
    let mut server = server().await?;
    let lined = Lined::on(&server, |_| {}).await?;
    let speed = &lined.fixture.speed;
    speed.round(
        CONDITION,
        vec![condition("c-4", 4, "p-3", "400", "live", "4")],
        mark(5),
    );
    lined
        .until("a live row is shown", &three_and(&[("c-4", "400")]), is_live)
        .await?;
    each_is_answered(&lined).await?;

    server.stop().await?;
    each_is_unavailable(&lined).await;
    until_ready(&lined, false).await?;
    assert_eq!(over_http(&lined).await?, (503, true));
    let changed = condition("c-4", 5, "p-3", "405", "changed meanwhile", "4");
    speed.round(CONDITION, vec![changed], mark(6));

    server.restart().await?;
    lined
        .until(
            "what came meanwhile is shown",
            &three_and(&[("c-4", "405")]),
            |_| true,
        )
        .await?;
    until_ready(&lined, true).await?;
    each_is_answered(&lined).await
}

#[tokio::test]
async fn a_database_that_stands_still_holds_nobody_up() -> anyhow::Result<()> {
    let lined = Lined::start(|config| config.degradation.silent_seconds = Duration::from_secs(2)).await?;
    let speed = &lined.fixture.speed;
    speed.round(
        CONDITION,
        vec![condition("c-4", 4, "p-3", "400", "live", "4")],
        mark(5),
    );
    let four = three_and(&[("c-4", "400")]);
    lined.until("a live row is shown", &four, is_live).await?;
    each_is_answered(&lined).await?;
    // An answer that is under way.
    let many =
        "SELECT md5(n::text), md5(n::text), md5(n::text), md5(n::text) FROM generate_series(1, 1000000) n";
    let mut under_way = lined
        .gateway
        .client
        .clone()
        .sql(statement(many))
        .await?
        .into_inner();
    under_way.message().await?.context("a header")?;

    lined.views.hang();
    // Not known yet: the caller's deadline ends it.
    for (what, asked) in each(&lined, Some(Duration::from_millis(400))).await {
        let late = asked.expect_err(what);
        assert!(is_late(&late), "{what}: {late}");
    }
    // It is found out.
    each_is_unavailable(&lined).await;
    until_ready(&lined, false).await?;
    assert_eq!(over_http(&lined).await?, (503, true));
    let rest = async {
        loop {
            match under_way.message().await {
                Ok(Some(_)) => {}
                ended => break ended,
            }
        }
    };
    let ended = tokio::time::timeout(PATIENCE, rest).await.context("it hangs")?;
    let ended = ended.expect_err("half an answer is not taken for the whole");
    assert_eq!(ended.code(), Code::Unavailable, "{ended}");

    let changed = condition("c-4", 5, "p-3", "405", "changed meanwhile", "4");
    speed.round(CONDITION, vec![changed], mark(6));
    lined.views.mend();
    let four = three_and(&[("c-4", "405")]);
    lined
        .until("what came meanwhile is shown", &four, |_| true)
        .await?;
    until_ready(&lined, true).await?;
    each_is_answered(&lined).await?;
    // All connections are to be had again: more questions at once than there are.
    let asked = join_all((0..20).map(|_| lined.gateway.ask(all()))).await;
    for answer in asked {
        assert_eq!(codes(&answer?), expected(&four));
    }
    Ok(())
}

/// Not through a transaction, and against its own effect.
async fn set_read_only(url: &str, on: bool) -> anyhow::Result<()> {
    let mut owner = PgConnection::connect(url).await?;
    let statement = if on {
        "ALTER SYSTEM SET default_transaction_read_only = on"
    } else {
        "ALTER SYSTEM RESET default_transaction_read_only"
    };
    for statement in [
        "SET default_transaction_read_only = off",
        statement,
        "SELECT pg_reload_conf()",
    ] {
        sqlx::raw_sql(statement).execute(&mut owner).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_database_that_takes_no_writes_answers_and_live_changes_wait() -> anyhow::Result<()> {
    let server = server().await?;
    let lined = Lined::on(&server, |config| {
        config.degradation.speed_behind_seconds = Duration::from_secs(1);
    })
    .await?;
    put(&lined.fixture.owner, "later").await?;
    lined.fixture.batch.hold(now(), three());
    let speed = &lined.fixture.speed;
    speed.round(
        CONDITION,
        vec![condition("c-4", 4, "p-3", "400", "live", "4")],
        mark(5),
    );
    let four = three_and(&[("c-4", "400")]);
    lined
        .until("a live row is shown", &four, |answer| {
            !says(answer, Reason::ViewsReadOnly)
        })
        .await?;

    set_read_only(&lined.fixture.owner_url, true).await?;
    lined
        .until("it is told", &four, |answer| says(answer, Reason::ViewsReadOnly))
        .await?;
    let changed = condition("c-4", 5, "p-3", "405", "changed meanwhile", "4");
    speed.round(CONDITION, vec![changed], mark(6));
    let refused = lined.until_too_old(TimeDelta::seconds(1)).await?;
    assert!(refused.message().contains("takes no writes"), "{refused}");
    lined
        .until("the live change waits", &four, |answer| {
            says(answer, Reason::SpeedBehind) && says(answer, Reason::ViewsReadOnly)
        })
        .await?;
    let mut raw = all();
    raw.view = "later".into();
    let refused = lined.gateway.ask(raw).await.expect_err("it needs a table");
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    let late = lined
        .gateway
        .ask(by(Duration::from_millis(300), with_version("c-4", 5)))
        .await
        .expect_err("it is not applied");
    assert!(is_late(&late), "{late}");

    set_read_only(&lined.fixture.owner_url, false).await?;
    let four = three_and(&[("c-4", "405")]);
    lined
        .until("what waited is shown", &four, |answer| {
            !says(answer, Reason::ViewsReadOnly)
        })
        .await?;
    Ok(())
}

#[tokio::test]
async fn where_all_connections_are_in_use_a_question_is_told_soon_to_ask_again() -> anyhow::Result<()> {
    let turn = Duration::from_millis(300);
    let fixture = Fixture::with_settings(&three(), |config| {
        config.views.max_connections = 2;
        config.degradation.turn_seconds = turn;
    })
    .await?;
    let mut owner = PgConnection::connect(&fixture.owner_url).await?;
    let mut holding = owner.begin().await?;
    sqlx::raw_sql("LOCK TABLE sqlonfhir_base.conditions IN ACCESS EXCLUSIVE MODE")
        .execute(&mut *holding)
        .await?;
    let waiting: Vec<_> = (0..2)
        .map(|_| {
            let mut client = fixture.gateway.client.clone();
            tokio::spawn(async move {
                let mut stream = client.query(all()).await?.into_inner();
                while stream.message().await?.is_some() {}
                Ok::<_, tonic::Status>(())
            })
        })
        .collect();
    let both_wait = "SELECT count(*) = 2 FROM pg_stat_activity WHERE datname = current_database() \
                     AND usename = 'gateway' AND wait_event_type = 'Lock'";
    until_true(&fixture.owner_url, both_wait, PATIENCE).await?;

    let refused = fixture.ask(all()).await.expect_err("there is no connection");
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    assert!(
        refused
            .message()
            .contains("all 2 connections to the views' PostgreSQL are in use")
            && refused.message().contains("within 300 ms"),
        "{refused}"
    );
    let url = format!(
        "{}/$sql-run?subjectReference=ViewDefinition/conditions&_format=ndjson",
        fixture.gateway.http
    );
    let answer = http_client()?.get(url).send().await?;
    assert_eq!(answer.status().as_u16(), 503);
    assert!(answer.headers().contains_key("retry-after"));
    // What needs no connection of theirs goes on, and so does merging, also where the views are looked up again.
    let mut client = fixture.gateway.client.clone();
    client.get_statistics(GetStatisticsRequest {}).await?;
    client.clear_view_cache(ClearViewCacheRequest {}).await?;
    fixture.speed.round(CONDITION, vec![], mark(5));
    deadline::until("the cursor moves", PATIENCE, || async {
        let speed = fixture.owner.type_state(CONDITION).await.ok()?.speed?;
        (speed.n == 5).then_some(())
    })
    .await?;

    holding.rollback().await?;
    for asked in waiting {
        asked.await??;
    }
    assert_eq!(fixture.ask(all()).await?.ids().len(), 3);
    Ok(())
}
