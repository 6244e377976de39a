//! The parts beside a database of HAPI's, in this process as far as a test takes their steps one by one: webhook, tail, mergers. batch-refresher is a
//! process of its own, and everything else real.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::ensure;
use api::proto::batch::RefreshKind;
use chrono::{DateTime, TimeDelta, Utc};
use daemon::{ManualClock, Shutdown};
use e2e::{merging::Direct, operate::Operator};
use serving_gateway::merge::{Merger, Stepped as Merged};
use speed_ingestor::{
    batch::BatchLayer,
    needed::Needed,
    store::SpeedStore,
    tail::{Stepped, Tail},
};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool};
use view_store::{StoreSettings, ViewStore};

use super::recorded;
use crate::{
    house::{House, grpc, versions_of, view_of},
    kit,
};

pub(crate) const TYPES: [&str; 3] = ["Condition", "Observation", "Patient"];

/// The clock of HAPI's database, played: the requests were recorded at a certain time, and a preview is shown only if it is later than the batch.
const PLAYED_CLOCK: &str = "
    CREATE SCHEMA played;
    CREATE SEQUENCE played.now;
    SELECT setval('played.now', extract(epoch FROM timestamptz '2026-11-22 10:00:00Z')::bigint);
    CREATE FUNCTION played.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS 'SELECT to_timestamp(last_value) FROM played.now';
    CREATE VIEW played.pg_stat_activity AS SELECT datname, backend_type, application_name, state, NULL::timestamptz AS xact_start
        FROM pg_catalog.pg_stat_activity;
    GRANT USAGE ON SCHEMA played TO source; GRANT SELECT ON ALL TABLES IN SCHEMA played TO source; GRANT SELECT ON SEQUENCE played.now TO source;
    ALTER DATABASE hapi SET search_path = played, pg_catalog, public";

/// When the last recorded version was long committed.
const AFTER: &str = "2026-11-22T10:20:00Z";

/// What a view shows: a line for each row, by type and id, and its version.
pub(crate) type Shown = BTreeMap<(String, String), (i64, String)>;

pub(crate) struct Beside {
    hapi: PgPool,
    views: PgConnection,
    operator: Operator,
    reader: BatchLayer,
    store: SpeedStore,
    redis: redis::aio::MultiplexedConnection,
    pub(super) tail: Tail<BatchLayer>,
    mergers: Vec<Merger>,
    pub(crate) client: reqwest::Client,
    pub(crate) webhook: String,
    clock: ManualClock,
    now: DateTime<Utc>,
    /// What the batch alone shows of HAPI's final state.
    pub(crate) last: Shown,
    /// What was shown since the round began.
    pub(crate) seen: Shown,
    pub(crate) looks: u64,
    pub(crate) previews_shown: usize,
    pub(crate) deletes_put_off: usize,
    shutdown: Shutdown,
    _house: House,
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.shutdown.stop();
    }
}

