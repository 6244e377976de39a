//! The registry of views: name, definition, state; and the compiled views of a type.
//!
//! A definition is registered at once and joins its type with the next joining run (rule 14). Until then queries go to the fallback; a
//! replaced definition keeps showing the rows of the one before.

mod definitions;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use fhir_core::view::{CompiledView, ViewSet};
use sqlx::{AssertSqlSafe, PgConnection};

use crate::error::during;
use crate::freshness::TypeRow;
use crate::{StoreError, ViewStore};

/// Life of a view: creating -> populating -> active -> stale | error. A drop is one transaction: a view is there or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ViewState {
    /// Registered; nothing read yet.
    Creating,
    /// Its first rows are being loaded.
    Populating,
    /// Materialised and kept.
    Active,
    /// Materialised; its new definition could not be loaded, and the rows are those of the one before.
    Stale,
    /// Not materialised.
    Error,
}

impl ViewState {
    /// Whether the view's rows are kept and shown.
    pub fn is_materialised(self) -> bool {
        matches!(self, Self::Active | Self::Stale)
    }

    /// As the registry and the contracts write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Populating => "populating",
            Self::Active => "active",
            Self::Stale => "stale",
            Self::Error => "error",
        }
    }

    fn from_column(text: &str) -> Result<Self, StoreError> {
        Ok(match text {
            "creating" => Self::Creating,
            "populating" => Self::Populating,
            "active" => Self::Active,
            "stale" => Self::Stale,
            "error" => Self::Error,
            other => {
                return Err(StoreError::Inconsistent(format!(
                    "a view is in the unknown state {other}"
                )));
            }
        })
    }
}

/// A row of the registry.
#[derive(Debug, Clone)]
pub struct RegisteredView {
    /// `name` of the definition.
    pub name: String,
    /// `url` of the definition.
    pub url: Option<String>,
    /// `resource` of the definition.
    pub resource_type: String,
    /// JSON text; of a view that is being replaced, the definition whose rows are shown.
    pub definition: String,
    /// SHA-256 of the definition, hex.
    pub hash: String,
    /// State.
    pub state: ViewState,
    /// Why stale or error, without content.
    pub reason: Option<String>,
    /// T of the type's watermark, if the view is materialised.
    pub batch_as_of: Option<DateTime<Utc>>,
    /// n of the type's watermark; 0 before the first.
    pub published_n: i64,
    /// Batch rows as of the last refresh; `None` if not materialised.
    pub row_count: Option<i64>,
    /// Bytes of its tables with their indexes; `None` if not materialised.
    pub byte_count: Option<i64>,
    /// Resources with an evaluation error for this view.
    pub error_count: i64,
}

/// The materialised (active or stale) views of one type, compiled, as of one generation of the type.
#[derive(Debug, Clone)]
pub struct TypeViews {
    /// The resource type.
    pub resource_type: String,
    /// Moves when a view joins, changes or leaves; every transaction that writes rows checks it under the type's lock.
    pub generation: i64,
    /// In the order of their names.
    pub views: Vec<Arc<CompiledView>>,
}

impl TypeViews {
    /// Whether a view may look at the member of a resource that these names lead to.
    pub fn read(&self, path: &[&str]) -> bool {
        ViewSet::new(self.views.iter().cloned()).reads(path)
    }
}

/// What [`ViewStore::put_view`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutOutcome {
    /// The same definition is registered already.
    Unchanged,
    /// New, or not materialised so far, or replaced by force: state creating; it joins its type with the next run.
    Created,
    /// Same columns or more: it is loaded beside and replaces the old one when it joins.
    Replacing,
}

/// Compiled views by the hash of their definition, and those of each type by generation.
#[derive(Debug, Default)]
pub(crate) struct ViewCache {
    compiled: Mutex<HashMap<String, Arc<CompiledView>>>,
    of_type: Mutex<HashMap<String, TypeViews>>,
}

/// Definitions that come and go must not fill the memory.
const CACHED_DEFINITIONS: usize = 1000;

