//! Readers beside refreshes of every kind (law 8): analysts who ask all the time, one who takes ten seconds, one who leaves a transaction open over lunch.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, ensure};
use sqlx::{Connection as _, PgConnection};
use view_store::RunKind;

use crate::played::{ANOTHER_VIEW, PATIENT_VIEW, Played, now, patient, write};

/// More than a slice takes, so that a refresh of all is several transactions.
const PATIENTS: usize = 1_200;
/// Whoever asks or writes all the time leaves the refreshes so much of two cores.
const PAUSE: Duration = Duration::from_millis(10);
/// Patients that one of HAPI's transactions updates.
const AT_ONCE: usize = 25;

/// What HAPI has committed: of each patient its states, and when they were there at the latest. The clock is the one that refreshes go by.
struct Committed(Mutex<Vec<Vec<(f64, u64)>>>);

/// Watermark, and the rows as `{id,family}`, in one statement: one snapshot.
const LOOK: &str = "SELECT (SELECT extract(epoch FROM batch_as_of)::float8 FROM sqlonfhir.freshness WHERE view = 'patient_names'), \
     (SELECT array_agg(id || ',' || family ORDER BY id) FROM sqlonfhir.patient_names)";
const CLOCK: &str = "SELECT extract(epoch FROM clock_timestamp())::float8";

fn runs() -> usize {
    let asked = std::env::var("READERS_RUNS").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(50)
}

impl Committed {
    fn lock(&self) -> MutexGuard<'_, Vec<Vec<(f64, u64)>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Patients have come to a state.
    fn add(&self, patients: impl Iterator<Item = usize>, at: f64, state: u64) {
        let mut states = self.lock();
        for patient in patients {
            states[patient].push((at, state));
        }
    }

    /// The state that each patient had at that time at least.
    fn at(&self, time: f64) -> Vec<u64> {
        let states = self.lock();
        let last = |states: &Vec<(f64, u64)>| {
            let before = states.partition_point(|(at, _)| *at <= time);
            states[..before].last().map_or(0, |(_, state)| *state)
        };
        states.iter().map(last).collect()
    }
}