impl Beside {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let views = TYPES.map(|resource_type| match resource_type {
            "Patient" => versions_of(
                resource_type,
                &[("family", "name.family.first()"), ("gender", "gender")],
            ),
            _ => versions_of(
                resource_type,
                &[("status", "iif(status.exists(), status, 'none')")],
            ),
        });
        let house = House::start(&views, PLAYED_CLOCK).await?;
        let store = kit::store(&house.redis);
        let merged = ViewStore::connect(StoreSettings {
            url: house.views_url.clone(),
            max_connections: 4,
            skew: TimeDelta::seconds(1),
        })
        .await?;
        let now: DateTime<Utc> = AFTER.parse()?;
        let (clock, shutdown, needed) = (ManualClock::new(now), Shutdown::new(), Needed::default());
        needed.set(TYPES.map(str::to_owned).to_vec());
        let tail = kit::well(&store, now + TimeDelta::days(1)).await;
        let webhook = kit::webhook(&store, &tail, &needed, Arc::new(clock.clone()));
        let mut beside = Self {
            hapi: house.hapi.clone(),
            views: PgConnection::connect(&house.views_url).await?,
            operator: house.operator().await?,
            reader: BatchLayer::new(grpc(&house.batch).await?),
            redis: redis::Client::open(house.redis.url())?
                .get_multiplexed_async_connection()
                .await?,
            store,
            tail: Tail::default(),
            mergers: TYPES.map(|name| Merger::new(merged.clone(), name)).into(),
            client: kit::http(),
            webhook: kit::serve(webhook, &shutdown).await,
            clock,
            now,
            last: Shown::new(),
            seen: Shown::new(),
            looks: 0,
            previews_shown: 0,
            deletes_put_off: 0,
            shutdown,
            _house: house,
        };
        beside
            .views(
                "CREATE SCHEMA saved; CREATE TABLE saved.resource_type AS TABLE sqlonfhir_meta.resource_type",
            )
            .await?;
        recorded::commit_finals(&beside.hapi).await?;
        beside.advance(0).await?;
        beside.refresh().await?;
        beside.last = beside.look().await?;
        Ok(beside)
    }

    async fn views(&mut self, statements: impl Into<String>) -> anyhow::Result<()> {
        sqlx::raw_sql(AssertSqlSafe(statements.into()))
            .execute(&mut self.views)
            .await?;
        Ok(())
    }

    /// Views joined over an empty HAPI, nothing in Redis; HAPI's final state is committed since.
    pub(crate) async fn reset(&mut self) -> anyhow::Result<()> {
        let emptied = |resource_type| {
            ["base", "live", "shadowed"]
                .map(|layer| format!("DELETE FROM sqlonfhir_{layer}.{}; ", view_of(resource_type)))
                .concat()
        };
        let mut sql = TYPES.map(emptied).concat();
        sql += "DELETE FROM sqlonfhir_meta.ledger; UPDATE sqlonfhir_meta.resource_type t SET speed_n = s.speed_n, speed_as_of = s.speed_as_of, published_n = s.published_n, \
                published_as_of = s.published_as_of, published_bound = s.published_bound, published_xmin = s.published_xmin, \
                published_timeline = s.published_timeline, newest = s.newest FROM saved.resource_type s WHERE s.type = t.type";
        self.views(sql).await?;
        redis::cmd("FLUSHALL").query_async::<()>(&mut self.redis).await?;
        self.tail.restart();
        self.mergers.iter_mut().for_each(Merger::forget);
        self.seen.clear();
        self.now = AFTER.parse()?;
        self.advance(0).await
    }

    /// Time passes, for everyone.
    pub(crate) async fn advance(&mut self, seconds: i64) -> anyhow::Result<()> {
        self.now += TimeDelta::seconds(seconds);
        self.clock.set(self.now);
        sqlx::query_scalar::<_, i64>("SELECT setval('played.now', $1)")
            .bind(self.now.timestamp())
            .fetch_one(&self.hapi)
            .await?;
        Ok(())
    }

    pub(crate) async fn tail_step(&mut self) -> anyhow::Result<Stepped> {
        let types = TYPES.map(str::to_owned);
        Ok(self
            .tail
            .step(&self.reader, &self.store, &types, None, self.now)
            .await?)
    }

    pub(crate) async fn merge_step(&mut self, which: usize, page: usize) -> anyhow::Result<Merged> {
        let merged = self.mergers[which].step(&mut Direct(&self.store), page).await?;
        if let Merged::Page(page) | Merged::Last(page) = merged {
            self.previews_shown += page.previews;
        }
        Ok(merged)
    }

    pub(crate) async fn refresh(&self) -> anyhow::Result<()> {
        self.operator.refresh(&TYPES, RefreshKind::Incremental).await?;
        Ok(())
    }

    /// All rows of the public views: each resource once.
    async fn look(&mut self) -> anyhow::Result<Shown> {
        let selects = TYPES.map(|name| {
            let view = view_of(name);
            format!("SELECT '{name}' AS type, id, version::bigint AS version, v::text AS line FROM sqlonfhir.{view} v")
        });
        let rows: Vec<(String, String, i64, String)> =
            sqlx::query_as(AssertSqlSafe(selects.join(" UNION ALL ")))
                .fetch_all(&mut self.views)
                .await?;
        self.looks += 1;
        let mut shown = Shown::new();
        for (resource_type, id, version, line) in rows {
            let doubled = shown.insert((resource_type, id), (version, line));
            ensure!(doubled.is_none(), "a resource is doubled: {doubled:?}");
        }
        Ok(shown)
    }

    /// Nothing that is shown is older than what was shown before, and nothing is gone: HAPI has it.
    pub(crate) async fn check(&mut self) -> anyhow::Result<()> {
        let shown = self.look().await?;
        for (key, (before, _)) in &self.seen {
            let now = shown.get(key).map(|(version, _)| *version);
            ensure!(
                now >= Some(*before),
                "{key:?} was shown in version {before}, then in {now:?}"
            );
        }
        let known = |key| self.last.contains_key(key);
        ensure!(shown.keys().all(known), "shown is what HAPI never had: {shown:?}");
        self.seen = shown;
        Ok(())
    }
}