impl ViewCache {
    /// The compiled form of a registered definition.
    pub(crate) fn compiled(
        &self,
        name: &str,
        hash: &str,
        definition: &str,
    ) -> Result<Arc<CompiledView>, StoreError> {
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(view) = compiled.get(hash) {
            return Ok(view.clone());
        }
        let view = CompiledView::from_json(definition).map_err(|e| {
            StoreError::Inconsistent(format!(
                "the definition of view {name} is not valid in this release: {e}"
            ))
        })?;
        if compiled.len() >= CACHED_DEFINITIONS {
            compiled.clear();
        }
        let view = Arc::new(view);
        compiled.insert(hash.to_owned(), view.clone());
        Ok(view)
    }
}

/// A type's generation with one of its materialised views: name, hash, definition; all null for a type without any.
type DefinitionRow = (i64, Option<String>, Option<String>, Option<String>);

#[derive(sqlx::FromRow)]
struct RegistryRow {
    name: String,
    url: Option<String>,
    resource_type: String,
    definition: String,
    hash: String,
    state: String,
    reason: Option<String>,
    batch_as_of: Option<DateTime<Utc>>,
    published_n: i64,
    row_count: Option<i64>,
    byte_count: Option<i64>,
    error_count: i64,
}

/// Bytes of the view's tables.
const SIZE: &str = "(SELECT sum(pg_total_relation_size(c.oid))::bigint FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace \
    WHERE c.relname = v.name AND c.relkind = 'r' AND s.nspname IN ('sqlonfhir_base', 'sqlonfhir_live', 'sqlonfhir_shadowed'))";

impl ViewStore {
    /// All registered views, by name.
    pub async fn views(&self) -> Result<Vec<RegisteredView>, StoreError> {
        self.registered(SIZE).await
    }

    /// The same without their sizes, for which PostgreSQL locks each view's tables: nobody who only asks which views there are waits for one that is locked.
    pub async fn views_without_sizes(&self) -> Result<Vec<RegisteredView>, StoreError> {
        self.registered("NULL::bigint").await
    }

    async fn registered(&self, byte_count: &'static str) -> Result<Vec<RegisteredView>, StoreError> {
        let sql = format!(
            "SELECT v.name, v.url, v.resource_type, v.definition, v.hash, v.state, v.reason, v.row_count, \
                    t.published_as_of AS batch_as_of, coalesce(t.published_n, 0) AS published_n, {byte_count} AS byte_count, \
                    (SELECT count(*) FROM sqlonfhir_meta.error e WHERE e.view = v.name) AS error_count \
             FROM sqlonfhir_meta.view v LEFT JOIN sqlonfhir_meta.resource_type t ON t.type = v.resource_type ORDER BY v.name"
        );
        let rows: Vec<RegistryRow> = sqlx::query_as(AssertSqlSafe(sql))
            .fetch_all(&self.pool)
            .await
            .map_err(during("reading the registry"))?;
        rows.into_iter()
            .map(|row| {
                let state = ViewState::from_column(&row.state)?;
                let materialised = state.is_materialised();
                Ok(RegisteredView {
                    name: row.name,
                    url: row.url,
                    resource_type: row.resource_type,
                    definition: row.definition,
                    hash: row.hash,
                    state,
                    reason: row.reason,
                    batch_as_of: row.batch_as_of.filter(|_| materialised),
                    published_n: if materialised { row.published_n } else { 0 },
                    row_count: row.row_count.filter(|_| materialised),
                    byte_count: row.byte_count.filter(|_| materialised),
                    error_count: row.error_count,
                })
            })
            .collect()
    }

    /// The materialised views of a type, compiled (cached by generation).
    pub async fn type_views(&self, resource_type: &str) -> Result<TypeViews, StoreError> {
        let mut connection = self.pool.acquire().await.map_err(during("connecting"))?;
        self.type_views_on(&mut connection, resource_type).await
    }

