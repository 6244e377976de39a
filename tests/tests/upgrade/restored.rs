//! The state of an earlier release, put into fresh servers as if they had been those of then.

use std::collections::BTreeMap;

use anyhow::Context as _;
use e2e::{ground::Ground, house::versions_of, stack::project_folder, tables};
use serde::Deserialize;
use serde_json::Value;
use sqlx::{Connection as _, PgConnection};

/// Which server this is, as a position names it.
const TIMELINE: &str = "SELECT system_identifier::text || '/1/' || (SELECT oid FROM pg_database WHERE datname = current_database()) || '/' || 'hfj_res_ver'::regclass::oid \
    FROM pg_control_system()";

/// A key of Redis.
#[derive(Debug, Deserialize)]
struct Key {
    #[serde(rename = "key")]
    name: String,
    kind: String,
    value: Vec<String>,
    milliseconds_left: i64,
}

/// What was written down.
pub(crate) struct Fixture {
    views: String,
    hapi: String,
    redis: String,
    /// What the views showed, and what is kept beside them, by name.
    pub(crate) shown: BTreeMap<String, String>,
}

/// The view of the fixture.
pub(crate) fn view() -> Value {
    versions_of("Patient", &[("family", "name.family"), ("active", "active")])
}

impl Fixture {
    pub(crate) fn read() -> anyhow::Result<Self> {
        let folder = project_folder().join("tests/fixtures/upgrade");
        let file = |name: &str| std::fs::read_to_string(folder.join(name)).with_context(|| name.to_owned());
        let mut shown: BTreeMap<String, String> = serde_json::from_str(&file("shown.json")?)?;
        shown.remove("release");
        Ok(Self {
            views: file("views.sql")?,
            hapi: file("hapi.sql")?,
            redis: file("redis.ndjson")?,
            shown,
        })
    }

    /// Puts all of it there. A position of the batch or the tail names the server that it was read from, and the numbers of its transactions: this server takes the place of that
    /// one, as after an upgrade in place.
    pub(crate) async fn restore(&self, ground: &Ground) -> anyhow::Result<()> {
        let mut hapi = PgConnection::connect(&ground.postgres.url("hapi")).await?;
        let (then, xmin) = self.position()?;
        let now: String = sqlx::query_scalar(TIMELINE).fetch_one(&mut hapi).await?;
        ground.restore("hapi", "hapi", &self.hapi)?;
        let restored: i64 = sqlx::query_scalar("SELECT pg_current_xact_id()::text::bigint")
            .fetch_one(&mut hapi)
            .await?;
        anyhow::ensure!(
            restored < xmin,
            "the fixture's transactions are not later than these"
        );
        for _ in restored..=xmin {
            sqlx::query("SELECT pg_current_xact_id()")
                .execute(&mut hapi)
                .await?;
        }
        ground.restore("refresher", "views", &self.views.replace(&then, &now))?;
        self.restore_redis(ground, &then, &now).await?;
        // Of what HAPI has committed since, two webhooks had come before.
        for id in ["p4", "p5"] {
            self.change(ground, id).await?;
        }
        Ok(())
    }

    /// The watermark's timeline, and its xmin.
    fn position(&self) -> anyhow::Result<(String, i64)> {
        let marker = "COPY sqlonfhir_meta.resource_type (";
        let (_, table) = self.views.split_once(marker).context("the watermarks")?;
        let mut lines = table.lines();
        let columns: Vec<&str> = lines
            .next()
            .context("columns")?
            .split(')')
            .next()
            .unwrap_or_default()
            .split(", ")
            .collect();
        let row: Vec<&str> = lines.next().context("a watermark")?.split('\t').collect();
        let of = |column: &str| {
            let place = columns.iter().position(|name| *name == column);
            place
                .and_then(|place| row.get(place))
                .copied()
                .with_context(|| column.to_owned())
        };
        Ok((
            of("published_timeline")?.to_owned(),
            of("published_xmin")?.parse()?,
        ))
    }

    async fn restore_redis(&self, ground: &Ground, then: &str, now: &str) -> anyhow::Result<()> {
        let mut redis = redis::Client::open(ground.redis.url())?
            .get_multiplexed_async_connection()
            .await?;
        for line in self.redis.lines() {
            let Key {
                name: key,
                kind,
                value,
                milliseconds_left,
            } = serde_json::from_str(&line.replace(then, now))?;
            let pairs = value.chunks(2);
            let mut put = match kind.as_str() {
                "string" => redis::cmd("SET"),
                "hash" => redis::cmd("HSET"),
                "list" => redis::cmd("RPUSH"),
                "set" => redis::cmd("SADD"),
                "zset" => redis::cmd("ZADD"),
                other => anyhow::bail!("{key} is a {other}"),
            };
            put.arg(&key);
            if kind == "zset" {
                for pair in pairs {
                    put.arg(pair.iter().rev().collect::<Vec<_>>());
                }
            } else {
                put.arg(&value);
            }
            put.query_async::<()>(&mut redis).await?;
            if milliseconds_left > 0 {
                redis::cmd("PEXPIRE")
                    .arg(&key)
                    .arg(milliseconds_left)
                    .query_async::<()>(&mut redis)
                    .await?;
            }
        }
        Ok(())
    }

    /// HAPI commits a second version.
    pub(crate) async fn change(&self, ground: &Ground, id: &str) -> anyhow::Result<()> {
        let mut hapi = ground.hapi.acquire().await?;
        // Row numbers of this program begin anew.
        tables::count_from(10_000);
        let (res_id, _) = tables::find(&mut hapi, id).await?.context("it is there")?;
        let version = tables::Version {
            resource_type: "Patient",
            id,
            version: 2,
            updated: tables::now(&mut hapi).await?,
            stored: Some(r#"{"resourceType":"Patient","active":true,"name":[{"family":"two"}]}"#),
        };
        tables::write(&mut hapi, Some(res_id), &version).await
    }

    /// Readings that the batch has not covered.
    pub(crate) async fn held(&self, ground: &Ground) -> anyhow::Result<u64> {
        let mut redis = redis::Client::open(ground.redis.url())?
            .get_multiplexed_async_connection()
            .await?;
        Ok(redis::cmd("ZCARD")
            .arg("fhir:held:Patient")
            .query_async(&mut redis)
            .await?)
    }
}
