//! The syntax tree of an expression: what the parser yields and the compiler reads.

use std::sync::Arc;

use super::{quantity::Quantity, temporal::Temporal};
use crate::number::Decimal;

/// A node of the tree.
#[derive(Debug, Clone)]
pub(crate) struct Ast {
    /// Characters of the expression before it.
    pub at: usize,
    /// Nodes from here down to the deepest leaf: bounded by the parser, and so every recursion over the tree.
    pub depth: usize,
    /// What it is.
    pub kind: AstKind,
}

/// What a node is.
#[derive(Debug, Clone)]
pub(crate) enum AstKind {
    /// A literal, or a constant's value.
    Literal(Literal),
    /// `{}`
    Empty,
    /// `$this`, `$index`, `$total`: the word.
    Special(String),
    /// `base.$this`: the word, whatever it stands behind; that is to be valid all the same.
    Behind {
        /// What it stands behind.
        base: Box<Ast>,
        /// The word.
        word: String,
    },
    /// `%name`
    Constant(String),
    /// `name` or `base.name`
    Member {
        /// What it is taken from; the focus if absent.
        base: Option<Box<Ast>>,
        /// The element's name.
        name: String,
    },
    /// `name(…)` or `base.name(…)`
    Call {
        /// What it is called on; the focus if absent.
        base: Option<Box<Ast>>,
        /// The function's name.
        name: String,
        /// Its arguments.
        args: Vec<Ast>,
    },
    /// `base[index]`
    Indexer {
        /// The collection.
        base: Box<Ast>,
        /// The place in it.
        index: Box<Ast>,
    },
    /// `-operand` (`+` leaves no node).
    Negate(Box<Ast>),
    /// An operator between two operands, or a chain of one that is associative (`and`, `or`, `|`), so that a long chain is not deep.
    Binary {
        /// The operator as written.
        op: &'static str,
        /// Two operands, or more of a chain.
        operands: Vec<Ast>,
    },
    /// `operand is Type`, `operand as Type`
    Type {
        /// `is` or `as`.
        op: &'static str,
        /// What is tested.
        operand: Box<Ast>,
        /// The type's name, as written.
        name: String,
    },
}

/// A value that an expression states.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Literal {
    /// `true`, `false`
    Boolean(bool),
    /// An integer of 32 bits
    Integer(i32),
    /// One of 64: a constant of FHIR's integer64, or a number that has more than 32
    Integer64(i64),
    /// A decimal, with its scale
    Decimal(Decimal),
    /// A string
    Text(Arc<str>),
    /// A date, `dateTime` or time, and its lexical form
    Temporal(Temporal, String),
    /// A number with a unit
    Quantity(Quantity),
}

impl Literal {
    /// A whole number as it is written.
    pub(crate) fn whole(value: i64) -> Self {
        i32::try_from(value).map_or(Self::Integer64(value), Self::Integer)
    }
}
