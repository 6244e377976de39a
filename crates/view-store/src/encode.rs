//! Cells to binary COPY tuples, each with the hidden columns first. What PostgreSQL would refuse is refused here, for that resource alone: a
//! COPY that fails would take everyone else's rows with it.

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Utc};
use fhir_core::column::{Column, ColumnKind};
use fhir_core::row::{Cell, RowSink};

use crate::tables::HIDDEN;
use crate::{indexes, jsonb, numeric};

/// A field holds no more than this (PostgreSQL's limit is 1 GB for a value with its header).
const MAX_FIELD: usize = 1_000_000_000;

/// A value that PostgreSQL cannot hold in its column: the reason names the column, not the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: the value {what}")]
pub struct EncodeError {
    column: String,
    what: String,
}

/// What the rows of one state begin with, in every view: `_rid`, `_version`, `_updated`.
#[derive(Default)]
pub(crate) struct Prefix(Vec<u8>);

impl Prefix {
    /// Becomes that of another state.
    pub(crate) fn set(&mut self, id: &str, version: i64, updated: DateTime<Utc>) -> &Self {
        self.0.clear();
        field(&mut self.0, id.as_bytes());
        field(&mut self.0, &version.to_be_bytes());
        // HAPI's times are within PostgreSQL's range by far; the epoch stands for one that is not.
        let updated = timestamp(updated.naive_utc()).unwrap_or_default();
        field(&mut self.0, &updated.to_be_bytes());
        self
    }

    /// A tuple of these three fields and a boolean.
    pub(crate) fn with_boolean(&self, out: &mut Vec<u8>, value: bool) {
        out.extend_from_slice(&4_i16.to_be_bytes());
        out.extend_from_slice(&self.0);
        field(out, &[u8::from(value)]);
    }
}

/// Writes the tuples of one state in one view at the end of others.
pub(crate) struct TupleWriter<'c> {
    columns: &'c [Column],
    prefix: &'c Prefix,
    tuples: &'c mut Vec<u8>,
    /// Where they begin.
    from: usize,
    count: u32,
    error: Option<EncodeError>,
}

impl<'c> TupleWriter<'c> {
    pub(crate) fn new(columns: &'c [Column], prefix: &'c Prefix, tuples: &'c mut Vec<u8>) -> Self {
        Self {
            columns,
            prefix,
            from: tuples.len(),
            tuples,
            count: 0,
            error: None,
        }
    }

    /// How many tuples there are, or why there are none.
    pub(crate) fn finish(self) -> Result<u32, EncodeError> {
        match self.error {
            Some(error) => {
                self.tuples.truncate(self.from);
                Err(error)
            }
            None => Ok(self.count),
        }
    }

    /// Takes back what was written.
    pub(crate) fn discard(self) {
        self.tuples.truncate(self.from);
    }

    fn try_row(&mut self, cells: &[Cell<'_>]) -> Result<(), EncodeError> {
        if cells.len() != self.columns.len() {
            return Err(EncodeError {
                column: "(all)".into(),
                what: "is missing or too many".into(),
            });
        }
        let fields = i16::try_from(HIDDEN.len() + self.columns.len()).unwrap_or(i16::MAX);
        self.tuples.extend_from_slice(&fields.to_be_bytes());
        self.tuples.extend_from_slice(&self.prefix.0);
        field(self.tuples, &self.count.cast_signed().to_be_bytes());
        for (column, cell) in self.columns.iter().zip(cells) {
            let from = self.tuples.len();
            let put = put_field(self.tuples, column, cell);
            // The first four bytes are the length.
            let put = match put {
                Ok(()) if self.tuples.len() - from > indexes::LONGEST + 4 && indexes::is_indexed(column) => {
                    Err(format!(
                        "is longer than the {} bytes that the column's index takes",
                        indexes::LONGEST
                    ))
                }
                put => put,
            };
            put.map_err(|what| EncodeError {
                column: column.name.clone(),
                what,
            })?;
        }
        self.count += 1;
        Ok(())
    }
}

impl RowSink for TupleWriter<'_> {
    fn row(&mut self, cells: &[Cell<'_>]) {
        if self.error.is_none()
            && let Err(error) = self.try_row(cells)
        {
            self.error = Some(error);
        }
    }
}

/// Rows as binary tuples with the hidden columns first: for rows that another process has evaluated ([`Relation::Given`](crate::Relation)).
pub fn encode_rows<'a>(
    columns: &[Column],
    id: &str,
    version: i64,
    updated: DateTime<Utc>,
    rows: impl IntoIterator<Item = &'a [Cell<'a>]>,
) -> Result<Vec<u8>, EncodeError> {
    let (mut prefix, mut tuples) = (Prefix::default(), Vec::new());
    let mut writer = TupleWriter::new(columns, prefix.set(id, version, updated), &mut tuples);
    for row in rows {
        writer.row(row);
    }
    writer.finish()?;
    Ok(tuples)
}

