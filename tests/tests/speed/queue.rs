//! The queue of previews: taken once, bounded, with a time to live, and counted where they tell nothing new.

use api::speed::Preview;
use chrono::TimeDelta;
use e2e::redis::Redis;
use fhir_core::resource::Content;
use speed_ingestor::store::{Queued, SpeedStore, StoreSettings};

use crate::kit::{at, held, reading, recent, redis, state};

const PATIENT: &str = "Patient";

/// Of the previews, which are taken by it.
async fn versions(store: &SpeedStore) -> Vec<i64> {
    let taken = store.read_changes(PATIENT, 0).await.unwrap().previews;
    taken.iter().map(|preview| preview.state.version).collect()
}

#[tokio::test]
async fn previews_are_taken_once_and_lie_beside_the_readings() {
    let (_redis, store) = redis().await;
    let held_already = [reading(state("a", 1), 1)];
    store
        .offer_readings(None, PATIENT, &held_already, at(1))
        .await
        .unwrap();
    store
        .offer_preview(PATIENT, &state("a", 2), at(50))
        .await
        .unwrap();
    assert!(store.has_changes(PATIENT, 1).await.unwrap());
    let first = store.read_changes(PATIENT, 0).await.unwrap();
    assert_eq!(
        first.previews,
        [Preview {
            state: state("a", 2),
            received: at(50),
            trace: None
        }]
    );
    assert_eq!(held(&store, 0).await, [("a".into(), 1, 1)]);
    assert!(store.read_changes(PATIENT, 0).await.unwrap().previews.is_empty());
    assert!(!store.has_changes(PATIENT, 1).await.unwrap());
}

#[tokio::test]
async fn a_preview_whose_time_is_over_is_handed_to_no_one_and_the_others_are() {
    let (_redis, store) = redis().await;
    let put = async |id: &str, time_to_live| {
        let found = state(id, 1);
        let put = store.put_preview(PATIENT, &found, at(0), time_to_live);
        assert_eq!(put.await.unwrap(), Some(0));
    };
    put("short", Some(TimeDelta::milliseconds(1))).await;
    put("long", Some(TimeDelta::minutes(1))).await;
    put("none", None).await;
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    let ids = |states: &mut dyn Iterator<Item = fhir_core::resource::State>| {
        states.map(|state| state.id).collect::<Vec<_>>()
    };
    let scanned = recent(&store, PATIENT, at(0)).await;
    assert_eq!(ids(&mut scanned.into_iter().map(|r| r.state)), ["long", "none"]);
    let taken = store.read_changes(PATIENT, 0).await.unwrap().previews;
    assert_eq!(ids(&mut taken.into_iter().map(|p| p.state)), ["long", "none"]);
    assert!(!store.has_changes(PATIENT, 0).await.unwrap());
}

#[tokio::test]
async fn a_preview_of_the_version_before_is_still_read() {
    let (redis, store) = redis().await;
    let client = redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    redis::cmd("RPUSH")
        .arg("fhir:previews:Patient")
        .arg("a 3 1800000003000000 1800000000000000 body\n{}")
        .query_async::<()>(&mut connection)
        .await
        .unwrap();
    let taken = store.read_changes(PATIENT, 0).await.unwrap().previews;
    assert_eq!((taken[0].state.version, taken[0].received), (3, at(0)));
    assert_eq!(taken[0].state.content, Content::Body(b"{}".to_vec()));
}

#[tokio::test]
async fn previews_are_bounded_in_number_and_bytes_and_the_oldest_go() {
    let redis = Redis::start().await.unwrap();
    let settings = StoreSettings {
        max_previews: 3,
        max_preview_bytes: 1000,
        ..redis.store_settings()
    };
    let store = SpeedStore::open(settings).unwrap();
    let mut dropped = 0;
    for version in 1..=5 {
        dropped += store
            .offer_preview(PATIENT, &state("a", version), at(0))
            .await
            .unwrap()
            .dropped;
    }
    assert_eq!(dropped, 2);
    let large = fhir_core::resource::State {
        content: Content::Body(vec![b' '; 5000]),
        ..state("b", 1)
    };
    assert_eq!(
        store.offer_preview(PATIENT, &large, at(0)).await.unwrap().dropped,
        3,
        "one is always taken"
    );
    assert_eq!(versions(&store).await, [1]);
}

