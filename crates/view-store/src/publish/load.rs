//! Loads (rule 12): the ranges of a full or joining run, put into staging tables by several workers, on one replica or on several.
//!
//! ```text
//! Run ─ note_first(position, ranges) ─► load, load_range     Loader: next ─► put … ─► finish  (one transaction a range)
//! ```
//!
//! A range's rows and the note that it is done commit together; while it is loaded its row in `load_range` is locked, so a worker that dies gives it
//! back. What is loaded outlives its run: the next one goes on with it, if it would load the very same. A load is owned by the session that holds
//! the advisory lock on its token; one whose lock is free is nobody's, and is gone on with or cleared away.

use std::fmt::Write as _;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use fhir_core::merge::Position;
use fhir_core::resource::State;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use super::{Loader, Part, RunKind, Target};
use crate::driver::is_lock_timeout;
use crate::error::during;
use crate::evaluated::{Evaluator, LoadBatch};
use crate::tables::{self, quoted};
use crate::{StoreError, TypeViews, ViewStore, locks};

/// A load that was broken off longer ago is begun anew: its catch-up would read almost as much.
const LONGEST_PAUSE: &str = "24 hours";

/// What a crash of PostgreSQL loses it loses with the note that it was done; the run's last commit waits for all. Several sessions make indexes at the same
/// time: each of them alone.
const LOADER: &str = "SET synchronous_commit = off; SET idle_in_transaction_session_timeout = 0; SET max_parallel_maintenance_workers = 0";

/// What a range spans: row numbers of the source, from (inclusive) and to (exclusive); `None` is open.
pub type RangeBounds = (Option<i64>, Option<i64>);

/// A load, for those who put ranges into it. Cheap to clone.
#[derive(Clone)]
pub struct Load {
    store: ViewStore,
    token: i64,
    views: Arc<TypeViews>,
    /// Qualified tables, one for each view.
    pub(super) tables: Arc<[String]>,
    pub(super) stage: Stage,
    with_ids: bool,
}

/// Names of the tables that a run stages in, beside those of its views' rows.
#[derive(Debug, Clone)]
pub(super) struct Stage {
    /// `id, version, updated, changed, differs`
    pub(super) ids: String,
    /// `view, id, version, reason`
    pub(super) failed: String,
    /// Empty unless PostgreSQL has crashed since: then it has emptied the others too.
    life: String,
    /// Prefix of the tables of views' rows.
    rows: String,
}

impl Stage {
    /// Of an incremental run: temporary, so that they cost little and go with the session.
    pub(super) fn temporary() -> Self {
        let name = |of: &str| format!("pg_temp.{of}");
        Self {
            ids: name("staged"),
            failed: name("failed"),
            life: String::new(),
            rows: name("rows"),
        }
    }

    fn of_load(token: i64) -> Self {
        let name = |of: &str| format!("sqlonfhir_stage.load{token}_{of}");
        Self {
            ids: name("staged"),
            failed: name("failed"),
            life: name("life"),
            rows: name("rows"),
        }
    }

    /// The table of a view's rows, by its place.
    pub(super) fn rows(&self, place: usize) -> String {
        format!("{}_{place}", self.rows)
    }

    /// Makes the tables for ids and failures. Those of a load have no key before all is loaded.
    pub(super) async fn create(&self, connection: &mut PgConnection) -> Result<(), StoreError> {
        let (kind, key) = if self.life.is_empty() {
            ("TEMP", " PRIMARY KEY")
        } else {
            ("UNLOGGED", "")
        };
        let mut ddl = format!(
            "CREATE {kind} TABLE {} (id text COLLATE \"C\"{key} NOT NULL, version bigint NOT NULL, updated timestamptz NOT NULL, \
                                     changed boolean NOT NULL, differs boolean NOT NULL DEFAULT false); \
             CREATE {kind} TABLE {} (view text COLLATE \"C\" NOT NULL, id text COLLATE \"C\" NOT NULL, version bigint NOT NULL, reason text NOT NULL);",
            self.ids, self.failed
        );
        if !self.life.is_empty() {
            let _ = write!(
                ddl,
                "CREATE UNLOGGED TABLE {} AS SELECT true AS alive;",
                self.life
            );
        }
        tables::execute(connection, ddl, "making the tables of a run").await
    }

    /// Whether PostgreSQL has not crashed since the tables were made.
    async fn is_alive(&self, connection: &mut PgConnection) -> Result<bool, StoreError> {
        let doing = during("looking at a load");
        let there: bool = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
            .bind(&self.life)
            .fetch_one(&mut *connection)
            .await
            .map_err(doing)?;
        if !there {
            return Ok(false);
        }
        let sql = format!("SELECT EXISTS (SELECT FROM {})", self.life);
        sqlx::query_scalar(AssertSqlSafe(sql))
            .fetch_one(connection)
            .await
            .map_err(doing)
    }
}

