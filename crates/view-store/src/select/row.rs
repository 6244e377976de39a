//! What stands where in a select's rows.

use std::fmt;
use std::sync::Arc;

use fhir_core::column::Column;
use fhir_core::row::{Cell, CellSink};

use super::RowKey;
use super::count::BatchState;
use super::raw::{Row, UnknownForm};
use crate::error::during;
use crate::{StoreError, TypeFreshness, decode};

/// The layer of a row of the batch, as SQL: most rows are, and PostgreSQL takes the least time over null.
pub(super) const BATCH: &str = "NULL::boolean";
/// The layer of a live row.
pub(super) const LIVE: &str = "true";
/// Where the layer stands: first, so that it is found without going over all the others.
const LAYER: usize = 0;

/// The layer, the columns wanted, the resource's id, the place in the order, what is known of the view.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) columns: Vec<Column>,
    pub(super) with_resource: bool,
    /// How many columns the order has, where places are wanted.
    pub(super) key_columns: Option<usize>,
    /// Whether the number of the batch's rows stands behind a count.
    pub(super) with_batch_rows: bool,
}

impl Layout {
    pub(super) fn of_columns(columns: Vec<Column>) -> Self {
        Self {
            columns,
            with_resource: false,
            key_columns: None,
            with_batch_rows: false,
        }
    }

    /// How many columns a row has.
    pub(super) fn width(&self) -> usize {
        self.place() + self.key_columns.map_or(0, |columns| 2 + columns) + usize::from(self.with_batch_rows)
    }

    /// Where the resource's id stands, if it is there.
    fn resource(&self) -> usize {
        LAYER + 1 + self.columns.len()
    }

    /// Where the place in the order begins.
    fn place(&self) -> usize {
        self.resource() + usize::from(self.with_resource)
    }
}

/// A row of an answer.
pub struct Answer {
    row: Row,
    layout: Arc<Layout>,
    live: bool,
}

impl Answer {
    /// Its cells in the order of the columns wanted, each read when it is come to.
    #[inline]
    pub fn cells(&self) -> impl Iterator<Item = Result<Cell<'_>, StoreError>> {
        let columns = self.layout.columns.iter();
        columns
            .zip(self.row.fields().skip(LAYER + 1))
            .map(|(column, field)| decode::cell(column, field?))
    }

    /// Hands the same cells over.
    pub fn put_cells(&self, sink: &mut impl CellSink) -> Result<(), StoreError> {
        let fields = self.row.fields().skip(LAYER + 1);
        for (column, field) in self.layout.columns.iter().zip(fields) {
            decode::put(column, field?, sink)?;
        }
        Ok(())
    }

    /// Whether it is from the live table.
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// The resource's id, where the select limits resources.
    pub fn resource(&self) -> Result<Option<&str>, StoreError> {
        if self.layout.with_resource {
            Ok(self.row.text(self.layout.resource())?)
        } else {
            Ok(None)
        }
    }

    /// The number of the batch's rows behind a count.
    pub(super) fn batch_rows(&self) -> Result<Option<i64>, StoreError> {
        if !self.layout.with_batch_rows {
            return Ok(None);
        }
        let rows = self.row.field(self.layout.place())?;
        let rows = rows.and_then(|bytes| Some(i64::from_be_bytes(bytes.try_into().ok()?)));
        Ok(Some(rows.ok_or(UnknownForm)?))
    }

    /// The row's place, where the select wants it.
    pub fn key(&self) -> Result<Option<RowKey>, StoreError> {
        let Some(columns) = self.layout.key_columns else {
            return Ok(None);
        };
        let place = self.layout.place();
        let owned = |index| Ok(self.row.text(index)?.map(str::to_owned));
        Ok(Some(RowKey {
            id: owned(place)?.unwrap_or_default(),
            row: self
                .row
                .field(place + 1)?
                .and_then(|bytes| Some(i32::from_be_bytes(bytes.try_into().ok()?)))
                .ok_or(UnknownForm)?,
            order: (place + 2..place + 2 + columns)
                .map(owned)
                .collect::<Result<_, StoreError>>()?,
        }))
    }
}

/// Says nothing of what the row holds.
impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Answer({} columns)", self.layout.columns.len())
    }
}

/// Rows that came together.
pub(super) fn answers(
    layout: &Arc<Layout>,
    rows: Vec<Result<Row, sqlx::Error>>,
) -> Result<Vec<Answer>, StoreError> {
    let answer = |row: Result<Row, sqlx::Error>| {
        let row = row.map_err(during("reading rows"))?;
        if row.len() < layout.width() {
            return Err(UnknownForm.into());
        }
        Ok(Answer {
            live: row.field(LAYER)? == Some(&[1]),
            row,
            layout: layout.clone(),
        })
    };
    rows.into_iter().map(answer).collect()
}

/// What is known of a view in the snapshot of its rows.
pub(super) struct Known {
    pub(super) freshness: TypeFreshness,
    /// Resources that could not be evaluated for it.
    pub(super) errors: i64,
    pub(super) batch_state: BatchState,
}

/// Of the first row of a statement that was made [`with_freshness`](super::statement::Statement::with_freshness). `None`: it is a row of the view.
pub(super) fn known(row: &Row) -> Result<Option<Known>, StoreError> {
    let Some(known) = row.fields().last().transpose()?.flatten() else {
        return Ok(None);
    };
    let (numbers, []) = known.as_chunks::<8>() else {
        return Err(UnknownForm.into());
    };
    let &[batch, speed, errors, high, low] = numbers else {
        return Err(UnknownForm.into());
    };
    Ok(Some(Known {
        freshness: TypeFreshness {
            batch_as_of: decode::finite_time(i64::from_be_bytes(batch)),
            speed_as_of: decode::finite_time(i64::from_be_bytes(speed)),
        },
        errors: i64::from_be_bytes(errors),
        batch_state: BatchState::from(u64::from_be_bytes(high)) << 64
            | BatchState::from(u64::from_be_bytes(low)),
    }))
}
