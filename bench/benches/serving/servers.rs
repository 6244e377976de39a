//! What runs while the gateway is measured, and the views' rows.

use std::{path::Path, time::Duration};

use api::proto::serving::{
    ClearViewCacheRequest, GetStatisticsRequest, serving_service_client::ServingServiceClient,
};
use e2e::{
    deadline,
    postgres::{Auth, Postgres, Settings},
    process::{Daemon, Plan},
    redis::{Redis, Settings as RedisSettings},
    server::{self, Lifetime},
    tables,
};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tonic::transport::Channel;

use crate::{Arguments, hapi::Hapi};

pub(crate) const SECRET: &str = "bench";
/// How long the start of the live rows, or all of a load, may take.
const PATIENCE: Duration = Duration::from_mins(5);
/// Versions that HAPI commits at once, and that the tail takes as they are: more would be a bulk load, which goes another way.
pub(crate) const AT_ONCE: i64 = 2_000;

pub(crate) struct Servers {
    pub(crate) postgres: Postgres,
    pub(crate) hapi_url: String,
    pub(crate) gateway: Daemon,
    pub(crate) speed: Daemon,
    _batch: Daemon,
    _redis: Redis,
}

impl Servers {
    pub(crate) async fn start(arguments: &Arguments) -> anyhow::Result<Self> {
        let options = vec![("appendfsync".to_owned(), "everysec".to_owned())];
        let redis = Redis::start_with(RedisSettings {
            options,
            lifetime: Lifetime::Program,
        })
        .await?;
        let options = [
            ("shared_buffers", "4GB"),
            ("max_wal_size", "8GB"),
            ("checkpoint_timeout", "30min"),
            ("maintenance_work_mem", "512MB"),
            ("max_connections", "300"),
            ("autovacuum", "off"),
        ];
        let postgres = Postgres::start_with(Settings {
            auth: Auth::Trust,
            options: options
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            fsync: true,
            lifetime: Lifetime::Program,
        })
        .await?;
        let hapi_url = tables::create(&postgres).await?;
        let views = postgres.create_database("views").await?;
        let folder = server::new_folder("daemons", None, Lifetime::Program)?;
        let definitions = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/views");
        let batch = Daemon::start(plan(
            "batch-refresher",
            &folder,
            &format!(
                "[hapi]\nurl = \"{}\"\n[views]\nurl = \"{views}\"\nfolder = \"{definitions}\"\n[refresh]\ninterval_seconds = 3600\n",
                postgres.url_as("source", "", "hapi")
            ),
        ))
        .await?;
        let mut connection = PgConnection::connect(&views).await?;
        deadline::until("all views to be active", PATIENCE, || {
            let views = views.clone();
            async move {
                let mut connection = PgConnection::connect(&views).await.ok()?;
                let waiting: i64 =
                    sqlx::query_scalar("SELECT count(*) FROM sqlonfhir_meta.view WHERE state <> 'active'")
                        .fetch_one(&mut connection)
                        .await
                        .ok()?;
                (waiting == 0).then_some(())
            }
        })
        .await?;
        fill(&mut connection, arguments).await?;
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
        let gateway = Daemon::start(plan(
            "serving-gateway",
            &folder,
            &format!(
                "[http]\nlisten = \"{{http}}\"\n[views]\nurl = \"{views}\"\nmax_connections = 60\n[services]\nspeed = \"http://{}\"\nbatch = \"http://{}\"\n",
                speed.address("grpc")?,
                batch.address("grpc")?
            ),
        ))
        .await?;
        let servers = Self {
            postgres,
            hapi_url,
            gateway,
            speed,
            _batch: batch,
            _redis: redis,
        };
        servers.make_live(arguments).await?;
        settle(&mut connection).await?;
        Ok(servers)
    }

    pub(crate) async fn views(&self) -> anyhow::Result<PgConnection> {
        Ok(PgConnection::connect(&self.postgres.url("views")).await?)
    }