/// A field that is known to be short.
fn field(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&i32::try_from(bytes.len()).unwrap_or(i32::MAX).to_be_bytes());
    out.extend_from_slice(bytes);
}

/// A field with its length before, or -1 for null.
fn put_field(out: &mut Vec<u8>, column: &Column, cell: &Cell<'_>) -> Result<(), String> {
    if matches!(cell, Cell::Null) {
        out.extend_from_slice(&(-1_i32).to_be_bytes());
        return Ok(());
    }
    with_length(out, |out| match cell {
        Cell::List(members) if column.collection => put_array(out, column.kind, members),
        Cell::List(_) => Err("is a collection in a column for one value".into()),
        _ if column.collection => Err("is single in a column for collections".into()),
        single => put_value(out, column.kind, single),
    })
}

fn with_length(
    out: &mut Vec<u8>,
    put: impl FnOnce(&mut Vec<u8>) -> Result<(), String>,
) -> Result<(), String> {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    put(out)?;
    let length = out.len() - at - 4;
    if length > MAX_FIELD {
        return Err("is too long".into());
    }
    let length = i32::try_from(length).map_err(|_| "is too long".to_owned())?;
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

/// One dimension, from 1.
fn put_array(out: &mut Vec<u8>, kind: ColumnKind, members: &[Cell<'_>]) -> Result<(), String> {
    let dimensions = i32::from(!members.is_empty());
    let has_null = i32::from(members.iter().any(|m| matches!(m, Cell::Null)));
    out.extend_from_slice(&dimensions.to_be_bytes());
    out.extend_from_slice(&has_null.to_be_bytes());
    out.extend_from_slice(&oid(kind).to_be_bytes());
    if members.is_empty() {
        return Ok(());
    }
    let length = i32::try_from(members.len()).map_err(|_| "has too many members".to_owned())?;
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&1_i32.to_be_bytes());
    for member in members {
        match member {
            Cell::Null => out.extend_from_slice(&(-1_i32).to_be_bytes()),
            Cell::List(_) => return Err("is a collection of collections".into()),
            single => with_length(out, |out| put_value(out, kind, single))?,
        }
    }
    Ok(())
}

fn put_value(out: &mut Vec<u8>, kind: ColumnKind, cell: &Cell<'_>) -> Result<(), String> {
    let out_of_range = || "is out of PostgreSQL's range".to_owned();
    match (kind, cell) {
        (ColumnKind::Boolean, Cell::Boolean(v)) => out.push(u8::from(*v)),
        (ColumnKind::Integer, Cell::Integer(v)) => out.extend_from_slice(&v.to_be_bytes()),
        (ColumnKind::BigInt, Cell::BigInt(v)) => out.extend_from_slice(&v.to_be_bytes()),
        (ColumnKind::BigInt, Cell::Integer(v)) => out.extend_from_slice(&i64::from(*v).to_be_bytes()),
        (ColumnKind::Decimal, Cell::Decimal(v)) => numeric::encode(v, out).map_err(|e| e.to_string())?,
        (ColumnKind::DecimalOf { precision, scale }, Cell::Decimal(v)) => {
            numeric::encode_fitted(v, precision, scale, out).map_err(|e| e.to_string())?;
        }
        (ColumnKind::Text, Cell::Text(v)) => {
            if v.contains('\0') {
                return Err("holds a NUL character, which PostgreSQL cannot store".into());
            }
            out.extend_from_slice(v.as_bytes());
        }
        (ColumnKind::TimestampTz, Cell::TimestampTz(v)) => {
            out.extend_from_slice(&timestamp(v.naive_utc()).ok_or_else(out_of_range)?.to_be_bytes());
        }
        (ColumnKind::Timestamp, Cell::Timestamp(v)) => {
            out.extend_from_slice(&timestamp(*v).ok_or_else(out_of_range)?.to_be_bytes());
        }
        (ColumnKind::Date, Cell::Date(v)) => {
            out.extend_from_slice(&date(*v).ok_or_else(out_of_range)?.to_be_bytes());
        }
        (ColumnKind::Time, Cell::Time(v)) => out.extend_from_slice(&time(*v).to_be_bytes()),
        (ColumnKind::Double, Cell::Double(v)) => out.extend_from_slice(&v.to_be_bytes()),
        (ColumnKind::Json, Cell::Json(v)) => {
            jsonb::check(v)?;
            // The version of jsonb's binary form.
            out.push(1);
            out.extend_from_slice(v.as_bytes());
        }
        _ => return Err("is of another type than its column".into()),
    }
    Ok(())
}

fn oid(kind: ColumnKind) -> i32 {
    oids(kind).0
}

/// PostgreSQL's fixed numbers of a type and of its array (`pg_type.dat`).
pub(crate) fn oids(kind: ColumnKind) -> (i32, u32) {
    match kind {
        ColumnKind::Boolean => (16, 1000),
        ColumnKind::Integer => (23, 1007),
        ColumnKind::BigInt => (20, 1016),
        ColumnKind::Decimal | ColumnKind::DecimalOf { .. } => (1700, 1231),
        ColumnKind::Text => (25, 1009),
        ColumnKind::TimestampTz => (1184, 1185),
        ColumnKind::Timestamp => (1114, 1115),
        ColumnKind::Date => (1082, 1182),
        ColumnKind::Time => (1083, 1183),
        ColumnKind::Double => (701, 1022),
        ColumnKind::Json => (3802, 3807),
    }
}

/// PostgreSQL counts from this day.
pub(crate) fn epoch() -> NaiveDateTime {
    NaiveDate::from_ymd_opt(2000, 1, 1)
        .unwrap_or_default()
        .and_time(NaiveTime::MIN)
}

/// 4714-11-24 BC, the first day of PostgreSQL's dates, in days from its epoch.
const FIRST_DAY: i64 = -2_451_545;
/// The first day after PostgreSQL's timestamps: 294277-01-01. Chrono's own range ends before.
const AFTER_LAST_DAY: i64 = 106_751_991;

/// Microseconds from the epoch.
fn timestamp(at: NaiveDateTime) -> Option<i64> {
    let since: TimeDelta = at - epoch();
    (FIRST_DAY..AFTER_LAST_DAY)
        .contains(&since.num_days())
        .then(|| since.num_microseconds())
        .flatten()
}

/// Days from the epoch.
fn date(at: NaiveDate) -> Option<i32> {
    let days = (at - epoch().date()).num_days();
    if days < FIRST_DAY {
        None
    } else {
        i32::try_from(days).ok()
    }
}

/// Microseconds from midnight.
fn time(at: NaiveTime) -> i64 {
    (at - NaiveTime::MIN).num_microseconds().unwrap_or_default()
}
