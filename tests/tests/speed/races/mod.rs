//! Races: resources are deleted, re-created and updated while deliveries are late by up to a minute, come twice, or never.
//!
//! ```text
//! Hapi (in memory) ──deliveries, 0 to 60 s late──► speed store (a real Redis) ──► merger ──► Views (in memory, fhir-core's decisions)
//!    └──── a tail of speed-ingestor ──readings────────►┘                                       ▲
//!    └──── runs, incremental and full ─────────────────────────────────────────────────────────┘
//! ```
//!
//! All time is played, so nothing waits. After each step the model's invariants hold (I2 and I3; I7 where readings leave), and at the end what is shown is
//! what HAPI has (I5). The property test of the protocol does the same with the real database and the model itself; here HAPI does more of what is
//! awkward, later, in many more cases.
//!
//! `CASES=3000` for many, `FIRST=435 CASES=1` for one of them again.

mod batch;
mod end;
mod hapi;
mod play;
mod reader;
mod views;

use anyhow::{Context as _, ensure};
use chrono::TimeDelta;
use e2e::redis::Redis;
use speed_ingestor::store::{SpeedStore, StoreSettings};

use crate::house::times;
use play::Play;

const PATIENT: &str = "Patient";

#[tokio::test]
async fn laws_1_4_and_6_races_with_late_deliveries_end_in_hapis_state_and_nothing_goes_back()
-> anyhow::Result<()> {
    let (cases, first, begun) = (times("CASES", 300), times("FIRST", 0), std::time::Instant::now());
    let redis = Redis::start().await?;
    let store = SpeedStore::open(StoreSettings {
        time_to_live: TimeDelta::zero(),
        ..redis.store_settings()
    })?;
    let mut keys = redis::Client::open(redis.url())?
        .get_multiplexed_async_connection()
        .await?;
    let (mut deliveries, mut previews, mut left) = (0, 0, 0);
    for seed in first..first + cases {
        let mut play = Play::new(&store, &mut keys, seed).await?;
        play.case().await.with_context(|| format!("seed {seed}"))?;
        deliveries += play.delivered;
        previews += play.previews_shown;
        left += play.left;
    }
    println!(
        "{cases} cases, {deliveries} deliveries, {previews} previews shown, {left} readings left, {:.1} s",
        begun.elapsed().as_secs_f64()
    );
    ensure!(
        cases < 100 || (previews > cases && left > cases),
        "there was nothing to get wrong"
    );
    Ok(())
}
