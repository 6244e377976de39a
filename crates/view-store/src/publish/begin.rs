//! The beginning of a run: lock, views, and the tables in which rows are staged.

use std::fmt::Write as _;
use std::time::Instant;

use fhir_core::merge::Position;
use fhir_core::view::CompiledView;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use std::sync::Arc;
use tracing::warn;

use super::load::{self, Load, Stage};
use super::{Part, Run, RunKind, Target};
use crate::driver::is_lock_timeout;
use crate::error::during;
use crate::freshness::TypeRow;
use crate::registry::{ViewCache, bump_registry};
use crate::tables::{self, Table};
use crate::{StoreError, TypeViews, ViewStore, locks};

/// A run waits while HAPI is read: an installation's limits for idle transactions are not for it. What it writes is durable when it says so.
///
/// Within one run the ledger grows from nothing to 100,000 entries and more: a plan that was right for the small table, and is kept, reads all of it for
/// each slice. Planning these statements anew costs a fraction of a millisecond.
const SESSION: &str = "SET idle_in_transaction_session_timeout = 0; SET synchronous_commit = on; SET plan_cache_mode = force_custom_plan";

#[derive(sqlx::FromRow)]
struct ViewRow {
    name: String,
    state: String,
    hash: String,
    definition: String,
    pending_hash: Option<String>,
    pending_definition: Option<String>,
}

impl ViewStore {
    /// Begins a run: takes the type's run lock on a connection of its own. `None`: another run of the type is under way.
    ///
    /// [`Run::views`] are the type's materialised views, and for a join those that are to join too (then `creating` ones become `populating`).
    ///
    /// `resume`: a full or joining run goes on with a load that was broken off.
    pub async fn begin_run(
        &self,
        resource_type: &str,
        kind: RunKind,
        resume: bool,
    ) -> Result<Option<Run>, StoreError> {
        let mut connection = self.run_connection(SESSION).await?;
        if !locks::try_lock_run(&mut connection, resource_type).await? {
            self.keep_run_connection(connection).await?;
            return Ok(None);
        }
        if let Err(error) = self.repair_public_views().await {
            warn!(%error, "a public view still lacks new columns");
        }
        let (generation, rows) = claim_views(&mut connection, resource_type, kind).await?;
        let mut run = Run {
            store: self.clone(),
            connection,
            skew: self.skew,
            kind,
            views: TypeViews {
                resource_type: resource_type.to_owned(),
                generation,
                views: Vec::new(),
            },
            targets: Vec::new(),
            stage: Stage::temporary(),
            load: None,
            first: None,
            staged: 0,
            published: 0,
            indexed: false,
            compared: false,
            after: String::new(),
            finished: false,
        };
        for row in rows {
            run.add_view(row).await?;
        }
        run.make_tables(resume).await?;
        Ok(Some(run))
    }

    /// Whether a view of the type waits to join.
    pub async fn needs_join(&self, resource_type: &str) -> Result<bool, StoreError> {
        Ok(!self.waiting_views(resource_type).await?.is_empty())
    }

    /// The views of the type that wait to join: name, and hash of the definition that they wait with.
    pub async fn waiting_views(&self, resource_type: &str) -> Result<Vec<(String, String)>, StoreError> {
        sqlx::query_as(
            "SELECT name, coalesce(pending_hash, hash) FROM sqlonfhir_meta.view WHERE resource_type = $1 \
             AND (state IN ('creating', 'populating', 'error') OR pending_hash IS NOT NULL) ORDER BY name",
        )
        .bind(resource_type)
        .fetch_all(&self.pool)
        .await
        .map_err(during("looking for views that wait"))
    }
}

