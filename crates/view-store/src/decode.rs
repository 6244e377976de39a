//! Binary values of a result back to cells.

use std::borrow::Cow;

use chrono::{DateTime, NaiveTime, TimeDelta, Utc};
use fhir_core::column::{Column, ColumnKind};
use fhir_core::row::{Cell, CellSink};

use crate::encode::epoch;
use crate::{StoreError, numeric};

/// The cell of a column from PostgreSQL's binary form; `None` is null.
#[inline]
pub(crate) fn cell<'a>(column: &Column, bytes: Option<&'a [u8]>) -> Result<Cell<'a>, StoreError> {
    let Some(bytes) = bytes else { return Ok(Cell::Null) };
    let cell = if column.collection {
        list(column.kind, bytes)
    } else {
        value(column.kind, bytes)
    };
    cell.ok_or_else(|| of_another_type(column))
}

/// The same cell, handed over.
#[inline]
pub(crate) fn put(column: &Column, bytes: Option<&[u8]>, sink: &mut impl CellSink) -> Result<(), StoreError> {
    match (bytes, column.kind) {
        (None, _) => sink.null(),
        (Some(bytes), ColumnKind::Text) if !column.collection => {
            sink.text(str::from_utf8(bytes).map_err(|_| of_another_type(column))?);
        }
        (Some(&[value]), ColumnKind::Boolean) if !column.collection => sink.boolean(value != 0),
        (bytes, _) => sink.cell(&cell(column, bytes)?),
    }
    Ok(())
}

#[cold]
fn of_another_type(column: &Column) -> StoreError {
    StoreError::Inconsistent(format!(
        "column {} of a table is not of its definition's type",
        column.name
    ))
}

/// A value's text as PostgreSQL reads it; `None` is null (and a list, which is no value).
pub(crate) fn text(cell: &Cell<'_>) -> Option<String> {
    Some(match cell {
        Cell::Null | Cell::List(_) => return None,
        Cell::Boolean(v) => v.to_string(),
        Cell::Integer(v) => v.to_string(),
        Cell::BigInt(v) => v.to_string(),
        Cell::Decimal(v) | Cell::Text(v) | Cell::Json(v) => v.to_string(),
        Cell::TimestampTz(v) => v.to_rfc3339(),
        Cell::Timestamp(v) => v.to_string(),
        Cell::Date(v) => v.to_string(),
        Cell::Time(v) => v.to_string(),
        Cell::Double(v) => v.to_string(),
    })
}

fn list(kind: ColumnKind, bytes: &[u8]) -> Option<Cell<'_>> {
    let mut rest = bytes;
    let dimensions = take_i32(&mut rest)?;
    let (_has_null, _oid) = (take_i32(&mut rest)?, take_i32(&mut rest)?);
    if dimensions == 0 {
        return Some(Cell::List(Vec::new()));
    }
    let length = usize::try_from(take_i32(&mut rest)?).ok()?;
    let _from = take_i32(&mut rest)?;
    if dimensions != 1 {
        return None;
    }
    let mut members = Vec::with_capacity(length.min(rest.len()));
    for _ in 0..length {
        members.push(match usize::try_from(take_i32(&mut rest)?) {
            Err(_) => Cell::Null,
            Ok(size) => {
                let (member, after) = rest.split_at_checked(size)?;
                rest = after;
                value(kind, member)?
            }
        });
    }
    Some(Cell::List(members))
}

#[inline]
pub(crate) fn value(kind: ColumnKind, bytes: &[u8]) -> Option<Cell<'_>> {
    let text = |bytes| str::from_utf8(bytes).ok().map(Cow::Borrowed);
    let integer = || bytes.try_into().ok().map(i32::from_be_bytes);
    let bigint = || bytes.try_into().ok().map(i64::from_be_bytes);
    let at = || epoch().checked_add_signed(TimeDelta::microseconds(bigint()?));
    Some(match kind {
        ColumnKind::Boolean => Cell::Boolean(bytes.first().copied()? != 0),
        ColumnKind::Integer => Cell::Integer(integer()?),
        ColumnKind::BigInt => Cell::BigInt(bigint()?),
        ColumnKind::Decimal | ColumnKind::DecimalOf { .. } => {
            Cell::Decimal(Cow::Owned(numeric::decode(bytes)?))
        }
        ColumnKind::Text => Cell::Text(text(bytes)?),
        ColumnKind::TimestampTz => Cell::TimestampTz(at()?.and_utc()),
        ColumnKind::Timestamp => Cell::Timestamp(at()?),
        ColumnKind::Date => Cell::Date(
            epoch()
                .date()
                .checked_add_signed(TimeDelta::days(i64::from(integer()?)))?,
        ),
        ColumnKind::Time => Cell::Time(NaiveTime::MIN + TimeDelta::microseconds(bigint()?)),
        ColumnKind::Double => Cell::Double(f64::from_be_bytes(bytes.try_into().ok()?)),
        // The first byte is the version of jsonb's binary form.
        ColumnKind::Json => Cell::Json(text(bytes.strip_prefix(&[1])?)?),
    })
}

