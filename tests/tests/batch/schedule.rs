//! The schedule, over one and several replicas: what was done lies in the databases, so it is neither missed nor done twice.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use batch_refresher::{progress::RunPhase, schedule::Schedule};
use chrono::{DateTime, TimeDelta, Timelike as _, Utc};
use chrono_tz::Tz;
use sqlx::PgPool;
use view_store::RunKind;

use crate::{
    played::{PATIENT_VIEW, Played, patient},
    replica::{LIMIT, Replica, over},
};

/// Writes down, in the views' database, each number that a reading draws and each watermark that is published. Without a tail only runs draw numbers: one that
/// publishes another number than the last one drawn has run beside another run.
const JOURNAL: &str = "
    CREATE TABLE journal (place bigserial PRIMARY KEY, what text NOT NULL, n bigint NOT NULL, as_of timestamptz, at timestamptz DEFAULT clock_timestamp());
    CREATE FUNCTION note_drawn() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO journal (what, n) VALUES ('drawn', NEW.n); RETURN NULL; END $$;
    CREATE TRIGGER drawn AFTER UPDATE ON sqlonfhir_meta.reading FOR EACH ROW EXECUTE FUNCTION note_drawn();
    CREATE FUNCTION note_published() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO journal (what, n, as_of) VALUES ('published', NEW.published_n, NEW.published_as_of); RETURN NULL; END $$;
    CREATE TRIGGER published AFTER UPDATE OF published_n ON sqlonfhir_meta.resource_type FOR EACH ROW
        WHEN (NEW.published_n IS DISTINCT FROM OLD.published_n) EXECUTE FUNCTION note_published();";

struct Journal {
    pool: PgPool,
}

#[derive(Debug, sqlx::FromRow)]
struct Event {
    what: String,
    n: i64,
    as_of: Option<DateTime<Utc>>,
}

impl Journal {
    /// From here on.
    async fn begin(played: &Played) -> anyhow::Result<Self> {
        let pool = PgPool::connect(&played.views_url).await?;
        sqlx::raw_sql(JOURNAL).execute(&pool).await?;
        Ok(Self { pool })
    }

    async fn events(&self) -> anyhow::Result<Vec<Event>> {
        Ok(
            sqlx::query_as("SELECT what, n, as_of FROM journal ORDER BY place")
                .fetch_all(&self.pool)
                .await?,
        )
    }

    async fn published(&self) -> anyhow::Result<usize> {
        let events = self.events().await?;
        Ok(events.iter().filter(|event| event.what == "published").count())
    }

