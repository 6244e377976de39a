//! The speed store keeps the laws: the later reading, one life, nothing uncovered leaves.

use chrono::TimeDelta;
use e2e::redis::{Redis, Settings};
use fhir_core::resource::Content;
use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};
use speed_ingestor::store::{Offered, SpeedStore, StoreError};

use crate::kit::{at, deleted, held, position, reading, recent, redis, state, store};

const PATIENT: &str = "Patient";

async fn offer(store: &SpeedStore, state: fhir_core::resource::State, n: i64) -> Offered {
    store
        .offer_readings(None, PATIENT, &[reading(state, n)], at(n))
        .await
        .unwrap()
        .unwrap()
}

#[tokio::test]
async fn law_1_the_latest_reading_wins_whatever_its_version() {
    let (_redis, store) = redis().await;
    assert_eq!(offer(&store, state("a", 9), 5).await.held, 1);
    assert_eq!(
        offer(&store, state("a", 10), 4).await.held,
        0,
        "an earlier reading"
    );
    assert_eq!(
        offer(&store, state("a", 8), 5).await.held,
        0,
        "the same reading twice"
    );
    assert_eq!(held(&store, 0).await, [("a".into(), 9, 5)]);
    assert_eq!(
        offer(&store, state("a", 1), 6).await.held,
        1,
        "re-created after an expunge"
    );
    assert_eq!(held(&store, 0).await, [("a".into(), 1, 6)]);
    assert_eq!(held(&store, 6).await, []);
}

#[tokio::test]
async fn any_order_and_repetition_of_offers_ends_in_the_same_state() {
    let (_redis, store) = redis().await;
    let mut random = StdRng::seed_from_u64(7);
    for round in 0..40 {
        let id = format!("p{round}");
        let mut offers: Vec<i64> = (1..=6).chain(1..=6).collect();
        offers.shuffle(&mut random);
        for n in offers {
            let found = if n == 3 {
                deleted(&id, n)
            } else {
                state(&id, 10 - n)
            };
            offer(&store, found, n).await;
        }
    }
    assert!(
        held(&store, 0)
            .await
            .iter()
            .all(|(_, version, n)| (*version, *n) == (4, 6))
    );
}

#[tokio::test]
async fn bodies_deletions_and_what_cannot_be_read_come_back_as_they_were() {
    let (_redis, store) = redis().await;
    let unreadable = fhir_core::resource::State {
        content: Content::Unreadable("in an external store".into()),
        ..state("c", 3)
    };
    let readings = [
        reading(state("a", 1), 1),
        reading(deleted("b", 2), 1),
        reading(unreadable, 1),
    ];
    store
        .offer_readings(None, PATIENT, &readings, at(1))
        .await
        .unwrap();
    let mut read = store.read_changes(PATIENT, 0).await.unwrap();
    assert_eq!(store.next_readings(&mut read).await.unwrap().unwrap(), readings);
    assert_eq!(store.next_readings(&mut read).await.unwrap(), None);
}

