//! A transaction over the views' PostgreSQL, in which all statements see one snapshot.

use std::sync::Arc;

use async_stream::try_stream;
use fhir_core::column::Column;
use futures::{StreamExt as _, stream};
use sqlx::pool::PoolConnection;
use sqlx::postgres::PgArguments;
use sqlx::{Connection as _, Postgres, SqlSafeStr as _};

use super::driven::fetched;
use super::row::{Layout, answers};
use super::statement::{Source, Statement};
use super::values::ValueCheck;
use super::{AnswerRows, Relation, Select};
use crate::driver::sqlstate;
use crate::error::during;
use crate::freshness::TypeRow;
use crate::insert::put_rows;
use crate::registry::unknown_view;
use crate::tables::{self, Table};
use crate::{Pulse, StoreError, TypeFreshness, ViewStore, transaction};

/// One snapshot of the views' PostgreSQL: rows and freshness that are asked through it belong together (law 3).
///
/// Dropping it ends the transaction; dropping it while rows are still streaming closes the connection, which ends the query too.
pub struct Snapshot {
    store: ViewStore,
    pub(crate) connection: PoolConnection<Postgres>,
    /// Rows are on their way: the connection is of no use to anyone else until they are read.
    pub(crate) streaming: bool,
}

/// Where rows of the caller are asked: they need a temporary table, which a read-only transaction may not make.
const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ";

impl ViewStore {
    /// Opens a snapshot (`REPEATABLE READ READ ONLY`) after taking `ACCESS SHARE` on the tables of the view. Without a view, one in which rows
    /// of the caller can be asked too ([`Relation::Given`]).
    pub async fn snapshot(&self, view: Option<&str>) -> Result<Snapshot, StoreError> {
        self.pulse.unless_silent(self.open_snapshot(view)).await
    }

    async fn open_snapshot(&self, view: Option<&str>) -> Result<Snapshot, StoreError> {
        let doing = during("opening a snapshot");
        let connection = self.reading("opening a snapshot").await?;
        let mut snapshot = Snapshot {
            store: self.clone(),
            connection,
            // Not to be used again if whoever asks goes while the transaction begins: the driver does not know of it before it has begun.
            streaming: true,
        };
        let begun = match view {
            Some(name) => {
                let tables = Table::ALL.map(|table| table.of(name)).join(", ");
                transaction::begin_reading(&mut snapshot.connection, &tables).await
            }
            None => transaction::begin(&mut snapshot.connection, Some(BEGIN.into_sql_str())).await,
        };
        match (begun, view) {
            (Ok(()), _) => {
                snapshot.streaming = false;
                Ok(snapshot)
            }
            (Err(error), Some(name)) if sqlstate(&error).as_deref() == Some("42P01") => {
                drop(snapshot);
                let mut connection = self.pool.acquire().await.map_err(doing)?;
                Err(unknown_view(&mut connection, name).await)
            }
            (Err(error), _) => Err(doing(error)),
        }
    }
}

/// A select, ready to run in its snapshot.
struct Prepared {
    sql: String,
    arguments: PgArguments,
    persistent: bool,
    layout: Layout,
}

impl Snapshot {
    /// What is known of the server that it is of.
    pub(crate) fn pulse(&self) -> Pulse {
        self.store.pulse.clone()
    }

    /// Freshness of a type in this snapshot.
    pub async fn freshness(&mut self, resource_type: &str) -> Result<TypeFreshness, StoreError> {
        Ok(TypeRow::read(&mut self.connection, resource_type)
            .await?
            .freshness())
    }

    /// The columns of the answer, and its rows, streamed.
    pub async fn select(&mut self, select: &Select) -> Result<(Vec<Column>, AnswerRows<'_>), StoreError> {
        let pulse = self.store.pulse.clone();
        let prepared = pulse.unless_silent(self.prepare(select)).await?;
        let columns = prepared.layout.columns.clone();
        Ok((columns, pulse.watched(self.rows(prepared)).boxed()))
    }