/// Redis loses its scripts when it is begun anew: then previews are in their queue before they are counted.
#[tokio::test]
async fn bounds_are_kept_though_redis_has_lost_its_scripts_or_the_count() {
    let redis = Redis::start().await.unwrap();
    let settings = StoreSettings {
        max_previews: 3,
        ..redis.store_settings()
    };
    let store = SpeedStore::open(settings).unwrap();
    let client = redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let sizes = async |connection: &mut redis::aio::MultiplexedConnection| {
        let mut pipe = redis::pipe();
        pipe.cmd("LRANGE")
            .arg("fhir:preview-sizes:Patient")
            .arg(0)
            .arg(-1);
        pipe.cmd("GET").arg("fhir:preview-bytes:Patient");
        pipe.cmd("LRANGE").arg("fhir:previews:Patient").arg(0).arg(-1);
        let (sizes, total, previews): (Vec<usize>, usize, Vec<Vec<u8>>) =
            pipe.query_async(connection).await.unwrap();
        let lengths: Vec<usize> = previews.iter().map(Vec::len).collect();
        assert_eq!((&sizes, total), (&lengths, lengths.iter().sum()));
        lengths.len()
    };
    for version in 1..=5 {
        if version % 2 == 0 {
            redis::cmd("SCRIPT")
                .arg("FLUSH")
                .query_async::<()>(&mut connection)
                .await
                .unwrap();
        }
        let queued = store
            .offer_preview(PATIENT, &state("a", version), at(0))
            .await
            .unwrap();
        assert_eq!(queued.dropped, u64::from(version > 3));
        assert_eq!(
            sizes(&mut connection).await,
            usize::try_from(version.min(3)).unwrap()
        );
    }
    // What is not counted, and what is counted and not there.
    redis::cmd("RPUSH")
        .arg("fhir:previews:Patient")
        .arg("a 6 1800000003000000 1800000000000000 body\n{}")
        .query_async::<()>(&mut connection)
        .await
        .unwrap();
    assert_eq!(
        store
            .offer_preview(PATIENT, &state("a", 7), at(0))
            .await
            .unwrap()
            .dropped,
        2
    );
    assert_eq!(sizes(&mut connection).await, 3);
    redis::cmd("LPOP")
        .arg("fhir:previews:Patient")
        .query_async::<()>(&mut connection)
        .await
        .unwrap();
    assert_eq!(
        store
            .offer_preview(PATIENT, &state("a", 8), at(0))
            .await
            .unwrap()
            .dropped,
        0
    );
    assert_eq!(sizes(&mut connection).await, 3);
    assert_eq!(versions(&store).await, [6, 7, 8]);
    assert!(!store.has_changes(PATIENT, 0).await.unwrap());
}

#[tokio::test]
async fn previews_that_tell_nothing_new_are_counted() {
    let (_redis, store) = redis().await;
    let offer = async |version| {
        store
            .offer_preview(PATIENT, &state("a", version), at(0))
            .await
            .unwrap()
    };
    let none = Queued::default();
    assert_eq!(offer(3).await, none);
    assert_eq!(offer(3).await, Queued { repeated: 1, ..none });
    assert_eq!(offer(2).await, Queued { late: 1, ..none });
    assert_eq!(offer(4).await, none);
    let read = [reading(state("a", 6), 1)];
    store.offer_readings(None, PATIENT, &read, at(1)).await.unwrap();
    assert_eq!(offer(6).await, Queued { useless: 1, ..none });
    assert_eq!(offer(7).await, none);
}

#[tokio::test]
async fn a_group_is_counted_as_its_previews_are_one_by_one() {
    let (_redis, store) = redis().await;
    let states: Vec<_> = [2, 1, 2, 3].map(|version| state("a", version)).into();
    let offers = states
        .iter()
        .map(|state| store.offer_preview(PATIENT, state, at(0)));
    let told = futures::future::join_all(offers).await;
    let (mut repeated, mut late) = (0, 0);
    for queued in told {
        let Queued {
            repeated: r, late: l, ..
        } = queued.unwrap();
        (repeated, late) = (repeated + r, late + l);
    }
    assert_eq!((repeated, late), (1, 1));
    assert_eq!(
        versions(&store).await,
        [2, 1, 2, 3],
        "in the order in which they came"
    );
}

#[tokio::test]
async fn what_was_kept_of_types_that_no_view_needs_is_forgotten() {
    let (_redis, store) = redis().await;
    for resource_type in ["Patient", "Goal", "Device"] {
        store
            .offer_preview(resource_type, &state("a", 1), at(0))
            .await
            .unwrap();
        let found = [reading(state("b", 1), 1)];
        store
            .offer_readings(None, resource_type, &found, at(1))
            .await
            .unwrap();
    }
    store
        .keep_types(&["Goal".into(), "Patient".into()])
        .await
        .unwrap();
    let needed = ["Patient".to_owned()];
    let forgotten = store.forget_others(&needed).await.unwrap();
    assert_eq!((forgotten.readings, forgotten.previews), (2, 2));
    assert_eq!(
        store.counts("Goal").await.unwrap(),
        store.counts("Device").await.unwrap()
    );
    assert_eq!(store.counts("Goal").await.unwrap().held, 0);
    assert_eq!(store.counts("Patient").await.unwrap().previews, 1);
    assert_eq!(store.forget_others(&needed).await.unwrap().previews, 0, "once");
}
