//! Laws 1 and 6: whatever HAPI's webhooks do to their order and number, its database is what is shown at last, and nothing goes back on the way.
//!
//! The requests that a real HAPI sent are sent again to the real webhook, in other orders, beside a database that holds HAPI's final state from the
//! beginning: each of them is late. Between any two of them the parts may take steps, drawn at random: the tail's rounds (readings by the real
//! batch-refresher), the mergers' transactions, a refresh. After each step the public views are looked at.

mod beside;

use std::collections::VecDeque;

use anyhow::{Context as _, ensure};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use reqwest::{Method, StatusCode};
use serving_gateway::merge::Stepped as Merged;
use speed_ingestor::tail::Stepped;

use crate::{
    house::times,
    recorded::{self, Recorded},
};
use beside::{Beside, TYPES};

impl Beside {
    /// Something may happen between two requests.
    async fn happens(&mut self, random: &mut StdRng) -> anyhow::Result<()> {
        if random.random_bool(0.3) {
            self.advance(random.random_range(0..3)).await?;
        }
        if random.random_bool(0.25) {
            for _ in 0..random.random_range(1..8) {
                self.tail_step().await?;
            }
        }
        if random.random_bool(0.5) {
            let which = if random.random_bool(0.8) {
                2
            } else {
                random.random_range(0..2)
            };
            for _ in 0..random.random_range(1..4) {
                let merged = self.merge_step(which, random.random_range(1..4)).await?;
                if matches!(merged, Merged::Page(_) | Merged::Last(_)) {
                    self.check().await?;
                }
            }
        }
        if random.random_bool(0.01) {
            self.refresh().await?;
            self.check().await?;
        }
        Ok(())
    }

    /// Sends all of them; one that HAPI is told to send again comes again later. The state at last is HAPI's.
    async fn round(&mut self, requests: Vec<Recorded>, random: &mut StdRng) -> anyhow::Result<()> {
        self.reset().await?;
        let mut queue = VecDeque::from(requests);
        while let Some(request) = queue.pop_front() {
            let status = request.send(&self.client, &self.webhook).await;
            match (&request.method, status) {
                // It says neither type nor id.
                (&Method::POST, StatusCode::UNPROCESSABLE_ENTITY) | (_, StatusCode::OK) => {}
                // Law 5: a DELETE is safe once the tail has a mark.
                (&Method::DELETE, StatusCode::SERVICE_UNAVAILABLE) => {
                    self.deletes_put_off += 1;
                    if queue.is_empty() {
                        self.tail_step().await?;
                    }
                    queue.insert(random.random_range(0..=queue.len()), request);
                }
                (method, status) => anyhow::bail!("{method} is answered {status}"),
            }
            self.happens(random).await?;
        }
        self.settle().await?;
        ensure!(
            self.seen == self.last,
            "at last: {:?}\nHAPI: {:?}",
            self.seen,
            self.last
        );
        Ok(())
    }

    /// A whole round of the tail begins and ends; all of it is merged.
    async fn settle(&mut self) -> anyhow::Result<()> {
        self.tail.restart();
        self.advance(3).await?;
        while !matches!(self.tail_step().await?, Stepped::Finished(_)) {}
        for which in 0..TYPES.len() {
            while self.merge_step(which, 2).await? != Merged::Nothing {
                self.check().await?;
            }
        }
        self.check().await
    }
}

/// `ROUNDS=1000` for all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn laws_1_and_6_recorded_requests_in_any_order_end_in_hapis_state_and_nothing_goes_back()
-> anyhow::Result<()> {
    let mut beside = Beside::start().await?;
    let patient = |id: &str| ("Patient".to_owned(), id.to_owned());
    ensure!(beside.last.len() == 7 && beside.last[&patient("probe-a")].0 == 16);
    let (begun, rounds) = (std::time::Instant::now(), times("ROUNDS", 150));
    let in_order = recorded::all();
    let reversed = in_order.iter().rev().cloned().collect();
    let doubled = in_order
        .iter()
        .flat_map(|request| [request.clone(), request.clone()]);
    let named = [
        ("in file order", in_order.clone()),
        ("reversed", reversed),
        ("doubled", doubled.collect()),
    ];
    for (name, requests) in named {
        let random = &mut StdRng::seed_from_u64(0);
        beside.round(requests, random).await.context(name)?;
    }
    for seed in 1..=rounds {
        let random = &mut StdRng::seed_from_u64(seed);
        // Each once or twice.
        let mut requests = in_order.clone();
        requests.extend(in_order.iter().filter(|_| random.random_bool(0.5)).cloned());
        requests.shuffle(random);
        beside
            .round(requests, random)
            .await
            .with_context(|| format!("seed {seed}"))?;
    }
    println!(
        "{rounds} shuffles: {} looks at the views, {} previews shown, {} DELETEs put off, {:.1} s",
        beside.looks,
        beside.previews_shown,
        beside.deletes_put_off,
        begun.elapsed().as_secs_f64()
    );
    ensure!(
        beside.previews_shown > 0 && beside.deletes_put_off > 0,
        "there was nothing to get wrong"
    );
    Ok(())
}
