//! What stands where in a select's rows.

use fhir_core::column::Column;
use sqlx::postgres::PgRow;
use sqlx::{Row as _, ValueRef as _};

use super::{Answer, RowKey};
use crate::error::during;
use crate::{StoreError, TypeFreshness, decode};

/// The columns wanted, the layer (null: there is no row), the resource's id, the place in the order, what is known of the view.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) columns: Vec<Column>,
    pub(super) with_resource: bool,
    /// How many columns the order has, where places are wanted.
    pub(super) key_columns: Option<usize>,
}

impl Layout {
    pub(super) fn of_columns(columns: Vec<Column>) -> Self {
        Self {
            columns,
            with_resource: false,
            key_columns: None,
        }
    }

    /// `None`: there is no row, only what is known of the view.
    pub(super) fn read(&self, row: &PgRow) -> Result<Option<Answer>, StoreError> {
        let mut place = self.columns.len();
        let Some(live) = bytes(row, place)? else {
            return Ok(None);
        };
        let cells = self
            .columns
            .iter()
            .enumerate()
            .map(|(i, column)| decode::cell(column, bytes(row, i)?))
            .collect::<Result<_, StoreError>>()?;
        place += 1;
        let resource = if self.with_resource {
            place += 1;
            text(row, place - 1)?
        } else {
            None
        };
        let key = match self.key_columns {
            None => None,
            Some(columns) => Some(RowKey {
                id: text(row, place)?.unwrap_or_default(),
                row: bytes(row, place + 1)?
                    .and_then(|bytes| Some(i32::from_be_bytes(bytes.try_into().ok()?)))
                    .ok_or_else(unknown_form)?,
                order: (place + 2..place + 2 + columns)
                    .map(|index| text(row, index))
                    .collect::<Result<_, _>>()?,
            }),
        };
        Ok(Some(Answer {
            cells,
            live: live == [1],
            resource,
            key,
        }))
    }
}

/// Freshness of the view's type, and how many resources could not be evaluated for it: of a statement that was made
/// [`with_freshness`](super::statement::Statement::with_freshness).
pub(super) fn known(row: &PgRow) -> Result<(TypeFreshness, i64), StoreError> {
    let known = bytes(row, row.len().saturating_sub(1))?.ok_or_else(unknown_form)?;
    let (numbers, []) = known.as_chunks::<8>() else {
        return Err(unknown_form());
    };
    let &[batch, speed, errors] = numbers else {
        return Err(unknown_form());
    };
    let freshness = TypeFreshness {
        batch_as_of: decode::finite_time(i64::from_be_bytes(batch)),
        speed_as_of: decode::finite_time(i64::from_be_bytes(speed)),
    };
    Ok((freshness, i64::from_be_bytes(errors)))
}

fn bytes(row: &PgRow, index: usize) -> Result<Option<&[u8]>, StoreError> {
    let value = row.try_get_raw(index).map_err(during("reading a row"))?;
    if value.is_null() {
        return Ok(None);
    }
    value.as_bytes().map(Some).map_err(|_| unknown_form())
}

fn text(row: &PgRow, index: usize) -> Result<Option<String>, StoreError> {
    let text = bytes(row, index)?.map(|bytes| String::from_utf8(bytes.to_vec()));
    text.transpose().map_err(|_| unknown_form())
}

fn unknown_form() -> StoreError {
    StoreError::Inconsistent("a row came in an unknown form".into())
}
