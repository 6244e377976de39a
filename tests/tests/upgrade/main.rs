//! From the state that an earlier release left behind to today's daemons, and what becomes of an attempt to go back.
//!
//! The fixture was written by that release's own daemons (`tests/src/bin/upgrade_fixture.rs` says how): rows of the batch, live rows over them and without them, a deletion, a preview that
//! was shown and not confirmed, one that was acknowledged and not merged, a resource that cannot be evaluated.

mod restored;

use std::time::Duration;

use anyhow::Context as _;
use api::proto::batch::RefreshKind;
use e2e::{
    ask::Reader,
    deadline,
    ground::Ground,
    house::versions_of,
    operate::Operator,
    upgrade::{SHOWN, shown},
};
use sqlx::{Connection as _, PgConnection};

use crate::restored::{Fixture, view};

/// By when a busy machine has done what takes milliseconds.
const SOON: Duration = Duration::from_mins(1);

/// Kinds of runs that a daemon has published, with how many.
fn runs(metrics: &str) -> Vec<(String, u64)> {
    let name = "researchflow_batch_refresh_duration_seconds_count{";
    metrics
        .lines()
        .filter_map(|line| line.strip_prefix(name))
        .filter_map(|line| {
            let (labels, count) = line.split_once("} ")?;
            let kind = labels.split("kind=\"").nth(1)?.split('"').next()?;
            Some((kind.to_owned(), count.parse().ok()?))
        })
        .filter(|(_, count)| *count > 0)
        .collect()
}

#[tokio::test]
async fn an_earlier_state_is_gone_on_with_and_nothing_is_made_anew() -> anyhow::Result<()> {
    let fixture = Fixture::read()?;
    let ground = Ground::start(&[view()]).await?;
    fixture.restore(&ground).await?;
    let mut owner = Reader::connect(&ground.url_as("refresher", "views")).await?;
    let files = "SELECT string_agg(oid || ':' || relfilenode, ' ' ORDER BY oid) FROM pg_class \
                 WHERE relkind = 'r' AND relnamespace::regnamespace::text ~ '^sqlonfhir_(base|live|shadowed)$'";
    let (before, migrations) = (
        owner.value(files).await?,
        "SELECT max(version) FROM sqlonfhir_meta.migration",
    );
    assert_eq!(
        owner.value(migrations).await?.as_deref(),
        Some("1"),
        "the schema is an earlier one"
    );

    // The schema comes to today's; what is shown stays, row by row.
    let batch = ground.batch("1", &[]).await?;
    assert_eq!(owner.value(migrations).await?.as_deref(), Some("4"));
    for (name, select) in SHOWN {
        assert_eq!(
            Some(&shown(&mut owner, select).await?),
            fixture.shown.get(name),
            "{name}"
        );
    }
    assert_eq!(owner.value(files).await?, before, "no table was made anew");

    // The speed layer goes on with what it held: the preview that nobody had merged is shown.
    let speed = ground.speed("1", &batch.address("grpc")?, &[]).await?;
    let serving = ground
        .serving("1", &batch.address("grpc")?, &speed.address("grpc")?, &[])
        .await?;
    let mut reader = Reader::connect(&ground.url_as("analyst", "views")).await?;
    let version = |id: &str| format!("SELECT version FROM sqlonfhir.patient_versions WHERE id = '{id}'");
    reader
        .until(&version("p5"), SOON, |shown| shown == Some("2"))
        .await?;
    // Readings confirm both previews, and a further change comes after them.
    fixture.change(&ground, "p6").await?;
    reader
        .until(&version("p6"), SOON, |shown| shown == Some("2"))
        .await?;
    let unconfirmed = "SELECT count(*) FROM sqlonfhir_meta.ledger WHERE received IS NOT NULL";
    owner.until(unconfirmed, SOON, |count| count == Some("0")).await?;
    for (id, expected) in [
        ("p1", Some("2")),
        ("p2", None),
        ("p3", Some("2")),
        ("p4", Some("2")),
        ("p7", Some("1")),
    ] {
        assert_eq!(reader.value(&version(id)).await?.as_deref(), expected, "{id}");
    }

    // The next refresh is an incremental one, of what has changed since; then the batch has all that is shown, and the speed layer lets it go.
    let operator = Operator::connect(&batch.address("grpc")?).await?;
    let done = operator.refresh(&["Patient"], RefreshKind::Incremental).await?;
    assert_eq!(done[0].kind(), RefreshKind::Incremental, "{done:?}");
    // p1, p2, p7 and the two that were told of; p6.
    assert!((4..=6).contains(&done[0].resources_read), "{done:?}");
    let published = runs(&batch.metrics().await?);
    assert!(
        published.iter().all(|(kind, _)| kind == "Incremental"),
        "{published:?}"
    );
    let same = "SELECT (SELECT string_agg(t::text, ' ' ORDER BY id) FROM sqlonfhir.patient_versions t) = \
                (SELECT string_agg(t::text, ' ' ORDER BY id) FROM sqlonfhir_batch.patient_versions t)";
    owner.until(same, SOON, |same| same == Some("true")).await?;
    assert_eq!(owner.value(files).await?, before, "no table was made anew");
    let held = || fixture.held(&ground);
    deadline::until("the speed layer to let covered readings go", SOON, || async {
        held().await.ok().filter(|held| *held == 0)
    })
    .await?;
    drop(serving);
    Ok(())
}

