//! An installation without a HAPI: HAPI's tables are written by SQL, everything behind them is real.
//!
//! ```text
//! test ──SQL──► PostgreSQL (hapi) ──► batch-refresher ──► PostgreSQL (views) ◄── serving-gateway
//!   └──webhooks──► speed-ingestor ◄── ReadChanges ──┘  └──► Redis                      ▲
//!                         └──────────────────────── Changes ───────────────────────────┘
//! ```
//!
//! A test that takes steps one by one starts no more than PostgreSQL, Redis and batch-refresher, and plays the other parts itself.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use api::proto::speed::{
    ScanRecentResourcesRequest, scan_recent_resources_response::Part,
    speed_service_client::SpeedServiceClient,
};
use serde_json::{Value, json};
use sqlx::PgPool;
use tonic::{Request, transport::Channel};

use crate::{
    ask::{Asker, channel},
    deadline,
    operate::Operator,
    postgres::Postgres,
    process::{Daemon, Plan},
    redis::Redis,
    server::{self, Lifetime},
    tables,
};

/// The webhook's secret.
pub const SECRET: &str = "s3cret";

/// PostgreSQL with HAPI's tables and the views' database, Redis, and batch-refresher, which refreshes on demand.
#[derive(Debug)]
pub struct House {
    /// batch-refresher.
    pub batch: Daemon,
    /// Redis.
    pub redis: Redis,
    /// Writes HAPI's tables.
    pub hapi: PgPool,
    /// The views' database, as its owner.
    pub views_url: String,
    /// What batch-refresher was told.
    pub batch_config: String,
    folder: PathBuf,
    /// Last, so that it ends last.
    _postgres: Postgres,
}

/// A ViewDefinition with the id and version of each resource, and further columns.
pub fn versions_of(resource_type: &str, further: &[(&str, &str)]) -> Value {
    let columns = [("id", "getResourceKey()"), ("version", "meta.versionId")];
    let columns: Vec<Value> = columns
        .iter()
        .chain(further)
        .map(|(name, path)| json!({"name": name, "path": path}))
        .collect();
    json!({
        "resourceType": "ViewDefinition", "name": view_of(resource_type), "status": "active",
        "resource": resource_type, "select": [{"column": columns}],
    })
}

/// The name of that view.
pub fn view_of(resource_type: &str) -> String {
    format!("{}_versions", resource_type.to_lowercase())
}

const DAEMON: &str = "[daemon]\ngrpc_listen = \"{grpc}\"\nadmin_listen = \"{admin}\"\n";

impl House {
    /// Writes a patient, and waits until the speed layer holds it. `authorization`: what that layer is shown, where it asks.
    pub async fn hold_patient(&self, speed: Channel, authorization: Option<&str>) -> anyhow::Result<()> {
        tables::write_patient(&self.hapi, "a", "female").await?;
        let client = SpeedServiceClient::new(speed);
        deadline::until("the speed layer to hold it", Duration::from_secs(30), || async {
            let mut request = Request::new(ScanRecentResourcesRequest {
                resource_type: "Patient".into(),
                ..Default::default()
            });
            if let Some(shown) = authorization {
                request
                    .metadata_mut()
                    .insert("authorization", shown.parse().ok()?);
            }
            let found = client.clone().scan_recent_resources(request).await;
            let first = found.ok()?.into_inner().message().await.ok()??;
            matches!(first.part, Some(Part::State(_))).then_some(())
        })
        .await
    }

