//! Questions: a select over one view, and its freshness, in one snapshot.

pub(crate) mod statement;

use chrono::{DateTime, Utc};
use fhir_core::{column::Column, row::Cell};
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::{
    Arguments as _, AssertSqlSafe, Connection as _, Postgres, Row as _, SqlSafeStr as _, ValueRef as _,
};

use self::statement::{Argument, Source, Statement, ValueCheck};
use crate::driver::sqlstate;
use crate::error::during;
use crate::freshness::TypeRow;
use crate::insert::put_rows;
use crate::registry::unknown_view;
use crate::tables::{self, Table};
use crate::{StoreError, TypeFreshness, ViewStore, decode, transaction};

/// Where the rows come from.
#[derive(Debug, Clone)]
pub enum Relation {
    /// base and live
    Merged(String),
    /// base and shadowed
    Batch(String),
    /// Rows given by the caller (a view that is not materialised), put into a temporary table for the time of the answer: the same conditions mean the same.
    Given {
        /// Columns of the rows.
        columns: Vec<Column>,
        /// Binary COPY tuples with the hidden columns first, as [`crate::RowsOf::Encoded`] has them.
        tuples: Vec<u8>,
    },
}

/// Comparison of a column with values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `=`
    Equal,
    /// `<>`; null is unequal to nothing
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `= ANY`
    In,
    /// `LIKE`
    Like,
    /// Case-insensitive substring: the value is matched literally (FHIR `:text`).
    ContainsText,
    /// `IS NULL`
    IsNull,
    /// `IS NOT NULL`
    IsNotNull,
}

/// A condition over rows. Values are text, read as the column's type by PostgreSQL.
#[derive(Debug, Clone)]
pub enum Condition {
    /// A column (by name) against values; a collection column matches if any member does.
    Compare {
        /// Name.
        column: String,
        /// Operator.
        operator: Operator,
        /// Values.
        values: Vec<String>,
    },
    /// The resource's id is one of these (hidden column `_rid`).
    ResourceId(Vec<String>),
    /// The resource's lastUpdated is at or after this (hidden column `_updated`).
    UpdatedSince(DateTime<Utc>),
    /// All hold.
    All(Vec<Condition>),
    /// Any holds.
    Any(Vec<Condition>),
    /// Does not hold (null counts as not holding, so its negation holds).
    Not(Box<Condition>),
}

/// Order by a column.
#[derive(Debug, Clone)]
pub struct OrderBy {
    /// Name.
    pub column: String,
    /// Descending; nulls are last either way.
    pub descending: bool,
}

/// A question over one view.
#[derive(Debug, Clone)]
pub struct Select {
    /// Rows' source.
    pub relation: Relation,
    /// Columns wanted, by name, in order; empty means all.
    pub columns: Vec<String>,
    /// Must hold.
    pub condition: Option<Condition>,
    /// At most so many distinct resources, the most recently updated first.
    pub max_resources: Option<i64>,
    /// Order; the hidden (`_rid`, `_row`) break ties, so pages are stable.
    pub order: Vec<OrderBy>,
    /// At most so many rows.
    pub limit: Option<i64>,
    /// Only the number of rows: one bigint column `count`.
    pub count_only: bool,
}

/// One snapshot of the views' PostgreSQL: rows and freshness that are asked through it belong together (law 3).
///
/// Dropping it ends the transaction; dropping it while rows are still streaming closes the connection, which ends the query too.
pub struct Snapshot {
    store: ViewStore,
    pub(crate) connection: PoolConnection<Postgres>,
    /// Rows are on their way: the connection is of no use to anyone else until they are read.
    pub(crate) streaming: bool,
}

/// A row with the layer that it comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Cells in the order of the columns wanted.
    pub cells: Vec<Cell<'static>>,
    /// From the live table.
    pub live: bool,
    /// The resource's id, where the select limits resources.
    pub resource: Option<String>,
}

/// All statements see what the first one sees. Rows of the caller need a temporary table, which a read-only transaction may not make.
const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ";
const READ_ONLY: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

impl ViewStore {
    /// Opens a snapshot (`REPEATABLE READ READ ONLY`) after taking `ACCESS SHARE` on the tables of the view. Without a view, one in which rows
    /// of the caller can be asked too ([`Relation::Given`]).
    pub async fn snapshot(&self, view: Option<&str>) -> Result<Snapshot, StoreError> {
        let doing = during("opening a snapshot");
        let connection = self.pool.acquire().await.map_err(doing)?;
        let mut snapshot = Snapshot {
            store: self.clone(),
            connection,
            // Not to be used again if whoever asks goes while the transaction begins: the driver does not know of it before it has begun.
            streaming: true,
        };
        let sql = if view.is_some() { READ_ONLY } else { BEGIN };
        transaction::begin(&mut snapshot.connection, Some(sql.into_sql_str()))
            .await
            .map_err(doing)?;
        snapshot.streaming = false;
        let Some(name) = view else { return Ok(snapshot) };
        // The lock before the first query: a table that is replaced or dropped in between would look empty in an older snapshot.
        let tables = Table::ALL.map(|table| table.of(name)).join(", ");
        let lock = format!("LOCK TABLE {tables} IN ACCESS SHARE MODE");
        match sqlx::raw_sql(AssertSqlSafe(lock))
            .execute(&mut *snapshot.connection)
            .await
        {
            Ok(_) => Ok(snapshot),
            Err(error) if sqlstate(&error).as_deref() == Some("42P01") => {
                drop(snapshot);
                let mut connection = self.pool.acquire().await.map_err(doing)?;
                Err(unknown_view(&mut connection, name).await)
            }
            Err(error) => Err(doing(error)),
        }
    }
}

