//! Connections with a reader's rights, and the freshness that a reader sees.

use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, PgPool, SqlSafeStr as _};
use tokio::sync::OnceCell;

use super::errors::SqlError;
use super::statement::SqlSnapshot;
use crate::driver::sqlstate;
use crate::error::during;
use crate::replica::has_come_to;
use crate::store::notice_the_client;
use crate::{ExpectedIdentity, LogPosition, Pulse, StoreError, TypeFreshness, lend, tables, transaction};

/// How long a statement waits for a lock that whoever replaces a view holds for milliseconds.
const LOCK_TIMEOUT_MS: u128 = 1_000;

/// How a reader connects.
#[derive(Clone)]
pub struct SqlSettings {
    /// `postgres://user:password@host:port/database`
    pub url: String,
    /// The login is a member of more than the readers' role: it takes on that role for each transaction.
    pub set_role: bool,
    /// Connections at most.
    pub max_connections: u32,
    /// How long PostgreSQL may work on one statement.
    pub timeout: Duration,
    /// The largest value, in bytes, that PostgreSQL sends.
    pub max_bytes: usize,
}

/// Which views a name without a schema means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SqlLayer {
    /// `sqlonfhir`: batch and live rows.
    Merged,
    /// `sqlonfhir_batch`: what the batch has published.
    Batch,
}

impl SqlLayer {
    /// The schema of its views.
    pub fn schema(self) -> &'static str {
        match self {
            Self::Merged => "sqlonfhir",
            Self::Batch => "sqlonfhir_batch",
        }
    }
}

/// How fresh a view is in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewFreshness {
    /// Name.
    pub view: String,
    /// Whose rows it has.
    pub resource_type: String,
    /// Of its type.
    pub freshness: TypeFreshness,
    /// Resources that could not be evaluated for it.
    pub errors: i64,
}

/// The way to the views' PostgreSQL for statements of callers. Cheap to clone; connects when it is first needed.
#[derive(Clone)]
pub struct SqlReader {
    pool: PgPool,
    settings: Arc<SqlSettings>,
    pulse: Pulse,
    patience: Duration,
    /// The rights were looked at, once.
    checked: Arc<OnceCell<()>>,
    /// What its snapshots must hold: everything before this place of the log.
    from: Option<LogPosition>,
}

impl SqlReader {
    /// Reads the URL; nothing is connected yet.
    pub fn new(settings: SqlSettings) -> Result<Self, StoreError> {
        Self::over(settings, None)
    }

    /// The way to a replica. A connection that does not lead to a server of the expected identity is refused.
    pub fn replica(settings: SqlSettings, expected: &ExpectedIdentity) -> Result<Self, StoreError> {
        Self::over(settings, Some(expected.clone()))
    }

    /// The same server for statements whose snapshot must hold everything before this place: see [`ViewStore::at_or_after`](crate::ViewStore::at_or_after).
    #[must_use]
    pub fn at_or_after(&self, position: Option<LogPosition>) -> Self {
        Self {
            from: position,
            ..self.clone()
        }
    }

    fn over(settings: SqlSettings, expected: Option<ExpectedIdentity>) -> Result<Self, StoreError> {
        let options = PgConnectOptions::from_str(&settings.url)
            .map_err(|_| StoreError::Database {
                doing: "reading the connection URL",
                reason: "it is not of the form postgres://user:password@host:port/database".into(),
                transient: false,
                data: false,
            })?
            .application_name("researchflow sql")
            // What a name means depends on the layer, and a view may be replaced: nothing is kept from one statement to the next.
            .statement_cache_capacity(0)
            .disable_statement_logging();
        let pool = PgPoolOptions::new()
            .max_connections(settings.max_connections)
            .acquire_timeout(lend::LONGEST)
            .after_connect(move |connection, _| {
                let expected = expected.clone();
                Box::pin(async move {
                    prepare(connection).await;
                    match &expected {
                        Some(expected) => expected.check(connection).await,
                        None => Ok(()),
                    }
                })
            })
            .after_release(|connection, _| Box::pin(async move { Ok(clean(connection).await) }))
            .connect_lazy_with(options);
        Ok(Self {
            pool,
            settings: Arc::new(settings),
            pulse: Pulse::default(),
            patience: lend::LONGEST,
            checked: Arc::default(),
            from: None,
        })
    }

