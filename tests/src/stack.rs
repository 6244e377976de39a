//! The whole installation: PostgreSQL with two databases and four roles, Redis, HAPI, and the three daemons, each with the least rights that it needs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::hapi::{self, Hapi};
use crate::postgres::{self, Auth, Postgres};
use crate::process::{Daemon, Plan};
use crate::redis::{self, Redis};
use crate::rights;
use crate::server::{self, Lifetime};

/// How a stack is set up.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long it may live.
    pub lifetime: Lifetime,
    /// How often HAPI drains its outbox of webhooks; none keeps HAPI's default, 5 s.
    pub polling: Option<Duration>,
    /// Seconds between two refreshes that come by themselves; 0 for none.
    pub refresh_interval_seconds: u32,
    /// Folder of the ViewDefinitions.
    pub views: PathBuf,
    /// Folder for configurations and logs of the daemons; none for a new one.
    pub folder: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            lifetime: Lifetime::Program,
            polling: None,
            refresh_interval_seconds: 0,
            views: project_folder().join("deploy/views"),
            folder: None,
        }
    }
}

/// The folder of the project.
pub fn project_folder() -> &'static Path {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests)
}

/// Where everything is reached.
#[derive(Debug, Clone)]
pub struct Endpoints {
    /// Base URL of HAPI's REST API.
    pub hapi: String,
    /// HAPI's database, as the role that reads it.
    pub hapi_db: String,
    /// The views' database, as a reader.
    pub views_db: String,
    /// Redis.
    pub redis: String,
    /// Base URL that HAPI's webhooks are sent to.
    pub webhook: String,
    /// The secret that they carry.
    pub webhook_secret: String,
    /// BatchService, `host:port`.
    pub batch_grpc: String,
    /// SpeedService, `host:port`.
    pub speed_grpc: String,
    /// ServingService, `host:port`.
    pub serving_grpc: String,
    /// HTTP of the serving gateway, `http://host:port`.
    pub serving_http: String,
}

impl Endpoints {
    /// As a file that a shell can source.
    pub fn as_env(&self) -> String {
        [
            ("HAPI_URL", &self.hapi),
            ("HAPI_DB_URL", &self.hapi_db),
            ("VIEWS_DB_URL", &self.views_db),
            ("REDIS_URL", &self.redis),
            ("WEBHOOK_URL", &self.webhook),
            ("WEBHOOK_SECRET", &self.webhook_secret),
            ("BATCH_GRPC", &self.batch_grpc),
            ("SPEED_GRPC", &self.speed_grpc),
            ("SERVING_GRPC", &self.serving_grpc),
            ("SERVING_HTTP", &self.serving_http),
        ]
        .iter()
        .fold(String::new(), |text, (name, value)| {
            text + &format!("export {name}='{value}'\n")
        })
    }
}

/// Servers without a daemon yet: PostgreSQL, Redis and HAPI.
#[derive(Debug)]
pub struct Servers {
    /// PostgreSQL with the databases `hapi` and `views`.
    pub postgres: Postgres,
    /// Redis.
    pub redis: Redis,
    /// HAPI.
    pub hapi: Hapi,
    password: String,
}

impl Servers {
    /// Starts them.
    pub async fn start(options: &Options) -> anyhow::Result<Self> {
        let password = secret()?;
        let postgres = postgres::Settings {
            auth: Auth::Scram,
            fsync: true,
            lifetime: options.lifetime,
            ..postgres::Settings::default()
        };
        let redis = redis::Settings {
            lifetime: options.lifetime,
            ..redis::Settings::default()
        };
        let (postgres, redis) = tokio::try_join!(Postgres::start_with(postgres), Redis::start_with(redis))?;
        rights::create_databases(&postgres, &password)?;
        let database = hapi::Database {
            port: postgres.port(),
            name: "hapi".to_owned(),
            user: "hapi".to_owned(),
            password: password.clone(),
        };
        let settings = hapi::Settings {
            polling: options.polling,
            lifetime: options.lifetime,
            ..hapi::Settings::default()
        };
        let hapi = Hapi::start(&database, &settings).await?;
        Ok(Self {
            postgres,
            redis,
            hapi,
            password,
        })
    }

    /// URL of a database as one of the roles `hapi`, `refresher`, `gateway`, `analyst`.
    pub fn url_as(&self, role: &str, database: &str) -> String {
        self.postgres.url_as(role, &self.password, database)
    }
}

/// The whole installation, running.
#[derive(Debug)]
pub struct Stack {
    /// What the daemons stand on.
    pub servers: Servers,
    /// batch-refresher.
    pub batch: Daemon,
    /// speed-ingestor.
    pub speed: Daemon,
    /// serving-gateway.
    pub serving: Daemon,
    /// Folder with the daemons' configurations and logs.
    pub folder: PathBuf,
    secret: String,
}

impl Stack {
    /// Starts everything; ready when this returns.
    pub async fn start(options: &Options) -> anyhow::Result<Self> {
        let servers = Servers::start(options).await?;
        Self::start_daemons(servers, options).await
    }

