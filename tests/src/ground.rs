//! An installation without a HAPI, daemon by daemon and as many of each as a test likes: databases and logins by the operator's script, HAPI's tables written by SQL as HAPI's own
//! login does, Redis. What a test does not say of a daemon's configuration is as delivered.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::Value;
use sqlx::{PgPool, postgres::PgPoolOptions};

use crate::house::SECRET;
use crate::postgres::{self, Auth, Postgres};
use crate::process::{Daemon, Plan};
use crate::redis::{self, Redis};
use crate::server::{self, Lifetime};
use crate::{rights, tables};

/// The password of all logins.
const PASSWORD: &str = "a-password";

/// What daemons stand on.
#[derive(Debug)]
pub struct Ground {
    /// Writes HAPI's tables, as HAPI's login.
    pub hapi: PgPool,
    /// Redis.
    pub redis: Redis,
    /// PostgreSQL with the databases `hapi` and `views`. Last, so that it ends last.
    pub postgres: Postgres,
    folder: PathBuf,
}

/// Variables of a daemon's configuration: `RF_BATCH__REFRESH__INTERVAL_SECONDS`, `1`.
pub type Variables<'a> = &'a [(&'a str, &'a str)];

impl Ground {
    /// With HAPI's tables, empty, and a folder of these ViewDefinitions.
    pub async fn start(views: &[Value]) -> anyhow::Result<Self> {
        let postgres = postgres::Settings {
            auth: Auth::Scram,
            // Default of PostgreSQL: prepared transactions are none of ours.
            options: vec![("max_prepared_transactions".to_owned(), "0".to_owned())],
            ..postgres::Settings::default()
        };
        let redis = redis::Settings::default();
        let (postgres, redis) = tokio::try_join!(Postgres::start_with(postgres), Redis::start_with(redis))?;
        rights::create_databases(&postgres, PASSWORD)?;
        let hapi = PgPoolOptions::new()
            .max_connections(8)
            .connect(&postgres.url_as("hapi", PASSWORD, "hapi"))
            .await?;
        tables::make(&mut *hapi.acquire().await?).await?;
        let folder = server::new_folder("ground", None, Lifetime::Program)?;
        std::fs::create_dir(folder.join("views"))?;
        let ground = Self {
            hapi,
            redis,
            postgres,
            folder,
        };
        for view in views {
            let name = view["name"].as_str().context("a view has a name")?;
            ground.put_view_file(name, &view.to_string())?;
        }
        Ok(ground)
    }

    /// Writes a file of the folder of ViewDefinitions.
    pub fn put_view_file(&self, name: &str, text: &str) -> anyhow::Result<()> {
        std::fs::write(self.folder.join("views").join(format!("{name}.json")), text)?;
        Ok(())
    }

    /// The folder of this installation's files.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Runs a dump in a database, as one of the logins.
    pub fn restore(&self, login: &str, database: &str, dump: &str) -> anyhow::Result<()> {
        let file = self.folder.join(format!("{database}.sql"));
        std::fs::write(&file, dump)?;
        rights::run_dump(&self.url_as(login, database), &file)
    }

    /// URL of a database as one of the logins `hapi`, `refresher`, `gateway`, `analyst`.
    pub fn url_as(&self, login: &str, database: &str) -> String {
        self.postgres.url_as(login, PASSWORD, database)
    }

    /// A batch-refresher that refreshes and reconciles on demand, unless its variables say otherwise.
    pub async fn batch(&self, replica: &str, variables: Variables<'_>) -> anyhow::Result<Daemon> {
        let config = format!(
            "[hapi]\nurl = \"{}\"\n[views]\nurl = \"{}\"\nfolder = \"{}\"\n[refresh]\ninterval_seconds = 0\n[reconcile]\ncron = \"\"\n",
            self.url_as("refresher", "hapi"),
            self.url_as("refresher", "views"),
            self.folder.join("views").display(),
        );
        self.begin("batch-refresher", replica, config, variables).await
    }

    /// A speed-ingestor that asks the batch layer at an address.
    pub async fn speed(
        &self,
        replica: &str,
        batch: &str,
        variables: Variables<'_>,
    ) -> anyhow::Result<Daemon> {
        let config = format!(
            "[webhook]\nlisten = \"{{http}}\"\nsecret = \"{SECRET}\"\n[redis]\nurl = \"{}\"\n[batch]\nurl = \"http://{batch}\"\n",
            self.redis.url(),
        );
        self.begin("speed-ingestor", replica, config, variables).await
    }

    /// A serving-gateway that asks the other layers at their addresses.
    pub async fn serving(
        &self,
        replica: &str,
        batch: &str,
        speed: &str,
        variables: Variables<'_>,
    ) -> anyhow::Result<Daemon> {
        self.serving_with("", replica, batch, speed, variables).await
    }

    /// The same with further keys of `[views]`: of lists there are no variables.
    pub async fn serving_with(
        &self,
        views: &str,
        replica: &str,
        batch: &str,
        speed: &str,
        variables: Variables<'_>,
    ) -> anyhow::Result<Daemon> {
        let config = format!(
            "[http]\nlisten = \"{{http}}\"\n[views]\nurl = \"{}\"\n{views}\n[sql]\nurl = \"{}\"\n[services]\nbatch = \"http://{batch}\"\nspeed = \"http://{speed}\"\n",
            self.url_as("gateway", "views"),
            self.url_as("analyst", "views"),
        );
        self.begin("serving-gateway", replica, config, variables).await
    }

    async fn begin(
        &self,
        name: &'static str,
        replica: &str,
        config: String,
        variables: Variables<'_>,
    ) -> anyhow::Result<Daemon> {
        let folder = self.folder.join(format!("{name}-{replica}"));
        std::fs::create_dir_all(&folder)?;
        let config = format!("[daemon]\ngrpc_listen = \"{{grpc}}\"\nadmin_listen = \"{{admin}}\"\n{config}");
        let environment = variables
            .iter()
            .map(|(variable, value)| ((*variable).to_owned(), (*value).to_owned()))
            .collect();
        Daemon::start(Plan {
            name,
            config,
            environment,
            folder,
            lifetime: Lifetime::Program,
        })
        .await
    }
}