/// A load as it is written down.
pub(super) struct Noted {
    pub(super) token: i64,
    pub(super) plan: String,
    pub(super) stage: Stage,
    /// The reading before it, once it is known.
    pub(super) first: Option<Position>,
    recent: bool,
}

#[derive(sqlx::FromRow)]
struct LoadRow {
    token: i64,
    plan: String,
    recent: bool,
    first_n: Option<i64>,
    first_as_of: Option<DateTime<Utc>>,
    first_bound: Option<DateTime<Utc>>,
    first_xmin: Option<i64>,
    first_timeline: Option<String>,
}

impl LoadRow {
    fn first(&self) -> Option<Position> {
        Some(Position {
            n: self.first_n?,
            as_of: self.first_as_of?,
            bound: self.first_bound?,
            xmin: self.first_xmin?.cast_unsigned(),
            timeline: self.first_timeline.clone()?,
        })
    }
}

/// The loads of a type, the oldest first.
pub(super) async fn under_way(
    connection: &mut PgConnection,
    resource_type: &str,
) -> Result<Vec<Noted>, StoreError> {
    let sql = format!(
        "SELECT *, started > clock_timestamp() - interval '{LONGEST_PAUSE}' AS recent FROM sqlonfhir_meta.load WHERE type = $1 ORDER BY token"
    );
    let rows: Vec<LoadRow> = sqlx::query_as(AssertSqlSafe(sql))
        .bind(resource_type)
        .fetch_all(connection)
        .await
        .map_err(during("looking at the loads of a type"))?;
    let noted = rows.into_iter().map(|row| Noted {
        token: row.token,
        stage: Stage::of_load(row.token),
        first: row.first(),
        plan: row.plan,
        recent: row.recent,
    });
    Ok(noted.collect())
}

/// Takes over a load of the type that would load the very same, or begins one. Others that are nobody's are cleared away.
pub(super) async fn own(
    connection: &mut PgConnection,
    resource_type: &str,
    plan: &str,
    resume: bool,
) -> Result<Noted, StoreError> {
    let mut same_load = None;
    for load in under_way(connection, resource_type).await? {
        if !locks::try_lock_load(connection, load.token).await? {
            continue;
        }
        let same = resume && load.recent && load.plan == plan && load.first.is_some();
        if same_load.is_none() && same && load.stage.is_alive(connection).await? {
            same_load = Some(load);
        } else {
            discard(connection, load.token).await?;
        }
    }
    if let Some(load) = same_load {
        return Ok(load);
    }
    let token: i64 =
        sqlx::query_scalar("INSERT INTO sqlonfhir_meta.load (type, plan) VALUES ($1, $2) RETURNING token")
            .bind(resource_type)
            .bind(plan)
            .fetch_one(&mut *connection)
            .await
            .map_err(during("beginning a load"))?;
    locks::try_lock_load(connection, token).await?;
    let stage = Stage::of_load(token);
    stage.create(connection).await?;
    Ok(Noted {
        token,
        plan: plan.to_owned(),
        stage,
        first: None,
        recent: true,
    })
}

/// Clears a load away that belongs to this session. Workers that still put a range into it are waited for, for a moment: the next run tries again.
pub(super) async fn discard(connection: &mut PgConnection, token: i64) -> Result<(), StoreError> {
    let doing = during("clearing a load away");
    let mut transaction = connection.begin().await.map_err(doing)?;
    tables::execute(
        &mut transaction,
        "SET LOCAL lock_timeout = '1s'".into(),
        "clearing a load away",
    )
    .await?;
    match discard_within(&mut transaction, token).await {
        Ok(()) => transaction.commit().await.map_err(doing)?,
        Err(error) if is_lock_timeout(&error) => transaction.rollback().await.map_err(doing)?,
        Err(error) => return Err(doing(error)),
    }
    locks::unlock_load(connection, token).await
}

/// Takes a load out of the list, in the transaction that is open.
pub(super) async fn forget(connection: &mut PgConnection, token: i64) -> Result<(), StoreError> {
    forget_raw(connection, token)
        .await
        .map_err(during("forgetting a load"))
}

async fn forget_raw(connection: &mut PgConnection, token: i64) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM sqlonfhir_meta.load WHERE token = $1")
        .bind(token)
        .execute(connection)
        .await
        .map(|_| ())
}

/// Clears away what it consists of, in the transaction that is open.
async fn discard_within(connection: &mut PgConnection, token: i64) -> Result<(), sqlx::Error> {
    forget_raw(connection, token).await?;
    let stage = Stage::of_load(token);
    let prefix = stage.rows.rsplit('.').next().unwrap_or_default();
    let mut left: Vec<String> = sqlx::query_scalar(
        "SELECT relname::text FROM pg_class WHERE relnamespace = 'sqlonfhir_stage'::regnamespace AND relkind = 'r' AND starts_with(relname::text, $1 || '_')",
    )
    .bind(prefix)
    .fetch_all(&mut *connection)
    .await?
    .into_iter()
    .map(|name: String| format!("sqlonfhir_stage.{}", quoted(&name)))
    .collect();
    left.extend([stage.ids, stage.failed, stage.life]);
    sqlx::raw_sql(AssertSqlSafe(format!("DROP TABLE IF EXISTS {}", left.join(", "))))
        .execute(connection)
        .await?;
    Ok(())
}