/// The views of the run and the generation they are of. Those that are to join become populating.
async fn claim_views(
    connection: &mut PgConnection,
    resource_type: &str,
    kind: RunKind,
) -> Result<(i64, Vec<ViewRow>), StoreError> {
    let doing = during("reading the views of a run");
    let mut transaction = connection.begin().await.map_err(doing)?;
    if kind == RunKind::Join {
        let claimed = sqlx::query(
            "UPDATE sqlonfhir_meta.view SET state = 'populating' WHERE resource_type = $1 AND state IN ('creating', 'error')",
        )
        .bind(resource_type)
        .execute(&mut *transaction)
        .await
        .map_err(doing)?;
        if claimed.rows_affected() > 0 {
            bump_registry(&mut transaction).await?;
        }
    }
    // The generation first: a change in between makes the run start again rather than go on with what is gone.
    let generation = TypeRow::read(&mut transaction, resource_type).await?.generation;
    let rows = views_of(&mut transaction, resource_type, kind).await?;
    transaction.commit().await.map_err(doing)?;
    Ok((generation, rows))
}

/// The views that take part in a run of that kind.
async fn views_of(
    connection: &mut PgConnection,
    resource_type: &str,
    kind: RunKind,
) -> Result<Vec<ViewRow>, StoreError> {
    sqlx::query_as(
        "SELECT name, state, hash, definition, pending_hash, pending_definition FROM sqlonfhir_meta.view \
         WHERE resource_type = $1 AND (state IN ('active', 'stale') OR ($2 AND state = 'populating')) ORDER BY name",
    )
    .bind(resource_type)
    .bind(kind == RunKind::Join)
    .fetch_all(connection)
    .await
    .map_err(during("reading the views of a run"))
}

impl ViewRow {
    /// What the view does in a run of that kind: the definition that its rows are made by, and where they go.
    fn target(self, cache: &ViewCache, kind: RunKind) -> Result<(Arc<CompiledView>, Target), StoreError> {
        let (part, hash, definition) = match (self.pending_hash, self.pending_definition) {
            _ if self.state == "populating" => (Part::Joins, self.hash, self.definition),
            (Some(hash), Some(definition)) if kind == RunKind::Join => (Part::Replaced, hash, definition),
            _ => (Part::Shown, self.hash, self.definition),
        };
        let view = cache.compiled(&self.name, &hash, &definition)?;
        let target = Target {
            name: self.name,
            part,
            columns: tables::all_columns(view.columns()),
            table: String::new(),
            rows: 0,
            hash,
        };
        Ok((view, target))
    }
}

impl Run {
    async fn add_view(&mut self, row: ViewRow) -> Result<(), StoreError> {
        let shown = self.store.cache.compiled(&row.name, &row.hash, &row.definition)?;
        let (view, target) = row.target(&self.store.cache, self.kind)?;
        if target.part == Part::Replaced {
            add_columns(&mut self.connection, &shown, &view).await?;
        }
        self.targets.push(target);
        self.views.views.push(view);
        Ok(())
    }

    /// Makes the tables that the run stages in, unless it goes on with a load that has them.
    async fn make_tables(&mut self, resume: bool) -> Result<(), StoreError> {
        let mut made = false;
        if self.kind == RunKind::Incremental {
            self.stage.create(&mut self.connection).await?;
            name_tables(&self.stage, &mut self.targets);
        } else {
            let plan = load::plan(self.kind, &self.targets);
            let resource_type = self.views.resource_type.clone();
            let owned = load::own(&mut self.connection, &resource_type, &plan, resume).await?;
            made = owned.first.is_some();
            self.stage = owned.stage.clone();
            self.first.clone_from(&owned.first);
            name_tables(&self.stage, &mut self.targets);
            self.load = Some(Load::new(&self.store, &owned, &self.views, &self.targets));
        }
        let mut ddl = String::new();
        for (target, view) in self.targets.iter().zip(&self.views.views) {
            let kind = match (self.kind, target.part) {
                (RunKind::Incremental, _) => "TEMP",
                // It becomes the view's base table.
                (_, Part::Joins) => "",
                _ => "UNLOGGED",
            };
            let shape = tables::shape(view.columns());
            let _ = write!(ddl, "CREATE {kind} TABLE {} ({shape}); ", target.table);
        }
        if made || ddl.is_empty() {
            return Ok(());
        }
        tables::execute(&mut self.connection, ddl, "making the tables of a run").await
    }
}