#[tokio::test]
async fn a_mark_is_set_only_in_the_life_in_which_its_readings_were_offered() {
    let (mut redis, store) = redis().await;
    let client = redis::Client::open(redis.url()).unwrap();
    let life = store.life().await.unwrap();
    assert!(
        store
            .set_marks(&life, &[(PATIENT, &position(1)), ("Condition", &position(1))])
            .await
            .unwrap()
    );
    assert_eq!(
        store
            .marks(&[PATIENT.into(), "Goal".into(), "Condition".into()])
            .await
            .unwrap(),
        [Some(position(1)), None, Some(position(1))]
    );

    redis.kill9();
    redis.restart().await.unwrap();
    assert!(
        !store.set_marks(&life, &[(PATIENT, &position(2))]).await.unwrap(),
        "restarted"
    );
    assert_eq!(
        store
            .offer_readings(Some(&life), PATIENT, &[reading(state("a", 1), 2)], at(2))
            .await
            .unwrap(),
        None
    );
    let life = store.life().await.unwrap();
    store.flush(&["Goal".into()]).await.unwrap();
    assert!(
        !store.set_marks(&life, &[(PATIENT, &position(3))]).await.unwrap(),
        "flushed by us"
    );
    let life = store.life().await.unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    redis::cmd("FLUSHALL")
        .query_async::<()>(&mut connection)
        .await
        .unwrap();
    assert!(
        !store.set_marks(&life, &[(PATIENT, &position(4))]).await.unwrap(),
        "emptied by someone"
    );
    assert_eq!(store.mark(PATIENT).await.unwrap(), None);
    let life = store.life().await.unwrap();
    assert!(store.set_marks(&life, &[(PATIENT, &position(5))]).await.unwrap());
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_crash_of_redis() {
    let settings = Settings {
        options: vec![("appendfsync".into(), "always".into())],
        ..Settings::default()
    };
    let mut redis = Redis::start_with(settings).await.unwrap();
    let store = store(&redis);
    let life = store.life().await.unwrap();
    for n in 1..=50 {
        store
            .offer_readings(
                Some(&life),
                PATIENT,
                &[reading(state(&format!("p{n}"), n), n)],
                at(n),
            )
            .await
            .unwrap();
        store.offer_preview(PATIENT, &state("q", n), at(n)).await.unwrap();
    }
    store.set_marks(&life, &[(PATIENT, &position(50))]).await.unwrap();
    redis.kill9();
    redis.restart().await.unwrap();
    assert_eq!(store.mark(PATIENT).await.unwrap(), Some(position(50)));
    assert_eq!(store.read_changes(PATIENT, 0).await.unwrap().previews.len(), 50);
    assert_eq!(held(&store, 0).await.len(), 50);
}

#[tokio::test]
async fn an_answer_begun_in_another_life_must_be_asked_for_again() {
    let (mut redis, store) = redis().await;
    offer(&store, state("a", 1), 1).await;
    let mut read = store.read_changes(PATIENT, 0).await.unwrap();
    redis.kill9();
    redis.restart().await.unwrap();
    assert!(matches!(
        store.next_readings(&mut read).await,
        Err(StoreError::Restarted)
    ));
}

#[tokio::test]
async fn law_4_only_what_the_batch_has_covered_leaves_and_the_rest_is_counted() {
    let redis = Redis::start().await.unwrap();
    let store = store(&redis);
    // Received a year ago by the clock of Redis, so an expiry takes effect at once.
    let long_ago = chrono::DateTime::UNIX_EPOCH;
    for (id, n) in [("a", 1), ("b", 2), ("c", 3)] {
        store
            .offer_readings(None, PATIENT, &[reading(state(id, n), n)], long_ago)
            .await
            .unwrap();
    }
    let now = long_ago + TimeDelta::hours(1);
    assert_eq!(store.uncovered_kept(PATIENT, now).await.unwrap(), 0);
    let now = long_ago + TimeDelta::hours(25);
    assert_eq!(
        store.uncovered_kept(PATIENT, now).await.unwrap(),
        3,
        "past its time, and kept"
    );
    let released = store.release(PATIENT, 2, now).await.unwrap();
    assert_eq!((released.covered, released.expired), (2, 2));
    assert_eq!(held(&store, 0).await, [("c".into(), 3, 3)]);
    assert_eq!(recent(&store, PATIENT, at(0)).await.len(), 1);
    assert_eq!(store.uncovered_kept(PATIENT, now).await.unwrap(), 1);
    assert_eq!(store.release(PATIENT, 2, now).await.unwrap().covered, 0);
}

#[tokio::test]
async fn a_covered_reading_stays_for_its_time_and_a_later_one_has_no_expiry() {
    let (redis, store) = redis().await;
    let now = daemon::Clock::now(&daemon::SystemClock);
    store
        .offer_readings(None, PATIENT, &[reading(state("a", 1), 1)], now)
        .await
        .unwrap();
    store.release(PATIENT, 1, now).await.unwrap();
    assert_eq!(held(&store, 0).await, [], "the batch has it");
    assert_eq!(recent(&store, PATIENT, at(0)).await.len(), 1);
    let mut connection = redis::Client::open(redis.url())
        .unwrap()
        .get_multiplexed_async_connection()
        .await
        .unwrap();
    let mut ttl = async || {
        redis::cmd("TTL")
            .arg("fhir:Patient:a")
            .query_async::<i64>(&mut connection)
            .await
            .unwrap()
    };
    let left = ttl().await;
    assert!((86_000..=86_400).contains(&left), "{left}");
    store
        .offer_readings(None, PATIENT, &[reading(state("a", 2), 2)], now)
        .await
        .unwrap();
    assert_eq!(ttl().await, -1, "not covered");
    assert_eq!(store.shed(PATIENT).await.unwrap(), 0);
    store.release(PATIENT, 2, now).await.unwrap();
    assert_eq!(store.shed(PATIENT).await.unwrap(), 1, "memory is short");
    assert_eq!(ttl().await, -2);
}

#[tokio::test]
async fn out_of_memory_is_said_and_covered_readings_make_room() {
    let options = vec![("maxmemory".into(), "4mb".into())];
    let redis = Redis::start_with(Settings {
        options,
        ..Settings::default()
    })
    .await
    .unwrap();
    let store = store(&redis);
    let now = daemon::Clock::now(&daemon::SystemClock);
    let large = |id: String| fhir_core::resource::State {
        content: Content::Body(vec![b'x'; 50_000]),
        ..state(&id, 1)
    };
    store.life().await.unwrap();
    let mut n = 0;
    let error = loop {
        n += 1;
        let found = reading(large(format!("p{n}")), n);
        match store.offer_readings(None, PATIENT, &[found], now).await {
            Ok(_) => assert!(n < 1000, "never full"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::OutOfMemory(_)), "{error}");
    let preview = store.offer_preview(PATIENT, &large("q".into()), now).await;
    assert!(matches!(preview, Err(StoreError::OutOfMemory(_))));
    assert!(store.life().await.is_ok());
    store.release(PATIENT, n, now).await.unwrap();
    assert!(store.shed(PATIENT).await.unwrap() > 10);
    store
        .offer_preview(PATIENT, &large("q".into()), now)
        .await
        .unwrap();
}

#[tokio::test]
async fn versions_that_the_tail_saw_first_are_counted_once() {
    let (_redis, store) = redis().await;
    assert_eq!(offer(&store, state("a", 1), 1).await.healed, 1);
    assert_eq!(
        offer(&store, state("a", 1), 2).await.healed,
        0,
        "the same version, read again"
    );
    store.offer_preview(PATIENT, &state("a", 2), at(2)).await.unwrap();
    assert_eq!(
        offer(&store, state("a", 2), 3).await.healed,
        0,
        "a webhook said so before"
    );
    assert_eq!(offer(&store, state("a", 4), 4).await.healed, 1);
    store.note_delete(PATIENT, "a", at(1)).await.unwrap();
    assert_eq!(offer(&store, deleted("a", 5), 5).await.healed, 0);
    assert_eq!(offer(&store, deleted("b", 2), 5).await.healed, 1);
}

#[tokio::test]
async fn recent_resources_are_the_higher_version_of_both_newest_first() {
    let (_redis, store) = redis().await;
    for (id, version) in [("a", 1), ("b", 5), ("c", 3), ("d", 9)] {
        offer(&store, state(id, version), 1).await;
    }
    offer(&store, deleted("d", 10), 2).await;
    for (id, version) in [("a", 7), ("b", 4), ("e", 2), ("f", 6), ("f", 8)] {
        store
            .offer_preview(PATIENT, &state(id, version), at(0))
            .await
            .unwrap();
    }
    let all = recent(&store, PATIENT, at(0)).await.into_iter();
    let all: Vec<_> = all.map(|r| (r.state.id, r.state.version, r.preview)).collect();
    let expected = [
        ("d", 10, false),
        ("f", 8, true),
        ("a", 7, true),
        ("b", 5, false),
        ("c", 3, false),
        ("e", 2, true),
    ];
    assert_eq!(
        all,
        expected.map(|(id, version, preview)| (id.to_owned(), version, preview))
    );
    assert_eq!(recent(&store, PATIENT, at(5)).await.len(), 4);
    assert_eq!(recent(&store, "Goal", at(0)).await, []);
}

#[tokio::test]
async fn a_walk_gives_each_resource_once_whatever_is_written_meanwhile() {
    let (_redis, store) = redis().await;
    // Three pages, of which more than one has the same time.
    let all: Vec<_> = (0..1_400)
        .map(|number| {
            let of_one_time = fhir_core::resource::State {
                last_updated: at(1 + number / 700),
                ..state(&format!("p{number}"), 1)
            };
            reading(of_one_time, 1)
        })
        .collect();
    store.offer_readings(None, PATIENT, &all, at(1)).await.unwrap();
    let mut walk = store.walk_recent(PATIENT, at(0)).await.unwrap();
    let mut given = Vec::new();
    let mut version = 2;
    while let Some(page) = store.next_recent(&mut walk).await.unwrap() {
        given.extend(page.into_iter().map(|recent| recent.state.id));
        // Some that were given, the last of them too, and some that were not, move to the end; a new one comes.
        let last = given.last().unwrap().clone();
        let moving = ["p0", "p5", "p699", "p1399", "p777", &last];
        let moved: Vec<_> = moving.map(|id| reading(state(id, version), version)).into();
        store.offer_readings(None, PATIENT, &moved, at(2)).await.unwrap();
        version += 1;
    }
    given.sort();
    let mut expected: Vec<String> = all.into_iter().map(|reading| reading.state.id).collect();
    expected.sort();
    assert_eq!(given, expected);
}

#[tokio::test]
async fn a_flush_forgets_one_type_and_no_other() {
    let (_redis, store) = redis().await;
    let life = store.life().await.unwrap();
    offer(&store, state("a", 1), 1).await;
    store.offer_preview(PATIENT, &state("b", 1), at(0)).await.unwrap();
    store
        .offer_readings(None, "Condition", &[reading(state("c", 1), 1)], at(1))
        .await
        .unwrap();
    store
        .set_marks(&life, &[(PATIENT, &position(1)), ("Condition", &position(1))])
        .await
        .unwrap();
    let flushed = store.flush(&[PATIENT.into()]).await.unwrap();
    assert_eq!((flushed.readings, flushed.previews), (1, 1));
    assert!(!store.has_changes(PATIENT, 0).await.unwrap());
    assert_eq!(
        store.marks(&[PATIENT.into(), "Condition".into()]).await.unwrap(),
        [None, Some(position(1))]
    );
    assert_eq!(store.counts("Condition").await.unwrap().held, 1);
}

#[tokio::test]
async fn settings_that_lose_acknowledged_data_are_refused_unless_allowed() {
    let (_redis, good) = redis().await;
    assert!(good.check(false, &daemon::SystemClock).await.unwrap().appendonly);
    let options = vec![
        ("appendonly".into(), "no".into()),
        ("maxmemory-policy".into(), "allkeys-lru".into()),
    ];
    let redis = Redis::start_with(Settings {
        options,
        ..Settings::default()
    })
    .await
    .unwrap();
    let volatile = store(&redis);
    let refused = volatile
        .check(false, &daemon::SystemClock)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("appendonly yes")
            && refused.contains("noeviction")
            && refused.contains("allow_volatile"),
        "{refused}"
    );
    assert_eq!(
        volatile
            .check(true, &daemon::SystemClock)
            .await
            .unwrap()
            .volatile
            .len(),
        2
    );
}

#[tokio::test]
async fn a_redis_whose_clock_is_far_from_ours_is_refused_unless_allowed() {
    let (_redis, store) = redis().await;
    let now = daemon::Clock::now(&daemon::SystemClock);
    let clock = |minutes| daemon::ManualClock::new(now + TimeDelta::minutes(minutes));
    let health = store.check(false, &clock(-9)).await.unwrap();
    assert!((health.clock_skew - TimeDelta::minutes(9)).abs() < TimeDelta::seconds(5));
    let warned = |part: &str| health.warnings.iter().any(|warning| warning.contains(part));
    assert!(warned("ahead of ours") && warned("NTP"), "{:?}", health.warnings);
    let refused = store.check(false, &clock(11)).await.unwrap_err();
    assert!(matches!(refused, StoreError::ClocksApart(_)), "{refused}");
    let skew = store.check(true, &clock(11)).await.unwrap().clock_skew;
    assert!(skew < TimeDelta::minutes(-10), "behind ours");
}

#[tokio::test]
async fn types_and_dead_letters_are_kept() {
    let (_redis, store) = redis().await;
    assert_eq!(store.kept_types().await.unwrap(), Vec::<String>::new());
    store
        .keep_types(&["Patient".into(), "Condition".into()])
        .await
        .unwrap();
    store
        .keep_types(&["Patient".into(), "Goal".into()])
        .await
        .unwrap();
    assert_eq!(store.kept_types().await.unwrap(), ["Goal", "Patient"]);
    store.dead_letter("not JSON", "ab", 3, at(0)).await.unwrap();
    assert_eq!(store.health(&daemon::SystemClock).await.unwrap().dead_letters, 1);
}

#[tokio::test]
async fn a_redis_that_is_away_is_said_at_once_and_its_return_is_noticed() {
    let (mut redis, store) = redis().await;
    offer(&store, state("a", 1), 1).await;
    redis.kill9();
    let asked = std::time::Instant::now();
    assert!(matches!(store.life().await, Err(StoreError::Unavailable(_))));
    assert!(matches!(
        store.read_changes(PATIENT, 0).await,
        Err(StoreError::Unavailable(_))
    ));
    assert!(asked.elapsed() < std::time::Duration::from_secs(3));
    redis.restart().await.unwrap();
    store.life().await.unwrap();
    assert_eq!(store.read_changes(PATIENT, 5).await.unwrap().previews, []);
}