    pub(crate) async fn type_views_on(
        &self,
        connection: &mut PgConnection,
        resource_type: &str,
    ) -> Result<TypeViews, StoreError> {
        let generation: i64 = sqlx::query_scalar(
            "SELECT coalesce((SELECT generation FROM sqlonfhir_meta.resource_type WHERE type = $1), 0)",
        )
        .bind(resource_type)
        .fetch_one(&mut *connection)
        .await
        .map_err(during("reading a type's generation"))?;
        let cached = self
            .cache
            .of_type
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(resource_type)
            .cloned();
        if let Some(views) = cached.filter(|v| v.generation == generation) {
            return Ok(views);
        }
        // Generation and definitions in one statement, so of one moment.
        let rows: Vec<DefinitionRow> = sqlx::query_as(
            "SELECT t.generation, v.name, v.hash, v.definition FROM sqlonfhir_meta.resource_type t \
             LEFT JOIN sqlonfhir_meta.view v ON v.resource_type = t.type AND v.state IN ('active', 'stale') \
             WHERE t.type = $1 ORDER BY v.name",
        )
        .bind(resource_type)
        .fetch_all(connection)
        .await
        .map_err(during("reading a type's views"))?;
        let generation = rows.first().map_or(0, |r| r.0);
        let views = rows
            .into_iter()
            .filter_map(|(_, name, hash, definition)| Some((name?, hash?, definition?)))
            .map(|(name, hash, definition)| self.cache.compiled(&name, &hash, &definition))
            .collect::<Result<_, _>>()?;
        let views = TypeViews {
            resource_type: resource_type.to_owned(),
            generation,
            views,
        };
        self.cache
            .of_type
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(resource_type.to_owned(), views.clone());
        Ok(views)
    }

    /// Records why the views of a type that wait to join could not: new ones are in error, those that were to be replaced are stale. A later
    /// joining run tries again.
    pub async fn fail_joining(&self, resource_type: &str, reason: &str) -> Result<(), StoreError> {
        let doing = during("recording a view's failure");
        let mut transaction = self.begin().await?;
        let changed = sqlx::query(
            "UPDATE sqlonfhir_meta.view SET state = CASE WHEN pending_hash IS NULL THEN 'error' ELSE 'stale' END, reason = $2 \
             WHERE resource_type = $1 AND (state IN ('creating', 'populating') OR pending_hash IS NOT NULL) \
             AND (state, reason) IS DISTINCT FROM ('stale', $2)",
        )
        .bind(resource_type)
        .bind(reason)
        .execute(&mut *transaction)
        .await
        .map_err(doing)?;
        if changed.rows_affected() == 0 {
            return Ok(());
        }
        bump_registry(&mut transaction).await?;
        transaction.commit().await.map_err(doing)
    }

    /// Moves with every change of the registry (views, states, watermarks' publication not included): what `WatchViews` polls cheaply.
    pub async fn registry_generation(&self) -> Result<i64, StoreError> {
        sqlx::query_scalar("SELECT generation FROM sqlonfhir_meta.registry")
            .fetch_one(&self.pool)
            .await
            .map_err(during("reading the registry's generation"))
    }
}

/// Refuses a transaction whose views are not those of the type now.
pub(crate) fn check_generation(views: &TypeViews, row: &TypeRow) -> Result<(), StoreError> {
    if views.generation == row.generation {
        Ok(())
    } else {
        Err(StoreError::ViewsChanged {
            resource_type: views.resource_type.clone(),
        })
    }
}

/// Makes the type's row, if it is new.
pub(crate) async fn ensure_type(
    connection: &mut PgConnection,
    resource_type: &str,
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO sqlonfhir_meta.resource_type (type) VALUES ($1) ON CONFLICT DO NOTHING")
        .bind(resource_type)
        .execute(connection)
        .await
        .map_err(during("registering a type"))?;
    Ok(())
}

/// The type's views have changed: whoever writes rows must load them again. Under the type's lock.
pub(crate) async fn bump_type(connection: &mut PgConnection, resource_type: &str) -> Result<(), StoreError> {
    sqlx::query("UPDATE sqlonfhir_meta.resource_type SET generation = generation + 1 WHERE type = $1")
        .bind(resource_type)
        .execute(connection)
        .await
        .map_err(during("moving a type's generation"))?;
    Ok(())
}

/// The registry has changed: watchers look again.
pub(crate) async fn bump_registry(connection: &mut PgConnection) -> Result<(), StoreError> {
    sqlx::query("UPDATE sqlonfhir_meta.registry SET generation = generation + 1")
        .execute(connection)
        .await
        .map_err(during("moving the registry's generation"))?;
    Ok(())
}

/// The error that names the views that there are.
pub(crate) async fn unknown_view(connection: &mut PgConnection, name: &str) -> StoreError {
    match sqlx::query_scalar::<_, String>("SELECT name FROM sqlonfhir_meta.view ORDER BY name")
        .fetch_all(connection)
        .await
    {
        Ok(known) => StoreError::UnknownView {
            name: name.into(),
            known,
        },
        Err(error) => during("reading the registry")(error),
    }
}
