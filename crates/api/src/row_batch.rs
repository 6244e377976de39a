//! Rows of an answer, kept in the form in which they travel.
//!
//! ```text
//! cells ──push──► bytes of the message RowBatch ──gRPC──► RowBatch ──rows──► Row, Value
//! ```
//!
//! A stream of a million rows costs what is done for each of them. So a row is written once, from the cells as the database sent them, and no message of
//! values is made of it in between; whoever takes it in makes values of it when they are wanted. On the wire it is `researchflow.serving.v1.RowBatch`
//! as the contract has it.

use std::{borrow::Borrow, fmt};

use bytes::{Buf, BufMut, Bytes};
use fhir_core::row::{Cell, CellSink};
use prost::{
    DecodeError, Message,
    encoding::{self, DecodeContext, WireType},
};

use crate::{
    proto::serving::{Row, Value, value::Kind},
    time,
};

/// Keys of fields: `number << 3 | wire type`.
mod key {
    pub(super) const BATCH_ROW: u8 = 0x0A;
    pub(super) const ROW_VALUE: u8 = 0x0A;
    pub(super) const LIST_VALUE: u8 = 0x0A;
    pub(super) const BOOLEAN: u8 = 0x08;
    pub(super) const INTEGER: u8 = 0x10;
    pub(super) const DECIMAL: u8 = 0x1A;
    pub(super) const TEXT: u8 = 0x22;
    pub(super) const TIMESTAMP: u8 = 0x2A;
    pub(super) const LIST: u8 = 0x32;
    pub(super) const JSON: u8 = 0x3A;
}

/// The message `RowBatch`: rows of an answer.
#[derive(Clone, Default)]
pub struct RowBatch {
    /// Its fields, one behind the other: each a row.
    encoded: Vec<u8>,
    rows: usize,
}

impl RowBatch {
    /// With room for so many bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        Self {
            encoded: Vec::with_capacity(bytes),
            rows: 0,
        }
    }

    /// Puts a row at the end, a cell for each column. If a cell fails, the row is left out. Returns the bytes of the row.
    pub fn push<'a, E>(
        &mut self,
        cells: impl IntoIterator<Item = Result<impl Borrow<Cell<'a>>, E>>,
    ) -> Result<usize, E> {
        self.push_with(|row| {
            cells.into_iter().try_for_each(|cell| {
                row.cell(cell?.borrow());
                Ok(())
            })
        })
    }

    /// The same of cells that are handed over.
    pub fn push_with<E>(
        &mut self,
        cells: impl FnOnce(&mut RowWriter<'_>) -> Result<(), E>,
    ) -> Result<usize, E> {
        let before = self.encoded.len();
        // Most rows are short: their length takes a byte.
        self.encoded.extend([key::BATCH_ROW, 0]);
        let from = self.encoded.len();
        if let Err(error) = cells(&mut RowWriter(&mut self.encoded)) {
            self.encoded.truncate(before);
            return Err(error);
        }
        let length = self.encoded.len() - from;
        if let Ok(short @ ..0x80) = u8::try_from(length) {
            self.encoded[from - 1] = short;
        } else {
            let mut head = [0; 10];
            let mut free = head.as_mut_slice();
            encoding::encode_varint(length as u64, &mut free);
            let used = 10 - free.len();
            self.encoded.splice(from - 1..from, head.into_iter().take(used));
        }
        self.rows += 1;
        Ok(length)
    }

    /// How many rows.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Bytes of the message.
    pub fn bytes(&self) -> usize {
        self.encoded.len()
    }

    /// The rows with their values. Fails if a peer sent something else.
    pub fn rows(&self) -> Result<Vec<Row>, DecodeError> {
        let mut rows: Vec<Row> = Vec::with_capacity(self.rows);
        let mut rest = self.encoded.as_slice();
        while rest.has_remaining() {
            rest.advance(1);
            let length = encoding::decode_varint(&mut rest)?;
            let row;
            // As long as it says: it was looked at when it came.
            debug_assert!(length <= rest.len() as u64, "a row is cut");
            (row, rest) = rest.split_at(usize::try_from(length).unwrap_or(usize::MAX).min(rest.len()));
            // As wide as the one before: values that do not move while a row is read.
            let width = rows.last().map_or(0, |row| row.values.len());
            rows.push(read_row(row, width)?);
        }
        Ok(rows)
    }
}