/// Notes the reading before the load, and its ranges.
pub(super) async fn note_first(
    connection: &mut PgConnection,
    token: i64,
    first: &Position,
    ranges: &[RangeBounds],
) -> Result<(), StoreError> {
    let doing = during("noting the ranges of a load");
    let mut transaction = connection.begin().await.map_err(doing)?;
    sqlx::query(
        "UPDATE sqlonfhir_meta.load SET first_n = $2, first_as_of = $3, first_bound = $4, first_xmin = $5, first_timeline = $6 WHERE token = $1",
    )
    .bind(token)
    .bind(first.n)
    .bind(first.as_of)
    .bind(first.bound)
    .bind(first.xmin.cast_signed())
    .bind(&first.timeline)
    .execute(&mut *transaction)
    .await
    .map_err(doing)?;
    sqlx::query(
        "INSERT INTO sqlonfhir_meta.load_range (token, ordinal, from_id, to_id) \
         SELECT $1, ordinal, from_id, to_id FROM unnest($2::bigint[], $3::bigint[]) WITH ORDINALITY r (from_id, to_id, ordinal)",
    )
    .bind(token)
    .bind(ranges.iter().map(|r| r.0).collect::<Vec<_>>())
    .bind(ranges.iter().map(|r| r.1).collect::<Vec<_>>())
    .execute(&mut *transaction)
    .await
    .map_err(doing)?;
    transaction.commit().await.map_err(doing)
}

/// What is loaded, for comparing: another kind, view or release loads something else.
pub(super) fn plan(kind: RunKind, targets: &[Target]) -> String {
    let views = targets
        .iter()
        .map(|t| format!("{} {:?} {}", t.name, t.part, t.hash))
        .collect::<Vec<_>>();
    format!("{} {kind:?} {}", env!("CARGO_PKG_VERSION"), views.join(" "))
}

impl Load {
    pub(super) fn new(store: &ViewStore, noted: &Noted, views: &TypeViews, targets: &[Target]) -> Self {
        Self {
            store: store.clone(),
            token: noted.token,
            views: Arc::new(views.clone()),
            tables: targets.iter().map(|t| t.table.clone()).collect(),
            stage: noted.stage.clone(),
            // Only of what is shown it is asked what is gone.
            with_ids: targets.iter().any(|t| t.part == Part::Shown),
        }
    }

    pub(super) fn token(&self) -> i64 {
        self.token
    }

    /// Whether it is written down which ids were loaded.
    pub(super) fn with_ids(&self) -> bool {
        self.with_ids
    }

    /// The views that rows are made for.
    pub fn views(&self) -> &TypeViews {
        &self.views
    }

    /// Evaluates for the views of the load; one for each worker.
    pub fn evaluator(&self) -> Evaluator {
        Evaluator::new(&self.views)
    }

    /// Evaluates states. Computing only: not for an async task.
    pub fn evaluate(&self, evaluator: &mut Evaluator, states: &[State]) -> LoadBatch {
        evaluator.load(states, self.with_ids)
    }

    /// A worker, over a connection of its own.
    pub async fn loader(&self) -> Result<Loader, StoreError> {
        Ok(Loader::new(self.clone(), self.connection().await?))
    }

    /// A connection for what is done beside others.
    pub(super) async fn connection(&self) -> Result<PgConnection, StoreError> {
        self.store.run_connection(LOADER).await
    }

    /// Takes it back.
    pub(super) async fn give_back(&self, connection: PgConnection) -> Result<(), StoreError> {
        self.store.keep_run_connection(connection).await
    }

    /// Ranges that are not done: free ones, and those that others are at.
    pub async fn unfinished(&self) -> Result<i64, StoreError> {
        sqlx::query_scalar("SELECT count(*) FROM sqlonfhir_meta.load_range WHERE token = $1 AND NOT done")
            .bind(self.token)
            .fetch_one(&self.store.pool)
            .await
            .map_err(during("looking at a load"))
    }

    /// Resources of the ranges that are done.
    pub async fn done(&self) -> Result<u64, StoreError> {
        let done: i64 = sqlx::query_scalar(
            "SELECT coalesce(sum(resources), 0)::bigint FROM sqlonfhir_meta.load_range WHERE token = $1 AND done",
        )
        .bind(self.token)
        .fetch_one(&self.store.pool)
        .await
        .map_err(during("looking at a load"))?;
        Ok(done.cast_unsigned())
    }
}
