//! Questions that are read at streaming replicas: real ones, of the test's own PostgreSQL.

mod away;
mod behind;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use api::proto::serving::{
    CohortRequest, DescribeViewRequest, FreshnessDemand, ListViewsRequest, QueryRequest, ResourceVersion,
};
use chrono::TimeDelta;
use e2e::deadline;
use e2e::postgres::{Postgres, Settings};
use e2e::standby::Standby;
use fhir_core::resource::State;
use serving_gateway::Config;
use tokio::sync::{Mutex, MutexGuard, OnceCell};
use tonic::Status;

use crate::cohort::filtered;
use crate::fakes::PATIENCE;
use crate::fixture::{Answer, CONDITION, Fixture, all, condition, mark, server_with, three};
use crate::sql::statement;

/// The primary of all tests that do not harm it.
static PRIMARY: OnceCell<Postgres> = OnceCell::const_new();
static PAIR: OnceCell<Mutex<[Standby; 2]>> = OnceCell::const_new();
static DATABASES: AtomicU32 = AtomicU32::new(0);

/// A lag that no test reaches.
const ANY_LAG: Duration = Duration::from_hours(1);

async fn primary() -> anyhow::Result<&'static Postgres> {
    PRIMARY.get_or_try_init(replicated).await
}

/// A server that keeps its log for replicas which are being set up, or are away.
async fn replicated() -> anyhow::Result<Postgres> {
    let settings = Settings {
        options: vec![("wal_keep_size".into(), "1GB".into())],
        ..Settings::default()
    };
    server_with(settings).await
}

/// Two replicas of that primary, for one test at a time: setting them up takes longer than most tests do.
async fn pair() -> anyhow::Result<(&'static Postgres, MutexGuard<'static, [Standby; 2]>)> {
    let primary = primary().await?;
    let set_up = || async {
        let (one, two) = tokio::try_join!(Standby::of(primary), Standby::of(primary))?;
        anyhow::Ok(Mutex::new([one, two]))
    };
    let pair = PAIR.get_or_try_init(set_up).await?.lock().await;
    for standby in pair.iter() {
        // A test that has failed may have left it standing still.
        standby.signal_all("CONT")?;
        standby.resume().await?;
    }
    Ok((primary, pair))
}

/// A gateway over a database of a primary and its replicas.
async fn over(
    primary: &Postgres,
    standbys: &[&Standby],
    states: &[State],
    settings: impl FnOnce(&mut Config),
) -> anyhow::Result<Fixture> {
    let name = format!("replicated_{}", DATABASES.fetch_add(1, Ordering::Relaxed));
    let owner_url = primary.create_database(&name).await?;
    let urls: Vec<String> = standbys
        .iter()
        .map(|standby| standby.url_as("gateway", &name))
        .collect();
    let with_replicas = |config: &mut Config| {
        config.views.read_urls = urls.into_iter().map(daemon::Secret::new).collect();
        settings(config);
    };
    Box::pin(Fixture::on_database(
        primary,
        &name,
        &owner_url,
        states,
        with_replicas,
    ))
    .await
}

/// Asks until an answer is read at a server.
async fn until_read_at(fixture: &Fixture, server: &str, request: QueryRequest) -> anyhow::Result<Answer> {
    deadline::until_ok(&format!("an answer of {server}"), PATIENCE, || async {
        let answer = fixture
            .ask(request.clone())
            .await
            .map_err(|status| status.to_string())?;
        let read_at = answer.freshness().read_at;
        if read_at == server {
            Ok(answer)
        } else {
            Err(format!("it was read at {read_at}"))
        }
    })
    .await
}

/// Waits until a line of the metrics is there.
async fn until_metric(fixture: &Fixture, line: &str) -> anyhow::Result<()> {
    deadline::until(line, PATIENCE, || async {
        let text = fixture.gateway.metrics.encode().ok()?;
        text.lines().any(|known| known.ends_with(line)).then_some(())
    })
    .await
}

fn standing(server: &str, standing: &str) -> String {
    format!("read_server_standing{{server=\"{server}\",standing=\"{standing}\"}} 1")
}

