//! Late commits: versions become visible long after their time, in any order, under savepoints, prepared or not.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use batch_refresher::{
    hapi::{Hapi, HapiSettings},
    reading::Reading,
    schedule::Schedule,
};
use chrono::NaiveDateTime;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use sqlx::Connection as _;
use tokio::sync::Mutex;
use tokio_stream::StreamExt as _;
use view_store::RunKind;

use crate::{
    played::{PATIENT_VIEW, Played, now, patient, write},
    replica::Replica,
};

/// What the writers have committed: id to version.
type Committed = Arc<Mutex<BTreeMap<String, i64>>>;

/// One of HAPI's threads: transactions of 1 to 60 entries, some under savepoints, some rolled back, held open for a while.
async fn write_for_a_while(played: Arc<Played>, seed: u64, committed: Committed) -> anyhow::Result<()> {
    let mut random = StdRng::seed_from_u64(seed);
    for round in 0..14 {
        let mut connection = played.writer.acquire().await?;
        // HAPI takes the time before its transaction begins
        let updated = now(&mut connection).await?;
        let mut transaction = connection.begin().await?;
        let mut written = Vec::new();
        for entry in 0..random.random_range(1..=60) {
            // a writer has resources of its own: HAPI's writers wait for each other's rows
            let id = format!("w{seed}-{}", random.random_range(0..40));
            let body = patient(&format!("{seed}x{round}x{entry}"));
            if random.random_bool(0.3) {
                let mut savepoint = transaction.begin().await?;
                let version = write(&mut savepoint, &id, updated, Some(&body)).await?;
                if random.random_bool(0.2) {
                    savepoint.rollback().await?;
                } else {
                    savepoint.commit().await?;
                    written.push((id, version));
                }
            } else {
                let version = write(&mut transaction, &id, updated, Some(&body)).await?;
                written.push((id, version));
            }
        }
        let held = format!("SELECT pg_sleep({})", random.random_range(0.0..0.4));
        sqlx::raw_sql(sqlx::AssertSqlSafe(held))
            .execute(&mut *transaction)
            .await?;
        if random.random_bool(0.1) {
            transaction.rollback().await?;
        } else {
            transaction.commit().await?;
            committed.lock().await.extend(written);
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn late_commits_under_eight_writers_lose_nothing() -> anyhow::Result<()> {
    let played = Arc::new(Played::start().await?);
    let hapi = played.hapi().await?;
    played.put(PATIENT_VIEW).await?;
    played.refresh(&hapi, RunKind::Join).await?;
    let committed = Committed::default();
    let writers: Vec<_> = (0..8)
        .map(|seed| tokio::spawn(write_for_a_while(played.clone(), seed, committed.clone())))
        .collect();

    // Beside the refreshes: the tail's readings, and the naive watermark `res_updated > the last seen`.
    let (mut readings, mut naive) = (BTreeMap::new(), BTreeSet::new());
    let (mut position, mut newest) = (None, NaiveDateTime::MIN);
    let mut running = true;
    while running {
        running = writers.iter().any(|w| !w.is_finished());
        let mut open = Reading::begin(&hapi)
            .await?
            .open(&played.store, &["Patient"])
            .await?;
        let since = position
            .or_else(|| open.types()[0].published.clone())
            .expect("the first run was published");
        let ids = open.changed_since("Patient", &since, None, None).await?;
        position = Some(open.position());
        let mut states = std::pin::pin!(open.states("Patient", ids));
        while let Some(chunk) = states.next().await {
            for state in chunk? {
                let known = readings.entry(state.id.clone()).or_insert(0);
                assert!(
                    state.version >= *known,
                    "a later reading shows an earlier version"
                );
                *known = state.version;
            }
        }
        let seen: Vec<(String, i64, NaiveDateTime)> = sqlx::query_as(
            "SELECT r.fhir_id, v.res_ver, v.res_updated FROM hfj_res_ver v JOIN hfj_resource r USING (res_id) WHERE v.res_updated > $1",
        )
        .bind(newest.max("2000-01-01T00:00:00".parse()?))
        .fetch_all(&played.writer)
        .await?;
        newest = seen.iter().map(|s| s.2).max().unwrap_or(newest).max(newest);
        naive.extend(seen.into_iter().map(|s| (s.0, s.1)));
        played.refresh(&hapi, RunKind::Incremental).await?;
    }
    for writer in writers {
        writer.await??;
    }
    let committed = committed.lock().await.clone();
    let all: i64 = sqlx::query_scalar("SELECT count(*) FROM hfj_res_ver")
        .fetch_one(&played.writer)
        .await?;
    assert_eq!(
        readings, committed,
        "the readings have the last version of every resource"
    );
    let shown = played
        .shown("SELECT _rid, _version FROM sqlonfhir_base.patient_names ORDER BY _rid")
        .await?;
    let expected: Vec<String> = committed
        .iter()
        .map(|(id, version)| format!("({id},{version})"))
        .collect();
    assert_eq!(shown, expected, "the view has the last version of every resource");
    let lost = usize::try_from(all)? - naive.len();
    println!("{all} versions by eight writers: 0 lost; reading by timestamp lost {lost}");
    assert!(lost > 0, "the schedule was too tame to lose anything");
    Ok(())
}

#[tokio::test]
async fn a_transaction_that_stays_open_is_waited_for_however_long() -> anyhow::Result<()> {
    let played = Played::start().await?;
    // no margin: the bound alone must reach back to the open transaction
    let hapi = batch_refresher::hapi::Hapi::connect(batch_refresher::hapi::HapiSettings {
        margin: chrono::TimeDelta::milliseconds(5),
        ..played.settings()
    })
    .await?;
    played.put(PATIENT_VIEW).await?;
    played.refresh(&hapi, RunKind::Join).await?;
    let mut slow = played.writer.begin().await?;
    let early = now(&mut slow).await?;
    write(&mut slow, "slow", early, Some(&patient("Slow"))).await?;
    let mut prepared = played.writer.acquire().await?;
    sqlx::raw_sql("BEGIN").execute(&mut *prepared).await?;
    let updated = now(&mut prepared).await?;
    write(&mut prepared, "prepared", updated, Some(&patient("Prepared"))).await?;
    sqlx::raw_sql("PREPARE TRANSACTION 'both'")
        .execute(&mut *prepared)
        .await?;
    for i in 0..5 {
        played
            .write(&format!("quick{i}"), Some(&patient("Quick")))
            .await?;
        played.refresh(&hapi, RunKind::Incremental).await?;
        tokio::time::timeout(Duration::from_secs(5), async {
            let clock = hapi.clock().await?;
            anyhow::ensure!(
                clock.bound.naive_utc() <= early,
                "the bound has passed an open transaction"
            );
            Ok(())
        })
        .await??;
    }
    assert_eq!(played.names().await?.len(), 5);
    slow.commit().await?;
    played.refresh(&hapi, RunKind::Incremental).await?;
    assert_eq!(played.names().await?.len(), 6);
    played.execute("COMMIT PREPARED 'both'").await?;
    played.refresh(&hapi, RunKind::Incremental).await?;
    assert_eq!(played.names().await?.len(), 7);
    let clock = hapi.clock().await?;
    assert_eq!(
        clock.as_of - clock.bound,
        chrono::TimeDelta::milliseconds(5),
        "nothing is open, our own backends do not count"
    );
    Ok(())
}

#[tokio::test]
async fn a_time_zone_that_is_not_hapis_is_refused_with_the_likely_one() -> anyhow::Result<()> {
    let played = Played::start().await?;
    played.put(PATIENT_VIEW).await?;
    played.write("a", Some(&patient("a"))).await?;
    let tokyo = Hapi::connect(HapiSettings {
        zone: "Asia/Tokyo".parse()?,
        ..played.settings()
    })
    .await?;
    played.refresh(&tokyo, RunKind::Join).await?;
    for id in ["b", "c"] {
        played.write(id, Some(&patient(id))).await?;
    }
    let refused = played
        .refresh(&tokyo, RunKind::Incremental)
        .await
        .expect_err("it would lose b and c");
    let refused = refused.to_string();
    assert!(
        refused.contains("540 minutes ago") && refused.contains("likely UTC"),
        "{refused}"
    );
    assert!(refused.contains("hapi.time_zone"), "{refused}");
    // Set right, nothing is lost.
    played
        .refresh(&played.hapi().await?, RunKind::Incremental)
        .await?;
    assert_eq!(played.names().await?.len(), 3);
    Ok(())
}

#[tokio::test]
async fn versions_of_another_date_alone_are_no_ground_to_go_on_from() -> anyhow::Result<()> {
    let played = Played::start().await?;
    played.put(PATIENT_VIEW).await?;
    let tokyo = Hapi::connect(HapiSettings {
        zone: "Asia/Tokyo".parse()?,
        ..played.settings()
    })
    .await?;
    played.write("a", Some(&patient("a"))).await?;
    played.refresh(&tokyo, RunKind::Join).await?;
    // So long ago that the dates do not tell by which hours they are wrong.
    let pool = sqlx::PgPool::connect(&played.views_url).await?;
    let long_ago = "UPDATE sqlonfhir_meta.resource_type SET published_as_of = published_as_of - interval '1 hour', published_bound = published_bound - interval '1 hour'";
    sqlx::raw_sql(long_ago).execute(&pool).await?;
    played.write("b", Some(&patient("b"))).await?;
    let refused = played
        .refresh(&tokyo, RunKind::Incremental)
        .await
        .expect_err("b may not be the only one");
    assert!(refused.to_string().contains("Lost"), "{refused}");
    // Whoever works for the type reads everything then.
    let replica = Replica::start_as(&played, tokyo, Schedule::OnDemand, Schedule::OnDemand, 1).await?;
    let run = replica.run(RunKind::Incremental).await?;
    assert_eq!(run.kind, RunKind::Full);
    assert_eq!(played.names().await?, ["(a,female,a)", "(b,female,b)"]);
    replica.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_version_dated_before_the_margin_is_taken_in_if_it_is_seen() -> anyhow::Result<()> {
    let played = Played::start().await?;
    let hapi = played.hapi().await?;
    played.put(PATIENT_VIEW).await?;
    played.write("a", Some(&patient("a"))).await?;
    played.refresh(&hapi, RunKind::Join).await?;
    let mut connection = played.writer.acquire().await?;
    let long_ago = now(&mut connection).await? - chrono::TimeDelta::minutes(7);
    write(&mut connection, "late", long_ago, Some(&patient("late"))).await?;
    played.refresh(&hapi, RunKind::Incremental).await?;
    assert_eq!(played.names().await?, ["(a,female,a)", "(late,female,late)"]);
    Ok(())
}