    /// The same for an answer that outlives whoever asked: the snapshot ends with it.
    pub async fn into_select(
        mut self,
        select: &Select,
    ) -> Result<(Vec<Column>, AnswerRows<'static>), StoreError> {
        let pulse = self.store.pulse.clone();
        let prepared = pulse.unless_silent(self.prepare(select)).await?;
        let columns = prepared.layout.columns.clone();
        let rows = try_stream! {
            let mut snapshot = self;
            let mut rows = snapshot.rows(prepared);
            while let Some(row) = rows.next().await {
                yield row?;
            }
        };
        Ok((columns, Box::pin(pulse.watched(Box::pin(rows)))))
    }

    async fn prepare(&mut self, select: &Select) -> Result<Prepared, StoreError> {
        let (columns, source, definition) = self.source(&select.relation).await?;
        let statement = Statement::build(select, &columns, &source)?;
        for check in &statement.checks {
            self.check_values(check).await?;
        }
        let arguments = statement.arguments()?;
        let Statement { sql, layout, .. } = statement;
        Ok(Prepared {
            persistent: definition.is_some(),
            // A prepared statement must not outlive its columns' types: it carries the definition's hash, or is used once.
            sql: definition.map_or(sql.clone(), |hash| format!("/* {hash} */ {sql}")),
            arguments,
            layout,
        })
    }

    fn rows(&mut self, prepared: Prepared) -> AnswerRows<'_> {
        let Prepared {
            sql,
            arguments,
            persistent,
            layout,
        } = prepared;
        self.streaming = true;
        let streaming = &mut self.streaming;
        let rows = fetched(&mut self.connection, sql, arguments, persistent);
        let layout = Arc::new(layout);
        let rows = stream::unfold(
            (rows, streaming, layout),
            move |(mut rows, streaming, layout)| async move {
                let Some(together) = rows.next().await else {
                    *streaming = false;
                    return None;
                };
                Some((answers(&layout, together), (rows, streaming, layout)))
            },
        );
        rows.boxed()
    }

    /// Columns of a relation, where its rows are, and the hash of its definition, if it has one.
    async fn source(
        &mut self,
        relation: &Relation,
    ) -> Result<(Vec<Column>, Source, Option<String>), StoreError> {
        let name = match relation {
            Relation::Merged(name) | Relation::Batch(name) => name,
            Relation::Given { columns, tuples } => {
                self.take_in(columns, tuples).await?;
                return Ok((columns.clone(), Source::one("pg_temp.given", "the view"), None));
            }
        };
        let doing = during("reading a view's definition");
        let registered: Option<(String, String)> = sqlx::query_as(
            "SELECT hash, definition FROM sqlonfhir_meta.view WHERE name = $1 AND state IN ('active', 'stale')",
        )
        .bind(name)
        .fetch_optional(&mut *self.connection)
        .await
        .map_err(doing)?;
        let Some((hash, definition)) = registered else {
            return Err(unknown_view(&mut self.connection, name).await);
        };
        let view = self.store.cache.compiled(name, &hash, &definition)?;
        let source =
            Source::of(relation).ok_or_else(|| StoreError::Inconsistent("a view without tables".into()))?;
        Ok((view.columns().to_vec(), source, Some(hash)))
    }

    /// Rows of the caller, into a temporary table that ends with the transaction.
    async fn take_in(&mut self, columns: &[Column], tuples: &[u8]) -> Result<(), StoreError> {
        let ddl = format!(
            "DROP TABLE IF EXISTS pg_temp.given; CREATE TEMP TABLE given ({}) ON COMMIT DROP",
            tables::shape(columns)
        );
        tables::execute(&mut self.connection, ddl, "taking in given rows").await?;
        put_rows(&mut self.connection, "pg_temp.given", columns, &[tuples]).await?;
        Ok(())
    }

    /// Under a savepoint, since a refusal would end the transaction.
    pub(crate) async fn check_values(&mut self, check: &ValueCheck) -> Result<(), StoreError> {
        let doing = during("checking a condition's values");
        let mut savepoint = self.connection.begin().await.map_err(doing)?;
        let checked = check.run(&mut savepoint).await;
        match &checked {
            Err(StoreError::InvalidSelect(_)) => savepoint.rollback().await.map_err(doing)?,
            _ => savepoint.commit().await.map_err(doing)?,
        }
        checked
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        if self.streaming || self.store.pulse.is_silent() {
            self.connection.close_on_drop();
        } else {
            transaction::start_rollback(&mut self.connection);
        }
    }
}
