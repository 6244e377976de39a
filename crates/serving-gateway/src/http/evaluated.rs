//! Rows of resources that a request brings: evaluated here, by the same plan as everywhere.

use std::sync::Arc;

use api::{
    Code, Outcome, ServiceError,
    proto::serving::{Column, Row, Value},
};
use fhir_core::row::{Cell, RowSink};
use futures::stream;
use prost_types::Timestamp;

use super::rows::Answered;
use crate::catalog::View;

/// Rows a batch.
const BATCH_ROWS: usize = 200;

/// Takes rows up to the limits: of bytes they may have, and of rows that are wanted.
struct Rows {
    taken: Vec<Row>,
    bytes: usize,
    max_bytes: usize,
}

impl RowSink for Rows {
    fn row(&mut self, cells: &[Cell<'_>]) {
        if self.bytes > self.max_bytes {
            return;
        }
        let values: Vec<Value> = cells.iter().map(Value::from).collect();
        self.bytes += values.iter().map(memory_of).sum::<usize>();
        self.taken.push(Row { values });
    }
}

/// About the memory of a value.
fn memory_of(value: &Value) -> usize {
    use api::proto::serving::value::Kind;
    size_of::<Value>()
        + match &value.kind {
            Some(Kind::Decimal(text) | Kind::Text(text) | Kind::Json(text)) => text.len(),
            Some(Kind::List(list)) => list.values.iter().map(memory_of).sum(),
            Some(Kind::Timestamp(_)) => size_of::<Timestamp>(),
            _ => 0,
        }
}

/// All rows, before the answer begins: one resource that cannot be evaluated fails it, by its place.
pub(super) async fn of_resources(
    view: Arc<View>,
    resources: Vec<String>,
    limit: Option<i64>,
    max_bytes: usize,
) -> Result<Answered, Outcome> {
    let columns = view.compiled.columns().iter().map(Column::from).collect();
    let evaluating = tokio::task::spawn_blocking(move || evaluate(&view, &resources, limit, max_bytes));
    let rows = evaluating
        .await
        .map_err(|_| ServiceError::new(Code::Internal, "the evaluation has fallen"))??;
    let batches: Vec<Result<Vec<Row>, ServiceError>> =
        rows.chunks(BATCH_ROWS).map(|rows| Ok(rows.to_vec())).collect();
    Ok(Answered {
        columns,
        freshness: None,
        rows: Box::pin(stream::iter(batches)),
    })
}

fn evaluate(
    view: &View,
    resources: &[String],
    limit: Option<i64>,
    max_bytes: usize,
) -> Result<Vec<Row>, Outcome> {
    let mut sink = Rows {
        taken: Vec::new(),
        bytes: 0,
        max_bytes,
    };
    for (i, resource) in resources.iter().enumerate() {
        view.compiled
            .evaluate(resource.as_bytes(), &mut sink)
            .map_err(|error| {
                let why = format!(
                    "resource: the one at place {} cannot be evaluated: {error}",
                    i + 1
                );
                Outcome::unprocessable(&["resource"], why)
            })?;
        if sink.bytes > max_bytes {
            let why = format!(
                "the rows are more than the limit of {max_bytes} bytes (query.max_raw_bytes): give fewer resources"
            );
            return Err(ServiceError::new(Code::Exhausted, why).into());
        }
    }
    // After all were evaluated: a limit shortens an answer and changes nothing else of it.
    if let Some(limit) = limit {
        sink.taken.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    }
    Ok(sink.taken)
}
