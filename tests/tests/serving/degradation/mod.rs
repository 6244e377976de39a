//! Each row of the table in `docs/serving.md`: what is answered, what is refused, which reason is told, and how it recovers by itself, without a wrong row on the way.

mod batch;
mod failover;
mod speed;
mod views;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use api::proto::serving::{
    DegradationReason as Reason, FreshnessDemand, QueryRequest, ResourceVersion, value::Kind,
};
use chrono::TimeDelta;
use e2e::deadline;
use e2e::line::Line;
use e2e::postgres::Postgres;
use serving_gateway::Config;
use tonic::Code;

use crate::fakes::PATIENCE;
use crate::fixture::{Answer, CONDITION, Fixture, Gateway, all, three};

/// A gateway with a line of its own to each server that it needs. (The fixture's own one merges nothing.)
struct Lined {
    fixture: Fixture,
    gateway: Gateway,
    speed: Line,
    batch: Line,
    views: Line,
}

impl Lined {
    /// Over the three conditions, on the server that tests share.
    async fn start(settings: impl FnOnce(&mut Config)) -> anyhow::Result<Self> {
        let fixture = Fixture::with_settings(&three(), merges_nothing).await?;
        Self::over(fixture, settings).await
    }

    /// On a server of the test's own.
    async fn on(server: &Postgres, settings: impl FnOnce(&mut Config)) -> anyhow::Result<Self> {
        let fixture = Box::pin(Fixture::on(server, &three(), merges_nothing)).await?;
        Self::over(fixture, settings).await
    }

    async fn over(fixture: Fixture, settings: impl FnOnce(&mut Config)) -> anyhow::Result<Self> {
        let speed = Line::to(address(&fixture.services.0)?).await?;
        let batch = Line::to(address(&fixture.services.1)?).await?;
        let views = Line::to(address(&fixture.url)?).await?;
        let url = fixture
            .url
            .replace(&address(&fixture.url)?.to_string(), &views.address().to_string());
        let gateway = fixture
            .another_with(|config| {
                config.views.url = daemon::Secret::new(url);
                config.services.speed = format!("http://{}", speed.address());
                config.services.batch = format!("http://{}", batch.address());
                settings(config);
            })
            .await?;
        Ok(Self {
            fixture,
            gateway,
            speed,
            batch,
            views,
        })
    }

    /// Asks until the answer has these ids and codes, and `look` holds of it.
    async fn until(
        &self,
        what: &str,
        rows: &[(&str, &str)],
        look: impl Fn(&Answer) -> bool,
    ) -> anyhow::Result<Answer> {
        let asked = deadline::until(what, PATIENCE, || async {
            let answer = self.gateway.ask(all()).await.ok()?;
            (codes(&answer) == expected(rows) && look(&answer)).then_some(answer)
        });
        if let Ok(answer) = asked.await {
            return Ok(answer);
        }
        let last = self.gateway.ask(all()).await;
        let last = last.map(|answer| (codes(&answer), answer.freshness().degradations));
        anyhow::bail!("waited in vain for: {what}; the last answer: {last:?}")
    }

    /// Asks until an answer that must not be older is refused.
    async fn until_too_old(&self, at_most: TimeDelta) -> anyhow::Result<tonic::Status> {
        let refused = deadline::until("an answer that is too old is refused", PATIENCE, || async {
            self.gateway.ask(no_older_than(at_most)).await.err()
        });
        let refused = refused.await?;
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        assert!(
            refused.message().starts_with("freshness.max_staleness"),
            "{refused}"
        );
        Ok(refused)
    }
}

fn merges_nothing(config: &mut Config) {
    config.use_speed_layer = false;
}

/// Host and port of a URL.
fn address(url: &str) -> anyhow::Result<SocketAddr> {
    let rest = url.split("://").nth(1).context("a URL")?;
    let host = rest.rsplit('@').next().unwrap_or(rest);
    Ok(host.split('/').next().unwrap_or(host).parse()?)
}

/// What the three conditions are.
const THREE: [(&str, &str); 3] = [("c-1", "100"), ("c-2", "200"), ("c-3", "100")];

/// The three, and more.
fn three_and<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    THREE.iter().chain(more).copied().collect()
}

fn expected(rows: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |(id, code): &(&str, &str)| ((*id).to_owned(), (*code).to_owned());
    rows.iter().map(owned).collect()
}

/// The code of each condition.
fn codes(answer: &Answer) -> BTreeMap<String, String> {
    let text = |kind: &Option<Kind>| match kind {
        Some(Kind::Text(text)) => text.clone(),
        other => format!("{other:?}"),
    };
    let codes: BTreeMap<String, String> = answer
        .rows
        .iter()
        .map(|row| (text(&row[0]), text(&row[3])))
        .collect();
    assert_eq!(codes.len(), answer.rows.len(), "one row a condition");
    codes
}

fn says(answer: &Answer, reason: Reason) -> bool {
    answer.degradations().contains(&reason)
}

/// Nothing is said of the speed layer.
fn is_live(answer: &Answer) -> bool {
    !says(answer, Reason::SpeedUnavailable) && !says(answer, Reason::SpeedBehind)
}

fn no_older_than(span: TimeDelta) -> QueryRequest {
    demanding(FreshnessDemand {
        max_staleness: Some(api::time::duration(span)),
        ..Default::default()
    })
}

fn with_version(id: &str, version: i64) -> QueryRequest {
    demanding(FreshnessDemand {
        at_least: vec![ResourceVersion {
            resource_type: CONDITION.into(),
            id: id.into(),
            version,
        }],
        ..Default::default()
    })
}

fn demanding(freshness: FreshnessDemand) -> QueryRequest {
    QueryRequest {
        freshness: Some(freshness),
        ..all()
    }
}

/// With a deadline of the caller's.
fn by<T>(within: Duration, message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(within);
    request
}

/// The caller's deadline has ended it: by the gateway's clock, or by the client's own, if the gateway's word has come too late.
fn is_late(status: &tonic::Status) -> bool {
    status.code() == Code::DeadlineExceeded
        || (status.code() == Code::Cancelled && status.message() == "Timeout expired")
}
