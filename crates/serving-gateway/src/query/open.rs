//! From a question to its rows: names checked, layers and a server chosen, versions waited for, rows and freshness of one snapshot.

use std::sync::Arc;

use api::{
    ServiceError,
    query::{Layers, Query},
};
use daemon::spans;
use fhir_core::column::Column;
use tokio::time::Instant;
use tracing::{Instrument as _, debug_span};
use view_store::{AnswerRows, Asked, Relation, RowKey, Select, StoreError};

use super::{conditions, rows_wanted};
use crate::{
    catalog::View,
    errors::store_error,
    freshness::AnswerFreshness,
    raw,
    reads::{Demand, Route},
    shared::Core,
    statistics::Served,
};

/// How often a view may change while it is asked before that is the answer.
const TRIES: usize = 4;

/// An answer that has begun.
pub(super) struct Opened {
    pub(super) view: Arc<View>,
    pub(super) served: Served,
    pub(super) columns: Vec<Column>,
    pub(super) freshness: AnswerFreshness,
    pub(super) rows: AnswerRows<'static>,
    /// Rows may have been left out already.
    pub(super) cut: bool,
    /// Of a page: up to where in the server's log it shows what was committed, where there are several servers.
    pub(super) shown_until: Option<u64>,
}

/// Waits for what must be visible, and asks; an answer that would be staler than is allowed is none.
pub(super) async fn open(core: &Core, query: &Query, deadline: Instant) -> Result<Opened, ServiceError> {
    let mut tries = 1;
    let mut route: Option<Route> = None;
    loop {
        let view = core
            .catalog
            .find(&query.view)
            .instrument(debug_span!("catalog"))
            .await?;
        let served = served(core, query, &view);
        let select = select(query, &view, served)?;
        if served == Served::Raw {
            // HAPI's own tables hold every version that HAPI has answered for.
            let opened = raw(core, query, view, select).await?;
            opened.freshness.meets(query.freshness.max_staleness)?;
            return Ok(opened);
        }
        let route = match &mut route {
            Some(route) => route,
            None => route.insert(self::route(core, query, deadline).await?),
        };
        let at = route.server();
        let asking = tables(core, query, view, select, served, route);
        let opened = match at.while_it_answers(asking).await {
            // The registry has moved since it was read. (A replica may know it as it was before, or not yet.)
            Ok(Err(StoreError::ViewsChanged { .. })) if at.is_primary() && tries < TRIES => {
                core.catalog.reload().await.map_err(store_error)?;
                tries += 1;
                continue;
            }
            Ok(opened) => opened.map_err(|error| at.error(error)),
            Err(lost) => Err(lost),
        };
        let fresh = opened.and_then(|opened| {
            opened.freshness.meets(query.freshness.max_staleness)?;
            Ok(opened)
        });
        match fresh {
            Ok(opened) => {
                route.answered();
                return Ok(opened);
            }
            Err(error) => route.missed(error)?,
        }
    }
}

/// The servers to ask, once what must be visible is.
async fn route(core: &Core, query: &Query, deadline: Instant) -> Result<Route, ServiceError> {
    let on = core.circumstances(query.freshness.layers);
    let page = query.page.as_ref().and_then(|page| page.read_until);
    let demand = Demand::of(&query.freshness, on.effective(), on.now, deadline).from(page);
    core.reads
        .route(core, demand)
        .instrument(debug_span!("route"))
        .await
}

fn served(core: &Core, query: &Query, view: &View) -> Served {
    match (
        view.is_materialized(),
        core.circumstances(query.freshness.layers).effective(),
    ) {
        (true, Layers::Merged) => Served::Merged,
        (true, Layers::Batch) => Served::Batch,
        (false, _) => Served::Raw,
    }
}

/// Checks all names of the query against the view.
fn select(query: &Query, view: &View, served: Served) -> Result<Select, ServiceError> {
    for name in &query.columns {
        view.column("columns", name)?;
    }
    let name = view.registered.name.clone();
    let relation = match served {
        Served::Merged => Relation::Merged(name),
        Served::Batch => Relation::Batch(name),
        // Its rows are put in when they are there.
        Served::Raw => Relation::Given {
            columns: Vec::new(),
            tuples: Vec::new(),
        },
    };
    let page = query.page.as_ref();
    Ok(Select {
        columns: query.columns.clone(),
        condition: conditions::condition(query, view)?,
        max_resources: query.max_resources,
        order: conditions::order(query, view)?,
        // Of a page one more: whether there is another one.
        limit: rows_wanted(query).map(|rows| rows.saturating_add(i64::from(page.is_some()))),
        after: page.and_then(|page| page.after.as_ref()).map(|place| RowKey {
            order: place.order.clone(),
            id: place.id.clone(),
            row: place.row,
        }),
        with_keys: page.is_some(),
        count_only: query.count_only,
        ..Select::all(relation)
    })
}

/// From the view's tables.
async fn tables(
    core: &Core,
    query: &Query,
    view: Arc<View>,
    select: Select,
    served: Served,
    route: &Route,
) -> Result<Opened, StoreError> {
    let (at, store) = (route.server(), route.store());
    let statement = debug_span!(
        "SELECT",
        otel.kind = "client",
        db.system.name = "postgresql",
        db.operation.name = "SELECT",
        db.collection.name = view.registered.name
    );
    let asked = store
        .ask(&view.registered, view.compiled.columns(), &select)
        .instrument(statement.clone())
        .await
        .inspect_err(|_| spans::fail(&statement))?;
    let Asked {
        columns,
        freshness: known,
        errors,
        rows,
    } = asked;
    // HAPI's time as of the snapshot, not as of when the question came.
    let on = core.circumstances(query.freshness.layers);
    let mut freshness = AnswerFreshness::of_tables(&view, &known, &on);
    freshness.evaluation_errors(errors);
    core.reads.tell(&at, &mut freshness);
    // After the snapshot: the next page, or question, must not be read before anything that this one shows.
    let paged = query.page.is_some() && core.reads.has_replicas();
    let shown_until = if paged || query.freshness.not_before.is_some() {
        Some(route.shown_until().await?)
    } else {
        None
    };
    if let (Some(position), Some(_)) = (shown_until, query.freshness.not_before) {
        freshness.shown_until(position);
    }
    Ok(Opened {
        view,
        served,
        columns,
        freshness,
        rows: at.rows(rows),
        cut: false,
        shown_until,
    })
}

/// From HAPI's own tables, by the batch layer.
async fn raw(
    core: &Core,
    query: &Query,
    view: Arc<View>,
    mut select: Select,
) -> Result<Opened, ServiceError> {
    let pushdown = conditions::pushdown(query);
    let given = raw::run(core.batch.clone(), &view, pushdown, core.max_raw_bytes).await?;
    let on = core.circumstances(query.freshness.layers);
    let mut freshness = AnswerFreshness::of_raw(&view, given.as_of, &on);
    freshness.evaluation_errors(given.failed);
    let columns = view.compiled.columns().to_vec();
    select.relation = Relation::Given {
        columns,
        tuples: given.tuples,
    };
    let snapshot = core.store.snapshot(None).await.map_err(store_error)?;
    let (columns, rows) = snapshot.into_select(&select).await.map_err(store_error)?;
    Ok(Opened {
        view,
        served: Served::Raw,
        columns,
        freshness,
        rows,
        cut: given.truncated,
        shown_until: None,
    })
}