impl PartialEq for RowBatch {
    fn eq(&self, other: &Self) -> bool {
        self.encoded == other.encoded
    }
}

/// Says nothing of what the rows hold.
impl fmt::Debug for RowBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RowBatch({} rows, {} bytes)", self.rows, self.encoded.len())
    }
}

impl Message for RowBatch {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        buf.put_slice(&self.encoded);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        if tag != 1 {
            return encoding::skip_field(wire_type, tag, buf, ctx);
        }
        let mut row = Bytes::new();
        encoding::bytes::merge(wire_type, &mut row, buf, ctx)?;
        self.encoded.push(key::BATCH_ROW);
        put_sized(&row, &mut self.encoded);
        self.rows += 1;
        Ok(())
    }

    fn encoded_len(&self) -> usize {
        self.encoded.len()
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Writes the values of a row.
#[derive(Debug)]
pub struct RowWriter<'b>(&'b mut Vec<u8>);

impl CellSink for RowWriter<'_> {
    fn cell(&mut self, cell: &Cell<'_>) {
        self.0.push(key::ROW_VALUE);
        put_value(cell, self.0);
    }

    fn null(&mut self) {
        self.0.extend([key::ROW_VALUE, 0]);
    }

    fn boolean(&mut self, value: bool) {
        self.0.extend([key::ROW_VALUE, 2, key::BOOLEAN, u8::from(value)]);
    }

    fn text(&mut self, text: &str) {
        self.0.push(key::ROW_VALUE);
        put_text(key::TEXT, text, self.0);
    }
}

/// A message `Value` with its length before it.
fn put_value(cell: &Cell<'_>, out: &mut Vec<u8>) {
    match cell {
        Cell::Null => out.push(0),
        Cell::Boolean(value) => out.extend([2, key::BOOLEAN, u8::from(*value)]),
        Cell::Integer(value) => put_integer(i64::from(*value), out),
        Cell::BigInt(value) => put_integer(*value, out),
        Cell::Decimal(value) => put_text(key::DECIMAL, value, out),
        Cell::Text(value) => put_text(key::TEXT, value, out),
        Cell::Json(value) => put_text(key::JSON, value, out),
        Cell::TimestampTz(value) => {
            let timestamp = time::timestamp(*value);
            let length = timestamp.encoded_len();
            put_head(key::TIMESTAMP, length, out);
            timestamp.encode_raw(out);
        }
        Cell::Timestamp(value) => {
            put_text(key::TEXT, &value.format("%Y-%m-%dT%H:%M:%S%.f").to_string(), out);
        }
        Cell::Date(value) => put_text(key::TEXT, &value.to_string(), out),
        Cell::Time(value) => put_text(key::TEXT, &value.to_string(), out),
        Cell::Double(value) => put_text(key::DECIMAL, &value.to_string(), out),
        Cell::List(values) => {
            let mut list = Vec::new();
            for value in values {
                list.push(key::LIST_VALUE);
                put_value(value, &mut list);
            }
            put_head(key::LIST, list.len(), out);
            out.extend(list);
        }
    }
}

fn put_integer(value: i64, out: &mut Vec<u8>) {
    // Two's complement: a negative one takes ten bytes.
    let value = value.cast_unsigned();
    out.push(u8::try_from(1 + encoding::encoded_len_varint(value)).unwrap_or_default());
    out.push(key::INTEGER);
    encoding::encode_varint(value, out);
}

#[inline]
fn put_text(key: u8, text: &str, out: &mut Vec<u8>) {
    // The length of the value, two bytes more, takes a byte too.
    if let Ok(length @ ..0x7E) = u8::try_from(text.len()) {
        out.extend([length + 2, key, length]);
    } else {
        put_head(key, text.len(), out);
    }
    out.extend_from_slice(text.as_bytes());
}

/// What stands before `length` bytes of a field with this key, which is all that a value has.
fn put_head(key: u8, length: usize, out: &mut Vec<u8>) {
    put_length(1 + encoding::encoded_len_varint(length as u64) + length, out);
    out.push(key);
    put_length(length, out);
}

