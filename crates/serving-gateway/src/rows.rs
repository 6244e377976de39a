//! Rows on their way into messages.

use api::proto::serving::{Row, RowBatch, Value, value::Kind};
use fhir_core::row::Cell;

/// Rows a message at most.
const BATCH_ROWS: usize = 500;
/// Bytes of values a message, about.
const BATCH_BYTES: usize = 256 * 1024;

/// The rows of the next message.
#[derive(Default)]
pub(crate) struct Rows {
    rows: Vec<Row>,
    bytes: usize,
}

impl Rows {
    /// Takes a row in; returns about the bytes of its values on the wire.
    pub(crate) fn push(&mut self, cells: &[Cell<'_>]) -> usize {
        let values: Vec<Value> = cells.iter().map(Value::from).collect();
        let bytes = values.iter().map(size).sum();
        self.bytes += bytes;
        self.rows.push(Row { values });
        bytes
    }

    pub(crate) fn is_full(&self) -> bool {
        self.rows.len() >= BATCH_ROWS || self.bytes >= BATCH_BYTES
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(crate) fn take(&mut self) -> RowBatch {
        self.bytes = 0;
        RowBatch {
            rows: std::mem::take(&mut self.rows),
        }
    }
}

fn size(value: &Value) -> usize {
    4 + match &value.kind {
        Some(Kind::Decimal(text) | Kind::Text(text) | Kind::Json(text)) => text.len(),
        Some(Kind::List(list)) => list.values.iter().map(size).sum(),
        Some(Kind::Boolean(_) | Kind::Integer(_) | Kind::Timestamp(_)) => 8,
        None => 0,
    }
}
