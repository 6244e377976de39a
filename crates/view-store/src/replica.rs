//! Servers that questions can be read at beside the primary: streaming replicas of the views' PostgreSQL. How one is reached, what it says of itself, and how far it has come.
//!
//! A replica holds the same tables and replays the primary's commits in their order, so rows and freshness that are read in one snapshot of it belong together as they do
//! on the primary (law 3): they are of an earlier moment, and `as_of` says of which. What only the primary can do (apply, publish, the registry, rows of the caller) is
//! not asked of a replica.

use std::sync::{Arc, PoisonError, RwLock};

use chrono::{DateTime, Utc};
use sqlx::pool::PoolConnection;
use sqlx::{Connection as _, PgConnection, Postgres};

use crate::error::during;
use crate::{StoreError, StoreSettings, ViewStore};

/// A place in the write-ahead log: what was committed before it, a server that has replayed up to it shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogPosition(pub u64);

impl LogPosition {
    /// As PostgreSQL subtracts positions.
    fn of(bytes: i64) -> Self {
        Self(bytes.cast_unsigned())
    }

    /// For comparing; a place that no log reaches is reached by none.
    fn bytes(self) -> i64 {
        i64::try_from(self.0).unwrap_or(i64::MAX)
    }
}

/// Which cluster a server is of (a primary and its replicas have one system identifier), and which of its databases it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerIdentity {
    system: i64,
    database: i64,
}

/// The identity that a server must have to be read instead of the primary: the primary's, once it is known. Cheap to clone; pools of replicas look at it with each new
/// connection, since one name may lead to several servers.
#[derive(Debug, Clone, Default)]
pub struct ExpectedIdentity(Arc<RwLock<Option<ServerIdentity>>>);

impl ExpectedIdentity {
    /// The primary has said who it is.
    pub fn set(&self, identity: ServerIdentity) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(identity);
    }

    /// `None` until the primary has answered once.
    pub fn get(&self) -> Option<ServerIdentity> {
        *self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// For a pool: a connection that leads elsewhere is none.
    pub(crate) async fn check(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        if self.get() == Some(identity(connection).await?) {
            Ok(())
        } else {
            Err(sqlx::Error::Protocol(
                "the server is not a replica of the views' PostgreSQL".into(),
            ))
        }
    }
}

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerLook {
    /// Whose it is.
    pub identity: ServerIdentity,
    /// When it was started, by its own clock: with the identity, which server of a cluster it is.
    pub started: DateTime<Utc>,
    /// It replays another server's log.
    pub in_recovery: bool,
    /// Replaying was paused by hand.
    pub paused: bool,
    /// Up to where it has replayed; on a primary up to where the log was written out, which is what replicas can have.
    pub position: LogPosition,
    /// The greatest T of any type: the contents' own clock beside the log's.
    pub as_of: Option<DateTime<Utc>>,
}

const IDENTITY: &str = "SELECT s.system_identifier, d.oid::bigint FROM pg_control_system() s, pg_database d WHERE d.datname = current_database()";

const LOOK: &str = "SELECT s.system_identifier, d.oid::bigint, pg_postmaster_start_time(), r.in_recovery, \
        CASE WHEN r.in_recovery THEN pg_is_wal_replay_paused() ELSE false END, \
        coalesce((CASE WHEN r.in_recovery THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END - '0/0')::bigint, 0), \
        (SELECT max(greatest(published_as_of, speed_as_of)) FROM sqlonfhir_meta.resource_type) \
     FROM (SELECT pg_is_in_recovery() AS in_recovery OFFSET 0) r, pg_control_system() s, pg_database d WHERE d.datname = current_database()";

async fn identity(connection: &mut PgConnection) -> Result<ServerIdentity, sqlx::Error> {
    let (system, database) = sqlx::query_as(IDENTITY).fetch_one(connection).await?;
    Ok(ServerIdentity { system, database })
}

/// Looks at a server over a connection of its own, which long answers cannot keep from it.
pub struct ServerWatch {
    store: ViewStore,
    expected: Option<ExpectedIdentity>,
    connection: Option<PgConnection>,
}