    /// The same reader, which heeds what is known of its server, and in which a statement waits so long for its turn (at most 10 s, which is the default).
    #[must_use]
    pub fn watched_by(mut self, pulse: Pulse, patience: Duration) -> Self {
        (self.pulse, self.patience) = (pulse, patience);
        self
    }

    /// A snapshot in which these views can be read, which are kept from being replaced until it ends.
    pub async fn snapshot(&self, layer: SqlLayer, views: &[String]) -> Result<SqlSnapshot, SqlError> {
        self.pulse.unless_silent(self.open(layer, views)).await
    }

    async fn open(&self, layer: SqlLayer, views: &[String]) -> Result<SqlSnapshot, SqlError> {
        self.checked.get_or_try_init(|| self.check_rights(layer)).await?;
        let mut snapshot = self.begin(layer).await?;
        if views.is_empty() {
            return Ok(snapshot);
        }
        // Before the first query: a table that is replaced in between would look empty in an older snapshot.
        let schema = layer.schema();
        let names: Vec<String> = views
            .iter()
            .map(|view| format!("{schema}.{}", tables::quoted(view)))
            .collect();
        let lock = format!("LOCK TABLE {} IN ACCESS SHARE MODE", names.join(", "));
        sqlx::raw_sql(AssertSqlSafe(lock))
            .execute(snapshot.connection())
            .await
            .map_err(|error| match sqlstate(&error).as_deref() {
                Some("42P01") => SqlError::ViewGone,
                Some("42501") => {
                    SqlError::NotAReader("the role researchflow_reader may not read a view: start batch-refresher, which grants it")
                }
                _ => SqlError::Store(during("opening a snapshot")(error)),
            })?;
        Ok(snapshot)
    }

    async fn begin(&self, layer: SqlLayer) -> Result<SqlSnapshot, SqlError> {
        let mut connection = lend::lend(&self.pool, self.patience, "opening a snapshot").await?;
        has_come_to(&mut connection, self.from).await?;
        let mut snapshot = SqlSnapshot::new(connection, self.settings.clone(), self.pulse.clone());
        let begin = AssertSqlSafe(self.begin_statement(layer)).into_sql_str();
        transaction::begin(snapshot.connection(), Some(begin))
            .await
            .map_err(|error| cannot_begin(&error))?;
        snapshot.is_idle();
        Ok(snapshot)
    }

    /// Settings for the time of the transaction: bounds, and whatever decides how a text is read and a value written. The parser that has checked the
    /// statement reads texts as `standard_conforming_strings = on` does.
    fn begin_statement(&self, layer: SqlLayer) -> String {
        let role = if self.settings.set_role {
            "SET LOCAL ROLE researchflow_reader;"
        } else {
            ""
        };
        format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {role}
             SET LOCAL search_path = {}, pg_temp;
             SET LOCAL statement_timeout = {timeout};
             SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS};
             SET LOCAL idle_in_transaction_session_timeout = {idle};
             SET LOCAL work_mem = '16MB';
             SET LOCAL jit = off;
             SET LOCAL standard_conforming_strings = on;
             SET LOCAL backslash_quote = safe_encoding;
             SET LOCAL escape_string_warning = off;
             SET LOCAL transform_null_equals = off;
             SET LOCAL row_security = on;
             SET LOCAL timezone = 'UTC';
             SET LOCAL datestyle = 'ISO, YMD';
             SET LOCAL intervalstyle = iso_8601;
             SET LOCAL bytea_output = hex;
             SET LOCAL extra_float_digits = 1",
            layer.schema(),
            timeout = self.settings.timeout.as_millis().max(1),
            // The caller takes rows at its own pace; between statements it is us who are at work.
            idle = (self.settings.timeout * 2).as_millis().max(10_000),
        )
    }

    /// Whether the rights are a reader's and no more. In a transaction of its own, which ends here: its first query takes the snapshot.
    async fn check_rights(&self, layer: SqlLayer) -> Result<(), SqlError> {
        let mut snapshot = self.begin(layer).await?;
        let who = if self.settings.set_role {
            "current_user"
        } else {
            "session_user"
        };
        let sql = format!(
            "SELECT pg_has_role({who}, 'researchflow_reader', 'MEMBER'), current_setting('is_superuser') = 'on' \
             OR has_schema_privilege({who}, 'sqlonfhir', 'CREATE') OR has_schema_privilege({who}, 'sqlonfhir_base', 'USAGE') \
             OR EXISTS (SELECT FROM unnest(ARRAY['pg_read_server_files', 'pg_write_server_files', 'pg_execute_server_program', \
                'pg_signal_backend', 'researchflow_merger']) more WHERE pg_has_role({who}, more, 'MEMBER'))"
        );
        let (reads, more): (bool, bool) = sqlx::query_as(AssertSqlSafe(sql))
            .persistent(false)
            .fetch_one(snapshot.connection())
            .await
            .map_err(during("looking at the rights of the login for Sql"))?;
        if !reads {
            return Err(SqlError::NotAReader(
                "the login of sql.url may not read the views: run GRANT researchflow_reader TO <login>",
            ));
        }
        if more {
            return Err(SqlError::NotAReader(
                "the login of sql.url may do more than read: give one that is a member of researchflow_reader and of nothing else",
            ));
        }
        Ok(())
    }
}

