//! Rows as PostgreSQL sent them: of a prepared statement, or of COPY.

use bytes::{Buf as _, Bytes};
use sqlx::postgres::PgRow;
use sqlx::{Row as _, ValueRef as _};

use crate::decode::take_i32;
use crate::{StoreError, copy};

/// A row.
pub(super) enum Row {
    /// Of a prepared statement. (On the heap, as it is more than twice as large as the other: rows are moved as they come.)
    Fetched(Box<PgRow>),
    /// Of COPY, without what the driver makes for each row and value: how many fields (16 bits), and each with its length before it (32 bits, -1: null).
    Copied(Bytes),
}

impl Row {
    /// Of a message of COPY, which holds one row ("always one per row", protocol, COPY Operations). The header stands before the first one or has a message of its
    /// own, the trailer has one: `None`.
    pub(super) fn of_message(mut message: Bytes) -> Option<Self> {
        if message.starts_with(copy::HEADER) {
            message.advance(copy::HEADER.len());
        }
        (!message.is_empty() && message != copy::TRAILER).then_some(Self::Copied(message))
    }

    #[inline]
    pub(super) fn fields(&self) -> Fields<'_> {
        match self {
            Self::Fetched(row) => Fields::Fetched { row, next: 0 },
            Self::Copied(row) => Fields::Copied {
                left: count(row),
                rest: row.get(2..).unwrap_or_default(),
            },
        }
    }

    /// How many fields it has, as it says.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Fetched(row) => row.len(),
            Self::Copied(row) => count(row).into(),
        }
    }

    #[inline]
    pub(super) fn field(&self, index: usize) -> Result<Option<&[u8]>, UnknownForm> {
        self.fields().nth(index).unwrap_or(Err(UnknownForm))
    }

    pub(super) fn text(&self, index: usize) -> Result<Option<&str>, UnknownForm> {
        let text = self.field(index)?.map(str::from_utf8);
        text.transpose().map_err(|_| UnknownForm)
    }
}

/// The fields of a row, in PostgreSQL's binary form; an error is the last one.
pub(super) enum Fields<'r> {
    Fetched { row: &'r PgRow, next: usize },
    Copied { left: u16, rest: &'r [u8] },
}

impl<'r> Iterator for Fields<'r> {
    type Item = Result<Option<&'r [u8]>, UnknownForm>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Fetched { row, next } => {
                let index = *next;
                *next += 1;
                (index < row.len()).then(|| fetched(row, index))
            }
            Self::Copied { left, rest } => {
                *left = left.checked_sub(1)?;
                let field = take(rest);
                // What is left over belongs to no field.
                if field.is_err() || *left == 0 && !rest.is_empty() {
                    *left = 0;
                    return Some(Err(UnknownForm));
                }
                Some(field)
            }
        }
    }

    #[inline]
    fn nth(&mut self, count: usize) -> Option<Self::Item> {
        if let Self::Fetched { next, .. } = self {
            *next += count;
        } else {
            for _ in 0..count {
                if let Err(error) = self.next()? {
                    return Some(Err(error));
                }
            }
        }
        self.next()
    }
}

fn fetched(row: &PgRow, index: usize) -> Result<Option<&[u8]>, UnknownForm> {
    let value = row.try_get_raw(index).map_err(|_| UnknownForm)?;
    if value.is_null() {
        return Ok(None);
    }
    value.as_bytes().map(Some).map_err(|_| UnknownForm)
}

#[inline]
fn count(row: &[u8]) -> u16 {
    row.first_chunk().copied().map_or(0, u16::from_be_bytes)
}

#[inline]
fn take<'r>(rest: &mut &'r [u8]) -> Result<Option<&'r [u8]>, UnknownForm> {
    let length = take_i32(rest).ok_or(UnknownForm)?;
    let Ok(length) = usize::try_from(length) else {
        return Ok(None);
    };
    let (field, after) = rest.split_at_checked(length).ok_or(UnknownForm)?;
    *rest = after;
    Ok(Some(field))
}

/// A row that is none as PostgreSQL makes them. (Of no size: there is a result for each field.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct UnknownForm;

impl From<UnknownForm> for StoreError {
    fn from(_: UnknownForm) -> Self {
        Self::Inconsistent("a row came in an unknown form".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: &[u8] = b"\0\x03\0\0\0\x02ab\xff\xff\xff\xff\0\0\0\0";

    fn row(message: &[u8]) -> Option<Row> {
        Row::of_message(Bytes::copy_from_slice(message))
    }

    #[test]
    fn a_row_comes_with_the_header_or_without() {
        let fields = [Some(&b"ab"[..]), None, Some(&b""[..])];
        for message in [ROW.to_vec(), [copy::HEADER, ROW].concat()] {
            let row = row(&message).expect("a row");
            let read: Result<Vec<_>, _> = row.fields().collect();
            assert_eq!(read.expect("fields"), fields);
            for (index, field) in fields.iter().enumerate() {
                assert_eq!(row.field(index).expect("a field"), *field);
            }
            assert!(row.field(3).is_err());
        }
        for frame in [
            copy::HEADER.to_vec(),
            copy::TRAILER.to_vec(),
            [copy::HEADER, copy::TRAILER].concat(),
        ] {
            assert!(row(&frame).is_none());
        }
    }

    #[test]
    fn what_is_no_row_is_an_error() {
        for end in 1..ROW.len() {
            let row = row(&ROW[..end]).expect("a row");
            assert!(row.field(2).is_err(), "{end}");
        }
        assert!(row(&[ROW, b"x"].concat()).expect("a row").field(2).is_err());
    }
}
