//! Statements given to the driver, and their rows as they come.

use std::future::{self, poll_fn};
use std::pin::pin;

use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use sqlx::postgres::PgArguments;
use sqlx::{AssertSqlSafe, PgConnection};
use tracing::Dispatch;
use tracing::dispatcher::with_default;

use super::ROWS_TOGETHER;
use super::raw::Row;
use crate::{copy, transaction};

/// Rows that came together; an error is the last one.
pub(super) type Together = Vec<Result<Row, sqlx::Error>>;

/// The rows of a statement, which stays prepared if it is `persistent`.
pub(super) fn fetched(
    connection: &mut PgConnection,
    sql: String,
    arguments: PgArguments,
    persistent: bool,
) -> BoxStream<'_, Together> {
    let query = sqlx::query_with(AssertSqlSafe(sql), arguments).persistent(persistent);
    let mut rows = with_default(&Dispatch::none(), || query.fetch(connection));
    let mut has_begun = false;
    // The driver makes a stream within this one on the way to the first row.
    let rows = stream::poll_fn(move |context| {
        if has_begun {
            return rows.poll_next_unpin(context);
        }
        let next = with_default(&Dispatch::none(), || rows.poll_next_unpin(context));
        has_begun = next.is_ready();
        next
    });
    rows.map_ok(|row| Row::Fetched(Box::new(row)))
        .ready_chunks(ROWS_TOGETHER)
        .boxed()
}

/// The rows of a statement without parameters, by COPY. A whole view costs what each of its rows does: so without what the driver makes for a row and for each of its
/// values. Within a transaction, which is to be ended behind the last row: COPY takes its snapshot before it waits for its tables (`PortalRunUtility`), so they are
/// locked by a statement before it.
pub(super) async fn copied<'c>(
    connection: &'c mut PgConnection,
    tables: &str,
    sql: &str,
) -> Result<BoxStream<'c, Together>, sqlx::Error> {
    transaction::begin_reading(connection, tables).await?;
    let messages = without_span(connection.copy_out_raw(&copy::out(sql))).await?;
    let rows = messages.filter_map(|message| future::ready(message.map(Row::of_message).transpose()));
    Ok(rows.ready_chunks(ROWS_TOGETHER).boxed())
}

/// A stream of the driver's remembers the span that is current when it is begun, and would enter it for each row (where it is current anyway). What the driver has to say
/// before the first row is not logged.
async fn without_span<T>(begin: impl Future<Output = T>) -> T {
    let mut begin = pin!(begin);
    poll_fn(|context| with_default(&Dispatch::none(), || begin.as_mut().poll(context))).await
}
