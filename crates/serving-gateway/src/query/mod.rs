//! A question over one view: names checked, layers chosen, rows and freshness from one snapshot, streamed as they come.

pub(crate) mod conditions;

use std::{collections::HashSet, pin::pin, sync::Arc};

use api::{
    Code, ServiceError,
    proto::serving as proto,
    query::{Layers, Query},
};
use async_stream::try_stream;
use fhir_core::{column::Column, row::Cell};
use futures::{Stream, StreamExt as _};
use proto::query_response::Part;
use tokio::time::Instant;
use view_store::{Relation, Select, Snapshot, StoreError};

use crate::{
    catalog::View,
    errors::store_error,
    freshness::{AnswerFreshness, Circumstances},
    raw,
    shared::Core,
    statistics::Served,
    visibility,
};

/// Rows a message at most.
const BATCH_ROWS: usize = 500;
/// Bytes of values a message, about.
const BATCH_BYTES: usize = 256 * 1024;

/// The parts of an answer, in their order.
pub(crate) type Parts =
    std::pin::Pin<Box<dyn Stream<Item = Result<proto::QueryResponse, ServiceError>> + Send>>;

/// How a question will be answered.
struct Plan {
    view: Arc<View>,
    select: Select,
    on: Circumstances,
    served: Served,
}

/// Answers a query. Errors before the header come as the stream's first item.
pub(crate) fn answer(core: Core, query: Query, deadline: Instant) -> Parts {
    Box::pin(try_stream! {
        let plan = plan(&core, &query).await?;
        wait_for_versions(&core, &query, &plan, deadline).await?;
        let (mut snapshot, plan, freshness, cut) = open(&core, &query, plan).await?;
        freshness.meets(query.freshness.max_staleness)?;
        let (columns, rows) = snapshot.select(&plan.select).await.map_err(store_error)?;
        core.statistics.query(&plan.view.registered.name, plan.served);
        yield header(&columns, &freshness);

        let mut rows = pin!(rows);
        let mut footer = proto::QueryFooter { truncated: cut, ..Default::default() };
        let mut batch = Batch::default();
        let mut resources = HashSet::new();
        while let Some(row) = rows.next().await {
            let row = row.map_err(store_error)?;
            footer.row_count += match row.cells.first() {
                Some(Cell::BigInt(count)) if query.count_only => *count,
                _ => 1,
            };
            match plan.served {
                _ if query.count_only => {}
                Served::Raw => {}
                _ if row.live => footer.speed_rows += 1,
                _ => footer.batch_rows += 1,
            }
            resources.extend(row.resource);
            batch.push(&row.cells);
            if batch.is_full() {
                yield batch.take();
            }
        }
        if !batch.rows.is_empty() {
            yield batch.take();
        }
        footer.truncated |= query.limit.is_some_and(|limit| footer.row_count >= limit);
        footer.truncated |= query.max_resources.is_some_and(|max| usize::try_from(max).is_ok_and(|max| resources.len() >= max));
        core.statistics.rows(&plan.view.registered.name, footer.row_count);
        yield proto::QueryResponse { part: Some(Part::Footer(footer)) };
    })
}

/// Checks all names of the query against the view.
async fn plan(core: &Core, query: &Query) -> Result<Plan, ServiceError> {
    if query.paged {
        let message = "page_size and page_token are not served by this release: use limit with an order and a filter on the ordered column";
        return Err(ServiceError::new(Code::Unimplemented, message));
    }
    let view = core.catalog.find(&query.view).await?;
    for name in &query.columns {
        view.column("columns", name)?;
    }
    let on = core.circumstances(query.freshness.layers);
    let name = view.registered.name.clone();
    let (relation, served) = match (view.is_materialized(), on.effective()) {
        (true, Layers::Merged) => (Relation::Merged(name), Served::Merged),
        (true, Layers::Batch) => (Relation::Batch(name), Served::Batch),
        // Its rows are put in when they are there.
        (false, _) => (
            Relation::Given {
                columns: Vec::new(),
                tuples: Vec::new(),
            },
            Served::Raw,
        ),
    };
    let select = Select {
        relation,
        columns: query.columns.clone(),
        condition: conditions::condition(query, &view)?,
        max_resources: query.max_resources,
        order: conditions::order(query, &view)?,
        limit: query.limit,
        count_only: query.count_only,
    };
    Ok(Plan {
        view,
        select,
        on,
        served,
    })
}

