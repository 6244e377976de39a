//! Rows of resources that a request brings: evaluated here, by the same plan as everywhere.

use std::{convert::Infallible, sync::Arc};

use api::{Code, Outcome, RowBatch, ServiceError, proto::serving::Column};
use fhir_core::row::{Cell, RowSink};
use futures::stream;

use super::rows::Answered;
use crate::{catalog::View, rows::Rows};

/// Takes rows up to the limits: of bytes they may have, and of rows that are wanted.
struct Taken {
    full: Vec<RowBatch>,
    rows: Rows,
    bytes: usize,
    max_bytes: usize,
    /// Rows that are still wanted.
    wanted: usize,
}

impl RowSink for Taken {
    fn row(&mut self, cells: &[Cell<'_>]) {
        // All are evaluated: a limit shortens an answer and changes nothing else of it.
        if self.bytes > self.max_bytes || self.wanted == 0 {
            return;
        }
        self.wanted -= 1;
        let Ok(bytes) = self.rows.push(cells.iter().map(Ok::<_, Infallible>));
        self.bytes += bytes;
        self.full.extend(self.rows.full());
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
    Ok(Answered {
        columns,
        freshness: None,
        rows: Box::pin(stream::iter(rows.into_iter().map(Ok))),
    })
}

fn evaluate(
    view: &View,
    resources: &[String],
    limit: Option<i64>,
    max_bytes: usize,
) -> Result<Vec<RowBatch>, Outcome> {
    let wanted = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let mut taken = Taken {
        full: Vec::new(),
        rows: Rows::default(),
        bytes: 0,
        max_bytes,
        wanted,
    };
    for (i, resource) in resources.iter().enumerate() {
        view.compiled
            .evaluate(resource.as_bytes(), &mut taken)
            .map_err(|error| {
                let why = format!(
                    "resource: the one at place {} cannot be evaluated: {error}",
                    i + 1
                );
                Outcome::unprocessable(&["resource"], why)
            })?;
        if taken.bytes > max_bytes {
            let why = format!(
                "the rows are more than the limit of {max_bytes} bytes (query.max_raw_bytes): give fewer resources"
            );
            return Err(ServiceError::new(Code::Exhausted, why).into());
        }
    }
    let Taken { mut full, rows, .. } = taken;
    full.extend(rows.last());
    Ok(full)
}
