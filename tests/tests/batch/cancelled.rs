//! Law 1: whoever asks for a reading may go at any moment, an ingestor that is killed say. The next reading sees what is committed all the same: its
//! snapshot is not one that was begun for the one who has gone.

use std::{future::poll_fn, pin::pin, task::Poll};

use anyhow::{Context as _, ensure};
use batch_refresher::{hapi::Hapi, reading::Reading};
use futures::TryStreamExt as _;

use crate::played::{PATIENT_VIEW, Played, patient};

/// Polls a future so many times, and drops it then.
async fn cut<F: Future>(future: F, mut polls: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if polls == 0 => Poll::Ready(None),
        Poll::Pending => {
            polls -= 1;
            Poll::Pending
        }
    })
    .await
}

/// The version of a patient that a reading finds.
async fn read(played: &Played, hapi: &Hapi, id: &str) -> anyhow::Result<i64> {
    let begun = Reading::begin(hapi).await?;
    let mut open = begun.open(&played.store, &["Patient"]).await?;
    let states: Vec<_> = open.states("Patient", vec![id.to_owned()]).try_collect().await?;
    let state = states.concat().pop().context("a state")?;
    Ok(state.version)
}

#[tokio::test(flavor = "multi_thread")]
async fn law_1_a_reading_that_is_broken_off_leaves_no_old_snapshot_behind() -> anyhow::Result<()> {
    let played = Played::start().await?;
    played.put(PATIENT_VIEW).await?;
    // One connection to HAPI, so that it is the next one's.
    let settings = batch_refresher::hapi::HapiSettings {
        max_connections: 1,
        ..played.settings()
    };
    let hapi = Hapi::connect(settings).await?;
    let (mut tried, mut found_old) = (0, Vec::new());
    // How many polls there are until its end is not always the same: so several times.
    for _ in 0..10 {
        let (mut polls, mut whole) = (0, false);
        while !whole {
            let broken_off = async {
                let begun = Reading::begin(&hapi).await.ok()?;
                begun.open(&played.store, &["Patient"]).await.ok()
            };
            whole = cut(broken_off, polls).await.is_some();
            // The connection is given back, and the next one reads the clock over it: a transaction that has begun takes its snapshot by that.
            let begun = Reading::begin(&hapi).await?;
            let version = played.write("a", Some(&patient("Later"))).await?;
            drop(begun);
            if read(&played, &hapi, "a").await? != version {
                found_old.push(polls);
            }
            (tried, polls) = (tried + 1, polls + 1);
        }
    }
    println!("{tried} readings broken off");
    ensure!(
        found_old.is_empty(),
        "what was committed was not found after readings that were broken off at polls {found_old:?}"
    );
    Ok(())
}
