//! One statement in one snapshot.

use std::ops::Range;
use std::sync::Arc;

use async_stream::try_stream;
use fhir_core::row::Cell;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgConnection, PgRow, PgTypeInfo};
use sqlx::{
    AssertSqlSafe, Column as _, Either, Executor as _, Postgres, Row as _, SqlSafeStr as _, Statement as _,
    TypeInfo as _, ValueRef as _,
};

use super::arguments::{ParameterPlace, SqlArgument};
use super::columns::{SqlColumn, outer_select};
use super::edited::Edited;
use super::errors::{SqlError, refused};
use super::reader::SqlSettings;
use crate::{Pulse, transaction};

/// A statement with its parameters. The text is one SELECT, as whoever made this has checked.
#[derive(Debug, Clone)]
pub struct SqlSelect {
    /// Without a semicolon at its end.
    pub text: String,
    /// Where its parameters stand, in their order.
    pub places: Vec<ParameterPlace>,
    /// Their values: that of `$1` first.
    pub arguments: Vec<SqlArgument>,
    /// At most so many rows.
    pub limit: i64,
}

/// A statement that PostgreSQL has read: what can be run.
pub struct Prepared {
    statement: Edited,
    arguments: PgArguments,
    columns: Vec<SqlColumn>,
}

impl Prepared {
    /// The columns of its answer.
    pub fn columns(&self) -> &[SqlColumn] {
        &self.columns
    }
}

/// The cells of a row, in the order of the columns.
pub type SqlRow = Vec<Cell<'static>>;

/// One snapshot with a reader's rights: rows and freshness that are asked through it belong together.
///
/// Dropping it ends the transaction; dropping it while a statement is at work closes the connection, and PostgreSQL ends the statement when it notices.
pub struct SqlSnapshot {
    connection: PoolConnection<Postgres>,
    settings: Arc<SqlSettings>,
    pulse: Pulse,
    /// The connection is of no use to anyone else until what it is at has ended.
    busy: bool,
}

impl SqlSnapshot {
    pub(super) fn new(
        connection: PoolConnection<Postgres>,
        settings: Arc<SqlSettings>,
        pulse: Pulse,
    ) -> Self {
        Self {
            connection,
            settings,
            pulse,
            // If whoever asks goes while the transaction begins: the driver does not know of it before it has begun.
            busy: true,
        }
    }

