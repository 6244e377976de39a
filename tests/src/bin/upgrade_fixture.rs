//! Makes the fixture of the upgrade's test (`tests/fixtures/upgrade`) with the daemons of an earlier release, in all the states that an upgrade may meet:
//!
//! ```text
//! git archive <commit> | tar -x -C /tmp/earlier && (cd /tmp/earlier && cargo build --bins)
//! RESEARCHFLOW_BINARIES=/tmp/earlier/target/debug target/debug/upgrade_fixture <commit>
//! ```
//!
//! Written are the two databases as `pg_dump` has them, Redis' keys a line each, and what the views showed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use api::proto::batch::RefreshKind;
use e2e::ask::Reader;
use e2e::fhir::http_client;
use e2e::ground::Ground;
use e2e::house::{SECRET, versions_of};
use e2e::operate::Operator;
use e2e::process::{BINARIES, Daemon, Plan};
use e2e::server::{self, Lifetime};
use e2e::stack::project_folder;
use e2e::upgrade::{SHOWN, shown};
use e2e::{postgres, tables};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_mins(1);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let usage = "run: RESEARCHFLOW_BINARIES=<folder of the earlier daemons> upgrade_fixture <its commit>";
    anyhow::ensure!(std::env::var_os(BINARIES).is_some(), "{usage}");
    let release = std::env::args().nth(1).context(usage)?;
    let views = [versions_of(
        "Patient",
        &[("family", "name.family"), ("active", "active")],
    )];
    let ground = Ground::start(&views).await?;
    // Transactions of the test's server, which restores this, are to have lower numbers than those here.
    let mut hapi = ground.hapi.acquire().await?;
    for _ in 0..5_000 {
        sqlx::query("SELECT pg_current_xact_id()")
            .execute(&mut *hapi)
            .await?;
    }
    drop(hapi);
    let folder = project_folder().join("tests/fixtures/upgrade");
    std::fs::create_dir_all(&folder)?;
    Scene { ground, folder }.make(&release).await
}

struct Scene {
    ground: Ground,
    folder: PathBuf,
}

