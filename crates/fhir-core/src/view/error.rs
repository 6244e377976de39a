//! What is wrong with a definition, and why a resource cannot be evaluated.

use std::fmt;

use crate::{
    fhirpath::error::{Fault, PathError},
    json::JsonError,
};

/// All the rules that a definition breaks, each with its place; never empty. Of more than a hundred the last one tells that there are more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ViewErrors(pub Vec<ViewError>);

impl fmt::Display for ViewErrors {
    /// One line: all of them, separated by semicolons.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid ViewDefinition: ")?;
        for (i, error) in self.0.iter().enumerate() {
            if i > 0 {
                write!(f, "; ")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

/// Errors that are told. How many more there are is not: of those that are not kept, what follows from them cannot be told apart.
const MAX_TOLD: usize = 100;

/// Errors while they are found.
#[derive(Debug, Default)]
pub(super) struct Errors {
    told: Vec<ViewError>,
    found: usize,
}

impl Errors {
    pub(super) fn push(&mut self, at: impl Into<String>, rule: Rule) {
        self.found += 1;
        if self.told.len() < MAX_TOLD {
            self.told.push(ViewError { at: at.into(), rule });
        }
    }

    /// How many were found.
    pub(super) fn found(&self) -> usize {
        self.found
    }

    /// Whether one that is told is at a place or within it.
    pub(super) fn within(&self, at: &str) -> bool {
        self.told.iter().any(|error| {
            error
                .at
                .strip_prefix(at)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
    }
}

impl From<Errors> for ViewErrors {
    fn from(Errors { mut told, found }: Errors) -> Self {
        if found > told.len() {
            told.push(ViewError {
                at: String::new(),
                rule: Rule::More,
            });
        }
        Self(told)
    }
}

/// A rule that a definition breaks, where, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewError {
    /// JSON path in the definition (`select[0].column[2].path`); empty for the definition itself.
    pub at: String,
    /// The rule.
    pub rule: Rule,
}

impl fmt::Display for ViewError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.at.is_empty() {
            write!(f, "{}", self.rule)
        } else {
            write!(f, "{}: {}", self.at, self.rule)
        }
    }
}

/// A rule of the specification (or of this implementation, where it says so) that a definition breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rule {
    /// The text is not JSON.
    #[error("not JSON (line {line}, column {column})")]
    Json {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// `resourceType` is another.
    #[error("is not a ViewDefinition; set \"ViewDefinition\" or leave it out")]
    ResourceType,
    /// A member that is required is missing.
    #[error("is missing; add {0}")]
    Missing(&'static str),
    /// A member of another JSON type.
    #[error("must be {0}")]
    Shape(&'static str),
    /// The invariant sql-name.
    #[error("is no sql-name; begin with a letter and use letters, digits and underscores only")]
    Name,
    /// PostgreSQL cuts longer names.
    #[error("is longer than 63 bytes, PostgreSQL's limit; shorten it")]
    NameTooLong,
    /// A name that the product uses itself.
    #[error("'{0}' is reserved; choose another name")]
    Reserved(String),
    /// Two columns, or constants, of one name.
    #[error("'{name}' is already the name of {first}; rename one")]
    Duplicate {
        /// The name.
        name: String,
        /// Where it comes first.
        first: String,
    },
    /// The invariant sql-expressions.
    #[error("has {0}; keep at most one of forEach, forEachOrNull and repeat")]
    Iterations(String),
    /// A select that yields nothing.
    #[error("selects nothing; add column, select or unionAll")]
    Empty,
    /// Branches of a `unionAll` whose columns differ.
    #[error(
        "columns are {found}, the first branch's are {expected}; every branch needs the same names in the same order"
    )]
    UnionColumns {
        /// Of this branch.
        found: String,
        /// Of the first branch.
        expected: String,
    },
    /// A column of a `unionAll` whose type differs between branches.
    #[error(
        "column '{name}' is {found}, in the first branch {expected}; declare the same type and collection in every branch"
    )]
    UnionType {
        /// Its name.
        name: String,
        /// In this branch.
        found: String,
        /// In the first branch.
        expected: String,
    },
    /// A constant without a value, or with several.
    #[error("has {0}; give exactly one value[x] of a primitive type")]
    ConstantValue(&'static str),
    /// A constant's value that is not of its type.
    #[error("is no {of_type}; {write}")]
    ConstantForm {
        /// The type.
        of_type: String,
        /// What to do.
        write: &'static str,
    },
    /// An expression that is refused.
    #[error("{0}")]
    Path(PathError),
    /// An `ansi/type` tag that is not known.
    #[error(
        "unknown ansi/type; use BOOLEAN, INTEGER, BIGINT, NUMERIC, NUMERIC(p,s), DOUBLE PRECISION, CHARACTER VARYING, DATE, TIME, TIMESTAMP or TIMESTAMP WITH TIME ZONE"
    )]
    AnsiType,
    /// More errors than are told.
    #[error("there are more errors; correct these first")]
    More,
    /// More selects or columns than are evaluated, or deeper ones.
    #[error("{0}")]
    TooBig(&'static str),
}

/// Why a resource has no rows in a view although it should: recorded, counted, never a partial result. Says no content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// The body is not JSON.
    #[error("the body is {0}")]
    Json(#[from] JsonError),
    /// The body is JSON, but no resource.
    #[error("the body is not a resource: no object with a resourceType")]
    NotAResource,
    /// A `where` that fails.
    #[error("where[{index}]: {fault}")]
    Where {
        /// Its place.
        index: usize,
        /// Why.
        fault: Fault,
    },
    /// A `where` whose value is no boolean.
    #[error("where[{index}]: the value is not a boolean")]
    WhereNotBoolean {
        /// Its place.
        index: usize,
    },
    /// A `forEach`, `forEachOrNull` or `repeat` that fails.
    #[error("{at}: {fault}")]
    Iteration {
        /// JSON path in the definition.
        at: String,
        /// Why.
        fault: Fault,
    },
    /// A column whose expression fails.
    #[error("column {column}: {fault}")]
    Column {
        /// Its name.
        column: String,
        /// Why.
        fault: Fault,
    },
    /// Several values in a column that is no collection.
    #[error("column {column}: several values, and the column is no collection")]
    SeveralValues {
        /// Its name.
        column: String,
    },
    /// A value that is not of the column's type.
    #[error("column {column}: a value does not fit the type {sql_type}")]
    Type {
        /// Its name.
        column: String,
        /// PostgreSQL's name of the type.
        sql_type: String,
    },
    /// A value with elements in a column that declares no type for it.
    #[error("column {column}: the value is not primitive, and the column declares no type")]
    NotPrimitive {
        /// Its name.
        column: String,
    },
    /// A character that PostgreSQL cannot store.
    #[error("column {column}: a value holds NUL")]
    Nul {
        /// Its name.
        column: String,
    },
    /// `repeat` goes deeper than [`MAX_REPEAT_DEPTH`](super::MAX_REPEAT_DEPTH).
    #[error("{at}: repeats deeper than {limit}")]
    RepeatDepth {
        /// JSON path in the definition.
        at: String,
        /// The limit.
        limit: usize,
    },
    /// More rows than one resource may have.
    #[error("more than {limit} rows of one resource")]
    TooManyRows {
        /// The limit.
        limit: usize,
    },
    /// Rows of more bytes than one resource may have.
    #[error("more than {limit} bytes of rows of one resource")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// More items on the way to rows than one resource may have: iterations in each other, most of them without a row.
    #[error("more than {limit} items are iterated over in one resource")]
    TooManyNodes {
        /// The limit.
        limit: usize,
    },
}