#[tokio::test]
async fn what_a_later_release_has_written_is_left_alone_with_what_to_do() -> anyhow::Result<()> {
    let ground = Ground::start(&[versions_of("Patient", &[])]).await?;
    let mut batch = ground.batch("1", &[]).await?;
    let batch_grpc = batch.address("grpc")?;
    Operator::connect(&batch_grpc).await?.all_active(SOON).await?;
    let mut speed = ground.speed("1", &batch_grpc, &[]).await?;
    let mut serving = ground
        .serving("1", &batch_grpc, &speed.address("grpc")?, &[])
        .await?;

    // The views' database.
    let mut owner = PgConnection::connect(&ground.url_as("refresher", "views")).await?;
    let later = "INSERT INTO sqlonfhir_meta.migration (version, description, success, checksum, execution_time) VALUES (9999, 'later', true, '', 0)";
    sqlx::raw_sql(later).execute(&mut owner).await?;
    let refused = format!("{:#}", batch.restart().await.expect_err("a later schema"));
    assert!(refused.contains("exit code 1"), "{refused}");
    assert!(
        batch
            .log()
            .contains("has migration 9999 of a later release; use that release"),
        "{}",
        batch.log()
    );
    serving.kill9();
    let log = restarted_unready(&mut serving, "the views' database is at migration 9999").await?;
    assert!(log.contains("use the later release"), "{log}");
    sqlx::raw_sql("DELETE FROM sqlonfhir_meta.migration WHERE version = 9999")
        .execute(&mut owner)
        .await?;
    // It was waiting, and goes on by itself.
    serving.ready().await?;
    batch.restart().await?;

    // Redis.
    let client = redis::Client::open(ground.redis.url())?;
    let mut redis = client.get_multiplexed_async_connection().await?;
    let layout: String = redis::cmd("GET")
        .arg("fhir:layout")
        .query_async(&mut redis)
        .await?;
    assert_eq!(layout, "1");
    speed.kill9();
    redis::cmd("SET")
        .arg("fhir:layout")
        .arg("2")
        .query_async::<()>(&mut redis)
        .await?;
    let keys = async |redis: &mut redis::aio::MultiplexedConnection| {
        let mut keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(redis).await?;
        keys.sort();
        anyhow::Ok(keys)
    };
    let before = keys(&mut redis).await?;
    let refused = format!("{:#}", speed.restart().await.expect_err("a later layout"));
    assert!(refused.contains("exit code 1"), "{refused}");
    assert!(
        speed.log().contains(
            "in the layout 2 of a later release, and this one knows none beyond 1: use that release"
        ),
        "{}",
        speed.log()
    );
    assert_eq!(keys(&mut redis).await?, before);
    redis::cmd("SET")
        .arg("fhir:layout")
        .arg("1")
        .query_async::<()>(&mut redis)
        .await?;
    speed.restart().await
}

/// Starts a daemon that is not to become ready, and waits until its log says why.
async fn restarted_unready(daemon: &mut e2e::process::Daemon, words: &str) -> anyhow::Result<String> {
    daemon.restart_unready().await?;
    deadline::until(words, SOON, || async {
        Some(daemon.log()).filter(|log| log.contains(words))
    })
    .await
    .context("its log")
}
