//! Statements given to the driver, and their rows as they come.

use std::future::{self, poll_fn};
use std::pin::pin;
use std::sync::LazyLock;

use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use sqlx::postgres::PgArguments;
use sqlx::{AssertSqlSafe, PgConnection};
use tracing::dispatcher::with_default;
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Dispatch, Event, Metadata, Subscriber};

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
    let mut rows = with_default(&NOBODY, || query.fetch(connection));
    let mut has_begun = false;
    // The driver makes a stream within this one on the way to the first row.
    let rows = stream::poll_fn(move |context| {
        if has_begun {
            return rows.poll_next_unpin(context);
        }
        let next = with_default(&NOBODY, || rows.poll_next_unpin(context));
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
    poll_fn(|context| with_default(&NOBODY, || begin.as_mut().poll(context))).await
}

/// Knows of no span, and takes nothing. (With `Dispatch::none` what is first told here would be taken for what nobody wants ever: it is not asked beside others.)
static NOBODY: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(Nobody));

struct Nobody;

impl Subscriber for Nobody {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        false
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::OFF)
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, _: &Event<'_>) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    static HEARD: AtomicUsize = AtomicUsize::new(0);

    /// Takes all that is told.
    struct Listener;

    impl Subscriber for Listener {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}

        fn event(&self, event: &Event<'_>) {
            if event.metadata().target() == "of the driver" {
                HEARD.fetch_add(1, Ordering::Relaxed);
            }
        }

        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }

    fn tell() {
        tracing::warn!(target: "of the driver", "a notice");
    }

    #[tokio::test]
    async fn what_is_first_told_before_a_first_row_is_heard_later() {
        tracing::subscriber::set_global_default(Listener).expect("no other test has one");
        without_span(async { tell() }).await;
        assert_eq!(HEARD.load(Ordering::Relaxed), 0);
        tell();
        assert_eq!(HEARD.load(Ordering::Relaxed), 1);
    }
}