impl ServerWatch {
    /// What the server says now; `None`: it is not of the expected identity. Whoever does not wait for the end of it drops the connection: the next look makes another one.
    pub async fn look(&mut self) -> Result<Option<ServerLook>, StoreError> {
        type Row = (i64, i64, DateTime<Utc>, bool, bool, i64, Option<DateTime<Utc>>);
        let doing = during("looking at a server");
        let expected = self.expected.as_ref().and_then(ExpectedIdentity::get);
        let Some(mut connection) = self.connected(expected).await? else {
            return Ok(None);
        };
        let row: Result<Row, _> = sqlx::query_as(LOOK).fetch_one(&mut connection).await;
        let (system, database, started, in_recovery, paused, bytes, as_of) = row.map_err(doing)?;
        let identity = ServerIdentity { system, database };
        // The primary may have become another one.
        if expected.is_some_and(|expected| expected != identity) {
            return Ok(None);
        }
        self.connection = Some(connection);
        Ok(Some(ServerLook {
            identity,
            started,
            in_recovery,
            paused,
            position: LogPosition::of(bytes),
            as_of,
        }))
    }

    /// The connection of the look before, or a new one to a server of this identity.
    async fn connected(
        &mut self,
        expected: Option<ServerIdentity>,
    ) -> Result<Option<PgConnection>, StoreError> {
        if let Some(connection) = self.connection.take() {
            return Ok(Some(connection));
        }
        let mut connection = self.store.own_connection("researchflow watch").await?;
        // First of all: another database has no tables to be asked of.
        let found = identity(&mut connection)
            .await
            .map_err(during("looking at a server"))?;
        let is_expected = expected.is_none_or(|expected| expected == found);
        Ok(is_expected.then_some(connection))
    }

    /// Ends the connection.
    pub async fn close(self) {
        if let Some(connection) = self.connection {
            let _gone = connection.close().await;
        }
    }
}

impl ViewStore {
    /// A replica. Nothing is connected yet: one that is away is no error before it is asked. A connection that does not lead to a server of the expected identity is refused.
    pub fn replica(settings: &StoreSettings, expected: &ExpectedIdentity) -> Result<Self, StoreError> {
        let (pool, options) = Self::prepared(settings)?;
        let expected = expected.clone();
        let pool = pool.after_connect(move |connection, _| {
            let expected = expected.clone();
            Box::pin(async move {
                crate::store::set_up(connection).await?;
                expected.check(connection).await
            })
        });
        Ok(Self::over(
            pool.connect_lazy_with(options.clone()),
            options,
            settings,
        ))
    }

    /// Looks at this server, again and again; a replica must be of the expected identity.
    pub fn watch_server(&self, expected: Option<&ExpectedIdentity>) -> ServerWatch {
        ServerWatch {
            store: self.clone(),
            expected: expected.cloned(),
            connection: None,
        }
    }

    /// The same server for questions whose snapshot must hold everything before this place. One that has not come so far refuses them, with an error that may pass.
    #[must_use]
    pub fn at_or_after(&self, position: Option<LogPosition>) -> Self {
        let mut store = self.clone();
        store.from = position;
        store
    }

    /// Whether a question would get a connection at once.
    pub fn has_room(&self) -> bool {
        self.pool.num_idle() > 0 || self.pool.size() < self.pool.options().get_max_connections()
    }

    /// A place behind everything that snapshots which were taken here until now show. (A replica tells of a commit some instructions after it shows it.)
    pub async fn shown_until(&self) -> Result<LogPosition, StoreError> {
        let bytes: i64 = sqlx::query_scalar(
            "SELECT (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END - '0/0')::bigint",
        )
        .fetch_one(&self.pool)
        .await
        .map_err(during("reading how far a server has come"))?;
        Ok(LogPosition::of(bytes))
    }

    /// A connection for a question: its next snapshot holds what it must.
    pub(crate) async fn reading(&self, doing: &'static str) -> Result<PoolConnection<Postgres>, StoreError> {
        let mut connection = self.lend(doing).await?;
        has_come_to(&mut connection, self.from).await?;
        Ok(connection)
    }
}

/// Refuses a server that has not come up to a position. Asked on the connection that will be read over, before its snapshot: behind one name there may be several servers.
pub(crate) async fn has_come_to(
    connection: &mut PgConnection,
    position: Option<LogPosition>,
) -> Result<(), StoreError> {
    let Some(position) = position else { return Ok(()) };
    let doing = "looking how far a server has come";
    let come: bool = sqlx::query_scalar(
        "SELECT (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END - '0/0')::bigint >= $1",
    )
    .bind(position.bytes())
    .fetch_one(connection)
    .await
    .map_err(during(doing))?;
    if come {
        return Ok(());
    }
    Err(StoreError::Database {
        doing,
        reason: "it has not come as far as the answer before was".into(),
        transient: true,
        data: false,
    })
}
