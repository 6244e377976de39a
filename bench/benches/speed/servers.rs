//! What runs while the webhook is measured: the speed layer with all that it needs, as processes.

use std::{path::Path, process::Stdio, time::Duration};

use anyhow::{Context as _, ensure};
use e2e::{
    deadline,
    postgres::Postgres,
    process::{Daemon, Plan},
    redis::{Redis, Settings},
    server::{self, Lifetime},
};

use crate::{Arguments, load::Loaded, peer, slow::Slow};

/// HAPI's tables, as HAPI makes them; empty.
const SCHEMA: &str = include_str!("../../../tests/fixtures/hapi-8.8.0.sql");
const SECRET: &str = "bench";

pub(crate) struct Servers {
    pub(crate) fsync: String,
    pub(crate) redis: Redis,
    speed: Daemon,
    _batch: Daemon,
    _postgres: Postgres,
}

impl Servers {
    pub(crate) async fn start(fsync: &str) -> anyhow::Result<Self> {
        let options = vec![("appendfsync".to_owned(), fsync.to_owned())];
        let redis = Redis::start_with(Settings {
            options,
            lifetime: Lifetime::Program,
        })
        .await?;
        let postgres = Postgres::start().await?;
        let hapi = postgres.create_database("hapi").await?;
        let views = postgres.create_database("views").await?;
        postgres.execute("hapi", SCHEMA).await?;
        let folder = server::new_folder("daemons", None, Lifetime::Program)?;
        let definitions = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/views");
        let batch = Daemon::start(plan(
            "batch-refresher",
            &folder,
            &format!(
                "[hapi]\nurl = \"{hapi}\"\n[views]\nurl = \"{views}\"\nfolder = \"{definitions}\"\n[refresh]\ninterval_seconds = 3600\n"
            ),
        ))
        .await?;
        let speed = Daemon::start(plan(
            "speed-ingestor",
            &folder,
            &format!(
                "[webhook]\nlisten = \"{{http}}\"\nsecret = \"{SECRET}\"\n[redis]\nurl = \"{}\"\n[batch]\nurl = \"http://{}\"\n",
                redis.url(),
                batch.address("grpc")?
            ),
        ))
        .await?;
        Ok(Self {
            fsync: fsync.to_owned(),
            redis,
            speed,
            _batch: batch,
            _postgres: postgres,
        })
    }

    pub(crate) fn speed_grpc(&self) -> anyhow::Result<String> {
        self.speed.address("grpc")
    }

    /// Takes away what the other side left, and has Redis's file written anew: or else a round would pay for the keys that the one before it wrote.
    pub(crate) async fn settle(&self) -> anyhow::Result<()> {
        let client = redis::Client::open(format!("{}{}", self.redis.url(), peer::DATABASE))?;
        let connection = client.get_multiplexed_async_connection().await?;
        let ask = |command: &'static str| {
            let mut connection = connection.clone();
            async move {
                redis::cmd(command)
                    .query_async::<redis::Value>(&mut connection)
                    .await
            }
        };
        ask("FLUSHDB").await?;
        let settled = "Redis's file to be written anew";
        // One may be under way already.
        deadline::until_ok(settled, Duration::from_mins(1), || ask("BGREWRITEAOF")).await?;
        deadline::until(settled, Duration::from_mins(1), || async {
            let mut connection = connection.clone();
            let info: redis::InfoDict = redis::cmd("INFO")
                .arg("persistence")
                .query_async(&mut connection)
                .await
                .ok()?;
            let is_over = |name| info.get::<u8>(name) == Some(0);
            (is_over("aof_rewrite_in_progress") && is_over("aof_rewrite_scheduled")).then_some(())
        })
        .await
    }

    /// Connections that do not end what they begin.
    pub(crate) async fn slow(&self) -> anyhow::Result<Slow> {
        Slow::open(&self.speed.address("http")?, &format!("Bearer {SECRET}")).await
    }

    /// Sends webhooks from a process of its own.
    pub(crate) async fn load(
        &self,
        arguments: &Arguments,
        time: Duration,
        rate: Option<u64>,
    ) -> anyhow::Result<Loaded> {
        let mut command = tokio::process::Command::new(std::env::current_exe()?);
        command
            .arg("load")
            .args([self.speed.address("http")?, format!("Bearer {SECRET}")])
            .args([arguments.connections, arguments.bytes].map(|number| number.to_string()))
            .arg(time.as_millis().to_string())
            .args(rate.map(|rate| rate.to_string()))
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true);
        let before = [self.speed.pid(), self.redis.pid()].map(cpu_seconds);
        let output = command.spawn()?.wait_with_output().await?;
        let after = [self.speed.pid(), self.redis.pid()].map(cpu_seconds);
        ensure!(output.status.success(), "the load failed");
        let mut loaded: Loaded = serde_json::from_slice(&output.stdout)?;
        let [ingestor, redis] = [0, 1].map(|i| Some(after[i].as_ref().ok()? - before[i].as_ref().ok()?));
        loaded.ingestor_cpu_seconds = ingestor.context("the ingestor is gone")?;
        loaded.redis_cpu_seconds = redis.context("redis is gone")?;
        Ok(loaded)
    }
}

fn plan(name: &'static str, folder: &Path, config: &str) -> Plan {
    Plan {
        name,
        config: format!(
            "[daemon]\ngrpc_listen = \"{{grpc}}\"\nadmin_listen = \"{{admin}}\"\nlog = \"warn\"\n{config}"
        ),
        environment: Vec::new(),
        folder: folder.to_owned(),
        lifetime: Lifetime::Program,
    }
}

/// Seconds of processor time that a process has taken.
pub(crate) fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    /// The kernel's unit of these figures, on every Linux of today.
    const TICKS_A_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in brackets, may hold spaces.
    let (_, fields) = stat.rsplit_once(") ").context("no fields in /proc/<pid>/stat")?;
    let mut times = fields.split(' ').skip(11).take(2).map(str::parse::<f64>);
    match (times.next(), times.next()) {
        (Some(Ok(user)), Some(Ok(system))) => Ok((user + system) / TICKS_A_SECOND),
        _ => anyhow::bail!("no times in /proc/<pid>/stat"),
    }
}
