//! Rows as columns of bytes, as an Arrow builder keeps them.

use fhir_core::row::{Cell, RowSink};

/// Bytes of a batch of rows.
const FULL: usize = 1 << 20;

/// For each column the values one after the other, and where each ends.
pub(crate) struct Columns {
    columns: Vec<(Vec<u8>, Vec<u32>)>,
}

impl Columns {
    pub(crate) fn new(columns: usize) -> Self {
        Self {
            columns: vec![(Vec::new(), Vec::new()); columns],
        }
    }

    /// What a caller does with a batch: hands it on, and begins the next one in the same memory.
    pub(crate) fn empty_if_full(&mut self) {
        if self.columns.iter().any(|(values, _)| values.len() > FULL) {
            for (values, ends) in &mut self.columns {
                values.clear();
                ends.clear();
            }
        }
    }
}

impl RowSink for Columns {
    fn row(&mut self, cells: &[Cell<'_>]) {
        for ((values, ends), cell) in self.columns.iter_mut().zip(cells) {
            put(cell, values);
            ends.push(u32::try_from(values.len()).unwrap_or(u32::MAX));
        }
    }
}

fn put(cell: &Cell<'_>, out: &mut Vec<u8>) {
    match cell {
        Cell::Null => {}
        Cell::Boolean(value) => out.push(u8::from(*value)),
        Cell::Integer(value) => out.extend(value.to_le_bytes()),
        Cell::BigInt(value) => out.extend(value.to_le_bytes()),
        Cell::Decimal(text) | Cell::Text(text) | Cell::Json(text) => out.extend_from_slice(text.as_bytes()),
        Cell::TimestampTz(at) => out.extend(at.timestamp_micros().to_le_bytes()),
        Cell::Timestamp(at) => out.extend(at.and_utc().timestamp_micros().to_le_bytes()),
        Cell::Date(date) => out.extend(date.to_epoch_days().to_le_bytes()),
        Cell::Time(time) => out.extend(time.to_string().as_bytes()),
        Cell::Double(value) => out.extend(value.to_le_bytes()),
        Cell::List(cells) => cells.iter().for_each(|cell| put(cell, out)),
    }
}
