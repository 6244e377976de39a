//! Rounds of the tail: the mark lies behind the readings, in one life, and only where it may be concluded.

use std::time::Duration;

use daemon::{Clock as _, Shutdown, SystemClock};
use e2e::redis::{Redis, Settings};
use fhir_core::resource::{Content, State};
use speed_ingestor::{
    needed::Needed,
    rounds::TailState,
    store::StoreError,
    tail::{Stepped, Tail, TailError},
};

use crate::kit::{FakeHapi, at, held, position, reading, redis, rounds, state, store};

fn types() -> Vec<String> {
    vec!["Patient".into()]
}

#[tokio::test]
async fn a_round_offers_all_states_and_then_sets_the_mark() {
    let (_redis, store) = redis().await;
    let (hapi, mut tail) = (FakeHapi::default(), Tail::default());
    hapi.finds(&[state("a", 1), state("b", 1)]);
    let mut steps = Vec::new();
    loop {
        let stepped = tail.step(&hapi, &store, &types(), None, at(0)).await.unwrap();
        let marked = store.mark("Patient").await.unwrap().is_some();
        let finished = matches!(stepped, Stepped::Finished(_));
        assert_eq!(marked, finished, "the mark comes last");
        steps.push(stepped);
        if finished {
            break;
        }
    }
    assert_eq!(steps.len(), 5, "begin, snapshot, two states, mark");
    assert_eq!(held(&store, 0).await.len(), 2);
    assert_eq!(store.mark("Patient").await.unwrap(), Some(position(1)));
    assert!(tail.is_between_rounds());
    round(&mut tail, &hapi, &store).await;
    assert_eq!(
        hapi.asked(),
        [("Patient".to_owned(), Some(position(1)))],
        "the next round goes on from the mark"
    );
}

async fn round(tail: &mut Tail<FakeHapi>, hapi: &FakeHapi, store: &speed_ingestor::store::SpeedStore) {
    while !matches!(
        tail.step(hapi, store, &types(), None, at(0)).await.unwrap(),
        Stepped::Finished(_)
    ) {}
}

#[tokio::test]
async fn a_restart_of_redis_within_a_round_begins_a_new_one() {
    for steps_before in 1..=4 {
        let (mut redis, store) = redis().await;
        let (hapi, mut tail) = (FakeHapi::default(), Tail::default());
        hapi.finds(&[state("a", 1), state("b", 1)]);
        for _ in 0..steps_before {
            tail.step(&hapi, &store, &types(), None, at(0)).await.unwrap();
        }
        let opened = hapi.readings();
        redis.kill9();
        redis.restart().await.unwrap();
        assert_eq!(
            tail.step(&hapi, &store, &types(), None, at(0)).await.unwrap(),
            Stepped::Begun,
            "after {steps_before}"
        );
        assert_eq!(store.mark("Patient").await.unwrap(), None, "after {steps_before}");
        round(&mut tail, &hapi, &store).await;
        assert_eq!(hapi.readings(), opened + 1);
        assert_eq!(held(&store, 0).await.len(), 2);
    }
}

#[tokio::test]
async fn a_capped_reading_gives_no_mark() {
    let (_redis, store) = redis().await;
    let (hapi, mut tail) = (FakeHapi::default(), Tail::default());
    hapi.finds(&[state("a", 1)]);
    hapi.concludes_nothing(true);
    round(&mut tail, &hapi, &store).await;
    assert_eq!(held(&store, 0).await.len(), 1);
    assert_eq!(store.mark("Patient").await.unwrap(), None);
    hapi.concludes_nothing(false);
    round(&mut tail, &hapi, &store).await;
    assert_eq!(store.mark("Patient").await.unwrap(), Some(position(2)));
}

#[tokio::test]
async fn a_failed_step_begins_a_new_round() {
    let (_redis, store) = redis().await;
    let (hapi, mut tail) = (FakeHapi::default(), Tail::default());
    hapi.fails(true);
    assert_eq!(
        tail.step(&hapi, &store, &types(), None, at(0)).await.unwrap(),
        Stepped::Begun
    );
    assert!(matches!(
        tail.step(&hapi, &store, &types(), None, at(0)).await,
        Err(TailError::Read(_))
    ));
    assert!(tail.is_between_rounds());
    hapi.fails(false);
    round(&mut tail, &hapi, &store).await;
}

/// More than enough for a handful of rounds.
const PATIENCE: Duration = Duration::from_secs(15);

#[tokio::test]
async fn a_sweep_that_fails_does_not_stop_the_rounds_between() {
    let (_redis, store) = redis().await;
    let (hapi, state, shutdown) = (FakeHapi::default(), TailState::default(), Shutdown::new());
    hapi.fails_sweeps();
    let needed = Needed::default();
    needed.set(types());
    shutdown.spawn(rounds(&hapi, &store, &needed, &state).run(shutdown.clone()));
    let finished = tokio::time::timeout(PATIENCE, state.finish_one()).await;
    shutdown.stop();
    assert_eq!(hapi.windows().first(), Some(&None), "the first round is a sweep");
    assert!(finished.is_ok(), "only sweeps: {:?}", hapi.windows());
}

#[tokio::test]
async fn law_4_a_full_redis_recovers_once_the_batch_has_covered_it() {
    let options = vec![("maxmemory".into(), "4mb".into())];
    let redis = Redis::start_with(Settings {
        options,
        ..Settings::default()
    })
    .await
    .unwrap();
    let store = store(&redis);
    let large = |id: String| State {
        content: Content::Body(vec![b'x'; 50_000]),
        ..state(&id, 1)
    };
    let mut n = 0;
    let error = loop {
        n += 1;
        assert!(n < 1000, "never full");
        let found = reading(large(format!("p{n}")), n);
        if let Err(error) = store
            .offer_readings(None, "Patient", &[found], SystemClock.now())
            .await
        {
            break error;
        }
    };
    assert!(matches!(error, StoreError::OutOfMemory(_)), "{error}");

    let (hapi, tail, shutdown) = (FakeHapi::default(), TailState::default(), Shutdown::new());
    hapi.begins_at(n);
    hapi.published(n);
    hapi.finds(&[large("new".into())]);
    let needed = Needed::default();
    needed.set(types());
    shutdown.spawn(rounds(&hapi, &store, &needed, &tail).run(shutdown.clone()));
    let finished = tokio::time::timeout(PATIENCE, tail.finish_one()).await;
    shutdown.stop();
    assert!(finished.is_ok(), "{:?}", tail.health(SystemClock.now()));
    assert!(store.mark("Patient").await.unwrap().is_some());
    let kept = held(&store, 0).await;
    assert!(kept.iter().any(|(id, _, _)| id == "new"), "{} kept", kept.len());
}
