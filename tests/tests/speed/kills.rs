//! Laws 5 and 6 under load: Redis and the ingestor are killed at any moment, again and again. What was acknowledged is not lost, nothing goes back in Redis,
//! and what the gateway shows at last is what HAPI has. And law 7: of a Redis that was emptied everybody says so until it is filled again.
//!
//! A preview is acknowledged once Redis has it in its append-only file; a version that nobody was told of is found by the tail. So after the next round of
//! the tail each acknowledged version, or a later one, is held as a reading.

use std::time::Duration;

use anyhow::ensure;
use api::proto::{
    batch::RefreshKind,
    serving::DegradationReason,
    speed::{GetStatusRequest, GetStatusResponse, PullRequest, speed_service_client::SpeedServiceClient},
};
use e2e::{
    ask::{Answer, Asker, all_of},
    deadline::{until, until_ok},
    process::Daemon,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use sqlx::{Connection as _, PgConnection};
use tonic::transport::Channel;

use crate::{
    house::{House, asker, speed_client, times, versions_of, view_of},
    load::{Load, Versions, truth},
    watch::{Watch, held},
};

/// Whatever is waited for comes much earlier.
const LIMIT: Duration = Duration::from_secs(30);

/// Everything, and a load.
struct Under {
    house: House,
    ingestor: Daemon,
    _gateway: Daemon,
    client: SpeedServiceClient<Channel>,
    asker: Asker,
    load: Load,
}

impl Under {
    async fn load(seed: u64) -> anyhow::Result<Self> {
        let house = House::start(&[versions_of("Patient", &[])], "").await?;
        let ingestor = house.speed("").await?;
        let gateway = house.serving(&ingestor).await?;
        Ok(Self {
            load: Load::begin(&house.hapi, &ingestor.address("http")?, seed),
            client: speed_client(&ingestor)?,
            asker: asker(&gateway).await?,
            _gateway: gateway,
            ingestor,
            house,
        })
    }

    /// Waits for a round of the tail that begins now.
    async fn round(&self) -> anyhow::Result<()> {
        let pull = || async { self.client.clone().pull(PullRequest::default()).await };
        until_ok("a round of the tail", LIMIT, pull).await?;
        Ok(())
    }

    async fn says(&self) -> Option<GetStatusResponse> {
        let asked = self.client.clone().get_status(GetStatusRequest {}).await;
        asked.ok().map(tonic::Response::into_inner)
    }

    async fn answer(&self) -> Option<Answer> {
        self.asker.ask(all_of(&view_of("Patient"))).await.ok()
    }

    /// Refreshes; notes what is published now. What the tail has not read by then it never reads, and need not.
    async fn refresh(&self, published: &mut Versions) -> anyhow::Result<()> {
        let operator = self.house.operator().await?;
        operator.refresh(&[], RefreshKind::Incremental).await?;
        let mut views = PgConnection::connect(&self.house.views_url).await?;
        // The ledger has what this run has published, deletions too.
        let now = "SELECT id, version::bigint FROM sqlonfhir_batch.patient_versions \
                   UNION ALL SELECT id, version FROM sqlonfhir_meta.ledger WHERE layer = 'batch'";
        for (id, version) in sqlx::query_as::<_, (String, i64)>(now)
            .fetch_all(&mut views)
            .await?
        {
            let highest = published.entry(id).or_default();
            *highest = version.max(*highest);
        }
        Ok(())
    }

    /// Of these versions those that neither Redis holds nor the batch has published, nor a later one. A round of the tail has begun since.
    async fn lost(&self, acknowledged: Versions, published: &Versions) -> anyhow::Result<Versions> {
        self.round().await?;
        let client = redis::Client::open(self.house.redis.url())?;
        let held = held(&mut client.get_multiplexed_async_connection().await?).await?;
        let lost = |(id, version): &(String, i64)| {
            held.get(id).is_none_or(|(_, now)| now < version)
                && published.get(id).is_none_or(|published| published < version)
        };
        Ok(acknowledged.into_iter().filter(lost).collect())
    }

    /// What is shown is what HAPI has, also while it is written to: nothing that was committed before is missing, nothing is ahead of it.
    async fn complete(&self) -> anyhow::Result<()> {
        let mut hapi = self.house.hapi.acquire().await?;
        let clock = "SELECT extract(epoch FROM clock_timestamp())::float8";
        let before = truth(&mut hapi).await?;
        let now: f64 = sqlx::query_scalar(clock).fetch_one(&mut *hapi).await?;
        let caught_up = || async {
            let answer = self.answer().await?;
            let as_of = answer.freshness.as_of?;
            #[expect(clippy::cast_precision_loss, reason = "seconds of this century")]
            let as_of = as_of.seconds as f64 + f64::from(as_of.nanos) / 1e9;
            (as_of >= now).then_some(answer)
        };
        let answer = until("the gateway to catch up", LIMIT, caught_up).await?;
        let after = truth(&mut hapi).await?;
        let shown: Versions = (0..answer.rows.len())
            .map(|row| Ok((answer.text(row, "id"), answer.text(row, "version").parse()?)))
            .collect::<anyhow::Result<_>>()?;
        ensure!(shown.len() == answer.rows.len(), "a patient is shown twice");
        ensure!(
            shown.keys().all(|id| after.contains_key(id)),
            "HAPI never had one"
        );
        for (id, (version, alive)) in &after {
            let least = before.get(id).map_or(0, |(version, _)| *version);
            match shown.get(id) {
                Some(shown) => ensure!(
                    (least..=*version).contains(shown) && (shown != version || *alive),
                    "{id} is shown in version {shown}, HAPI had {least} and has {version}, alive: {alive}"
                ),
                None if least == *version => ensure!(!alive, "{id} of version {version} is missing"),
                None => {}
            }
        }
        Ok(())
    }
}

/// `ROUNDS=100` for all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn laws_5_and_6_after_kill_9_of_redis_or_ingestor_nothing_acknowledged_is_lost_and_nothing_goes_back()
-> anyhow::Result<()> {
    let rounds = times("ROUNDS", 6);
    let (mut under, mut published) = (Under::load(1).await?, Versions::new());
    let watch = Watch::begin(under.house.redis.url());
    let (mut random, mut acknowledged, begun) = (StdRng::seed_from_u64(1), 0, std::time::Instant::now());
    for round in 0..rounds {
        under.load.written.more(random.random_range(1..40)).await?;
        if round % 3 != 1 {
            under.house.redis.kill9();
        }
        if round % 3 != 0 {
            under.ingestor.kill9();
        }
        under.load.written.more(random.random_range(1..20)).await?;
        if round % 3 != 1 {
            under.house.redis.restart().await?;
        }
        if round % 3 != 0 {
            under.ingestor.restart().await?;
        }
        if random.random_bool(0.3) {
            under.refresh(&mut published).await?;
        }
        let known = under.load.written.acknowledged();
        acknowledged = known.values().sum::<i64>();
        let lost = under.lost(known, &published).await?;
        ensure!(lost.is_empty(), "round {round}: acknowledged and lost: {lost:?}");
    }
    under.complete().await?;
    let looks = watch.end().await?;
    println!(
        "{rounds} rounds, {looks} looks at Redis, acknowledged versions that add up to {acknowledged}, {:.1} s",
        begun.elapsed().as_secs_f64()
    );
    ensure!(acknowledged > 0 && looks > rounds);
    let written = under.load.end().await?;
    println!("{written} versions written");
    Ok(())
}

/// `ROUNDS=100` for more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_7_an_emptied_redis_is_said_to_be_behind_until_it_is_filled_again() -> anyhow::Result<()> {
    let rounds = times("ROUNDS", 6).div_ceil(3);
    let under = Under::load(2).await?;
    let mut random = StdRng::seed_from_u64(2);
    let client = redis::Client::open(under.house.redis.url())?;
    let mut redis = client.get_multiplexed_async_connection().await?;
    let behind = |answer: &Answer| {
        let mut reasons = answer.freshness.degradations.iter();
        reasons.any(|degradation| degradation.reason() == DegradationReason::SpeedBehind)
    };
    let marked = |status: &GetStatusResponse| status.types.iter().all(|known| known.mark.is_some());
    for _ in 0..rounds {
        under.load.written.more(random.random_range(1..40)).await?;
        redis::cmd("FLUSHALL").query_async::<()>(&mut redis).await?;
        under.complete().await?;

        // Again, while nothing can be read, so that it stays empty for a while.
        under.house.batch.signal("STOP");
        redis::cmd("FLUSHALL").query_async::<()>(&mut redis).await?;
        let status = || async { under.says().await.filter(|status| !status.tail_healthy) };
        let status = until("the status to say so", LIMIT, status).await?;
        ensure!(
            !marked(&status) && status.tail_reason.contains("no mark of Patient"),
            "{status:?}"
        );
        let answer = || async { under.answer().await.filter(|answer| behind(answer)) };
        let answer = until("answers to say so", LIMIT, answer).await?;
        ensure!(!answer.rows.is_empty(), "answers go on");
        under.load.written.more(10).await?;
        under.house.batch.signal("CONT");

        let well = |status: &GetStatusResponse| status.tail_healthy && marked(status);
        let status = || async { under.says().await.filter(well) };
        until("Redis to be filled again", LIMIT, status).await?;
        let answer = || async { under.answer().await.filter(|answer| !behind(answer)) };
        until("answers to be whole again", LIMIT, answer).await?;
        let lost = under
            .lost(under.load.written.acknowledged(), &Versions::new())
            .await?;
        ensure!(lost.is_empty(), "not filled: {lost:?}");
        under.complete().await?;
    }
    let written = under.load.end().await?;
    println!("emptied {} times under {written} writes", 2 * rounds);
    Ok(())
}