fn put_sized(bytes: &[u8], out: &mut Vec<u8>) {
    put_length(bytes.len(), out);
    out.extend_from_slice(bytes);
}

fn put_length(length: usize, out: &mut Vec<u8>) {
    match u8::try_from(length) {
        Ok(short @ ..0x80) => out.push(short),
        _ => encoding::encode_varint(length as u64, out),
    }
}

/// A message `Row`, of about so many values.
fn read_row(mut bytes: &[u8], width: usize) -> Result<Row, DecodeError> {
    let mut row = Row {
        values: Vec::with_capacity(width),
    };
    // Short values, as most are, without the general way of reading a message.
    while let [key::ROW_VALUE, length @ ..0x80, rest @ ..] = bytes
        && let Some((value, rest)) = rest.split_at_checked(usize::from(*length))
    {
        row.values.push(read_value(value)?);
        bytes = rest;
    }
    row.merge(bytes)?;
    Ok(row)
}

/// A message `Value`, the commonest kinds at once.
fn read_value(bytes: &[u8]) -> Result<Value, DecodeError> {
    let kind = match bytes {
        [] => None,
        [key::BOOLEAN, flag @ ..=1] => Some(Kind::Boolean(*flag == 1)),
        [key::TEXT, length @ ..0x80, text @ ..] if usize::from(*length) == text.len() => {
            let Ok(text) = str::from_utf8(text) else {
                return Value::decode(bytes);
            };
            Some(Kind::Text(text.to_owned()))
        }
        _ => return Value::decode(bytes),
    };
    Ok(Value { kind })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use chrono::{DateTime, NaiveDate};
    use prost::Message as _;

    use super::*;
    use crate::proto::serving::ValueList;

    fn pushed(rows: &[Vec<Cell<'_>>]) -> RowBatch {
        let mut batch = RowBatch::default();
        for row in rows {
            let Ok(_bytes) = batch.push(row.iter().map(Ok::<_, Infallible>));
        }
        batch
    }

    fn expected(cell: &Cell<'_>) -> Option<Kind> {
        Some(match cell {
            Cell::Null => return None,
            Cell::Boolean(value) => Kind::Boolean(*value),
            Cell::Integer(value) => Kind::Integer(i64::from(*value)),
            Cell::BigInt(value) => Kind::Integer(*value),
            Cell::Decimal(value) => Kind::Decimal(value.to_string()),
            Cell::Text(value) => Kind::Text(value.to_string()),
            Cell::Json(value) => Kind::Json(value.to_string()),
            Cell::TimestampTz(value) => Kind::Timestamp(time::timestamp(*value)),
            Cell::Timestamp(_) => Kind::Text("1899-12-31T23:59:59.123456".into()),
            Cell::Date(_) => Kind::Text("1899-12-31".into()),
            Cell::Time(_) => Kind::Text("23:59:59.123456".into()),
            Cell::Double(_) => Kind::Decimal("0.1".into()),
            Cell::List(values) => Kind::List(ValueList {
                values: values.iter().map(|kind| Value { kind: expected(kind) }).collect(),
            }),
        })
    }

    #[test]
    fn rows_come_out_of_the_wire_as_the_values_of_their_cells() {
        let day = NaiveDate::from_ymd_opt(1899, 12, 31).expect("a day");
        let at = day.and_hms_micro_opt(23, 59, 59, 123_456).expect("a time");
        let mut cells = vec![Cell::Null, Cell::Boolean(true), Cell::Boolean(false)];
        cells.extend([0, 1, -1, i32::MAX, i32::MIN].map(Cell::Integer));
        cells.extend([0, 127, 128, -1, i64::MAX, i64::MIN].map(Cell::BigInt));
        for length in [0, 1, 123, 124, 125, 126, 127, 128, 129, 16_380, 16_384, 70_000] {
            let text = "é".repeat(length / 2) + &"x".repeat(length % 2);
            cells.push(Cell::Text(text.clone().into()));
            cells.push(Cell::Decimal("1".repeat(length).into()));
            cells.push(Cell::Json(text.into()));
        }
        for micros in [0, 1, -1, 1_764_000_000_123_456, -2_208_988_800_000_000] {
            cells.push(Cell::TimestampTz(
                DateTime::from_timestamp_micros(micros).expect("a time"),
            ));
        }
        cells.extend([
            Cell::Timestamp(at),
            Cell::Date(day),
            Cell::Time(at.time()),
            Cell::Double(0.1),
        ]);
        cells.push(Cell::List(Vec::new()));
        cells.push(Cell::List(cells.clone()));
        // Each alone in a row, all in one, and none.
        let mut rows: Vec<Vec<Cell<'_>>> = cells.iter().map(|cell| vec![cell.clone()]).collect();
        rows.push(cells);
        rows.push(Vec::new());
        let batch = pushed(&rows);
        let sent = batch.encode_to_vec();
        let came = RowBatch::decode(sent.as_slice()).expect("a message");
        assert_eq!((came.len(), came.bytes()), (rows.len(), sent.len()));
        let came = came.rows().expect("rows");
        for (row, expects) in came.iter().zip(&rows) {
            let expects: Vec<Value> = expects
                .iter()
                .map(|cell| Value { kind: expected(cell) })
                .collect();
            assert_eq!(row.values, expects);
        }
        assert_eq!(came.len(), rows.len());
    }

    #[test]
    fn cells_that_are_handed_over_are_the_same_on_the_wire() {
        for length in [0, 1, 125, 126, 127, 128, 200, 20_000] {
            let text = "x".repeat(length);
            let cells = [Cell::Null, Cell::Boolean(true), Cell::Text(text.as_str().into())];
            let mut batch = RowBatch::with_capacity(8);
            let Ok(bytes) = batch.push_with(|row| {
                row.null();
                row.boolean(true);
                row.text(&text);
                Ok::<_, Infallible>(())
            });
            assert_eq!(batch, pushed(&[cells.to_vec()]));
            assert!(bytes > length && batch.rows().expect("rows").len() == 1);
        }
    }

    #[test]
    fn what_is_no_batch_is_an_error_and_no_panic() {
        let sent = pushed(&[vec![Cell::Text("abc".into())], vec![Cell::Integer(7)]]).encode_to_vec();
        for end in 0..sent.len() {
            if let Ok(cut) = RowBatch::decode(&sent[..end]) {
                assert!(cut.len() < 2 && cut.rows().is_ok());
            }
        }
        // Fields that a later contract may have are passed over; a row that is no row is found when its values are wanted.
        let later = [&[0x10, 0x05][..], &sent].concat();
        assert_eq!(RowBatch::decode(later.as_slice()).expect("a message").len(), 2);
        let wrong = RowBatch::decode(&[0x0A, 0x02, 0x0A, 0x7F][..]).expect("a message");
        assert!(wrong.rows().is_err());
        assert!(RowBatch::decode(&[0x08, 0x01][..]).is_err());
        // Values as prost reads them: what is short, what is cut, what is no text, and what says something twice.
        for row in [
            &[0x0A, 0x00][..],
            &[0x0A, 0x02, 0x08, 0x01],
            &[0x0A, 0x02, 0x08, 0x02],
            &[0x0A, 0x04, 0x22, 0x02, b'a', b'b', 0x0A, 0x00],
            &[0x0A, 0x04, 0x22, 0x01, b'a', b'b'],
            &[0x0A, 0x03, 0x22, 0x01, 0xFF],
            &[0x0A, 0x05, 0x22, 0x01, b'a', 0x08, 0x01],
            &[0x0A, 0x7F, 0x22],
            &[0x12, 0x01, 0x00, 0x0A, 0x00],
        ] {
            assert_eq!(read_row(row, 0).ok(), Row::decode(row).ok(), "{row:?}");
        }
    }

    #[test]
    fn a_row_that_fails_is_left_out() {
        let mut batch = pushed(&[vec![Cell::Integer(1)]]);
        let failing = [Ok(Cell::Integer(2)), Err("no")];
        assert_eq!(batch.push(failing), Err("no"));
        assert_eq!(batch, pushed(&[vec![Cell::Integer(1)]]));
    }
}