async fn wait_for_versions(
    core: &Core,
    query: &Query,
    plan: &Plan,
    deadline: Instant,
) -> Result<(), ServiceError> {
    // HAPI's own tables hold every version that HAPI has answered for.
    if plan.served == Served::Raw {
        return Ok(());
    }
    visibility::wait_for_versions(
        core,
        &query.freshness.at_least,
        plan.on.effective(),
        plan.on.now,
        deadline,
    )
    .await
}

/// The snapshot, and how fresh it is; true if rows may have been left out already.
async fn open(
    core: &Core,
    query: &Query,
    mut plan: Plan,
) -> Result<(Snapshot, Plan, AnswerFreshness, bool), ServiceError> {
    if plan.served == Served::Raw {
        let pushdown = conditions::pushdown(query);
        let rows = raw::run(core.batch.clone(), &plan.view, pushdown, core.max_raw_bytes).await?;
        let mut freshness = AnswerFreshness::of_raw(&plan.view, rows.as_of, &plan.on);
        freshness.evaluation_errors(rows.failed);
        let columns = plan.view.compiled.columns().to_vec();
        plan.select.relation = Relation::Given {
            columns,
            tuples: rows.tuples,
        };
        let snapshot = core.store.snapshot(None).await.map_err(store_error)?;
        return Ok((snapshot, plan, freshness, rows.truncated));
    }
    let name = plan.view.registered.name.clone();
    let mut snapshot = match core.store.snapshot(Some(&name)).await {
        Err(error @ StoreError::UnknownView { .. }) => {
            // Dropped since the cache was filled.
            core.catalog.clear();
            return Err(store_error(error));
        }
        opened => opened.map_err(store_error)?,
    };
    let (known, errors) = snapshot
        .freshness_of_view(&plan.view.registered.resource_type, &name)
        .await
        .map_err(store_error)?;
    // HAPI's time as of the snapshot, not as of when the question came.
    plan.on = core.circumstances(query.freshness.layers);
    let mut freshness = AnswerFreshness::of_tables(&plan.view, &known, &plan.on);
    freshness.evaluation_errors(errors);
    Ok((snapshot, plan, freshness, false))
}

fn header(columns: &[Column], freshness: &AnswerFreshness) -> proto::QueryResponse {
    let columns = columns.iter().map(proto::Column::from).collect();
    let header = proto::QueryHeader {
        columns,
        freshness: Some(freshness.message()),
    };
    proto::QueryResponse {
        part: Some(Part::Header(header)),
    }
}

/// Rows on their way into a message.
#[derive(Default)]
struct Batch {
    rows: Vec<proto::Row>,
    bytes: usize,
}

impl Batch {
    fn push(&mut self, cells: &[Cell<'_>]) {
        let values: Vec<proto::Value> = cells.iter().map(proto::Value::from).collect();
        self.bytes += values.iter().map(size).sum::<usize>();
        self.rows.push(proto::Row { values });
    }

    fn is_full(&self) -> bool {
        self.rows.len() >= BATCH_ROWS || self.bytes >= BATCH_BYTES
    }

    fn take(&mut self) -> proto::QueryResponse {
        self.bytes = 0;
        let rows = std::mem::take(&mut self.rows);
        proto::QueryResponse {
            part: Some(Part::Rows(proto::RowBatch { rows })),
        }
    }
}

/// About the bytes of a value on the wire.
fn size(value: &proto::Value) -> usize {
    use proto::value::Kind;
    4 + match &value.kind {
        Some(Kind::Decimal(text) | Kind::Text(text) | Kind::Json(text)) => text.len(),
        Some(Kind::List(list)) => list.values.iter().map(size).sum(),
        Some(Kind::Boolean(_) | Kind::Integer(_) | Kind::Timestamp(_)) => 8,
        None => 0,
    }
}