impl Snapshot {
    /// Freshness of a type in this snapshot.
    pub async fn freshness(&mut self, resource_type: &str) -> Result<TypeFreshness, StoreError> {
        Ok(TypeRow::read(&mut self.connection, resource_type)
            .await?
            .freshness())
    }

    /// Freshness of a view's type, and how many resources could not be evaluated for the view, in this snapshot.
    pub async fn freshness_of_view(
        &mut self,
        resource_type: &str,
        view: &str,
    ) -> Result<(TypeFreshness, i64), StoreError> {
        let (batch_as_of, speed_as_of, errors) = sqlx::query_as(
            "SELECT t.published_as_of, t.speed_as_of, (SELECT count(*) FROM sqlonfhir_meta.error WHERE view = $2) \
             FROM (SELECT) one LEFT JOIN sqlonfhir_meta.resource_type t ON t.type = $1",
        )
        .bind(resource_type)
        .bind(view)
        .fetch_one(&mut *self.connection)
        .await
        .map_err(during("reading a view's freshness"))?;
        Ok((
            TypeFreshness {
                batch_as_of,
                speed_as_of,
            },
            errors,
        ))
    }

    /// The columns of the answer, and its rows, streamed.
    pub async fn select(
        &mut self,
        select: &Select,
    ) -> Result<(Vec<Column>, BoxStream<'_, Result<Answer, StoreError>>), StoreError> {
        let (columns, source, definition) = self.source(&select.relation).await?;
        let statement = Statement::build(select, &columns, &source)?;
        for check in &statement.checks {
            self.check_values(check).await?;
        }
        let mut arguments = PgArguments::default();
        for argument in &statement.arguments {
            match argument {
                Argument::Text(value) => arguments.add(value),
                Argument::Texts(values) => arguments.add(values),
                Argument::Number(value) => arguments.add(value),
                Argument::Time(value) => arguments.add(value),
            }
            .map_err(|_| StoreError::InvalidSelect("a value is too long".into()))?;
        }
        let Statement {
            sql,
            columns,
            with_layer,
            ..
        } = statement;
        let with_resource = with_layer && select.max_resources.is_some();
        // A prepared statement must not outlive its columns' types: it carries the definition's hash, or is used once.
        let sql = definition
            .as_ref()
            .map_or(sql.clone(), |hash| format!("/* {hash} */ {sql}"));
        self.streaming = true;
        let streaming = &mut self.streaming;
        let rows = sqlx::query_with(AssertSqlSafe(sql), arguments)
            .persistent(definition.is_some())
            .fetch(&mut *self.connection);
        let wanted = columns.clone();
        let answers = stream::unfold(
            (rows, streaming, wanted),
            move |(mut rows, streaming, wanted)| async move {
                let answer = match rows.next().await {
                    None => {
                        *streaming = false;
                        return None;
                    }
                    Some(Err(error)) => Err(during("reading rows")(error)),
                    Some(Ok(row)) => answer(&row, &wanted, with_layer, with_resource),
                };
                Some((answer, (rows, streaming, wanted)))
            },
        );
        Ok((columns, answers.boxed()))
    }

    /// Columns of a relation, where its rows are, and the hash of its definition, if it has one.
    async fn source(
        &mut self,
        relation: &Relation,
    ) -> Result<(Vec<Column>, Source, Option<String>), StoreError> {
        let (name, other) = match relation {
            Relation::Merged(name) => (name, Table::Live),
            Relation::Batch(name) => (name, Table::Shadowed),
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
        let source = Source::two(
            &Table::Base.of(name),
            &other.of(name),
            other == Table::Live,
            &format!("view {name}"),
        );
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

    /// Whether PostgreSQL reads the values as the column's type; under a savepoint, since a refusal would end the transaction.
    pub(crate) async fn check_values(&mut self, check: &ValueCheck) -> Result<(), StoreError> {
        let doing = during("checking a condition's values");
        let mut savepoint = self.connection.begin().await.map_err(doing)?;
        let sql = format!("SELECT ($1::text[])::{}[] IS NULL", check.sql_type);
        let checked = sqlx::query(AssertSqlSafe(sql))
            .bind(&check.values)
            .execute(&mut *savepoint)
            .await;
        match checked {
            Ok(_) => savepoint.commit().await.map_err(doing),
            Err(error) if sqlstate(&error).is_some_and(|code| code.starts_with("22")) => {
                savepoint.rollback().await.map_err(doing)?;
                Err(StoreError::InvalidSelect(format!(
                    "a value for column {} is not a valid {}",
                    check.column, check.sql_type
                )))
            }
            Err(error) => Err(doing(error)),
        }
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        if self.streaming {
            self.connection.close_on_drop();
        } else {
            transaction::start_rollback(&mut self.connection);
        }
    }
}

fn answer(
    row: &PgRow,
    columns: &[Column],
    with_layer: bool,
    with_resource: bool,
) -> Result<Answer, StoreError> {
    let failed = during("reading a row");
    let bytes = |index| {
        let value = row.try_get_raw(index).map_err(failed)?;
        if value.is_null() {
            return Ok(None);
        }
        value
            .as_bytes()
            .map(Some)
            .map_err(|_| StoreError::Inconsistent("a row came in an unknown form".into()))
    };
    let cells = columns
        .iter()
        .enumerate()
        .map(|(i, column)| decode::cell(column, bytes(i)?))
        .collect::<Result<_, StoreError>>()?;
    let live = with_layer && bytes(columns.len())? == Some(&[1]);
    let resource = if with_resource {
        bytes(columns.len() + 1)?
    } else {
        None
    };
    let resource = resource.map(|id| String::from_utf8_lossy(id).into_owned());
    Ok(Answer {
        cells,
        live,
        resource,
    })
}
