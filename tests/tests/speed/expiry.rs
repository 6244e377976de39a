//! Law 4 on a scaled clock: the batch stands still for longer than the time to live. What it has covered expires, what it has not stays, and everybody is
//! told; once it goes on the rest expires too, and the alarm is over.
//!
//! Expiry is Redis' own, by its own clock: a time to live of three seconds stands for the day.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, ensure};
use api::proto::{
    batch::RefreshKind,
    speed::{GetStatusRequest, PullRequest, TypeStatus},
};
use e2e::{deadline::until, process::Daemon, tables};
use redis::aio::MultiplexedConnection;

use crate::house::{House, speed_client, versions_of};

const TIME_TO_LIVE: Duration = Duration::from_secs(3);
const LIMIT: Duration = Duration::from_secs(30);
/// Patients that come after the batch stood still, beside those that were there before.
const LATER: [&str; 5] = ["later-0", "later-1", "later-2", "later-3", "later-4"];
const BEFORE: [&str; 3] = ["before-0", "before-1", "before-2"];

struct Scaled {
    house: House,
    speed: Daemon,
    redis: MultiplexedConnection,
    versions: BTreeMap<&'static str, (Option<i64>, i64)>,
}

/// What Redis has of a reading: version, and how long it stays (ms; -1: for good).
type Kept = Option<(i64, i64)>;

impl Scaled {
    async fn start() -> anyhow::Result<Self> {
        let house = House::start(&[versions_of("Patient", &[])], "").await?;
        let seconds = TIME_TO_LIVE.as_secs();
        let speed = house
            .speed(&format!("[store]\ntime_to_live_seconds = {seconds}\n"))
            .await?;
        let client = redis::Client::open(house.redis.url())?;
        Ok(Self {
            redis: client.get_multiplexed_async_connection().await?,
            versions: BTreeMap::new(),
            speed,
            house,
        })
    }

    /// HAPI commits the next version of each; the tail has read them.
    async fn write(&mut self, ids: &[&'static str]) -> anyhow::Result<()> {
        let mut hapi = self.house.hapi.acquire().await?;
        for id in ids {
            let (res_id, version) = self.versions.entry(id).or_insert((None, 0));
            *version += 1;
            let written = tables::Version {
                resource_type: "Patient",
                id,
                version: *version,
                updated: tables::now(&mut hapi).await?,
                stored: Some(r#"{"resourceType":"Patient","active":true}"#),
            };
            tables::write(&mut hapi, *res_id, &written).await?;
            *res_id = tables::find(&mut hapi, id).await?.map(|(res_id, _)| res_id);
        }
        speed_client(&self.speed)?.pull(PullRequest::default()).await?;
        Ok(())
    }

    /// The batch goes on for once, and has covered everything.
    async fn refresh(&self) -> anyhow::Result<()> {
        let operator = self.house.operator().await?;
        operator.refresh(&[], RefreshKind::Incremental).await?;
        Ok(())
    }

    async fn kept(&self, id: &str) -> anyhow::Result<Kept> {
        let (version, stays): (Option<i64>, i64) = redis::pipe()
            .hget(format!("fhir:Patient:{id}"), "version")
            .cmd("PTTL")
            .arg(format!("fhir:Patient:{id}"))
            .query_async(&mut self.redis.clone())
            .await?;
        Ok(version.map(|version| (version, stays)))
    }

    /// Waits until none of these is there.
    async fn gone(&self, ids: &[&str]) -> anyhow::Result<()> {
        let none = || async {
            for id in ids {
                if self.kept(id).await.ok()?.is_some() {
                    return None;
                }
            }
            Some(())
        };
        until("covered readings to expire", LIMIT, none).await
    }

    /// Redis' own seconds.
    async fn time(&self) -> anyhow::Result<f64> {
        let (seconds, micros): (f64, f64) = redis::cmd("TIME").query_async(&mut self.redis.clone()).await?;
        Ok(seconds + micros / 1e6)
    }

    async fn status(&self) -> anyhow::Result<TypeStatus> {
        let status = speed_client(&self.speed)?.get_status(GetStatusRequest {}).await?;
        let types = status.into_inner().types;
        types.into_iter().next().context("the type is needed")
    }

    /// Waits until metric and status count so many readings beyond their time.
    async fn alarm(&self, count: usize) -> anyhow::Result<()> {
        let line = format!(r#"speed_uncovered_kept{{type="Patient"}} {count}"#);
        let said = || async {
            let metrics = self.speed.metrics().await.ok()?;
            let metric = metrics.lines().any(|metric| metric.ends_with(&line));
            let status = self.status().await.ok()?;
            (metric && usize::try_from(status.uncovered_kept) == Ok(count)).then_some(())
        };
        until(&format!("the alarm to say {count}"), LIMIT, said).await
    }
}

/// A covered reading that is about to expire is overtaken by a version that the batch has not covered. Where the machine was too slow to catch it before it
/// had expired, again.
async fn overtake_before_it_expires(scaled: &mut Scaled, id: &'static str) -> anyhow::Result<()> {
    for _ in 0..10 {
        scaled.write(&[id]).await?;
        scaled.refresh().await?;
        let expiring = || async {
            match scaled.kept(id).await.ok()? {
                Some((_, -1)) => None,
                kept => Some(kept.is_some()),
            }
        };
        if until("the reading to be covered", LIMIT, expiring).await? {
            scaled.write(&[id]).await?;
            return Ok(());
        }
    }
    anyhow::bail!("it has always expired first")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_4_while_the_batch_stands_still_nothing_uncovered_expires_and_the_alarm_is_raised()
-> anyhow::Result<()> {
    let mut scaled = Scaled::start().await?;
    scaled.write(&BEFORE).await?;
    for id in BEFORE {
        let kept = scaled.kept(id).await?;
        ensure!(kept == Some((1, -1)), "{id}, not covered, is kept as {kept:?}");
    }
    scaled.refresh().await?;
    scaled.gone(&BEFORE).await?;

    // From here on the batch stands still.
    overtake_before_it_expires(&mut scaled, "before-0").await?;
    scaled.write(&LATER).await?;
    let received = scaled.time().await?;
    let uncovered: Vec<&str> = LATER.into_iter().chain(["before-0"]).collect();
    scaled.alarm(uncovered.len()).await?;
    ensure!(
        scaled
            .speed
            .log()
            .contains("readings are kept past their time to live"),
        "the log says nothing"
    );
    // "Longer than the time to live": three times as long.
    let long = || async {
        let now = scaled.time().await.ok()?;
        (now - received > 3.0 * TIME_TO_LIVE.as_secs_f64()).then_some(())
    };
    until("three times the time to live", LIMIT, long).await?;
    for id in &uncovered {
        let (kept, version) = (scaled.kept(id).await?, scaled.versions[id].1);
        ensure!(
            kept == Some((version, -1)),
            "{id}, not covered, is kept as {kept:?}"
        );
    }
    scaled.alarm(uncovered.len()).await?;

    scaled.refresh().await?;
    scaled.gone(&uncovered).await?;
    scaled.alarm(0).await?;
    let held = scaled.status().await?.readings_held;
    ensure!(held == 0, "{held} readings are held still");
    Ok(())
}