fn name_tables(stage: &Stage, targets: &mut [Target]) {
    for (place, target) in targets.iter_mut().enumerate() {
        target.table = stage.rows(place);
    }
}

impl ViewStore {
    /// The load of a run that is under way for this type, to put ranges into it, with the reading before it: `None` where there is none, or where it
    /// loads something else than this process would.
    pub async fn shared_load(&self, resource_type: &str) -> Result<Option<(Load, Position)>, StoreError> {
        let mut connection = self.pool.acquire().await.map_err(during("connecting"))?;
        for noted in load::under_way(&mut connection, resource_type).await? {
            for kind in [RunKind::Join, RunKind::Full] {
                let mut views = TypeViews {
                    resource_type: resource_type.to_owned(),
                    generation: 0,
                    views: Vec::new(),
                };
                let mut targets = Vec::new();
                for row in views_of(&mut connection, resource_type, kind).await? {
                    let (view, target) = row.target(&self.cache, kind)?;
                    views.views.push(view);
                    targets.push(target);
                }
                if let Some(first) = noted.first.clone()
                    && noted.plan == load::plan(kind, &targets)
                {
                    name_tables(&noted.stage, &mut targets);
                    return Ok(Some((Load::new(self, &noted, &views, &targets), first)));
                }
            }
        }
        Ok(None)
    }
}

/// The columns that a replacement adds, empty so far: nobody names them before the join. What an earlier attempt added stays if it is of the same type
/// (PostgreSQL never gives a dropped column's number again, and a table has 1,600), and is taken away if not.
async fn add_columns(
    connection: &mut PgConnection,
    old: &CompiledView,
    new: &CompiledView,
) -> Result<(), StoreError> {
    let doing = during("adding columns");
    let present: Vec<(String, String)> = sqlx::query_as(
        "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped",
    )
    .bind(Table::Base.of(old.name()))
    .fetch_all(&mut *connection)
    .await
    .map_err(doing)?;
    let is_old = |name: &str| name.starts_with('_') || old.columns().iter().any(|c| c.name == name);
    let mut kept = Vec::new();
    let mut left_overs = Vec::new();
    for (name, sql_type) in present.iter().filter(|(name, _)| !is_old(name)) {
        let wanted = new.columns().iter().find(|column| column.name == *name);
        let same = match wanted {
            Some(column) => sqlx::query_scalar("SELECT to_regtype($1) IS NOT DISTINCT FROM to_regtype($2)")
                .bind(column.sql_type())
                .bind(sql_type)
                .fetch_one(&mut *connection)
                .await
                .map_err(doing)?,
            None => false,
        };
        if same {
            kept.push(name.as_str());
        } else {
            left_overs.push(name.as_str());
        }
    }
    let mut ddl = String::new();
    for table in Table::ALL {
        let table = table.of(old.name());
        for left_over in &left_overs {
            let _ = write!(
                ddl,
                "ALTER TABLE {table} DROP COLUMN {}; ",
                tables::quoted(left_over)
            );
        }
        for column in new
            .columns()
            .iter()
            .filter(|c| !is_old(&c.name) && !kept.contains(&c.name.as_str()))
        {
            let _ = write!(
                ddl,
                "ALTER TABLE {table} ADD COLUMN {} {}; ",
                tables::quoted(&column.name),
                tables::column_type(column)
            );
        }
    }
    if ddl.is_empty() {
        return Ok(());
    }
    let deadline = Instant::now() + locks::EXCLUSIVE_PATIENCE;
    loop {
        let mut transaction = connection.begin().await.map_err(doing)?;
        let sql = format!("SET LOCAL lock_timeout = '{}'; {ddl}", locks::EXCLUSIVE_WAIT);
        match sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *transaction).await {
            Ok(_) => return transaction.commit().await.map_err(doing),
            Err(error) if is_lock_timeout(&error) && Instant::now() < deadline => {
                transaction.rollback().await.map_err(doing)?;
                tokio::time::sleep(locks::EXCLUSIVE_PAUSE).await;
            }
            Err(error) => return Err(doing(error)),
        }
    }
}
