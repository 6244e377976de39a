//! Rows as they leave the evaluator: cells in column order, handed to the caller's builder one row at a time.

use std::borrow::Cow;

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Utc};

/// One value of a row, already of its column's [`ColumnKind`](crate::column::ColumnKind).
#[derive(Debug, Clone, PartialEq)]
pub enum Cell<'a> {
    /// No value.
    Null,
    /// `boolean`
    Boolean(bool),
    /// `integer`
    Integer(i32),
    /// `bigint`
    BigInt(i64),
    /// `numeric`: the lexical form, checked to be a JSON number; may have an exponent.
    Decimal(Cow<'a, str>),
    /// `text`: never holds NUL, which PostgreSQL cannot store.
    Text(Cow<'a, str>),
    /// `timestamp with time zone`, to the microsecond.
    TimestampTz(DateTime<Utc>),
    /// `timestamp without time zone`
    Timestamp(NaiveDateTime),
    /// `date`
    Date(NaiveDate),
    /// `time without time zone`
    Time(NaiveTime),
    /// `double precision`
    Double(f64),
    /// `jsonb`: JSON text.
    Json(Cow<'a, str>),
    /// A collection: an array of cells of one kind, none of them a list.
    List(Vec<Cell<'a>>),
}

/// Takes the rows of one resource, in order.
pub trait RowSink {
    /// One row: as many cells as the view has columns.
    fn row(&mut self, cells: &[Cell<'_>]);
}

/// Takes the cells of one row, in order. What most cells are comes without a [`Cell`] made of it, which is half of what a row of a whole view costs (`docs/serving.md`).
pub trait CellSink {
    /// Any cell.
    fn cell(&mut self, cell: &Cell<'_>);
    /// [`Cell::Null`]
    fn null(&mut self);
    /// [`Cell::Boolean`]
    fn boolean(&mut self, value: bool);
    /// [`Cell::Text`]
    fn text(&mut self, text: &str);
}

/// Collects rows as they are: for tests and small answers.
#[derive(Debug, Default, PartialEq)]
pub struct Rows(pub Vec<Vec<Cell<'static>>>);

impl RowSink for Rows {
    fn row(&mut self, cells: &[Cell<'_>]) {
        self.0.push(cells.iter().map(Cell::to_owned).collect());
    }
}

impl Cell<'_> {
    /// Bytes of its text; of a list also a share for each of its cells.
    pub(crate) fn text_len(&self) -> usize {
        match self {
            Cell::Decimal(text) | Cell::Text(text) | Cell::Json(text) => text.len(),
            Cell::List(cells) => cells.iter().map(|cell| size_of::<Self>() + cell.text_len()).sum(),
            _ => 0,
        }
    }

    /// Puts another cell in its place. Hardly a cell has something to free: of the others it is not asked.
    #[inline]
    pub(crate) fn replace(&mut self, cell: Self) {
        match self {
            Cell::Decimal(Cow::Owned(_))
            | Cell::Text(Cow::Owned(_))
            | Cell::Json(Cow::Owned(_))
            | Cell::List(_) => {
                *self = cell;
            }
            _ => std::mem::forget(std::mem::replace(self, cell)),
        }
    }

    /// The same cell, owning its text.
    pub fn to_owned(&self) -> Cell<'static> {
        match self {
            Cell::Null => Cell::Null,
            Cell::Boolean(v) => Cell::Boolean(*v),
            Cell::Integer(v) => Cell::Integer(*v),
            Cell::BigInt(v) => Cell::BigInt(*v),
            Cell::Decimal(v) => Cell::Decimal(Cow::Owned(v.to_string())),
            Cell::Text(v) => Cell::Text(Cow::Owned(v.to_string())),
            Cell::TimestampTz(v) => Cell::TimestampTz(*v),
            Cell::Timestamp(v) => Cell::Timestamp(*v),
            Cell::Date(v) => Cell::Date(*v),
            Cell::Time(v) => Cell::Time(*v),
            Cell::Double(v) => Cell::Double(*v),
            Cell::Json(v) => Cell::Json(Cow::Owned(v.to_string())),
            Cell::List(v) => Cell::List(v.iter().map(Cell::to_owned).collect()),
        }
    }
}
