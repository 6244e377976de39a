//! A question over a view's tables as one statement: its rows and their freshness are of one snapshot without a transaction around them, and come in one
//! round trip (but for whole views).
//!
//! PostgreSQL locks the tables of a statement before it takes the snapshot that it runs in, so a table that is replaced or dropped meanwhile is
//! seen as it is then, or not at all. (COPY does not: see [`driven`](super::driven).)

use std::pin::Pin;
use std::sync::Arc;

use async_stream::stream;
use fhir_core::column::Column;
use futures::{Stream, StreamExt as _, stream};
use sqlx::Postgres;
use sqlx::pool::PoolConnection;
use sqlx::postgres::PgArguments;

use super::count::{Count, InState};
use super::driven::{Together, copied, fetched};
use super::row::{self, Known, Layout, answers};
use super::statement::{Source, Statement};
use super::{AnswerRows, Select};
use crate::driver::{is_connection_lost, sqlstate};
use crate::error::during;
use crate::{RegisteredView, StoreError, TypeFreshness, ViewStore, transaction};

/// A pool's connections may all have been lost with the server: so often another one is tried.
const TRIES: usize = 4;

/// A view's tables are not what a statement takes them for: undefined table, undefined column, a plan whose result has changed.
const CHANGED: [&str; 3] = ["42P01", "42703", "0A000"];

/// What came of a question over one view.
pub struct Asked {
    /// Columns of the rows.
    pub columns: Vec<Column>,
    /// Of the view's type, in the rows' snapshot.
    pub freshness: TypeFreshness,
    /// Resources that could not be evaluated for the view.
    pub errors: i64,
    /// The rows.
    pub rows: AnswerRows<'static>,
}

/// Rows as they come.
type Rows = Pin<Box<dyn Stream<Item = Together> + Send>>;

/// An answer whose first rows have come.
struct Begun {
    known: Known,
    first: Together,
    rows: Rows,
    layout: Arc<Layout>,
}

/// A count, and what it went by.
struct CountedOnce {
    asked: Asked,
    in_state: InState,
}

/// A connection that is closed unless the statement that it is lent for has come to its end.
struct Lent {
    connection: PoolConnection<Postgres>,
    ended: bool,
}

impl Drop for Lent {
    fn drop(&mut self) {
        if !self.ended {
            self.connection.close_on_drop();
        }
    }
}

impl ViewStore {
    /// Asks a materialised view, whose columns are those of its registered definition. [`StoreError::ViewsChanged`]: it is not of this definition any more.
    pub async fn ask(
        &self,
        view: &RegisteredView,
        columns: &[Column],
        select: &Select,
    ) -> Result<Asked, StoreError> {
        let source = Source::of(&select.relation)
            .ok_or_else(|| StoreError::InvalidSelect("rows of the caller are asked in a snapshot".into()))?;
        if let Some(count) = Count::of(select, columns, &view.hash) {
            return self.ask_count(view, &count).await;
        }
        let begun = self
            .begin_answer(view, Statement::build(select, columns, &source)?)
            .await?;
        let answered = stream::iter([begun.first]).chain(begun.rows);
        let layout = begun.layout.clone();
        let rows = answered.map(move |rows| answers(&layout, rows));
        Ok(Asked {
            columns: begun.layout.columns.clone(),
            freshness: begun.known.freshness,
            errors: begun.known.errors,
            rows: self.pulse.watched(rows.boxed()).boxed(),
        })
    }

    /// A count: with the batch's rows as they are remembered, if they still are those.
    async fn ask_count(&self, view: &RegisteredView, count: &Count<'_>) -> Result<Asked, StoreError> {
        let counted = count.question()?.map(|question| self.batch_counts.of(question));
        let mut known = counted.as_ref().and_then(|counted| counted.known());
        // It waits for another one once: while the batch publishes, what others have counted may be outdated again and again.
        let (mut outdated, mut waits) = (None, true);
        loop {
            let mut turn = None;
            if let (Some(counted), None, true) = (&counted, known, waits) {
                waits = false;
                match counted.turn(outdated).await {
                    Ok(own) => turn = Some(own),
                    Err(by_another) => known = Some(by_another),
                }
            }
            let asked = self.count_once(view, count, known).await?;
            match (&counted, known) {
                (_, Some(known_before)) if known_before.state != asked.in_state.state => {
                    outdated = known.take();
                    continue;
                }
                // What is confirmed alone may be of an older snapshot than what another one has counted since.
                (Some(counted), None) => counted.remember(asked.in_state),
                _ => {}
            }
            drop(turn);
            return Ok(asked.asked);
        }
    }

