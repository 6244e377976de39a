//! The plan of a view: what the evaluator runs. Names of the specification's algorithm: `Process(S, N)` runs a [`Select`] on a node.

use std::ops::Range;

use crate::fhirpath::expr::Expr;

/// An expression of a select, and its number among them.
#[derive(Debug)]
pub(super) struct Expression {
    pub(super) expr: Expr,
    pub(super) number: usize,
}

/// One select, with the plain selects in it merged into it: they yield one row for the same node.
#[derive(Debug)]
pub(super) struct Select {
    /// JSON path in the definition, for errors.
    pub(super) at: String,
    pub(super) iterate: Iterate,
    /// Columns of this level: their place in the row and their expression.
    pub(super) columns: Vec<(usize, Expression)>,
    /// What multiplies the row: the Cartesian product of their rows is taken.
    pub(super) parts: Vec<Part>,
    /// The places of all columns in here: what the null row fills.
    pub(super) range: Range<usize>,
    /// Those of them that are just `%rowIndex`: 0 in the null row.
    pub(super) row_indexes: Vec<usize>,
}

/// How a select finds its nodes.
#[derive(Debug)]
pub(super) enum Iterate {
    /// The node itself.
    Once,
    /// Each item; none, no row.
    ForEach(Expression),
    /// Each item; none, the null row.
    ForEachOrNull(Expression),
    /// All nodes below, by any of the paths, in pre-order.
    Repeat(Vec<Expression>),
}

/// What multiplies a select's row.
#[derive(Debug)]
pub(super) enum Part {
    /// The rows of a nested select that iterates.
    Select(Box<Select>),
    /// The rows of all branches, one after the other.
    Union(Vec<Select>),
}
