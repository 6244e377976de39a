//! The connection to the views' PostgreSQL.

use std::str::FromStr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::TimeDelta;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, PgConnection, PgPool, Postgres, Transaction};

use crate::error::during;
use crate::registry::ViewCache;
use crate::select::count::BatchCounts;
use crate::{LogPosition, Pulse, StoreError, driver, lend};

/// Connections of runs that are kept: as many as a run and its workers use by default.
const MAX_IDLE: usize = 4;

/// A connection that was idle for so long is tested before it is used.
const TESTED_AFTER: Duration = Duration::from_secs(1);

/// Lets the backend look, while it computes, whether its client is still there: whoever breaks off ends the query too. False where this PostgreSQL cannot (before
/// release 14, and on some systems).
pub(crate) async fn notice_the_client(connection: &mut PgConnection) -> bool {
    sqlx::raw_sql("SET client_connection_check_interval = 250")
        .execute(connection)
        .await
        .is_ok()
}

/// What each connection of a pool is set to, at the primary and at replicas.
pub(crate) async fn set_up(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let _unable = notice_the_client(connection).await;
    // Many ask at once, and changes are applied beside them: nobody takes more than one core. Whoever has a large question asks by `Sql`.
    sqlx::raw_sql("SET max_parallel_workers_per_gather = 0")
        .execute(&mut *connection)
        .await?;
    Ok(())
}

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
    /// For connections of their own: runs of the batch and their workers, the mergers' lead, migrations.
    options: Arc<PgConnectOptions>,
    /// Those of runs and workers that have ended, for the next ones: a new session costs PostgreSQL as much as a small run does.
    idle: Arc<Mutex<Vec<PgConnection>>>,
    pub(crate) skew: TimeDelta,
    pub(crate) cache: Arc<ViewCache>,
    pub(crate) batch_counts: BatchCounts,
    /// What is known of the server.
    pub(crate) pulse: Pulse,
    /// How long a question waits for its turn.
    pub(crate) patience: Duration,
    /// What the snapshots of questions must hold: everything before this place of the log.
    pub(crate) from: Option<LogPosition>,
}

impl ViewStore {
    /// Connects; fails with a clear error (never with the password) if it cannot.
    pub async fn connect(settings: StoreSettings) -> Result<Self, StoreError> {
        let (pool, options) = Self::prepared(&settings)?;
        let pool = pool
            .after_connect(|connection, _| Box::pin(set_up(connection)))
            .connect_with(options.clone())
            .await
            .map_err(during("connecting"))?;
        Ok(Self::over(pool, options, &settings))
    }

    /// How the pool is made, but for what is done with each new connection.
    pub(crate) fn prepared(
        settings: &StoreSettings,
    ) -> Result<(PgPoolOptions, PgConnectOptions), StoreError> {
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
            .acquire_timeout(lend::LONGEST)
            // One that was in use a moment ago is there; a statement that meets a lost one is tried again where that matters.
            .test_before_acquire(false)
            .before_acquire(|connection, meta| {
                Box::pin(async move {
                    if meta.idle_for >= TESTED_AFTER {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            });
        Ok((pool, options))
    }

    pub(crate) fn over(pool: PgPool, options: PgConnectOptions, settings: &StoreSettings) -> Self {
        Self {
            pool,
            options: Arc::new(options),
            idle: Arc::default(),
            skew: settings.skew,
            cache: Arc::default(),
            batch_counts: BatchCounts::default(),
            pulse: Pulse::default(),
            patience: lend::LONGEST,
            from: None,
        }
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

    /// A connection for a run or one of its workers, without temporary tables, locks or settings of another one, and with these.
    pub(crate) async fn run_connection(&self, settings: &'static str) -> Result<PgConnection, StoreError> {
        // One that is idle may have been closed meanwhile.
        while let Some(mut connection) = self.idle.lock().ok().and_then(|mut idle| idle.pop()) {
            if sqlx::raw_sql(settings).execute(&mut connection).await.is_ok() {
                return Ok(connection);
            }
        }
        let mut connection = self.own_connection("researchflow run").await?;
        sqlx::raw_sql(settings)
            .execute(&mut connection)
            .await
            .map_err(during("connecting"))?;
        Ok(connection)
    }

    /// Takes back the connection of a run or worker that has come to its end; locks and transactions are gone.
    pub(crate) async fn keep_run_connection(&self, mut connection: PgConnection) -> Result<(), StoreError> {
        sqlx::raw_sql("DISCARD TEMP; RESET ALL")
            .execute(&mut connection)
            .await
            .map_err(during("ending a run"))?;
        if let Ok(mut idle) = self.idle.lock()
            && idle.len() < MAX_IDLE
        {
            idle.push(connection);
        }
        Ok(())
    }

    /// A transaction on a pooled connection.
    pub(crate) async fn begin(&self) -> Result<Transaction<'static, Postgres>, StoreError> {
        driver::begin(&self.pool, "BEGIN")
            .await
            .map_err(during("beginning a transaction"))
    }
}