    pub(super) fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    /// What is known of the server.
    pub(super) fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }

    pub(super) fn is_idle(&mut self) {
        self.busy = false;
    }

    /// Has PostgreSQL read a statement: names, types and rights are checked, nothing is run.
    pub async fn prepare(&mut self, select: &SqlSelect) -> Result<Prepared, SqlError> {
        let places = |written: &dyn Fn(usize) -> Result<String, SqlError>| {
            let one = |place: &ParameterPlace| Ok((place.range.clone(), written(place.number)?));
            select
                .places
                .iter()
                .map(one)
                .collect::<Result<Vec<_>, SqlError>>()
        };
        // As it stands: it says the types of the columns, and those that it asks of its parameters.
        let asked = within(
            "*",
            &select.text,
            places(&|number| Ok(format!("${number}")))?,
            "",
            select.limit,
        );
        let declared: Vec<PgTypeInfo> = select.arguments.iter().map(SqlArgument::declared).collect();
        self.busy = true;
        let reading = self
            .connection
            .prepare_with(AssertSqlSafe(asked.text()).into_sql_str(), &declared);
        let described = self.pulse.unless_silent(async { Ok(reading.await) }).await;
        let described = described.map_err(SqlError::Store)?;
        // An error has come by the end of its message; whatever else there is makes the connection unusable, and is noticed when it is given back.
        self.busy = matches!(&described, Err(error) if error.as_database_error().is_none());
        let described = described.map_err(|error| refused(&error, Some(&asked)))?;
        let types: Vec<u32> = match described.parameters() {
            Some(Either::Left(types)) => types.iter().map(oid).collect(),
            _ => Vec::new(),
        };
        let columns: Vec<SqlColumn> = described
            .columns()
            .iter()
            .map(|column| SqlColumn::new(column.name(), oid(column.type_info()), column.type_info().name()))
            .collect();
        let mut arguments = PgArguments::default();
        for (i, argument) in select.arguments.iter().enumerate() {
            argument.bind(&mut arguments, i + 1)?;
        }
        let written = |number: usize| {
            let argument = number.checked_sub(1).and_then(|i| select.arguments.get(i));
            let argument = argument.ok_or(SqlError::Parameter {
                number,
                rule: "it has no value",
            })?;
            argument.written(number, types.get(number - 1).copied().unwrap_or_default())
        };
        let names: Vec<String> = (1..=columns.len()).map(|i| format!("c{i}")).collect();
        let names = if names.is_empty() {
            String::new()
        } else {
            format!(" ({})", names.join(", "))
        };
        let outer = outer_select(&columns, self.settings.max_bytes);
        Ok(Prepared {
            statement: within(&outer, &select.text, places(&written)?, &names, select.limit),
            arguments,
            columns,
        })
    }

    /// Runs a statement; its rows, streamed.
    pub fn rows(&mut self, prepared: Prepared) -> BoxStream<'_, Result<SqlRow, SqlError>> {
        let Prepared {
            statement,
            arguments,
            columns,
        } = prepared;
        self.busy = true;
        let busy = &mut self.busy;
        let rows = sqlx::query_with(AssertSqlSafe(statement.text().to_owned()), arguments)
            .persistent(false)
            .fetch(&mut *self.connection);
        let answers = stream::unfold(Some((rows, busy, statement, columns)), move |state| async move {
            let (mut rows, busy, statement, columns) = state?;
            match rows.next().await {
                None => {
                    *busy = false;
                    None
                }
                Some(Err(error)) => {
                    *busy = error.as_database_error().is_none();
                    Some((Err(refused(&error, Some(&statement))), None))
                }
                Some(Ok(row)) => match cells(&row, &columns) {
                    Ok(cells) => Some((Ok(cells), Some((rows, busy, statement, columns)))),
                    // The rest is not read: the connection goes.
                    Err(error) => Some((Err(error), None)),
                },
            }
        });
        self.pulse.watched(answers.boxed()).boxed()
    }

    /// [`Self::rows`] of an answer that outlives whoever asked: the snapshot ends with it.
    pub fn into_rows(self, prepared: Prepared) -> BoxStream<'static, Result<SqlRow, SqlError>> {
        let rows = try_stream! {
            let mut snapshot = self;
            let mut rows = snapshot.rows(prepared);
            while let Some(row) = rows.next().await {
                yield row?;
            }
        };
        Box::pin(rows)
    }

    /// The plan of a statement, as JSON; nothing is run.
    pub async fn plan(&mut self, prepared: Prepared) -> Result<String, SqlError> {
        let Prepared {
            statement, arguments, ..
        } = prepared;
        let explain = format!("EXPLAIN (FORMAT JSON, VERBOSE false) {}", statement.text());
        self.busy = true;
        let planning = sqlx::query_with(AssertSqlSafe(explain), arguments)
            .persistent(false)
            .fetch_one(&mut *self.connection);
        let plan = self.pulse.unless_silent(async { Ok(planning.await) }).await;
        let plan = plan.map_err(SqlError::Store)?;
        self.busy = matches!(&plan, Err(error) if error.as_database_error().is_none());
        let plan = plan.map_err(|error| refused(&error, None))?;
        let text = plan.try_get_raw(0).ok().and_then(|value| {
            let bytes = value.as_bytes().ok()?;
            std::str::from_utf8(bytes).ok().map(str::to_owned)
        });
        Ok(text.unwrap_or_default())
    }

    /// Runs any text as one statement, as it stands and unchecked: what is left of it is what the rights and the transaction refuse. For tests of just
    /// that.
    #[doc(hidden)]
    pub async fn run_unchecked(&mut self, text: &str) -> Result<u64, SqlError> {
        self.busy = true;
        // With arguments, though there are none: so that it goes by the extended protocol, as statements do.
        let run = sqlx::query_with(AssertSqlSafe(text.to_owned()), PgArguments::default())
            .persistent(false)
            .execute(&mut *self.connection)
            .await;
        self.busy = matches!(&run, Err(error) if error.as_database_error().is_none());
        run.map(|done| done.rows_affected())
            .map_err(|error| refused(&error, None))
    }
}

impl Drop for SqlSnapshot {
    fn drop(&mut self) {
        if self.busy || self.pulse.is_silent() {
            self.connection.close_on_drop();
        } else {
            transaction::start_rollback(&mut self.connection);
        }
    }
}

/// The caller's text as a subquery.
fn within(
    outer: &str,
    text: &str,
    mut replacements: Vec<(Range<usize>, String)>,
    names: &str,
    limit: i64,
) -> Edited {
    // On lines of its own: the text may end with a comment.
    replacements.insert(0, (0..0, format!("SELECT {outer} FROM (\n")));
    replacements.push((
        text.len()..text.len(),
        format!("\n) AS answer{names} LIMIT {}", limit.max(0)),
    ));
    Edited::of(text, &replacements)
}

fn cells(row: &PgRow, columns: &[SqlColumn]) -> Result<SqlRow, SqlError> {
    let bytes = |index: usize| {
        let value = row.try_get_raw(index).ok()?;
        if value.is_null() {
            return Some(None);
        }
        value.as_bytes().ok().map(Some)
    };
    if bytes(columns.len()).flatten() == Some(&[1]) {
        return Err(SqlError::ValueTooLarge);
    }
    let cell = |(i, column): (usize, &SqlColumn)| {
        bytes(i)
            .and_then(|bytes| column.cell(bytes))
            .ok_or_else(|| SqlError::Refused {
                rule: "a value is outside of what can be shown: cast it to text",
                sqlstate: "22008".into(),
                at: None,
            })
    };
    columns.iter().enumerate().map(cell).collect()
}

fn oid(of: &PgTypeInfo) -> u32 {
    of.oid().map_or(0, |oid| oid.0)
}