    /// With the number of the batch's rows that it was asked with, or has counted, and the state they are in.
    async fn count_once(
        &self,
        view: &RegisteredView,
        count: &Count<'_>,
        known: Option<InState>,
    ) -> Result<CountedOnce, StoreError> {
        let statement = count.statement(known.map(|known| known.rows))?;
        let Begun {
            known,
            first,
            rows,
            layout,
        } = self.begin_answer(view, statement).await?;
        // It is one row, and its end.
        let rest = self
            .pulse
            .unless_silent(async { Ok::<_, StoreError>(rows.collect::<Vec<_>>().await) })
            .await?;
        let counted = answers(
            &layout,
            first.into_iter().chain(rest.into_iter().flatten()).collect(),
        )?;
        let rows = match counted.first() {
            Some(counted) => counted.batch_rows()?,
            None => None,
        };
        let in_state = InState {
            state: known.batch_state,
            rows: rows.ok_or_else(|| StoreError::Inconsistent("a count without a row".into()))?,
        };
        let asked = Asked {
            columns: layout.columns.clone(),
            freshness: known.freshness,
            errors: known.errors,
            rows: stream::iter([Ok(counted)]).boxed(),
        };
        Ok(CountedOnce { asked, in_state })
    }

    /// What is known of the view, and the rows from there on.
    async fn begin_answer(
        &self,
        view: &RegisteredView,
        mut statement: Statement,
    ) -> Result<Begun, StoreError> {
        statement.with_freshness(&view.name, &view.hash);
        let changed = || StoreError::ViewsChanged {
            resource_type: view.resource_type.clone(),
        };
        let mut sql = statement.sql.clone();
        if statement.copied_from.is_none() {
            // A prepared statement must not outlive its columns' types: it carries the definition's hash.
            sql.insert_str(0, &format!("/* {} */ ", view.hash));
        }
        let mut tries = 1;
        loop {
            let begun = async {
                let mut rows = self.run(&statement, sql.clone(), statement.arguments()?).await?;
                let first = rows.next().await.unwrap_or_default();
                Ok::<_, StoreError>((first.into_iter(), rows))
            };
            let (mut first, rows) = self.pulse.unless_silent(begun).await?;
            match first.next() {
                Some(Ok(row)) => {
                    return Ok(Begun {
                        known: row::known(&row)?.ok_or_else(changed)?,
                        first: first.collect(),
                        rows,
                        layout: Arc::new(statement.layout),
                    });
                }
                None => return Err(changed()),
                Some(Err(error)) if is_connection_lost(&error) && tries < TRIES => tries += 1,
                Some(Err(error)) if sqlstate(&error).is_some_and(|code| CHANGED.contains(&code.as_str())) => {
                    return Err(changed());
                }
                Some(Err(error)) => return Err(during("reading rows")(error)),
            }
        }
    }

    /// The statement's rows, over a connection of their own.
    async fn run(
        &self,
        statement: &Statement,
        sql: String,
        arguments: PgArguments,
    ) -> Result<Rows, StoreError> {
        let connection = self.reading("connecting").await?;
        let mut lent = Lent {
            connection,
            ended: false,
        };
        for check in &statement.checks {
            check.run(&mut lent.connection).await?;
        }
        let tables = statement.copied_from.clone();
        Ok(Box::pin(stream! {
            let mut lent = lent;
            let mut rows = match &tables {
                Some(tables) => copied(&mut lent.connection, tables, &sql)
                    .await
                    .unwrap_or_else(|error| stream::iter([vec![Err(error)]]).boxed()),
                None => fetched(&mut lent.connection, sql, arguments, true),
            };
            while let Some(together) = rows.next().await {
                let failed = together.last().is_some_and(Result::is_err);
                yield together;
                if failed {
                    return;
                }
            }
            drop(rows);
            if tables.is_some() {
                transaction::start_rollback(&mut lent.connection);
            }
            lent.ended = true;
        }))
    }
}