    /// With these views, materialised over an empty HAPI. `hapi_settings`: statements that make the clock of HAPI's database a played one, say.
    pub async fn start(views: &[Value], hapi_settings: &str) -> anyhow::Result<Self> {
        let (postgres, redis) = tokio::try_join!(Postgres::start(), Redis::start())?;
        let hapi_url = tables::create(&postgres).await?;
        postgres.execute("hapi", hapi_settings).await?;
        let views_url = postgres.create_database("views").await?;
        let roles = "CREATE ROLE researchflow_merger NOLOGIN; CREATE ROLE researchflow_reader NOLOGIN; \
                     CREATE ROLE gateway LOGIN IN ROLE researchflow_merger";
        postgres.execute("postgres", roles).await?;
        let folder = server::new_folder("house", None, Lifetime::Program)?;
        let definitions = folder.join("views");
        std::fs::create_dir(&definitions)?;
        for view in views {
            let name = view["name"].as_str().context("a view has a name")?;
            std::fs::write(definitions.join(format!("{name}.json")), view.to_string())?;
        }
        let config = format!(
            "{DAEMON}[hapi]\nurl = \"{}\"\n[views]\nurl = \"{views_url}\"\nfolder = \"{}\"\n\
             [refresh]\ninterval_seconds = 0\n[reconcile]\ncron = \"\"\n",
            postgres.url_as("source", "", "hapi"),
            definitions.display(),
        );
        let batch = start("batch-refresher", config.clone(), &folder).await?;
        let house = Self {
            hapi: PgPool::connect(&hapi_url).await?,
            redis,
            views_url,
            batch_config: config,
            folder,
            batch,
            _postgres: postgres,
        };
        house
            .operator()
            .await?
            .all_active(std::time::Duration::from_secs(30))
            .await?;
        Ok(house)
    }

    /// A client of BatchService.
    pub async fn operator(&self) -> anyhow::Result<Operator> {
        Operator::connect(&self.batch.address("grpc")?).await
    }

    /// speed-ingestor over it, with further lines of configuration.
    pub async fn speed(&self, further: &str) -> anyhow::Result<Daemon> {
        let config = format!(
            "{DAEMON}[webhook]\nlisten = \"{{http}}\"\nsecret = \"{SECRET}\"\n[redis]\nurl = \"{}\"\n[batch]\nurl = \"http://{}\"\n{further}",
            self.redis.url(),
            self.batch.address("grpc")?,
        );
        start("speed-ingestor", config, &self.folder).await
    }

    /// serving-gateway over both, which calls the speed layer behind after a second.
    pub async fn serving(&self, speed: &Daemon) -> anyhow::Result<Daemon> {
        let config = format!(
            "{DAEMON}[http]\nlisten = \"{{http}}\"\n[views]\nurl = \"{}\"\n[services]\nbatch = \"http://{}\"\nspeed = \"http://{}\"\n\
             [degradation]\nspeed_behind_seconds = 1\n",
            self.views_url,
            self.batch.address("grpc")?,
            speed.address("grpc")?,
        );
        start("serving-gateway", config, &self.folder).await
    }
}

async fn start(name: &'static str, config: String, folder: &Path) -> anyhow::Result<Daemon> {
    Daemon::start(Plan {
        name,
        config,
        environment: Vec::new(),
        folder: folder.to_owned(),
        lifetime: Lifetime::Program,
    })
    .await
}

/// A client of a daemon's SpeedService. It connects when first used, and again after a break.
pub fn speed_client(speed: &Daemon) -> anyhow::Result<SpeedServiceClient<Channel>> {
    let address = format!("http://{}", speed.address("grpc")?);
    Ok(SpeedServiceClient::new(
        tonic::transport::Endpoint::from_shared(address)?.connect_lazy(),
    ))
}

/// A channel to a daemon's gRPC.
pub async fn grpc(daemon: &Daemon) -> anyhow::Result<Channel> {
    channel(&daemon.address("grpc")?).await
}

/// Whoever asks the gateway.
pub async fn asker(serving: &Daemon) -> anyhow::Result<Asker> {
    Asker::connect(&serving.address("grpc")?).await
}

/// How often the long form of a test does what it does: `name` in the environment, else `default`.
///
/// # Panics
///
/// If what is in the environment is no number.
pub fn times(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name}={text} is no number")),
        Err(_) => default,
    }
}
