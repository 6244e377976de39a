//! Rows of an answer, wherever they come from: a view's tables, HAPI's tables through the batch layer, the request itself.

use std::{collections::BTreeSet, pin::Pin, sync::Arc};

use api::{
    Code, RowBatch, ServiceError,
    proto::serving::{Column, Freshness, query_response::Part},
    query::{FreshnessDemand, Layers, Query, SearchParameter},
};
use async_stream::try_stream;
use chrono::{DateTime, Utc};
use futures::{Stream, StreamExt as _, stream};
use tokio::time::Instant;
use view_store::{Condition, Relation, Select};

use crate::{
    catalog::View,
    errors::store_error,
    freshness::AnswerFreshness,
    query::{self, Parts},
    raw::{self, Pushdown},
    rows::Rows,
    shared::Core,
    statistics::Served,
};

/// Rows in batches, as they come.
pub(super) type RowBatches = Pin<Box<dyn Stream<Item = Result<RowBatch, ServiceError>> + Send>>;

/// A value that is of no type: what a patient's id is not.
const OF_ANOTHER_TYPE: &str = "Device/x";

/// An answer that has begun.
pub(super) struct Answered {
    pub(super) columns: Vec<Column>,
    /// None for rows of what the request holds.
    pub(super) freshness: Option<Freshness>,
    pub(super) rows: RowBatches,
}

/// What of a view's rows is wanted.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// `None`: of all.
    pub(super) patients: Option<BTreeSet<String>>,
    pub(super) since: Option<DateTime<Utc>>,
    pub(super) limit: Option<i64>,
    pub(super) freshness: FreshnessDemand,
}

/// Rows of a view: from its tables if it has some and they can tell whose a row is, else from HAPI's.
pub(super) async fn of_view(
    core: &Core,
    view: Arc<View>,
    wanted: Wanted,
    deadline: Instant,
) -> Result<Answered, ServiceError> {
    // One that the request brings has not been shown by the catalog.
    view.to_read(&core.grants)?;
    let by_patient = match &wanted.patients {
        None => Some(Vec::new()),
        Some(patients) => patient_search(&view, patients),
    };
    match by_patient {
        Some(search) if view.is_materialized() => of_tables(core, &view, wanted, search, deadline).await,
        _ => of_hapi(core, view, wanted).await,
    }
}

/// The search for rows of these patients that the view's own columns can answer rightly; `None` if they cannot.
fn patient_search(view: &View, patients: &BTreeSet<String>) -> Option<Vec<SearchParameter>> {
    let name = if view.registered.resource_type == "Patient" {
        "_id"
    } else {
        // A column that holds keys or references of patients refuses another type's; one that merely carries the tag would compare the text.
        let takes = |value: &str| view.bindings.bind("patient", "", &[value.to_owned()]).is_ok();
        if !takes("x") || takes(OF_ANOTHER_TYPE) {
            return None;
        }
        "patient"
    };
    if patients.is_empty() {
        return Some(Vec::new());
    }
    Some(vec![SearchParameter {
        name: name.to_owned(),
        modifier: String::new(),
        values: patients.iter().cloned().collect(),
    }])
}

async fn of_tables(
    core: &Core,
    view: &View,
    wanted: Wanted,
    search: Vec<SearchParameter>,
    deadline: Instant,
) -> Result<Answered, ServiceError> {
    let nobody = wanted.patients.as_ref().is_some_and(BTreeSet::is_empty);
    let limit = if nobody { Some(0) } else { wanted.limit };
    let query = Query {
        view: view.registered.name.clone(),
        search,
        since: wanted.since,
        limit,
        freshness: wanted.freshness,
        ..Query::default()
    };
    let mut parts = query::answer(core.clone(), query, deadline);
    let first = parts.next().await.transpose()?.and_then(|part| part.part);
    let Some(Part::Header(header)) = first else {
        return Err(unfinished());
    };
    Ok(Answered {
        columns: header.columns,
        freshness: header.freshness,
        rows: Box::pin(whole(parts, limit)),
    })
}

/// The rows of an answer that must end with its footer, and may be cut short by the limit alone.
fn whole(mut parts: Parts, limit: Option<i64>) -> impl Stream<Item = Result<RowBatch, ServiceError>> + Send {
    try_stream! {
        loop {
            let part = parts.next().await.transpose()?.and_then(|part| part.part);
            match part.ok_or_else(unfinished)? {
                Part::Header(_) => {}
                Part::Rows(batch) => yield batch,
                Part::Footer(footer) => {
                    let expected = limit.is_some_and(|limit| footer.row_count >= limit);
                    if footer.truncated && !expected {
                        Err(not_all())?;
                    }
                    return;
                }
            }
        }
    }
}

/// Runs the view over HAPI's tables. All rows are there before the answer begins, so that it can say what is missing.
async fn of_hapi(core: &Core, view: Arc<View>, wanted: Wanted) -> Result<Answered, ServiceError> {
    let on = core.circumstances(Layers::Merged);
    let columns = view.compiled.columns().iter().map(Column::from).collect();
    let nobody = wanted.patients.as_ref().is_some_and(BTreeSet::is_empty);
    if nobody {
        return Ok(Answered {
            columns,
            freshness: Some(AnswerFreshness::of_raw(&view, on.now, &on).message()),
            rows: Box::pin(stream::empty()),
        });
    }
    let pushdown = Pushdown {
        since: wanted.since,
        patients: wanted.patients.into_iter().flatten().collect(),
        ..Pushdown::default()
    };
    let raw = raw::run(core.batch.clone(), &view, pushdown, core.max_raw_bytes).await?;
    if raw.truncated {
        return Err(not_all());
    }
    let mut freshness = AnswerFreshness::of_raw(&view, raw.as_of, &on);
    freshness.evaluation_errors(raw.failed);
    freshness.meets(wanted.freshness.max_staleness)?;
    core.statistics.query(&view.registered.name, Served::Raw);
    let given = Relation::Given {
        columns: view.compiled.columns().to_vec(),
        tuples: raw.tuples,
    };
    let select = Select {
        condition: wanted.since.map(Condition::UpdatedSince),
        limit: wanted.limit,
        ..Select::all(given)
    };
    Ok(Answered {
        columns,
        freshness: Some(freshness.message()),
        rows: Box::pin(selected(core.clone(), view, select)),
    })
}

/// Rows that are given to PostgreSQL, so that they are told as those of any other view are.
fn selected(
    core: Core,
    view: Arc<View>,
    select: Select,
) -> impl Stream<Item = Result<RowBatch, ServiceError>> + Send {
    try_stream! {
        let mut snapshot = core.store.snapshot(None).await.map_err(store_error)?;
        let (_, mut rows) = snapshot.select(&select).await.map_err(store_error)?;
        let (mut batch, mut count) = (Rows::default(), 0);
        while let Some(together) = rows.next().await {
            for row in together.map_err(store_error)? {
                batch.push_answer(&row).map_err(store_error)?;
                count += 1;
                if let Some(batch) = batch.full() {
                    yield batch;
                }
            }
        }
        if let Some(batch) = batch.last() {
            yield batch;
        }
        core.statistics.rows(&view.registered.name, count);
    }
}

pub(super) fn unfinished() -> ServiceError {
    ServiceError::new(Code::Internal, "no whole answer was made")
}

fn not_all() -> ServiceError {
    ServiceError::new(
        Code::Exhausted,
        "there are more resources than the batch layer reads for a view that is not materialised (run_view.max_resources there): \
         ask by patient or _since, or register the view",
    )
}