fn no_older_than(span: Duration) -> QueryRequest {
    let freshness = FreshnessDemand {
        max_staleness: prost_types::Duration::try_from(span).ok(),
        ..Default::default()
    };
    QueryRequest {
        freshness: Some(freshness),
        ..all()
    }
}

fn at_least(id: &str, version: i64) -> QueryRequest {
    let of = ResourceVersion {
        resource_type: CONDITION.into(),
        id: id.into(),
        version,
    };
    let freshness = FreshnessDemand {
        at_least: vec![of],
        ..Default::default()
    };
    QueryRequest {
        freshness: Some(freshness),
        ..all()
    }
}

/// Age of an answer, as it says.
fn staleness(answer: &Answer) -> TimeDelta {
    let span = answer.freshness().staleness.expect("something was read");
    api::time::span("staleness", &span).expect("a span")
}

/// Over three conditions, which both replicas have shown, however far they fall behind.
async fn over_both(primary: &Postgres, both: [&Standby; 2]) -> anyhow::Result<Fixture> {
    let fixture = over(primary, &both, &three(), |config| {
        config.views.max_replica_lag_seconds = ANY_LAG;
    })
    .await?;
    for server in ["replica-1", "replica-2"] {
        let answer = until_read_at(&fixture, server, all()).await?;
        assert_eq!(answer.ids(), ["c-1", "c-2", "c-3"]);
    }
    Ok(fixture)
}

/// One live change of the primary, and the mark behind it.
fn change(fixture: &Fixture, id: &str, n: i64) {
    fixture.speed.round(
        CONDITION,
        vec![condition(id, 1, "p-3", "400", "new", "4")],
        mark(n),
    );
}

#[tokio::test]
async fn questions_of_all_sorts_are_spread_over_replicas_that_show_live_rows() -> anyhow::Result<()> {
    let (primary, pair) = pair().await?;
    let [one, two] = &*pair;
    let fixture = over_both(primary, [one, two]).await?;
    let mut read_at = BTreeMap::<String, u32>::new();
    for _ in 0..20 {
        *read_at
            .entry(fixture.ask(all()).await?.freshness().read_at)
            .or_default() += 1;
    }
    let evenly =
        ["replica-1", "replica-2"].map(|server| read_at.get(server).copied().unwrap_or_default() >= 5);
    assert_eq!(evenly, [true, true], "{read_at:?}");

    // What the merger writes at the primary is read at both.
    change(&fixture, "c-4", 5);
    for server in ["replica-1", "replica-2"] {
        deadline::until("the live row is read", PATIENCE, || async {
            let answer = fixture.ask(all()).await.ok()?;
            let live = answer.freshness().read_at == server && answer.ids().len() == 4;
            live.then(|| assert_eq!(answer.footer().speed_rows, 1))
        })
        .await?;
    }

    // Every other question goes the same way.
    let gateway = &fixture.gateway;
    let sql = gateway.sql(statement("SELECT count(*) FROM conditions")).await?;
    assert_eq!(sql.lines(), ["4"]);
    let cohort = gateway
        .cohort(CohortRequest {
            criteria: Some(filtered("conditions", vec![])),
            ..Default::default()
        })
        .await?;
    assert_eq!(cohort.ids, ["p-1", "p-2", "p-3"]);
    let listed = gateway
        .client
        .clone()
        .list_views(ListViewsRequest {})
        .await?
        .into_inner();
    let described = gateway
        .client
        .clone()
        .describe_view(DescribeViewRequest {
            view: "conditions".into(),
        })
        .await?
        .into_inner();
    for freshness in [
        sql.header.freshness,
        cohort.header.freshness,
        listed.views[0].freshness.clone(),
        described
            .summary
            .as_ref()
            .and_then(|summary| summary.freshness.clone()),
    ] {
        let read_at = freshness.unwrap_or_default().read_at;
        assert!(read_at.starts_with("replica-"), "{read_at}");
    }
    assert_eq!(listed.views[0].row_count, Some(4));

    // Values are checked by whoever is asked, and what is wrong is wrong everywhere.
    let refused: Result<_, Status> = gateway.sql(statement("SELECT nothing FROM conditions")).await;
    assert_eq!(
        refused.err().map(|status| status.code()),
        Some(tonic::Code::InvalidArgument)
    );
    Ok(())
}