impl Scene {
    async fn make(self, release: &str) -> anyhow::Result<()> {
        for number in 1..=6 {
            self.write(&format!("p{number}"), Some(&patient("one"))).await?;
        }
        self.write(
            "two-families",
            Some(r#"{"resourceType":"Patient","name":[{"family":"a"},{"family":"b"}]}"#),
        )
        .await?;
        let mut batch = self.batch().await?;
        let operator = Operator::connect(&batch.address("grpc")?).await?;
        operator.all_active(SOON).await?;
        let mut speed = self.speed(&batch.address("grpc")?).await?;
        let mut serving = self
            .serving(&batch.address("grpc")?, &speed.address("grpc")?)
            .await?;
        let mut reader = Reader::connect(&self.ground.url_as("analyst", "views")).await?;

        // Was live, and is covered by the batch.
        self.write("p3", Some(&patient("two"))).await?;
        self.until(&mut reader, "p3", "2").await?;
        operator.refresh(&["Patient"], RefreshKind::Incremental).await?;
        // Live: over a row of the batch, a deletion, without a row of the batch.
        self.write("p1", Some(&patient("two"))).await?;
        self.write("p2", None).await?;
        self.write("p7", Some(&patient("one"))).await?;
        self.until(&mut reader, "p1", "2").await?;
        self.until(&mut reader, "p7", "1").await?;
        let gone = "SELECT count(*) FROM sqlonfhir.patient_versions WHERE id = 'p2'";
        reader.until(gone, SOON, |count| count == Some("0")).await?;
        // A preview that is shown and not confirmed: nobody reads HAPI any more.
        batch.terminate(SOON).await?;
        // One that is dated so near to what was read last that two clocks could mistake it is not shown.
        let later = "SELECT clock_timestamp() > as_of + interval '2 seconds' FROM sqlonfhir.freshness";
        reader.until(later, SOON, |later| later == Some("true")).await?;
        self.tell(&speed, "p4", "two").await?;
        self.until(&mut reader, "p4", "2").await?;
        // One that was acknowledged, and that nobody has merged yet.
        serving.terminate(SOON).await?;
        self.tell(&speed, "p5", "two").await?;
        speed.terminate(SOON).await?;

        let mut owner = Reader::connect(&self.ground.url_as("refresher", "views")).await?;
        let mut seen = BTreeMap::new();
        for (name, select) in SHOWN {
            seen.insert(name, shown(&mut owner, select).await?);
        }
        seen.insert("release", release.to_owned());
        std::fs::write(
            self.folder.join("shown.json"),
            serde_json::to_string_pretty(&seen)? + "\n",
        )?;
        self.dump("views", &["--no-owner", "--schema=sqlonfhir*"])?;
        self.dump("hapi", &["--data-only", "--inserts", "--table=hfj_*"])?;
        let redis = self.redis().await?;
        std::fs::write(self.folder.join("redis.ndjson"), redis)?;
        Ok(())
    }

    async fn until(&self, reader: &mut Reader, id: &str, version: &str) -> anyhow::Result<()> {
        let select = format!("SELECT version FROM sqlonfhir.patient_versions WHERE id = '{id}'");
        reader
            .until(&select, SOON, |shown| shown == Some(version))
            .await?;
        Ok(())
    }

    async fn write(&self, id: &str, stored: Option<&str>) -> anyhow::Result<()> {
        let mut hapi = self.ground.hapi.acquire().await?;
        let found = tables::find(&mut hapi, id).await?;
        let version = tables::Version {
            resource_type: "Patient",
            id,
            version: found.map_or(1, |(_, version)| version + 1),
            updated: tables::now(&mut hapi).await?,
            stored,
        };
        tables::write(&mut hapi, found.map(|(res_id, _)| res_id), &version).await
    }

    /// The webhook of a second version.
    async fn tell(&self, speed: &Daemon, id: &str, family: &str) -> anyhow::Result<()> {
        let url = format!("http://{}/fhir/Patient/{id}", speed.address("http")?);
        let mut body: Value = serde_json::from_str(&patient(family))?;
        body["id"] = json!(id);
        let mut hapi = self.ground.hapi.acquire().await?;
        let updated = tables::now(&mut hapi).await?.and_utc().to_rfc3339();
        body["meta"] = json!({"versionId": "2", "lastUpdated": updated});
        let request = http_client()?
            .put(url)
            .bearer_auth(SECRET)
            .header("content-type", "application/fhir+json");
        request.body(body.to_string()).send().await?.error_for_status()?;
        Ok(())
    }

    async fn batch(&self) -> anyhow::Result<Daemon> {
        let config = format!(
            "[hapi]\nurl = \"{}\"\n[views]\nurl = \"{}\"\nfolder = \"{}\"\n[refresh]\ninterval_seconds = 0\n",
            self.ground.url_as("refresher", "hapi"),
            self.ground.url_as("refresher", "views"),
            self.ground.folder().join("views").display(),
        );
        self.start("batch-refresher", config).await
    }

    async fn speed(&self, batch: &str) -> anyhow::Result<Daemon> {
        let config = format!(
            "[webhook]\nlisten = \"{{http}}\"\nsecret = \"{SECRET}\"\n[redis]\nurl = \"{}\"\n[batch]\nurl = \"http://{batch}\"\n",
            self.ground.redis.url(),
        );
        self.start("speed-ingestor", config).await
    }

    async fn serving(&self, batch: &str, speed: &str) -> anyhow::Result<Daemon> {
        let config = format!(
            "[views]\nurl = \"{}\"\n[services]\nbatch = \"http://{batch}\"\nspeed = \"http://{speed}\"\n",
            self.ground.url_as("gateway", "views"),
        );
        self.start("serving-gateway", config).await
    }

    async fn start(&self, name: &'static str, config: String) -> anyhow::Result<Daemon> {
        let folder = self.ground.folder().join(name);
        std::fs::create_dir_all(&folder)?;
        Daemon::start(Plan {
            name,
            config: format!("[daemon]\ngrpc_listen = \"{{grpc}}\"\nadmin_listen = \"{{admin}}\"\n{config}"),
            environment: Vec::new(),
            folder,
            lifetime: Lifetime::Program,
        })
        .await
    }

    fn dump(&self, database: &str, options: &[&str]) -> anyhow::Result<()> {
        let mut command = Command::new(postgres::binaries()?.join("pg_dump"));
        command.args(options).arg(self.ground.postgres.url(database));
        let dump = server::run(&mut command)?;
        // Keys of psql that keep a dump from running other commands differ each time.
        let lines = dump.lines().filter(|line| {
            !(line.is_empty()
                || line.starts_with("--")
                || line.starts_with("\\restrict")
                || line.starts_with("\\unrestrict"))
        });
        let text: Vec<&str> = lines.collect();
        std::fs::write(
            self.folder.join(format!("{database}.sql")),
            text.join("\n") + "\n",
        )?;
        Ok(())
    }

    /// Every key: its name, kind, value and what is left of its time.
    async fn redis(&self) -> anyhow::Result<String> {
        let client = redis::Client::open(self.ground.redis.url())?;
        let mut redis = client.get_multiplexed_async_connection().await?;
        let mut keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut redis).await?;
        keys.sort();
        let mut lines = String::new();
        for key in keys {
            let kind: String = redis::cmd("TYPE").arg(&key).query_async(&mut redis).await?;
            let read = match kind.as_str() {
                "string" => redis::cmd("GET").arg(&key).to_owned(),
                "hash" => redis::cmd("HGETALL").arg(&key).to_owned(),
                "list" => redis::cmd("LRANGE").arg(&key).arg(0).arg(-1).to_owned(),
                "set" => redis::cmd("SMEMBERS").arg(&key).to_owned(),
                "zset" => redis::cmd("ZRANGE")
                    .arg(&key)
                    .arg(0)
                    .arg(-1)
                    .arg("WITHSCORES")
                    .to_owned(),
                other => anyhow::bail!("{key} is a {other}"),
            };
            let value: Value = if kind == "string" {
                json!([read.query_async::<String>(&mut redis).await?])
            } else {
                json!(read.query_async::<Vec<String>>(&mut redis).await?)
            };
            let left: i64 = redis::cmd("PTTL").arg(&key).query_async(&mut redis).await?;
            lines +=
                &json!({"key": key, "kind": kind, "value": value, "milliseconds_left": left}).to_string();
            lines.push('\n');
        }
        Ok(lines)
    }
}

fn patient(family: &str) -> String {
    json!({"resourceType": "Patient", "active": true, "name": [{"family": family}]}).to_string()
}