/// A `timestamptz` from its binary form; `None` for infinity.
pub(crate) fn finite_time(micros: i64) -> Option<DateTime<Utc>> {
    let at = epoch().checked_add_signed(TimeDelta::microseconds(micros))?;
    Some(at.and_utc())
}

#[inline]
pub(crate) fn take_i32(rest: &mut &[u8]) -> Option<i32> {
    let (head, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(i32::from_be_bytes(*head))
}

#[cfg(test)]
mod tests {
    use chrono::NaiveDate;

    use super::*;
    use crate::encode::encode_rows;

    fn column(kind: ColumnKind, collection: bool) -> Column {
        Column {
            collection,
            ..Column::new("c", kind)
        }
    }

    /// Encodes one cell, and decodes the fifth field of the tuple.
    fn through(kind: ColumnKind, collection: bool, value: Cell<'static>) -> Result<Cell<'static>, String> {
        let column = column(kind, collection);
        let row = [value];
        let tuple = encode_rows(
            std::slice::from_ref(&column),
            "r1",
            3,
            DateTime::UNIX_EPOCH,
            [row.as_slice()],
        )
        .map_err(|e| e.to_string())?;
        let mut rest = &tuple[2..];
        for _ in 0..4 {
            let size = usize::try_from(take_i32(&mut rest).expect("a length")).expect("not null");
            rest = &rest[size..];
        }
        let size = take_i32(&mut rest).expect("a length");
        let bytes = usize::try_from(size).ok().map(|size| &rest[..size]);
        assert_eq!(bytes.map_or(0, <[u8]>::len), rest.len());
        cell(&column, bytes)
            .map(|cell| cell.to_owned())
            .map_err(|e| e.to_string())
    }

    #[test]
    fn each_kind_comes_back_as_it_was() {
        let day = NaiveDate::from_ymd_opt(1899, 12, 31).expect("a day");
        let at = day.and_hms_micro_opt(23, 59, 59, 123_456).expect("a time");
        let cells = [
            (ColumnKind::Boolean, Cell::Boolean(true)),
            (ColumnKind::Integer, Cell::Integer(-5)),
            (ColumnKind::BigInt, Cell::BigInt(i64::MIN)),
            (ColumnKind::Decimal, Cell::Decimal("6.20".into())),
            (
                ColumnKind::DecimalOf {
                    precision: 6,
                    scale: 2,
                },
                Cell::Decimal("1234.50".into()),
            ),
            (ColumnKind::Text, Cell::Text("Łódź 🙂".into())),
            (ColumnKind::TimestampTz, Cell::TimestampTz(at.and_utc())),
            (ColumnKind::Timestamp, Cell::Timestamp(at)),
            (ColumnKind::Date, Cell::Date(day)),
            (ColumnKind::Time, Cell::Time(at.time())),
            (ColumnKind::Double, Cell::Double(0.1)),
            (ColumnKind::Json, Cell::Json(r#"{"a": 1}"#.into())),
        ];
        for (kind, value) in cells {
            assert_eq!(through(kind, false, value.clone()), Ok(value.clone()));
            assert_eq!(through(kind, false, Cell::Null), Ok(Cell::Null));
            for list in [
                vec![],
                vec![value.clone()],
                vec![value.clone(), Cell::Null, value],
            ] {
                assert_eq!(
                    through(kind, true, Cell::List(list.clone())),
                    Ok(Cell::List(list))
                );
            }
        }
    }

    #[test]
    fn what_does_not_fit_names_the_column_and_not_the_value() {
        let refused =
            through(ColumnKind::Decimal, false, Cell::Decimal("1e200000".into())).expect_err("out of range");
        assert_eq!(refused, "column c: the value is out of the range of numeric");
        for (kind, collection, value) in [
            (ColumnKind::Text, false, Cell::Text("a\0".into())),
            (ColumnKind::Text, false, Cell::Integer(1)),
            (ColumnKind::Text, false, Cell::List(vec![])),
            (ColumnKind::Text, true, Cell::Text("a".into())),
            (ColumnKind::Json, false, Cell::Json(r#""\u0000""#.into())),
        ] {
            assert!(through(kind, collection, value).is_err());
        }
    }

    #[test]
    fn rows_are_numbered_within_the_resource() {
        let columns = [column(ColumnKind::Text, false)];
        let rows = |rows: &[&[Cell<'_>]]| {
            encode_rows(&columns, "r", 1, DateTime::UNIX_EPOCH, rows.iter().copied()).expect("rows")
        };
        let (first, both) = (rows(&[&[Cell::Null]]), rows(&[&[Cell::Null], &[Cell::Null]]));
        assert_eq!(
            (both.len(), &both[..first.len()]),
            (2 * first.len(), first.as_slice())
        );
        assert_ne!(&both[first.len()..], first.as_slice());
    }
}
