//! Freshness that is asked for: waited for, or refused.

use std::time::Duration;

use api::proto::serving::{FreshnessDemand, QueryRequest, ResourceVersion, value::Kind};
use chrono::TimeDelta;
use e2e::deadline;
use tonic::Code;

use crate::fakes::PATIENCE;
use crate::fixture::{CONDITION, Fixture, all, condition, mark, three};

#[tokio::test]
async fn at_least_waits_until_the_version_is_visible() -> anyhow::Result<()> {
    let fixture = Fixture::over(&three()).await?;
    let demand = |id: &str, version| FreshnessDemand {
        at_least: vec![ResourceVersion {
            resource_type: CONDITION.into(),
            id: id.into(),
            version,
        }],
        ..Default::default()
    };
    // Visible already.
    fixture
        .ask(QueryRequest {
            freshness: Some(demand("c-3", 3)),
            ..all()
        })
        .await?;

    // The webhook is late: the version is pulled in.
    fixture.speed.at_pull(
        CONDITION,
        vec![condition("c-3", 4, "p-2", "104", "pulled", "1")],
        6,
    );
    let pulled = fixture
        .ask(QueryRequest {
            freshness: Some(demand("c-3", 4)),
            ..all()
        })
        .await?;
    assert!(
        pulled
            .rows
            .iter()
            .any(|row| row[3] == Some(Kind::Text("104".into())))
    );

    // HAPI never had it: a reading that began after the question ends the wait.
    fixture.speed.at_pull(CONDITION, vec![], 7);
    fixture
        .ask(QueryRequest {
            freshness: Some(demand("c-1", 99)),
            ..all()
        })
        .await?;

    // Nobody can say: the caller's deadline ends it.
    let mut request = tonic::Request::new(QueryRequest {
        freshness: Some(demand("c-1", 100)),
        ..all()
    });
    request.set_timeout(Duration::from_millis(400));
    let late = fixture.gateway.ask(request).await.expect_err("not visible");
    assert_eq!(late.code(), Code::DeadlineExceeded, "{late}");

    let mut unknown = demand("x", 1);
    unknown.at_least[0].resource_type = "Patient".into();
    let refused = fixture
        .ask(QueryRequest {
            freshness: Some(unknown),
            ..all()
        })
        .await
        .expect_err("no view");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains(CONDITION), "{refused}");
    Ok(())
}

#[tokio::test]
async fn what_is_too_old_is_refused_and_never_served_silently() -> anyhow::Result<()> {
    let fixture = Fixture::over(&three()).await?;
    let within = |span: TimeDelta| {
        let demand = FreshnessDemand {
            max_staleness: Some(api::time::duration(span)),
            ..Default::default()
        };
        QueryRequest {
            freshness: Some(demand),
            ..all()
        }
    };
    // The batch is some ten seconds old.
    let refused = fixture
        .ask(within(TimeDelta::seconds(2)))
        .await
        .expect_err("too old");
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    fixture.ask(within(TimeDelta::minutes(10))).await?;
    fixture.speed.round(CONDITION, vec![], mark(5));
    deadline::until("the mark is applied", PATIENCE, || async {
        fixture.speed.round(CONDITION, vec![], mark(6));
        fixture.ask(within(TimeDelta::seconds(2))).await.ok()
    })
    .await?;
    Ok(())
}
