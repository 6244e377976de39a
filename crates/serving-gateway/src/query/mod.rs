//! A question over one view: names checked, layers chosen, rows and freshness from one snapshot, streamed as they come.

pub(crate) mod conditions;
mod open;

use std::collections::HashSet;

use api::{ServiceError, page::Place, proto::serving as proto, query::Query};
use async_stream::try_stream;
use fhir_core::{column::Column, row::Cell};
use futures::{Stream, StreamExt as _};
use proto::query_response::Part;
use tokio::time::Instant;
use view_store::{Answer, StoreError};

use self::open::Opened;
use crate::{errors::store_error, freshness::AnswerFreshness, rows::Rows, shared::Core, statistics::Served};

/// The parts of an answer, in their order.
pub(crate) type Parts =
    std::pin::Pin<Box<dyn Stream<Item = Result<proto::QueryResponse, ServiceError>> + Send>>;

/// Answers a query. Errors before the header come as the stream's first item.
pub(crate) fn answer(core: Core, mut query: Query, deadline: Instant) -> Parts {
    Box::pin(try_stream! {
        let Opened { view, served, columns, freshness, mut rows, cut, shown_until } = open::open(&core, &query, deadline).await?;
        if let Some(page) = &mut query.page {
            page.read_until = shown_until;
        }
        core.statistics.query(&view.registered.name, served);
        let streaming = tracing::debug_span!("rows");
        yield header(&columns, &freshness);

        let mut counted = Counted::new(&query, served, cut);
        let mut batch = Rows::default();
        while let Some(together) = rows.next().await {
            for row in together.map_err(store_error)? {
                if counted.is_full() {
                    // It is the last: PostgreSQL was asked for one more than the page has. Read to its end, the connection serves the next question.
                    counted.more = true;
                    continue;
                }
                batch.push_answer(&row).map_err(store_error)?;
                counted.row(row).map_err(store_error)?;
                if let Some(batch) = batch.full() {
                    yield part(Part::Rows(batch));
                }
            }
        }
        drop(rows);
        if let Some(batch) = batch.last() {
            yield part(Part::Rows(batch));
        }
        let last = counted.footer().map_err(store_error)?;
        core.statistics.rows(&view.registered.name, last.row_count);
        drop(streaming);
        yield part(Part::Footer(last));
    })
}

/// What the footer says, as rows go by.
struct Counted<'a> {
    query: &'a Query,
    served: Served,
    /// Rows that a page has at most.
    page: Option<i64>,
    footer: proto::QueryFooter,
    /// Resources whose rows went by, where their number is limited.
    resources: HashSet<String>,
    /// Where the page ends, if it is one.
    last: Option<Answer>,
    /// There is a row behind the page.
    more: bool,
}

impl<'a> Counted<'a> {
    fn new(query: &'a Query, served: Served, cut: bool) -> Self {
        Self {
            query,
            served,
            page: rows_wanted(query).filter(|_| query.page.is_some()),
            footer: proto::QueryFooter {
                truncated: cut,
                ..Default::default()
            },
            resources: HashSet::new(),
            last: None,
            more: false,
        }
    }

    /// The page has its rows.
    fn is_full(&self) -> bool {
        self.page.is_some_and(|most| self.footer.row_count >= most)
    }

    fn row(&mut self, row: Answer) -> Result<(), StoreError> {
        let footer = &mut self.footer;
        if self.query.count_only {
            if let Some(Cell::BigInt(count)) = row.cells().next().transpose()? {
                footer.row_count += count;
            }
            return Ok(());
        }
        footer.row_count += 1;
        match self.served {
            Served::Raw => {}
            _ if row.is_live() => footer.speed_rows += 1,
            _ => footer.batch_rows += 1,
        }
        if let Some(id) = row.resource()?
            && !self.resources.contains(id)
        {
            self.resources.insert(id.to_owned());
        }
        self.last = self.query.page.is_some().then_some(row);
        Ok(())
    }

    fn footer(self) -> Result<proto::QueryFooter, StoreError> {
        let Self {
            query, mut footer, ..
        } = self;
        let left = limit_left(query).map(|left| left - footer.row_count);
        footer.truncated |= left.is_some_and(|left| left <= 0);
        footer.truncated |= query
            .max_resources
            .is_some_and(|max| usize::try_from(max).is_ok_and(|max| self.resources.len() >= max));
        if let (Some(page), Some(last), true) = (&query.page, self.last, self.more)
            && left.is_none_or(|left| left > 0)
            && let Some(last) = last.key()?
        {
            footer.next_page_token = page.token(Place {
                order: last.order,
                id: last.id,
                row: last.row,
                left,
            });
        }
        Ok(footer)
    }
}

/// Rows that the question's limit leaves, after the pages before.
fn limit_left(query: &Query) -> Option<i64> {
    let after = query.page.as_ref().and_then(|page| page.after.as_ref());
    match after {
        Some(place) => place.left,
        None => query.limit,
    }
}

/// Rows that are to be sent at most.
fn rows_wanted(query: &Query) -> Option<i64> {
    let size = query.page.as_ref().map(|page| page.size);
    [size, limit_left(query)].into_iter().flatten().min()
}

fn header(columns: &[Column], freshness: &AnswerFreshness) -> proto::QueryResponse {
    let columns = columns.iter().map(proto::Column::from).collect();
    part(Part::Header(proto::QueryHeader {
        columns,
        freshness: Some(freshness.message()),
    }))
}

fn part(part: Part) -> proto::QueryResponse {
    proto::QueryResponse { part: Some(part) }
}