    /// Starts the daemons over servers that run.
    pub async fn start_daemons(servers: Servers, options: &Options) -> anyhow::Result<Self> {
        let folder = match &options.folder {
            Some(folder) => folder.clone(),
            None => server::new_folder("daemons", None, options.lifetime)?,
        };
        let secret = secret()?;
        let plan = |name, config| Plan {
            name,
            config,
            environment: Vec::new(),
            folder: folder.clone(),
            lifetime: options.lifetime,
        };
        let batch = Daemon::start(plan("batch-refresher", batch_config(&servers, options))).await?;
        let batch_grpc = batch.address("grpc")?;
        let speed = Daemon::start(plan(
            "speed-ingestor",
            speed_config(&servers, &batch_grpc, &secret),
        ))
        .await?;
        let speed_grpc = speed.address("grpc")?;
        let serving = Daemon::start(plan(
            "serving-gateway",
            serving_config(&servers, &batch_grpc, &speed_grpc),
        ))
        .await?;
        Ok(Self {
            servers,
            batch,
            speed,
            serving,
            folder,
            secret,
        })
    }

    /// Where everything is reached.
    pub fn endpoints(&self) -> anyhow::Result<Endpoints> {
        Ok(Endpoints {
            hapi: self.servers.hapi.url(),
            hapi_db: self.servers.url_as("refresher", "hapi"),
            views_db: self.servers.url_as("analyst", "views"),
            redis: self.servers.redis.url(),
            webhook: format!("http://{}/fhir", self.speed.address("http")?),
            webhook_secret: self.secret.clone(),
            batch_grpc: self.batch.address("grpc")?,
            speed_grpc: self.speed.address("grpc")?,
            serving_grpc: self.serving.address("grpc")?,
            serving_http: format!("http://{}", self.serving.address("http")?),
        })
    }

    /// Starts a further serving-gateway over the same databases and daemons; it ends with this program.
    pub async fn another_gateway(&self) -> anyhow::Result<Daemon> {
        let (batch_grpc, speed_grpc) = (self.batch.address("grpc")?, self.speed.address("grpc")?);
        Daemon::start(Plan {
            name: "serving-gateway",
            config: serving_config(&self.servers, &batch_grpc, &speed_grpc),
            environment: Vec::new(),
            folder: server::new_folder("gateway", None, Lifetime::Program)?,
            lifetime: Lifetime::Program,
        })
        .await
    }

    /// Process ids of everything, by name.
    pub fn pids(&self) -> Vec<(&'static str, u32)> {
        vec![
            ("serving-gateway", self.serving.pid()),
            ("speed-ingestor", self.speed.pid()),
            ("batch-refresher", self.batch.pid()),
            ("hapi", self.servers.hapi.pid()),
            ("redis", self.servers.redis.pid()),
            ("postgresql", self.servers.postgres.pid()),
        ]
    }

    /// Stops the daemons as an operator does; fails if one does not end by itself, with exit code 0, within 5 s.
    pub async fn stop_daemons(&mut self) -> anyhow::Result<()> {
        for daemon in [&mut self.serving, &mut self.speed, &mut self.batch] {
            let status = daemon.terminate(Duration::from_secs(5)).await?;
            anyhow::ensure!(status.success(), "a daemon ended with {status} after SIGTERM");
        }
        Ok(())
    }
}

const DAEMON: &str = "[daemon]\ngrpc_listen = \"{grpc}\"\nadmin_listen = \"{admin}\"\n";

fn batch_config(servers: &Servers, options: &Options) -> String {
    format!(
        "{DAEMON}\n[hapi]\nurl = \"{}\"\n\n[views]\nurl = \"{}\"\nfolder = \"{}\"\n\n[refresh]\ninterval_seconds = {}\n",
        servers.url_as("refresher", "hapi"),
        servers.url_as("refresher", "views"),
        options.views.display(),
        options.refresh_interval_seconds,
    )
}

fn speed_config(servers: &Servers, batch_grpc: &str, secret: &str) -> String {
    format!(
        "{DAEMON}\n[webhook]\nlisten = \"{{http}}\"\nsecret = \"{secret}\"\n\n[redis]\nurl = \"{}\"\n\n[batch]\nurl = \"http://{batch_grpc}\"\n\n[hapi]\nurl = \"{}\"\n",
        servers.redis.url(),
        servers.hapi.url(),
    )
}

fn serving_config(servers: &Servers, batch_grpc: &str, speed_grpc: &str) -> String {
    format!(
        "{DAEMON}\n[http]\nlisten = \"{{http}}\"\n\n[views]\nurl = \"{}\"\n\n[sql]\nurl = \"{}\"\n\n[services]\nbatch = \"http://{batch_grpc}\"\nspeed = \"http://{speed_grpc}\"\n",
        servers.url_as("gateway", "views"),
        servers.url_as("analyst", "views"),
    )
}

/// A password or shared secret that nobody can guess.
fn secret() -> anyhow::Result<String> {
    use std::io::Read;
    let mut bytes = [0_u8; 16];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}