    /// As if the last refresh, or the last reconciliation, were so much older.
    async fn set_back(&self, column: &str, hours: i64) -> anyhow::Result<()> {
        let table = if column.starts_with("published") {
            "resource_type"
        } else {
            "schedule"
        };
        let sql = format!("UPDATE sqlonfhir_meta.{table} SET {column} = {column} - interval '{hours} hours'");
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    async fn until_published(&self, runs: usize) -> anyhow::Result<()> {
        e2e::deadline::until("the runs to be published", LIMIT, || async {
            (self.published().await.ok()? >= runs).then_some(())
        })
        .await
    }
}

/// A type with a watermark, and what is then written down.
async fn filled() -> anyhow::Result<(Played, Journal)> {
    let played = Played::start().await?;
    played.put(PATIENT_VIEW).await?;
    played.write("a", Some(&patient("A"))).await?;
    played.refresh(&played.hapi().await?, RunKind::Join).await?;
    let journal = Journal::begin(&played).await?;
    Ok((played, journal))
}

/// Once an hour, and not within this test.
fn hourly(now: DateTime<Utc>) -> anyhow::Result<Schedule> {
    let minute = (now + TimeDelta::minutes(30)).minute();
    Ok(Schedule::cron(&format!("{minute} * * * *"), Tz::UTC)?)
}

/// `REFRESH_SECONDS=300` for long.
fn seconds() -> u64 {
    let asked = std::env::var("REFRESH_SECONDS").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(8)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_refreshers_never_publish_at_once_and_miss_no_time_of_the_schedule() -> anyhow::Result<()> {
    let (played, journal) = filled().await?;
    let played = Arc::new(played);
    let seconds = seconds();
    let every_second = || Schedule::cron("* * * * * *", Tz::UTC);
    let first = Replica::start(&played, every_second()?, Schedule::OnDemand).await?;
    let second = Replica::start(&played, every_second()?, Schedule::OnDemand).await?;
    let writer = tokio::spawn({
        let played = played.clone();
        async move {
            for i in 0.. {
                let written = played
                    .write(&format!("p{}", i % 50), Some(&patient(&format!("F{i}"))))
                    .await;
                if written.is_err() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    });
    // One of them goes at half time: the other needs no word of it. It is not waited for anything: so long is what the test is about.
    let half = Duration::from_secs(seconds) / 2;
    tokio::time::sleep(half).await;
    first.stop().await;
    tokio::time::sleep(half).await;
    second.stop().await;
    writer.abort();

    let events = journal.events().await?;
    let (mut drawn, mut watermarks) = (0, Vec::<DateTime<Utc>>::new());
    for event in &events {
        if event.what == "drawn" {
            assert!(event.n > drawn, "numbers go up: {event:?}");
            drawn = event.n;
            continue;
        }
        assert_eq!(
            event.n, drawn,
            "a run was published beside another one: {events:?}"
        );
        watermarks.push(event.as_of.context("a watermark has a time")?);
    }
    let drawn = events.iter().filter(|event| event.what == "drawn").count();
    // The stops may each have cut a run short.
    assert!(drawn <= watermarks.len() + 2, "a run was in vain: {events:?}");
    let at: Vec<i64> = watermarks.iter().map(DateTime::timestamp).collect();
    assert!(
        at.windows(2).all(|pair| pair[0] < pair[1]),
        "watermarks go forward, one each second: {watermarks:?}"
    );
    let runs = u64::try_from(at.len())?;
    assert!(
        runs + 1 + seconds / 20 >= seconds,
        "{runs} runs in {seconds} s: {watermarks:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn missed_times_are_made_up_for_by_one_run_of_one_replica() -> anyhow::Result<()> {
    let (played, journal) = filled().await?;
    let now = played.hapi().await?.clock().await?.as_of;
    // five times an hour ago and more
    journal.set_back("published_as_of", 5).await?;
    let first = Replica::start(&played, hourly(now)?, Schedule::OnDemand).await?;
    let second = Replica::start(&played, hourly(now)?, Schedule::OnDemand).await?;
    journal.until_published(1).await?;
    first.at_rest().await?;
    second.at_rest().await?;
    assert_eq!(journal.published().await?, 1 + 2, "{:?}", journal.events().await?);
    first.stop().await;
    second.stop().await;
    // nor does one that starts now have anything to do
    let third = Replica::start(&played, hourly(now)?, Schedule::OnDemand).await?;
    third.at_rest().await?;
    assert_eq!(journal.published().await?, 3 + 1, "{:?}", journal.events().await?);
    third.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reconciliation_is_due_by_what_the_database_says_and_is_a_refresh_too() -> anyhow::Result<()> {
    let (played, journal) = filled().await?;
    let now = played.hapi().await?.clock().await?.as_of;
    // Never compared as a whole, as far as the database knows: due at once.
    let replica = Replica::start(&played, Schedule::OnDemand, hourly(now)?).await?;
    journal.until_published(1).await?;
    // After the publication it is noted.
    e2e::deadline::until("the reconciliation to be noted", LIMIT, || async {
        let state = played.store.schedule_state("Patient").await.ok()?;
        (state.reconciled_as_of.is_some() && state.differences == Some(0)).then_some(())
    })
    .await?;
    replica.stop().await;
    let again = Replica::start(&played, hourly(now)?, hourly(now)?).await?;
    again.at_rest().await?;
    assert_eq!(
        journal.published().await?,
        1 + 1,
        "not due for a new process either"
    );
    journal.set_back("reconciled_as_of", 2).await?;
    journal.set_back("published_as_of", 2).await?;
    again.stop().await;
    let again = Replica::start(&played, hourly(now)?, hourly(now)?).await?;
    journal.until_published(3).await?;
    again.at_rest().await?;
    let events = journal.events().await?;
    let whole = |what: &str| events.iter().filter(|event| event.what == what).count();
    assert_eq!(
        (whole("drawn"), whole("published")),
        (2 + 1 + 2 + 1, 4),
        "two runs, both of everything, beside those that were asked for: {events:?}"
    );
    again.stop().await;
    Ok(())
}

/// A view of another type.
fn of_observations() -> String {
    PATIENT_VIEW
        .replace("patient_names", "observations")
        .replace("\"resource\": \"Patient\"", "\"resource\": \"Observation\"")
}

/// Holds up whoever reads versions, as long as it lives.
async fn hold(played: &Played) -> anyhow::Result<sqlx::Transaction<'static, sqlx::Postgres>> {
    let mut held = played.writer.begin().await?;
    sqlx::raw_sql("LOCK TABLE hfj_res_ver IN ACCESS EXCLUSIVE MODE")
        .execute(&mut *held)
        .await?;
    Ok(held)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cancelled_is_made_up_for_by_no_replica() -> anyhow::Result<()> {
    let (played, journal) = filled().await?;
    let now = played.hapi().await?.clock().await?.as_of;
    journal.set_back("published_as_of", 5).await?;
    let held = hold(&played).await?;
    let first = Replica::start(&played, hourly(now)?, Schedule::OnDemand).await?;
    let second = Replica::start(&played, hourly(now)?, Schedule::OnDemand).await?;
    let cancelled = e2e::deadline::until("a run to be under way", LIMIT, || async {
        let drawn = journal.events().await.ok()?;
        (!drawn.is_empty()).then_some(())?;
        (first.refresher.cancel("Patient") || second.refresher.cancel("Patient")).then_some(())
    });
    cancelled.await?;
    e2e::deadline::until("the cancelled run to be noted", LIMIT, || async {
        // Either may have been waiting for the other: whichever still runs is cancelled too.
        first.refresher.cancel("Patient");
        second.refresher.cancel("Patient");
        let state = played.store.schedule_state("Patient").await.ok()?;
        state.refresh_skipped
    })
    .await?;
    held.rollback().await?;
    // Nor by one that starts now; asked for, it comes.
    let third = Replica::start(&played, hourly(now)?, Schedule::OnDemand).await?;
    third.at_rest().await?;
    assert_eq!(journal.published().await?, 1, "{:?}", journal.events().await?);
    third.stop().await;
    first.stop().await;
    second.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_while_a_run_is_under_way_hears_at_once_that_it_waits() -> anyhow::Result<()> {
    let (played, _journal) = filled().await?;
    let replica = Replica::start(&played, Schedule::OnDemand, Schedule::OnDemand).await?;
    let held = hold(&played).await?;
    let mut first = replica.request(RunKind::Incremental)?;
    loop {
        let status = tokio::time::timeout(LIMIT, first.recv())
            .await?
            .context("a status")?;
        if status.figures.phase == RunPhase::CatchingUp {
            break;
        }
    }
    let mut second = replica.request(RunKind::Full)?;
    let told = tokio::time::timeout(Duration::from_secs(2), second.recv())
        .await?
        .context("a status")?;
    assert_eq!(
        (told.figures.phase, told.kind),
        (RunPhase::Waiting, RunKind::Full)
    );
    held.rollback().await?;
    assert_eq!(over(&mut first).await?.figures.phase, RunPhase::Done);
    assert_eq!(over(&mut second).await?.figures.phase, RunPhase::Done);
    replica.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cancelled_while_it_waits_for_its_turn_is_noted_too() -> anyhow::Result<()> {
    let (played, _journal) = filled().await?;
    // The only turn is that of a view whose load is held up.
    played.put(&of_observations()).await?;
    let held = hold(&played).await?;
    let replica = Replica::start_with(&played, Schedule::OnDemand, Schedule::OnDemand, 1).await?;
    e2e::deadline::until("the other view to be loading", LIMIT, || async {
        let metrics = replica.metrics.encode().ok()?;
        let mut phases = metrics
            .lines()
            .filter(|line| line.starts_with("researchflow_batch_run_phase{"));
        phases
            .any(|line| {
                line.contains("Observation") && line.contains("phase=\"Loading\"") && line.ends_with(" 1")
            })
            .then_some(())
    })
    .await?;
    let mut waiting = replica.request(RunKind::Incremental)?;
    let told = tokio::time::timeout(LIMIT, waiting.recv())
        .await?
        .context("a status")?;
    assert_eq!(told.figures.phase, RunPhase::Waiting);
    e2e::deadline::until("the run to be cancelled", LIMIT, || async {
        replica.refresher.cancel("Patient").then_some(())
    })
    .await?;
    assert!(over(&mut waiting).await?.figures.phase != RunPhase::Done);
    e2e::deadline::until("what was cancelled to be noted", LIMIT, || async {
        played.store.schedule_state("Patient").await.ok()?.refresh_skipped
    })
    .await?;
    held.rollback().await?;
    replica.stop().await;
    Ok(())
}

/// The lock of a type's run, as `view_store` takes it: class, and FNV-1a of the name.
const OBSERVATIONS_RUN: &str = "SELECT pg_advisory_lock(x'52460002'::int, -2106257011)";

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_waited_for_its_turn_finds_that_another_was_faster() -> anyhow::Result<()> {
    let (played, journal) = filled().await?;
    played.put(&of_observations()).await?;
    let mut held = PgPool::connect(&played.views_url).await?.acquire().await?;
    sqlx::raw_sql(OBSERVATIONS_RUN).execute(&mut *held).await?;
    let every_three = || Schedule::cron("*/3 * * * * *", Tz::UTC);
    // The second has a single turn to give, and someone waits for observations in it.
    let second = Replica::start_with(&played, every_three()?, Schedule::OnDemand, 1).await?;
    let observations = second
        .refresher
        .request(&["Observation".to_owned()], RunKind::Incremental);
    let first = Replica::start(&played, every_three()?, Schedule::OnDemand).await?;
    let before = journal.published().await?;
    // Twice, so that the second has come to wait in any case.
    journal.until_published(before + 2).await?;
    second.refresher.cancel("Observation");
    journal.until_published(before + 3).await?;
    first.stop().await;
    second.stop().await;
    drop(observations);
    let events = journal.events().await?;
    let periods: Vec<i64> = events
        .iter()
        .filter_map(|event| event.as_of)
        .skip(before)
        .map(|at| at.timestamp() / 3)
        .collect();
    assert!(
        periods.windows(2).all(|pair| pair[0] < pair[1]),
        "one run every three seconds: {events:?}"
    );
    Ok(())
}
