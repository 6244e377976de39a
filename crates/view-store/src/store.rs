//! The connection to the views' PostgreSQL.

use std::str::FromStr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::TimeDelta;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, PgConnection, PgPool, Postgres, Transaction};

use crate::StoreError;
use crate::error::during;
use crate::registry::ViewCache;

/// How to reach the views' PostgreSQL.
#[derive(Clone)]
pub struct StoreSettings {
    /// `postgres://user:password@host:port/database`; may hold `options`.
    pub url: String,
    /// Connections at most.
    pub max_connections: u32,
    /// How far two machines' clocks may be apart (rules 7 and 9); 1 s by default.
    pub skew: TimeDelta,
}

/// The views' PostgreSQL. Cheap to clone.
#[derive(Clone)]
pub struct ViewStore {
    pub(crate) pool: PgPool,
    /// For connections of their own: runs of the batch, the mergers' lead, migrations.
    options: Arc<PgConnectOptions>,
    /// That of a run which has ended, for the next one: a new session costs PostgreSQL as much as a small run does.
    run_connection: Arc<Mutex<Option<PgConnection>>>,
    pub(crate) skew: TimeDelta,
    pub(crate) cache: Arc<ViewCache>,
}

impl ViewStore {
    /// Connects; fails with a clear error (never with the password) if it cannot.
    pub async fn connect(settings: StoreSettings) -> Result<Self, StoreError> {
        // The parser's error may quote the URL, and with it the password.
        let options = PgConnectOptions::from_str(&settings.url)
            .map_err(|_| StoreError::Database {
                doing: "reading the connection URL",
                reason: "it is not of the form postgres://user:password@host:port/database".into(),
                transient: false,
                data: false,
            })?
            .application_name("researchflow")
            // Statements may hold search values: they are never logged.
            .disable_statement_logging();
        let pool = PgPoolOptions::new()
            .max_connections(settings.max_connections)
            .acquire_timeout(Duration::from_secs(10))
            .connect_with(options.clone())
            .await
            .map_err(during("connecting"))?;
        Ok(Self {
            pool,
            options: Arc::new(options),
            run_connection: Arc::default(),
            skew: settings.skew,
            cache: Arc::default(),
        })
    }

    /// Whether the schema is there and of this release; `StoreError::NotMigrated` says what to do.
    pub async fn check(&self) -> Result<(), StoreError> {
        let mut connection = self.pool.acquire().await.map_err(during("connecting"))?;
        crate::migrate::check(&mut connection).await
    }

    /// A connection outside the pool, by whose name an operator sees what it is for.
    pub(crate) async fn own_connection(&self, name: &'static str) -> Result<PgConnection, StoreError> {
        let options = self.options.as_ref().clone().application_name(name);
        PgConnection::connect_with(&options)
            .await
            .map_err(during("connecting"))
    }

    /// A connection for a run, without temporary tables, locks or settings of another one.
    pub(crate) async fn run_connection(&self) -> Result<PgConnection, StoreError> {
        let kept = self.run_connection.lock().ok().and_then(|mut kept| kept.take());
        if let Some(mut connection) = kept
            && connection.ping().await.is_ok()
        {
            return Ok(connection);
        }
        self.own_connection("researchflow run").await
    }

    /// Takes the connection of a run back; what is of the run has been cleared away.
    pub(crate) fn keep_run_connection(&self, connection: PgConnection) {
        if let Ok(mut kept) = self.run_connection.lock() {
            *kept = Some(connection);
        }
    }

    /// A transaction on a pooled connection.
    pub(crate) async fn begin(&self) -> Result<Transaction<'static, Postgres>, StoreError> {
        self.pool.begin().await.map_err(during("beginning a transaction"))
    }
}
