//! Rounds of the tail: the mark lies behind the readings, in one life, and only where it may be concluded.

use speed_ingestor::tail::{Stepped, Tail, TailError};

use crate::kit::{FakeHapi, at, held, position, redis, state};

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
