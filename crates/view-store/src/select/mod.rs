//! Questions: a select over one view, and its freshness, in one snapshot.
//!
//! ```text
//! Select ──statement──► SQL, arguments, checks, layout ──┬─ ask: one statement, one round trip, of a view's tables ──► freshness, rows
//!                                                        └─ Snapshot: a transaction; also of rows that the caller gives ──► rows
//! ```

mod asked;
pub(crate) mod conditions;
pub(crate) mod count;
mod driven;
mod raw;
mod row;
mod snapshot;
mod statement;
pub(crate) mod values;

use chrono::{DateTime, Utc};
use fhir_core::column::Column;
use futures::stream::BoxStream;

pub use self::asked::Asked;
pub use self::row::Answer;
pub use self::snapshot::Snapshot;
use crate::StoreError;

/// Where the rows come from.
#[derive(Debug, Clone)]
pub enum Relation {
    /// base and live
    Merged(String),
    /// base and shadowed
    Batch(String),
    /// Rows given by the caller (a view that is not materialised), put into a temporary table for the time of the answer: the same conditions mean the same.
    Given {
        /// Columns of the rows.
        columns: Vec<Column>,
        /// Binary COPY tuples with the hidden columns first, as [`crate::RowsOf::Encoded`] has them.
        tuples: Vec<u8>,
    },
}

/// Comparison of a column with values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `=`
    Equal,
    /// `<>`; null is unequal to nothing
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `= ANY`
    In,
    /// `LIKE`
    Like,
    /// Case-insensitive substring: the value is matched literally (FHIR `:text`).
    ContainsText,
    /// `IS NULL`
    IsNull,
    /// `IS NOT NULL`
    IsNotNull,
}

/// A condition over rows. Values are text, read as the column's type by PostgreSQL.
#[derive(Debug, Clone)]
pub enum Condition {
    /// A column (by name) against values; a collection column matches if any member does.
    Compare {
        /// Name.
        column: String,
        /// Operator.
        operator: Operator,
        /// Values.
        values: Vec<String>,
    },
    /// The resource's id is one of these (hidden column `_rid`).
    ResourceId(Vec<String>),
    /// The resource's lastUpdated is at or after this (hidden column `_updated`).
    UpdatedSince(DateTime<Utc>),
    /// All hold.
    All(Vec<Condition>),
    /// Any holds.
    Any(Vec<Condition>),
    /// Does not hold (null counts as not holding, so its negation holds).
    Not(Box<Condition>),
    /// Holds for no row of the row's resource in the view.
    NoRowOfResource(Box<Condition>),
}

/// Order by a column.
#[derive(Debug, Clone)]
pub struct OrderBy {
    /// Name.
    pub column: String,
    /// Descending; nulls are last either way.
    pub descending: bool,
}

/// A question over one view.
#[derive(Debug, Clone)]
pub struct Select {
    /// Rows' source.
    pub relation: Relation,
    /// Columns wanted, by name, in order; empty means all.
    pub columns: Vec<String>,
    /// Must hold.
    pub condition: Option<Condition>,
    /// At most so many distinct resources, the most recently updated first.
    pub max_resources: Option<i64>,
    /// Order; the hidden (`_rid`, `_row`) break ties, so pages are stable.
    pub order: Vec<OrderBy>,
    /// At most so many rows.
    pub limit: Option<i64>,
    /// Only the rows behind this one, in the order; `order` must be that of the select which gave it.
    pub after: Option<RowKey>,
    /// Whether each row's place in the order is wanted: [`Answer::key`].
    pub with_keys: bool,
    /// Only the number of rows: one bigint column `count`.
    pub count_only: bool,
}

impl Select {
    /// All rows, in no order.
    pub fn all(relation: Relation) -> Self {
        Self {
            relation,
            columns: Vec::new(),
            condition: None,
            max_resources: None,
            order: Vec::new(),
            limit: None,
            after: None,
            with_keys: false,
            count_only: false,
        }
    }
}

/// A row's place in the order of a select: unlike its number it stays right while other rows come and go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowKey {
    /// Of each column of the order its value's text, as PostgreSQL writes it; `None` is null.
    pub order: Vec<Option<String>>,
    /// Hidden `_rid`.
    pub id: String,
    /// Hidden `_row`.
    pub row: i32,
}

/// Rows as they come, those together that came together. Dropped before its end, it ends the query too.
pub type AnswerRows<'a> = BoxStream<'a, Result<Vec<Answer>, StoreError>>;

/// Rows handed on together at most.
pub(crate) const ROWS_TOGETHER: usize = 128;
