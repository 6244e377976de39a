//! The private PostgreSQL: one for HAPI's tables and the views, so that both sides of a ratio have the same settings.

use anyhow::Context as _;
use batch_refresher::{
    config::{DEFAULTS, Settings as BatchSettings},
    hapi::{Hapi, HapiSettings},
};
use e2e::postgres::{Auth, Postgres, Settings};
use e2e::server::Lifetime;
use fhir_core::view::CompiledView;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use view_store::{StoreSettings, ViewStore};

/// As [`batch_refresher`] has them; a variable of this prefix sets another value (`RF_BENCH__REFRESH__RANGES`).
const PREFIX: &str = "RF_BENCH";

pub(crate) struct Servers {
    postgres: Postgres,
}

/// HAPI's database and the views' beside it.
pub(crate) struct Databases {
    name: String,
    /// HAPI's, as its owner.
    pub(crate) owner: String,
    /// HAPI's, as the role that only reads.
    pub(crate) source: String,
    /// The views', as their owner.
    pub(crate) views: String,
}

impl Servers {
    /// Starts the server, and prints how it is set.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let options = options()?;
        let postgres = Postgres::start_with(Settings {
            auth: Auth::Trust,
            options: options.clone(),
            fsync: true,
            lifetime: Lifetime::Program,
        })
        .await?;
        let roles =
            "CREATE ROLE source LOGIN; GRANT pg_read_all_stats TO source; CREATE ROLE owner LOGIN CREATEROLE";
        postgres.execute("postgres", roles).await?;
        let mut connection = PgConnection::connect(&postgres.url("postgres")).await?;
        let version: String = sqlx::query_scalar("SHOW server_version")
            .fetch_one(&mut connection)
            .await?;
        let options: Vec<String> = options
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let load = std::fs::read_to_string("/proc/loadavg")?;
        println!(
            "{} cores, load before the start {}: what else runs blurs the figures",
            std::thread::available_parallelism()?,
            load.split(' ').next().unwrap_or_default()
        );
        println!("PostgreSQL {version}: fsync=on {}", options.join(" "));
        Ok(Self { postgres })
    }

    /// Two empty databases, with the roles' rights.
    pub(crate) async fn create_databases(&self, name: &str) -> anyhow::Result<Databases> {
        let (hapi, views) = (format!("hapi_{name}"), format!("views_{name}"));
        for sql in [
            format!("CREATE DATABASE {hapi}"),
            format!("CREATE DATABASE {views} OWNER owner"),
        ] {
            self.postgres.execute("postgres", &sql).await?;
        }
        self.postgres
            .execute(
                &hapi,
                "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO source; CREATE SCHEMA bench",
            )
            .await?;
        let databases = Databases {
            name: name.to_owned(),
            owner: self.postgres.url(&hapi),
            source: self.postgres.url_as("source", "", &hapi),
            views: self.postgres.url_as("owner", "", &views),
        };
        databases.store().await?.migrate().await?;
        Ok(databases)
    }

    /// Gives the room on the disk back.
    pub(crate) async fn drop_databases(&self, databases: Databases) -> anyhow::Result<()> {
        for kind in ["hapi", "views"] {
            let sql = format!("DROP DATABASE {kind}_{} WITH (FORCE)", databases.name);
            self.postgres.execute("postgres", &sql).await?;
        }
        Ok(())
    }
}

impl Databases {
    /// HAPI's side of a refresh.
    pub(crate) async fn hapi(&self) -> anyhow::Result<Hapi> {
        hapi(&self.source).await
    }

    /// The views' side.
    pub(crate) async fn store(&self) -> anyhow::Result<ViewStore> {
        store(&self.views).await
    }

    /// Registers views, which the next refresh fills.
    pub(crate) async fn put(&self, definitions: &[String]) -> anyhow::Result<()> {
        let store = self.store().await?;
        for definition in definitions {
            store
                .put_view(&CompiledView::from_json(definition)?, definition, false)
                .await?;
        }
        Ok(())
    }

    /// Drops all views.
    pub(crate) async fn drop_views(&self) -> anyhow::Result<()> {
        let store = self.store().await?;
        for view in store.views().await? {
            store.drop_view(&view.name).await?;
        }
        Ok(())
    }

    /// What one side has written is not for the other to flush.
    pub(crate) async fn checkpoint(&self) -> anyhow::Result<()> {
        execute(&self.owner, "CHECKPOINT").await
    }
}

/// The daemon's configuration.
pub(crate) fn config() -> anyhow::Result<BatchSettings> {
    daemon::config::load(DEFAULTS, None, PREFIX).context("the configuration of batch-refresher")
}

/// HAPI's side of a refresh, as the daemon has it.
pub(crate) async fn hapi(url: &str) -> anyhow::Result<Hapi> {
    let settings = HapiSettings {
        url: url.to_owned(),
        ..config()?.hapi
    };
    Ok(Hapi::connect(settings).await?)
}

/// The views' side, as the daemon has it.
pub(crate) async fn store(url: &str) -> anyhow::Result<ViewStore> {
    let settings = StoreSettings {
        url: url.to_owned(),
        ..config()?.store
    };
    Ok(ViewStore::connect(settings).await?)
}

/// Runs statements over a connection of their own.
pub(crate) async fn execute(url: &str, statements: &str) -> anyhow::Result<()> {
    let mut connection = PgConnection::connect(url).await?;
    sqlx::raw_sql(AssertSqlSafe(statements.to_owned()))
        .execute(&mut connection)
        .await?;
    Ok(connection.close().await?)
}

/// What an administrator would set on such a machine. Autovacuum is off, since it would disturb now one side, now the other.
fn options() -> anyhow::Result<Vec<(String, String)>> {
    let memory = std::fs::read_to_string("/proc/meminfo")?;
    let total: u64 = memory
        .lines()
        .find_map(|line| {
            line.strip_prefix("MemTotal:")?
                .trim()
                .strip_suffix(" kB")?
                .parse()
                .ok()
        })
        .context("no MemTotal in /proc/meminfo")?;
    let megabytes = |part: u64, most: u64| format!("{}MB", (total / 1024 / part).min(most));
    Ok([
        ("shared_buffers", megabytes(4, 2048)),
        ("effective_cache_size", megabytes(2, 16384)),
        ("maintenance_work_mem", megabytes(16, 512)),
        ("work_mem", megabytes(64, 64)),
        ("max_wal_size", "4GB".to_owned()),
        ("checkpoint_timeout", "30min".to_owned()),
        ("autovacuum", "off".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into())
}
