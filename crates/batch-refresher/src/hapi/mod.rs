//! HAPI's PostgreSQL: the only place that knows its tables.
//!
//! Read are `hfj_resource` (which resources there are, their current version), `hfj_res_ver` (versions with their text), `hfj_res_tag` and
//! `hfj_tag_def` (tags, profiles, security), `hfj_history_tag` (of versions), `hfj_res_link` (whose resources), in older schemas `hfj_forced_id` and
//! `hfj_res_ver_prov`. Nothing is ever written.
//!
//! ```text
//! clock() ─► as_of, bound          (before the snapshot: rule 1)
//! snapshot() ─► HapiSnapshot ─► changed_since(position) ─► ids ─► states(ids) ─► State with the body as HAPI delivers it
//! ranges() ─► load(range) ─► every resource of a range, in a snapshot of its own (rule 12)
//! ```
//!
//! Rights that the role needs: SELECT on the tables, and `pg_read_all_stats`, since without it `pg_stat_activity` hides when the transactions
//! of others began, and a reading could promise what it has not seen. `pg_control_system()`, `pg_control_checkpoint()` and
//! `pg_walfile_name()` are executable by everyone. The functions and catalogues are called by their plain names.

mod body;
mod count;
mod error;
mod heads;
mod misdated;
mod range;
mod rights;
mod schema;
mod selection;
mod snapshot;
mod states;
mod tags;
mod tuples;
mod zone;

use std::{
    str::FromStr as _,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{
    ConnectOptions as _, PgPool, Row as _,
    postgres::{PgConnectOptions, PgPoolOptions},
};

pub use error::HapiError;
pub use misdated::Misdated;
pub use range::IdRange;
pub use rights::Excess;
pub use schema::{Partition, Schema};
pub use selection::Selection;
pub(crate) use snapshot::CHUNK;
pub use snapshot::{Cost, HapiSnapshot};
pub(crate) use snapshot::{FIRST_CHUNK, body_bytes, next_chunk};
pub use states::{Fetched, MetaRead};
pub use zone::Zone;

/// By this name our own backends are known: they do not write to HAPI's tables, and hold no bound back.
pub const APPLICATION_NAME: &str = "researchflow-batch";

/// How long a transaction may have been open before it was prepared: PostgreSQL forgets when it began. Far above any time-out of a transaction manager;
/// it costs only a wider scan, and only while one is prepared.
const BEFORE_PREPARED: TimeDelta = TimeDelta::hours(1);

/// The oldest PostgreSQL with `pg_current_snapshot()`.
const OLDEST_SERVER: i32 = 130_000;

/// How to reach HAPI's PostgreSQL.
#[derive(Clone)]
pub struct HapiSettings {
    /// `postgres://user:password@host:port/database`; may hold `options`.
    pub url: String,
    /// Time zone of HAPI's JVM.
    pub zone: Zone,
    /// How far `res_updated` may lie before its transaction's start: pool waits, clocks, request parsing. 90 s by default.
    pub margin: TimeDelta,
    /// The tenant.
    pub partition: Partition,
    /// Connections at most.
    pub max_connections: u32,
}

/// HAPI's PostgreSQL. Cheap to clone.
#[derive(Clone)]
pub struct Hapi {
    inner: Arc<Inner>,
}

struct Inner {
    pool: PgPool,
    schema: Schema,
    zone: Zone,
    margin: TimeDelta,
    tags: tags::TagDefinitions,
    /// Milliseconds, the least of what was found; `i64::MAX`: nothing was.
    margin_left: AtomicI64,
}

/// T and bound of a reading (rule 1), both read before its snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// The clock of HAPI's PostgreSQL: everything committed before it is in a snapshot opened later.
    pub as_of: DateTime<Utc>,
    /// No transaction that is uncommitted now writes a `res_updated` earlier than this.
    pub bound: DateTime<Utc>,
}

/// Where HAPI's PostgreSQL stands in its history: what a position is good for. Replaced by a restore, a fail-over, a new database or table.
///
/// The control file's timeline lags until the first checkpoint after a promotion, so the one that the log is written on counts too; the numbers of
/// the database and the table change when a dump is restored over them.
const TIMELINE: &str = "SELECT system_identifier::text || '/' || greatest(timeline_id, ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int)
     || '/' || (SELECT oid FROM pg_database WHERE datname = current_database()) || '/' || 'hfj_res_ver'::regclass::oid
     FROM pg_control_system(), pg_control_checkpoint()";

