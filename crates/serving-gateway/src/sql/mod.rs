//! A question in SQL: one SELECT over the views, checked here, run with a reader's rights, rows and freshness from one snapshot.
//!
//! ```text
//! text ─tokens─► bounds, :name ─parser─► tree ─check─► allow-list ─view_store::sql─► reader, read-only, time-out ─► rows
//! ```
//!
//! Each of the two halves is to hold alone: what the check lets through by mistake meets a role that may only read the public schemas, and what
//! that role may do besides (wait, lock, look at the catalog) the check refuses.

mod begin;
mod check;
mod errors;
mod fault;
mod parser;
mod statement;
mod tokens;

use std::{convert::Infallible, pin::Pin};

use api::{Code, ServiceError, proto::serving as proto, query::Layers, sql::SqlQuestion};
use async_stream::try_stream;
use futures::{Stream, StreamExt as _};
use proto::sql_response::Part;
use tokio::time::Instant;
use tracing::{Instrument as _, debug_span};
use view_store::{
    TypeFreshness,
    sql::{SqlColumn, SqlError, SqlLayer, SqlReader, SqlSnapshot},
};

use self::{
    begin::{Asking, Begun, NotBegun},
    check::KnownView,
    errors::{sql_error, too_many_bytes, too_many_rows},
    fault::Fault,
    statement::Statement,
};
use crate::{
    catalog::Views,
    config::SqlLimits,
    errors::store_error,
    freshness::{AnswerFreshness, Circumstances},
    reads::Demand,
    rows::Rows,
    shared::Core,
    statistics::Served,
};

/// The parts of an answer, in their order: a header with columns and freshness, then rows and a footer, or a plan.
pub(crate) type SqlParts = Pin<Box<dyn Stream<Item = Result<proto::SqlResponse, ServiceError>> + Send>>;

/// What statements are run with.
#[derive(Clone)]
pub(crate) struct Sql {
    pub(crate) reader: SqlReader,
    pub(crate) limits: SqlLimits,
}

/// Answers a question in SQL. Errors before the header come as the stream's first item; `deadline` is that of waiting for versions.
pub(crate) fn answer(core: Core, question: SqlQuestion, deadline: Instant) -> SqlParts {
    Box::pin(try_stream! {
        let sql = core.sql.clone().ok_or_else(|| {
            ServiceError::new(Code::Precondition, "Sql is switched off by the operator (sql.enabled): use Query")
        })?;
        let on = core.circumstances(question.freshness.layers);
        let layer = match on.effective() {
            Layers::Merged => SqlLayer::Merged,
            Layers::Batch => SqlLayer::Batch,
        };
        let statement = read(&core, &sql, &question, layer).instrument(debug_span!("check")).await?;
        let demand = Demand::of(&question.freshness, on.effective(), on.now, deadline).in_sql();
        let mut route = core.reads.route(&core, demand).instrument(debug_span!("route")).await?;
        let failed = |error| sql_error(error, &sql.limits, &question, |at| statement.original(at));

        let views: Vec<String> = statement.found.views.iter().cloned().collect();
        if let Some(call) = audit::Call::current() {
            call.asks(|question| question.views.clone_from(&views));
        }
        let asked = question.limit.unwrap_or(i64::MAX).min(sql.limits.max_rows);
        let asking = Asking { core: &core, sql: &sql, question: &question, statement: &statement, layer, views: &views, asked };
        let Begun { columns, freshness, mut rows, plan } = loop {
            let server = route.server();
            match server.selected(asking.at(&route)).await {
                Ok(Ok(begun)) => break begun,
                Ok(Err(NotBegun::Failed(error))) => route.missed(error)?,
                Ok(Err(NotBegun::Refused(error))) => route.doubted(error)?,
                Err(lost) => route.missed(lost)?,
            }
        };
        route.answered();
        let served = match layer {
            SqlLayer::Merged => Served::Merged,
            SqlLayer::Batch => Served::Batch,
        };
        core.statistics.query_over(views.iter().map(String::as_str), served);
        let streaming = debug_span!("rows");
        yield header(&columns, &freshness);

        let mut footer = proto::QueryFooter::default();
        if let Some(plan) = plan {
            yield proto::SqlResponse { part: Some(Part::Plan(plan)) };
            yield proto::SqlResponse { part: Some(Part::Footer(footer)) };
            return;
        }
        let (mut batch, mut bytes) = (Rows::default(), 0_usize);
        while let Some(row) = rows.next().await {
            let row = row.map_err(failed)?;
            if footer.row_count == asked {
                // It is the last: PostgreSQL was asked for one more than are given.
                footer.truncated = true;
                continue;
            }
            footer.row_count += 1;
            let Ok(size) = batch.push(row.iter().map(Ok::<_, Infallible>));
            bytes += size;
            if bytes > sql.limits.max_bytes {
                Err(too_many_bytes(&sql.limits))?;
            }
            if let Some(batch) = batch.full() {
                yield proto::SqlResponse { part: Some(Part::Rows(batch)) };
            }
        }
        if footer.truncated && question.limit.is_none_or(|limit| limit > asked) {
            // Nobody asked for a part: what was sent must not be taken for the whole.
            Err(too_many_rows(&sql.limits))?;
        }
        if let Some(batch) = batch.last() {
            yield proto::SqlResponse { part: Some(Part::Rows(batch)) };
        }
        core.statistics.sql_rows(footer.row_count);
        drop(streaming);
        yield proto::SqlResponse { part: Some(Part::Footer(footer)) };
    })
}