/// Updates some patients at a time, over and over.
async fn write_on(played: &Played, committed: &Committed, done: &AtomicBool) -> anyhow::Result<()> {
    let mut connection = played.writer.acquire().await?;
    let mut state = 0;
    while !done.load(Ordering::Relaxed) {
        state += 1;
        let first = usize::try_from(state)? * 7 * AT_ONCE;
        let patients = (first..first + AT_ONCE).map(|number| number % PATIENTS);
        let mut transaction = connection.begin().await?;
        let updated = now(&mut transaction).await?;
        for number in patients.clone() {
            let body = patient(&state.to_string());
            write(&mut transaction, &format!("p{number}"), updated, Some(&body)).await?;
        }
        transaction.commit().await?;
        let clock: f64 = sqlx::query_scalar(CLOCK).fetch_one(&mut *connection).await?;
        committed.add(patients, clock, state);
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// As an analyst connects, but for one thing: who waits 50 ms for a lock fails.
async fn reader(played: &Played) -> anyhow::Result<PgConnection> {
    let mut connection = PgConnection::connect(&played.views_url).await?;
    sqlx::raw_sql("SET lock_timeout = '50ms'")
        .execute(&mut connection)
        .await?;
    Ok(connection)
}

type Seen = (Option<f64>, Option<Vec<String>>);

/// Every patient once, and nothing older than the watermark says.
fn check((as_of, rows): &Seen, committed: &Committed) -> anyhow::Result<()> {
    let as_of = as_of.context("a watermark")?;
    let rows = rows.as_deref().unwrap_or_default();
    let mut shown = BTreeMap::new();
    for row in rows {
        let (id, state) = row.split_once(',').context("id and state")?;
        let before = shown.insert(
            id.trim_start_matches('p').parse::<usize>()?,
            state.parse::<u64>()?,
        );
        ensure!(before.is_none(), "{id} is doubled");
    }
    ensure!(
        shown.len() == PATIENTS,
        "{} of {PATIENTS} patients are there",
        shown.len()
    );
    for (number, state) in committed.at(as_of).into_iter().enumerate() {
        let shown = shown.get(&number).copied();
        ensure!(
            shown >= Some(state),
            "p{number} is shown in state {shown:?}, at the watermark it was in {state}"
        );
    }
    Ok(())
}

async fn look(connection: &mut PgConnection) -> anyhow::Result<Seen> {
    Ok(sqlx::query_as(LOOK).fetch_one(connection).await?)
}

async fn ask_on(
    played: &Played,
    committed: &Committed,
    done: &AtomicBool,
    asked: &AtomicU64,
) -> anyhow::Result<()> {
    let mut connection = reader(played).await?;
    while !done.load(Ordering::Relaxed) {
        check(&look(&mut connection).await?, committed)?;
        asked.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

async fn ask_twice_in_a_snapshot(
    played: &Played,
    committed: &Committed,
    done: &AtomicBool,
    asked: &AtomicU64,
) -> anyhow::Result<()> {
    let mut connection = reader(played).await?;
    while !done.load(Ordering::Relaxed) {
        let mut snapshot = connection
            .begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ")
            .await?;
        let first = look(&mut snapshot).await?;
        check(&first, committed)?;
        ensure!(look(&mut snapshot).await? == first, "a snapshot has changed");
        snapshot.commit().await?;
        asked.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

async fn ask_slowly(played: &Played, done: &AtomicBool) -> anyhow::Result<()> {
    let mut connection = reader(played).await?;
    while !done.load(Ordering::Relaxed) {
        let rows: i64 =
            sqlx::query_scalar("SELECT count(*) FROM sqlonfhir.patient_names, (SELECT pg_sleep(10)) slow")
                .fetch_one(&mut connection)
                .await?;
        ensure!(
            usize::try_from(rows)? == PATIENTS,
            "{rows} rows after ten seconds"
        );
    }
    Ok(())
}

/// As many refreshes of each kind. A joining one makes a view beside the one that is read, which goes again.
async fn refresh_on(played: &Played) -> anyhow::Result<()> {
    let hapi = played.hapi().await?;
    for kind in [RunKind::Incremental, RunKind::Full, RunKind::Join] {
        for number in 0..runs() {
            if kind == RunKind::Join {
                played.put(ANOTHER_VIEW).await?;
            }
            let done = played.refresh(&hapi, kind).await;
            let done = done.with_context(|| format!("{kind:?} {number}"))?;
            ensure!(done == kind, "a run of kind {done:?} came");
            if kind == RunKind::Join {
                played.store.drop_view("patient_gender").await?;
            }
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn law_8_readers_wait_for_no_refresh_and_see_nothing_mixed() -> anyhow::Result<()> {
    let played = Played::start().await?;
    played.put(PATIENT_VIEW).await?;
    let mut filling = played.writer.begin().await?;
    let updated = now(&mut filling).await?;
    for number in 0..PATIENTS {
        write(&mut filling, &format!("p{number}"), updated, Some(&patient("0"))).await?;
    }
    filling.commit().await?;
    played.refresh(&played.hapi().await?, RunKind::Join).await?;

    let mut idle = reader(&played).await?;
    let mut idle = idle.begin().await?;
    look(&mut idle).await?;
    let committed = Committed(Mutex::new(vec![Vec::new(); PATIENTS]));
    let (done, asked) = (AtomicBool::new(false), AtomicU64::new(0));
    let refreshes = async {
        let refreshed = refresh_on(&played).await;
        done.store(true, Ordering::Relaxed);
        refreshed
    };
    tokio::try_join!(
        refreshes,
        write_on(&played, &committed, &done),
        ask_on(&played, &committed, &done, &asked),
        ask_twice_in_a_snapshot(&played, &committed, &done, &asked),
        ask_slowly(&played, &done),
    )?;
    check(&look(&mut idle).await?, &committed)?;
    let asked = asked.into_inner();
    assert!(asked > 100, "only {asked} questions");
    println!("{asked} answers beside {} refreshes", 3 * runs());
    Ok(())
}