fn cannot_begin(error: &sqlx::Error) -> SqlError {
    match sqlstate(error).as_deref() {
        // The role is not there, or not to be taken on.
        Some("42501" | "22023" | "42704") => SqlError::NotAReader(
            "the login of views.url may not take on the role researchflow_reader: run GRANT researchflow_reader TO <login>, or set sql.url",
        ),
        _ => super::errors::refused(error, None),
    }
}

/// What can be set for a session, and what should be.
async fn prepare(connection: &mut PgConnection) {
    // Not every system can: there a statement ends with its time-out.
    if !notice_the_client(connection).await {
        tracing::warn!(
            "a statement whose caller has gone goes on until sql.timeout_seconds: this PostgreSQL does not notice"
        );
    }
    let limit: Result<String, _> = sqlx::query_scalar("SHOW temp_file_limit")
        .fetch_one(connection)
        .await;
    if limit.is_ok_and(|limit| limit == "-1") {
        tracing::info!(
            "what a statement may write to temporary files is not limited: ALTER ROLE <login> SET temp_file_limit = '2GB', as a superuser"
        );
    }
}

/// Ends whatever a statement may have left in the session; false if it is not to be used again.
async fn clean(connection: &mut PgConnection) -> bool {
    let clean = "ROLLBACK; SELECT pg_advisory_unlock_all(); UNLISTEN *; CLOSE ALL; DEALLOCATE ALL";
    connection.ping().await.is_ok() && sqlx::raw_sql(clean).execute(connection).await.is_ok()
}

impl SqlSnapshot {
    /// How fresh views are in this snapshot, as every reader sees it.
    pub async fn freshness(&mut self, views: &[String]) -> Result<Vec<ViewFreshness>, SqlError> {
        type Row = (String, String, Option<DateTime<Utc>>, Option<DateTime<Utc>>, i64);
        let pulse = self.pulse();
        let reading = sqlx::query_as(
            "SELECT view, resource_type, batch_as_of, speed_as_of, evaluation_errors FROM sqlonfhir.freshness WHERE view = ANY ($1)",
        )
        .bind(views)
        .persistent(false)
        .fetch_all(self.connection());
        let read = async { reading.await.map_err(during("reading the freshness of views")) };
        let rows: Vec<Row> = pulse.unless_silent(read).await?;
        Ok(rows
            .into_iter()
            .map(
                |(view, resource_type, batch_as_of, speed_as_of, errors)| ViewFreshness {
                    view,
                    resource_type,
                    freshness: TypeFreshness {
                        batch_as_of,
                        speed_as_of,
                    },
                    errors,
                },
            )
            .collect())
    }

    /// Which of these names a `table.name` could call as a function that is more than a computation: PostgreSQL reads the name of a column that is not there
    /// as that of a function of the row.
    pub async fn functions_among(&mut self, names: &[String]) -> Result<Vec<String>, SqlError> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let pulse = self.pulse();
        let looking = sqlx::query_scalar(
            "SELECT DISTINCT proname::text FROM pg_catalog.pg_proc WHERE proname = ANY ($1) AND provolatile <> 'i' \
             AND pronargs >= 1 AND pronargs - pronargdefaults <= 1",
        )
        .bind(names)
        .persistent(false)
        .fetch_all(self.connection());
        let found = async { looking.await.map_err(during("looking up names of functions")) };
        Ok(pulse.unless_silent(found).await?)
    }
}
