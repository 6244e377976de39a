//! A query in SQL that a request brings: its tables are views that are registered, its parameters are bound, its rows are told as any others.

use std::collections::HashSet;

use api::{
    Code, Outcome, RowBatch, ServiceError,
    proto::serving::sql_response::Part,
    query::FreshnessDemand,
    sql::SqlQuestion,
    sql_run::{Canonical, Dependency, Library, RunRequest},
};
use async_stream::try_stream;
use futures::{Stream, StreamExt as _};
use serde_json::Value;
use tokio::time::Instant;

use super::{
    audited, identity,
    rows::{Answered, unfinished},
};
use crate::{
    errors::store_error,
    shared::Core,
    sql::{self, SqlParts},
};

/// Asks the query.
pub(super) async fn of_query(
    core: &Core,
    library: &Library,
    asked: &RunRequest,
    demand: FreshnessDemand,
    deadline: Instant,
) -> Result<Answered, Outcome> {
    let subject = asked.subject.parameter;
    nothing_beside(library, &asked.context)?;
    let tables = tables(core, &library.tables).await?;
    let values = library.bind(asked.parameters.as_deref())?;
    audited::binds(&values);
    let mut question =
        SqlQuestion::named(library.statement.clone(), values).map_err(|error| told(subject, error.into()))?;
    question.tables = tables;
    question.freshness = demand;
    question.limit = asked.limit;
    let mut parts = sql::answer(core.clone(), question, deadline);
    let first = parts
        .next()
        .await
        .transpose()
        .map_err(|error| told(subject, error))?;
    let Some(Part::Header(header)) = first.and_then(|part| part.part) else {
        return Err(unfinished().into());
    };
    // The first rows are asked for here: a statement may fail on its first row only.
    let mut rows = Box::pin(rows(parts));
    let first = rows
        .next()
        .await
        .transpose()
        .map_err(|error| told(subject, error))?;
    let first = futures::stream::iter(first.map(Ok));
    Ok(Answered {
        columns: header.columns,
        freshness: header.freshness,
        rows: Box::pin(first.chain(rows)),
    })
}

fn rows(mut parts: SqlParts) -> impl Stream<Item = Result<RowBatch, ServiceError>> + Send {
    try_stream! {
        loop {
            let part = parts.next().await.transpose()?.and_then(|part| part.part);
            match part.ok_or_else(unfinished)? {
                Part::Rows(batch) => yield batch,
                // Only the limit that was asked for cuts an answer: more rows than may be sent are an error.
                Part::Footer(_) => return,
                Part::Header(_) | Part::Plan(_) => {}
            }
        }
    }
}

/// What a query reads is registered: artefacts that a request brings cannot be read by one.
fn nothing_beside(library: &Library, context: &[String]) -> Result<(), Outcome> {
    let mut urls = HashSet::new();
    for text in context {
        let entry: Value = serde_json::from_str(text).unwrap_or_default();
        let Some(url) = entry["url"].as_str().map(str::to_owned) else {
            return Err(Outcome::invalid(
                "context",
                "context: each entry needs a url, by which it is found",
            ));
        };
        let version = entry["version"].as_str();
        let meant = |table: &Dependency| {
            table.canonical.url == url
                && table
                    .canonical
                    .version
                    .as_deref()
                    .is_none_or(|pinned| version == Some(pinned))
        };
        if !library.tables.iter().any(meant) {
            let rule = "context: the url of an entry is that of no depends-on of the query";
            return Err(Outcome::invalid("context", rule));
        }
        if !urls.insert(url) {
            return Err(Outcome::invalid("context", "context: two entries have one url"));
        }
    }
    if context.is_empty() {
        return Ok(());
    }
    let what = "context: a query reads views that are registered: register what it needs with the batch layer, and leave context out";
    Err(Outcome::unsupported("context", what))
}

/// The views that the query's tables are.
async fn tables(core: &Core, wanted: &[Dependency]) -> Result<Vec<(String, String)>, Outcome> {
    let mut views = core.catalog.views().await.map_err(store_error)?;
    if wanted
        .iter()
        .any(|table| identity::by_canonical(&views, &table.canonical).is_none())
    {
        // Registered a moment ago, perhaps.
        views = core.catalog.reload().await.map_err(store_error)?;
    }
    wanted
        .iter()
        .map(|table| {
            let found = identity::by_canonical(&views, &table.canonical);
            if found.is_none()
                && let Some(hidden) = identity::by_canonical(&views.with_hidden(), &table.canonical)
            {
                hidden.to_read(&core.grants)?;
            }
            let view = found.ok_or_else(|| {
                let what = format!(
                    "relatedArtifact: the table {} depends on {}, which no registered view has as its url",
                    table.label,
                    named(&table.canonical)
                );
                Outcome::new(404, "not-found", &[], what)
            })?;
            Ok((table.label.clone(), view.registered.name.clone()))
        })
        .collect()
}

/// A canonical URL in words: the guide wants it told. What does not look like one is the caller's word, and may be anything.
fn named(canonical: &Canonical) -> String {
    let url = &canonical.url;
    let plain = url.len() <= 200 && url.bytes().all(|byte| byte.is_ascii_graphic());
    if plain && (url.starts_with("http://") || url.starts_with("https://") || url.starts_with("urn:")) {
        url.clone()
    } else {
        "a canonical URL".to_owned()
    }
}

/// An error of a statement is the subject's; one of a value is the parameters'. (Messages begin with the field at fault.)
fn told(subject: &str, error: ServiceError) -> Outcome {
    if error.code != Code::Invalid || error.message.starts_with("freshness.") {
        return error.into();
    }
    match error.message.strip_prefix("named_parameters") {
        Some(rest) => Outcome::invalid("parameters", format!("parameters{rest}")),
        None => Outcome::unprocessable(&[subject], error.message),
    }
}
