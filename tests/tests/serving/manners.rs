//! How the gateway behaves as a server of gRPC: ids, details of errors, deadlines, callers that go away.

use std::time::Duration;

use api::proto::serving::{FreshnessDemand, QueryRequest};
use axum::body::Body;
use axum::http::HeaderValue;
use e2e::ask::channel;
use e2e::fhir::http_client;
use e2e::postgres::until_true;
use e2e::rpc::{Call, Said, framed};
use futures::{StreamExt as _, stream};
use prost::Message as _;
use sqlx::{Connection as _, PgConnection};
use tonic::Code;
use tonic::transport::Channel;

use crate::fakes::PATIENCE;
use crate::fixture::{Fixture, all, three};

const QUERY: &str = "/researchflow.serving.v1.ServingService/Query";
/// A question over a whole view is under way in the database: it waits for its tables. (The look at the registry waits for the lock too.)
const WAITING: &str = "SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'BEGIN %; LOCK TABLE % IN ACCESS SHARE MODE' AND wait_event_type = 'Lock'";
/// None is.
const QUIET: &str = "SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'BEGIN %; LOCK TABLE % IN ACCESS SHARE MODE' AND wait_event_type = 'Lock'";

async fn asked(
    channel: &Channel,
    request: &QueryRequest,
    headers: &[(&'static str, &str)],
) -> anyhow::Result<Said> {
    let call = Call {
        headers,
        ..Call::to(QUERY)
    };
    call.send(channel, framed(&request.encode_to_vec())).await
}

/// Keeps the view's rows, of which the gateway knows, from everybody until it is dropped.
async fn locked(fixture: &Fixture) -> anyhow::Result<PgConnection> {
    fixture.ask(all()).await?;
    let mut owner = PgConnection::connect(&fixture.owner_url).await?;
    sqlx::raw_sql("BEGIN; LOCK TABLE sqlonfhir_base.conditions IN ACCESS EXCLUSIVE MODE")
        .execute(&mut owner)
        .await?;
    Ok(owner)
}

#[tokio::test]
async fn an_id_of_the_caller_comes_back_and_what_is_none_is_replaced() -> anyhow::Result<()> {
    let fixture = Fixture::over(&three()).await?;
    let channel = channel(&fixture.gateway.address).await?;
    let id = async |headers: &[(&'static str, &str)]| {
        let said = asked(&channel, &all(), headers).await?;
        assert_eq!(said.code(), Code::Ok);
        let id = said.head.get("x-request-id").and_then(|id| id.to_str().ok());
        Ok::<_, anyhow::Error>(id.unwrap_or_default().to_owned())
    };
    assert_eq!(id(&[("x-request-id", "agent-7_a")]).await?, "agent-7_a");
    let made = id(&[]).await?;
    assert!(!made.is_empty());
    assert_ne!(id(&[]).await?, made);
    for odd in ["Jane Doe", "a;b", &"x".repeat(65)] {
        let made = id(&[("x-request-id", odd)]).await?;
        assert!(!made.is_empty() && made != odd, "{odd}");
    }
    Ok(())
}

#[tokio::test]
async fn errors_say_to_programs_what_they_say_to_people() -> anyhow::Result<()> {
    let fixture = Fixture::over(&three()).await?;
    let channel = channel(&fixture.gateway.address).await?;
    let reason = |said: &Said| {
        said.details()
            .error_info()
            .map(|info| (info.domain.clone(), info.reason.clone()))
    };
    let ours = |reason: &str| Some(("researchflow".to_owned(), reason.to_owned()));
    let unknown = QueryRequest {
        columns: vec!["sex".into()],
        ..all()
    };
    let said = asked(&channel, &unknown, &[]).await?;
    assert_eq!(
        (said.code(), said.field(), reason(&said)),
        (
            Code::InvalidArgument,
            Some("columns".into()),
            ours("INVALID_REQUEST")
        )
    );
    let too_fresh = QueryRequest {
        freshness: Some(FreshnessDemand {
            max_staleness: Some(prost_types::Duration::default()),
            ..Default::default()
        }),
        ..all()
    };
    let said = asked(&channel, &too_fresh, &[]).await?;
    assert_eq!(
        (said.code(), reason(&said)),
        (Code::FailedPrecondition, ours("TOO_STALE"))
    );
    Ok(())
}

#[tokio::test]
async fn a_query_that_outlives_its_callers_deadline_is_ended_in_postgresql_too() -> anyhow::Result<()> {
    let fixture = Fixture::over(&three()).await?;
    let channel = channel(&fixture.gateway.address).await?;
    let lock = locked(&fixture).await?;
    // A library for gRPC would look at the clock itself, and hang up.
    let _provider = http_client()?;
    let client = reqwest::Client::builder().http2_prior_knowledge().build()?;
    let said = client
        .post(format!("http://{}{QUERY}", fixture.gateway.address))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", "400m")
        .body(framed(&all().encode_to_vec()))
        .send()
        .await?;
    let status = said.headers().get("grpc-status").map(HeaderValue::as_bytes);
    assert_eq!(status, Some(b"4".as_slice()), "{said:?}");
    until_true(&fixture.owner_url, QUIET, PATIENCE).await?;
    drop(lock);
    assert_eq!(asked(&channel, &all(), &[]).await?.code(), Code::Ok);
    Ok(())
}

#[tokio::test]
async fn a_caller_that_goes_away_ends_its_query() -> anyhow::Result<()> {
    let fixture = Fixture::over(&three()).await?;
    let channel = channel(&fixture.gateway.address).await?;
    let lock = locked(&fixture).await?;
    let asking = tokio::spawn(async move { asked(&channel, &all(), &[]).await });
    until_true(&fixture.owner_url, WAITING, PATIENCE).await?;
    asking.abort();
    until_true(&fixture.owner_url, QUIET, PATIENCE).await?;
    drop(lock);
    Ok(())
}

#[tokio::test]
async fn a_request_that_does_not_come_is_not_waited_for() -> anyhow::Result<()> {
    let fixture = Fixture::with_settings(&three(), |config| {
        config.daemon.grpc.request_seconds = Duration::from_millis(200);
    })
    .await?;
    let channel = channel(&fixture.gateway.address).await?;
    // Half a message, and nothing more.
    let begun = stream::once(async { Ok::<_, std::io::Error>(vec![0_u8, 0, 0, 0, 99, 1]) });
    let body = Body::from_stream(begun.chain(stream::pending()));
    let said = Call::to(QUERY).send_body(&channel, body).await?;
    assert_eq!(said.code(), Code::DeadlineExceeded, "{said:?}");
    let reason = said.details().error_info().map(|info| info.reason.clone());
    assert_eq!(reason.as_deref(), Some("SLOW_REQUEST"));
    Ok(())
}
