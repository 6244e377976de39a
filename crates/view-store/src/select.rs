//! Questions: a select over one view, and its freshness, in one snapshot.

use chrono::{DateTime, Utc};
use fhir_core::{column::Column, row::Cell};
use futures::stream::BoxStream;

use crate::{StoreError, TypeFreshness, ViewStore};

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
    /// Only the number of rows: one bigint column `count`.
    pub count_only: bool,
}

/// One snapshot of the views' PostgreSQL: rows and freshness that are asked through it belong together (law 3).
pub struct Snapshot {}

/// A row with the layer that it comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Cells in the order of the columns wanted.
    pub cells: Vec<Cell<'static>>,
    /// From the live table.
    pub live: bool,
}

impl ViewStore {
    /// Opens a snapshot (`REPEATABLE READ READ ONLY`) after taking `ACCESS SHARE` on the tables of the view.
    pub async fn snapshot(&self, _view: Option<&str>) -> Result<Snapshot, StoreError> {
        unimplemented!()
    }
}

impl Snapshot {
    /// Freshness of a type in this snapshot.
    pub async fn freshness(&mut self, _resource_type: &str) -> Result<TypeFreshness, StoreError> {
        unimplemented!()
    }
    /// The columns of the answer, and its rows, streamed.
    pub async fn select(&mut self, _select: &Select) -> Result<(Vec<Column>, BoxStream<'_, Result<Answer, StoreError>>), StoreError> {
        unimplemented!()
    }
}
