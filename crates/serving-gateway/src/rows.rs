//! Rows on their way into messages.

use std::borrow::Borrow;

use api::RowBatch;
use fhir_core::row::Cell;
use view_store::{Answer, StoreError};

/// Rows a message at most.
const BATCH_ROWS: usize = 1_000;
/// Bytes of rows a message, about.
const BATCH_BYTES: usize = 256 * 1024;

/// The rows of the next message.
#[derive(Default)]
pub(crate) struct Rows(RowBatch);

impl Rows {
    /// Takes a row in, a cell for each column; returns its bytes on the wire.
    pub(crate) fn push<'a, E>(
        &mut self,
        cells: impl IntoIterator<Item = Result<impl Borrow<Cell<'a>>, E>>,
    ) -> Result<usize, E> {
        self.0.push(cells)
    }

    /// Takes a row of a view in.
    pub(crate) fn push_answer(&mut self, answer: &Answer) -> Result<usize, StoreError> {
        self.0.push_with(|row| answer.put_cells(row))
    }

    /// The message, once it is full. The next one will be about as long.
    pub(crate) fn full(&mut self) -> Option<RowBatch> {
        let bytes = self.0.bytes();
        let is_full = self.0.len() >= BATCH_ROWS || bytes >= BATCH_BYTES;
        is_full.then(|| std::mem::replace(&mut self.0, RowBatch::with_capacity(bytes.min(2 * BATCH_BYTES))))
    }

    /// What is left of them at the end.
    pub(crate) fn last(self) -> Option<RowBatch> {
        (!self.0.is_empty()).then_some(self.0)
    }
}