impl Hapi {
    /// Connects and looks whether this database and this role will do; `Refused` says what to change.
    pub async fn connect(settings: HapiSettings) -> Result<Self, HapiError> {
        let options = Some(&settings.url)
            .filter(|url| url.starts_with("postgresql://") || url.starts_with("postgres://"))
            .and_then(|url| PgConnectOptions::from_str(url).ok())
            .ok_or_else(|| {
                HapiError::Refused(
                    "hapi.url is not a PostgreSQL URL (postgresql://user:password@host:port/database)"
                        .to_owned(),
                )
            })?
            .application_name(APPLICATION_NAME)
            // Statements may hold ids: they are never logged, not even slow ones.
            .disable_statement_logging()
            // Compiling takes longer than any of these short statements.
            .options([("jit", "off"), ("default_transaction_read_only", "on")]);
        let pool = PgPoolOptions::new()
            .max_connections(settings.max_connections)
            .min_connections(1)
            .acquire_timeout(Duration::from_secs(10))
            .connect_with(options)
            .await
            .map_err(HapiError::of("connecting"))?;
        let mut connection = pool.acquire().await.map_err(HapiError::of("connecting"))?;
        check_server(&mut connection).await?;
        let schema = Schema::find(&mut connection, settings.partition).await?;
        check_zone(&mut connection, settings.zone).await?;
        drop(connection);
        let inner = Inner {
            pool,
            schema,
            zone: settings.zone,
            margin: settings.margin,
            tags: tags::TagDefinitions::default(),
            margin_left: AtomicI64::new(i64::MAX),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// What was found of the schema.
    pub fn schema(&self) -> &Schema {
        &self.inner.schema
    }

    /// How much earlier the oldest version that was found since the last call could have been dated and still be found: near zero, the margin was
    /// nearly not enough. `None` where nothing was found.
    pub fn take_margin_left(&self) -> Option<TimeDelta> {
        let millis = self.inner.margin_left.swap(i64::MAX, Ordering::Relaxed);
        (millis != i64::MAX).then(|| TimeDelta::milliseconds(millis))
    }

    /// System identifier, timeline, database and table: a position of another one says nothing (rule 3).
    pub async fn timeline(&self) -> Result<String, HapiError> {
        sqlx::query_scalar(TIMELINE)
            .fetch_one(&self.inner.pool)
            .await
            .map_err(HapiError::of("reading the timeline"))
    }

    /// Clock first, then the oldest open transaction (rule 1): the lateral join orders the two.
    pub async fn clock(&self) -> Result<Clock, HapiError> {
        let row = sqlx::query(
            "SELECT c.t, least(c.t, a.oldest, p.oldest) AS oldest, a.hidden, pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') AS sees, current_user::text
             FROM (SELECT clock_timestamp() AS t OFFSET 0) c
             CROSS JOIN LATERAL (
                 SELECT min(xact_start) AS oldest, count(*) FILTER (WHERE state = 'disabled') AS hidden FROM pg_stat_activity
                 WHERE datname = current_database() AND backend_type = 'client backend' AND application_name <> $1 AND c.t IS NOT NULL) a
             CROSS JOIN LATERAL (
                 SELECT min(prepared) - $2 AS oldest FROM pg_prepared_xacts WHERE database = current_database() AND c.t IS NOT NULL) p",
        )
        .bind(APPLICATION_NAME)
        .bind(BEFORE_PREPARED)
        .fetch_one(&self.inner.pool)
        .await
        .map_err(HapiError::of("reading the clock"))?;
        let doing = "reading the clock";
        // Either may change while we run; then what others hold open is not seen, and what they commit late would be lost.
        if !row.try_get::<bool, _>(3).map_err(HapiError::of(doing))? {
            return Err(blind(&row.try_get::<String, _>(4).map_err(HapiError::of(doing))?));
        }
        if row.try_get::<i64, _>(2).map_err(HapiError::of(doing))? > 0 {
            return Err(HapiError::Refused(
                "a connection to HAPI's database hides when its transactions began, and its late commits would be lost: SET track_activities = on"
                    .to_owned(),
            ));
        }
        let get = |i| {
            row.try_get::<DateTime<Utc>, _>(i)
                .map_err(HapiError::of("reading the clock"))
        };
        Ok(Clock {
            as_of: get(0)?,
            bound: get(1)? - self.inner.margin,
        })
    }
}

async fn check_server(connection: &mut sqlx::PgConnection) -> Result<(), HapiError> {
    let row = sqlx::query(
        "SELECT current_setting('server_version_num')::int, pg_is_in_recovery(), pg_has_role(current_user, 'pg_read_all_stats', 'USAGE'), current_user::text",
    )
    .fetch_one(connection)
    .await
    .map_err(HapiError::of("looking at the server"))?;
    let doing = "looking at the server";
    if row.try_get::<i32, _>(0).map_err(HapiError::of(doing))? < OLDEST_SERVER {
        return Err(HapiError::Refused(
            "HAPI's PostgreSQL is older than 13, which is the first to have 64-bit snapshots: upgrade it"
                .to_owned(),
        ));
    }
    if row.try_get::<bool, _>(1).map_err(HapiError::of(doing))? {
        return Err(HapiError::Refused(
            "hapi.url leads to a standby, whose snapshots do not list the transactions in progress: use the primary".to_owned(),
        ));
    }
    if !row.try_get::<bool, _>(2).map_err(HapiError::of(doing))? {
        let user: String = row.try_get(3).map_err(HapiError::of(doing))?;
        return Err(blind(&user));
    }
    Ok(())
}

fn blind(user: &str) -> HapiError {
    HapiError::Refused(format!(
        "the role {user} cannot see when other transactions began, and would lose late commits: GRANT pg_read_all_stats TO \"{user}\""
    ))
}

/// A zone east of HAPI's makes rows look older, one west of it newer than now: the second shows at once.
async fn check_zone(connection: &mut sqlx::PgConnection, zone: Zone) -> Result<(), HapiError> {
    let row = sqlx::query("SELECT (SELECT max(res_updated) FROM hfj_resource), clock_timestamp()")
        .fetch_one(connection)
        .await
        .map_err(HapiError::of("looking at the time zone"))?;
    let newest: Option<chrono::NaiveDateTime> = row
        .try_get(0)
        .map_err(HapiError::of("looking at the time zone"))?;
    let now: DateTime<Utc> = row
        .try_get(1)
        .map_err(HapiError::of("looking at the time zone"))?;
    let Some(newest) = newest else { return Ok(()) };
    let ahead = zone.instant(newest).to_utc() - now;
    if ahead > TimeDelta::minutes(20) {
        return Err(HapiError::Refused(format!(
            "HAPI's newest res_updated lies {} minutes in the future if its JVM runs in {}: {}",
            ahead.num_minutes(),
            zone.0,
            misdated::advice(zone, ahead, now)
        )));
    }
    Ok(())
}
