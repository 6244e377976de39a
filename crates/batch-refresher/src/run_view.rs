//! `RunView`: a view straight over HAPI's tables, in one snapshot: the fallback for one that is not materialised.

use std::sync::Arc;

use api::values_json::JsonRows;
use async_stream::try_stream;
use chrono::{DateTime, Utc};
use fhir_core::{
    json::Tape,
    resource::{Content, State},
    view::{CompiledView, ViewSet},
};
use futures::{Stream, StreamExt as _};

use crate::{
    hapi::{Hapi, HapiError, Selection},
    messages::messages,
};

/// What is to be run.
#[derive(Debug, Clone)]
pub struct RunView {
    /// The view.
    pub view: Arc<CompiledView>,
    /// Of which resources, the most recently updated first.
    pub selection: Selection,
}

/// A row and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewRow {
    /// Id of the resource.
    pub id: String,
    /// Its version.
    pub version: i64,
    /// Its lastUpdated.
    pub last_updated: DateTime<Utc>,
    /// A JSON array, one member a column.
    pub values_json: String,
}

/// A part of the answer.
#[derive(Debug)]
pub enum RunViewPart {
    /// First: everything committed before `as_of` is in.
    Header {
        /// T.
        as_of: DateTime<Utc>,
    },
    /// Rows, as they are made.
    Rows(Vec<ViewRow>),
    /// Last.
    Footer {
        /// Resources read.
        read: u64,
        /// Resources that could not be evaluated: their rows are missing.
        failed: u64,
        /// There are more resources than were read.
        truncated: bool,
    },
}

/// Runs it. Dropping the stream ends the reading.
pub fn run(
    hapi: Hapi,
    request: RunView,
) -> impl Stream<Item = Result<RunViewPart, HapiError>> + Send + 'static {
    try_stream! {
        let as_of = hapi.clock().await?.as_of;
        yield RunViewPart::Header { as_of };
        let mut selection = request.selection;
        let limit = selection.limit.map_or(u64::MAX, |limit| u64::try_from(limit).unwrap_or(0));
        // One more than asked for tells whether there are more.
        selection.limit = selection.limit.map(|limit| limit.saturating_add(1));
        let mut chunks = std::pin::pin!(hapi.select(request.view.resource_type(), &selection));
        let (mut read, mut failed, mut truncated) = (0_u64, 0_u64, false);
        while let Some(chunk) = chunks.next().await {
            let mut chunk = chunk?;
            if read + chunk.len() as u64 > limit {
                truncated = true;
                chunk.truncate(usize::try_from(limit.saturating_sub(read)).unwrap_or(usize::MAX));
            }
            let (resources, view) = (chunk.len() as u64, request.view.clone());
            let evaluated = tokio::task::spawn_blocking(move || rows_of(&view, chunk)).await;
            let (rows, unfit) = evaluated.map_err(|_| HapiError::Database {
                doing: "evaluating",
                reason: "broken off".to_owned(),
                transient: true,
            })?;
            read += resources;
            failed += unfit;
            for rows in messages(rows, |row| row.values_json.len()) {
                yield RunViewPart::Rows(rows);
            }
            if truncated {
                break;
            }
        }
        yield RunViewPart::Footer { read, failed, truncated };
    }
}

/// The rows of some resources, and how many of them could not be evaluated.
fn rows_of(view: &CompiledView, states: Vec<State>) -> (Vec<ViewRow>, u64) {
    let (set, mut tape) = (ViewSet::new([view]), Tape::default());
    let (mut rows, mut failed) = (Vec::new(), 0);
    for state in states {
        let Content::Body(body) = &state.content else {
            failed += u64::from(matches!(state.content, Content::Unreadable(_)));
            continue;
        };
        let mut sink = JsonRows::default();
        if set
            .read(&mut tape, body)
            .and_then(|reading| reading.rows(0, &mut sink))
            .is_err()
        {
            failed += 1;
            continue;
        }
        rows.extend(sink.0.into_iter().map(|values_json| ViewRow {
            id: state.id.clone(),
            version: state.version,
            last_updated: state.last_updated,
            values_json,
        }));
    }
    (rows, failed)
}