    pub(crate) async fn channel(&self) -> anyhow::Result<Channel> {
        Ok(
            Channel::from_shared(format!("http://{}", self.gateway.address("grpc")?))?
                .tcp_nodelay(true)
                .connect()
                .await?,
        )
    }

    pub(crate) async fn client(&self) -> anyhow::Result<ServingServiceClient<Channel>> {
        Ok(ServingServiceClient::new(self.channel().await?))
    }

    /// Changes that this gateway has applied since it was started.
    pub(crate) async fn applied(&self) -> anyhow::Result<i64> {
        let mut client = self.client().await?;
        let statistics = client.get_statistics(GetStatisticsRequest {}).await?;
        Ok(statistics.into_inner().changes_applied)
    }

    /// Waits until so many resources are live.
    pub(crate) async fn until_live(&self, wanted: i64) -> anyhow::Result<()> {
        let url = self.postgres.url("views");
        deadline::until("resources to be live", PATIENCE, || {
            let url = url.clone();
            async move {
                let mut connection = PgConnection::connect(&url).await.ok()?;
                let live: i64 =
                    sqlx::query_scalar("SELECT count(*) FROM sqlonfhir_meta.ledger WHERE layer = 'live'")
                        .fetch_one(&mut connection)
                        .await
                        .ok()?;
                (live >= wanted).then_some(())
            }
        })
        .await
    }

    async fn make_live(&self, arguments: &Arguments) -> anyhow::Result<()> {
        let mut client = self.client().await?;
        client.clear_view_cache(ClearViewCacheRequest {}).await?;
        let mut hapi = Hapi::connect(&self.hapi_url).await?;
        hapi.begin().await?;
        for number in 0..arguments.live {
            // All over the table.
            hapi.patient(number * (arguments.patients / arguments.live) + 1, "1990-01-01")
                .await?;
            hapi.observation(number * (arguments.observations / arguments.live) + 1)
                .await?;
        }
        hapi.commit().await?;
        self.until_live(2 * arguments.live).await
    }
}

/// Rows as the batch would have published them. What they are of is not in HAPI's tables, where only what changes is looked for.
async fn fill(connection: &mut PgConnection, arguments: &Arguments) -> anyhow::Result<()> {
    println!(
        "{} patients, {} observations, {} of each live; {} cores",
        arguments.patients,
        arguments.observations,
        arguments.live,
        std::thread::available_parallelism()?
    );
    let patients = format!(
        "INSERT INTO sqlonfhir_base.patient_simple (_rid, _version, _updated, _row, id, gender, birth_date, active, deceased) \
         SELECT 'p' || i, 1, '2026-01-01'::timestamptz, 0, 'p' || i, CASE i % 2 WHEN 0 THEN 'male' ELSE 'female' END, \
         ('1930-01-01'::date + (i * 7919 % 30000)::int)::text, true, false FROM generate_series(1::bigint, {}) i",
        arguments.patients
    );
    let observations = format!(
        "INSERT INTO sqlonfhir_base.observation_lab (_rid, _version, _updated, _row, id, patient_id, status, effective, value, unit, system, code) \
         SELECT 'o' || i, 1, '2026-01-01'::timestamptz, 0, 'o' || i, 'p' || (i * 7919 % {} + 1), 'final', '2026-01-01T08:00:00Z', \
         (i % 1000)::numeric / 10, 'mg/dL', 'http://loinc.org', (i % 50)::text || '-1' FROM generate_series(1::bigint, {}) i",
        arguments.patients, arguments.observations
    );
    for sql in [patients, observations] {
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&mut *connection)
            .await?;
    }
    settle(connection).await
}

/// What was written is not for what is measured to tidy up.
async fn settle(connection: &mut PgConnection) -> anyhow::Result<()> {
    for sql in ["VACUUM ANALYZE", "CHECKPOINT"] {
        sqlx::raw_sql(sql).execute(&mut *connection).await?;
    }
    Ok(())
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