/// The statement, checked against the views that are cached; if it is refused, against those of the registry as it is now.
async fn read(
    core: &Core,
    sql: &Sql,
    question: &SqlQuestion,
    layer: SqlLayer,
) -> Result<Statement, ServiceError> {
    let views = core.catalog.views().await.map_err(store_error)?;
    let cached = known(&views);
    let max = sql.limits.max_statement_bytes;
    let mut refused = match statement::read(question, cached.clone(), layer, max).await {
        Ok(statement) => return allowed(core, &views, statement),
        Err(refused) => refused,
    };
    let views = core.catalog.reload().await.map_err(store_error)?;
    let fresh = known(&views);
    if fresh != cached {
        match statement::read(question, fresh, layer, max).await {
            Ok(statement) => return allowed(core, &views, statement),
            Err(again) => refused = again,
        }
    }
    // What it names may be there, and not be for whoever asks.
    if views.hides_some() {
        let whole = views.with_hidden();
        if let Ok(statement) = statement::read(question, known(&whole), layer, max).await {
            allowed(core, &whole, statement)?;
        }
    }
    Err(refused)
}

/// A statement whose every table may be read by whoever asks. (It was checked against no other views; this does not rely on it.)
fn allowed(core: &Core, views: &Views, statement: Statement) -> Result<Statement, ServiceError> {
    for name in &statement.found.views {
        views.named(name)?.to_read(&core.grants)?;
    }
    if statement.found.freshness && !core.grants.may_read_all() {
        let message =
            "not allowed: the table sqlonfhir.freshness tells of all views, and needs the scope system/*.rs";
        return Err(ServiceError::new(Code::Forbidden, message));
    }
    Ok(statement)
}

fn known(views: &Views) -> Vec<KnownView> {
    views
        .all()
        .map(|view| KnownView {
            name: view.registered.name.clone(),
            is_materialized: view.is_materialized(),
        })
        .collect()
}

/// How fresh the answer is: as fresh as the least fresh view that it names.
async fn freshness(
    core: &Core,
    question: &SqlQuestion,
    views: &[String],
    snapshot: &mut SqlSnapshot,
) -> Result<AnswerFreshness, ServiceError> {
    let known = snapshot.freshness(views).await.map_err(|error| match error {
        SqlError::Store(error) => store_error(error),
        other => ServiceError::internal(&other),
    })?;
    // A view may have been made anew, over another type, since the statement was checked: what is read is the one of this snapshot.
    for view in &known {
        core.grants
            .to_read(&format!("view {}", view.view), &view.resource_type)?;
    }
    if !core.grants.is_everything() && known.len() < views.len() {
        return Err(ServiceError::new(
            Code::Unavailable,
            "a view was dropped meanwhile: try again",
        ));
    }
    // HAPI's time as of the snapshot, not as of when the question came.
    let on: Circumstances = core.circumstances(question.freshness.layers);
    let mut all = Vec::new();
    for name in views {
        let view = core.catalog.find(name).await?;
        let (of_type, errors) = known
            .iter()
            .find(|known| known.view == *name)
            .map_or((TypeFreshness::default(), 0), |known| {
                (known.freshness.clone(), known.errors)
            });
        let mut one = AnswerFreshness::of_tables(&view, &of_type, &on);
        one.evaluation_errors(errors);
        all.push((name.as_str(), of_type, one));
    }
    Ok(AnswerFreshness::of_all(all, &on))
}

/// A `table.name` that is no column calls a function of that name: refused unless it is one that only computes.
async fn no_hidden_calls(
    sql: &Sql,
    question: &SqlQuestion,
    statement: &Statement,
    snapshot: &mut SqlSnapshot,
) -> Result<(), ServiceError> {
    let attributes = &statement.found.attributes;
    let names: Vec<String> = attributes.iter().map(|(name, _)| name.clone()).collect();
    let calls = snapshot
        .functions_among(&names)
        .await
        .map_err(|error| sql_error(error, &sql.limits, question, |at| at))?;
    match attributes.iter().find(|(name, _)| calls.contains(name)) {
        None => Ok(()),
        Some((_, at)) => Err(Fault::at(
            statement.original(*at),
            "PostgreSQL has a function of this name, which is not allowed: if it is a column, write it without the table's name",
        )
        .for_caller(&question.statement)),
    }
}

fn header(columns: &[SqlColumn], freshness: &AnswerFreshness) -> proto::SqlResponse {
    let columns = columns.iter().map(|column| proto::Column {
        name: column.name.clone(),
        sql_type: column.sql_type.clone(),
        collection: column.collection,
        ..Default::default()
    });
    let header = proto::QueryHeader {
        columns: columns.collect(),
        freshness: Some(freshness.message()),
    };
    proto::SqlResponse {
        part: Some(Part::Header(header)),
    }
}
