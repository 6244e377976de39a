//! A compiled expression: small operators, each over the collection of the one below.
//!
//! Every operand of an operator is in its variant, so that what an expression can touch can be computed from it (`uses`).

use super::{
    ast::Literal,
    functions::{Function, Pattern},
    model::Type,
    types::TypeTest,
};

/// An operator. Recursion over it is bounded by the parser's depth limit.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Expr {
    /// A literal or a constant's value.
    Literal(Literal),
    /// `{}`
    Empty,
    /// The focus: `$this`, or what a path begins at.
    This,
    /// `$index`: the place of the focus in the collection that is filtered or projected.
    Index,
    /// `$total`: what `aggregate` has so far.
    Total,
    /// `%resource`, `%rootResource`: the resource.
    Resource,
    /// `%context`: what the whole expression is evaluated on.
    Context,
    /// `%rowIndex`
    RowIndex,
    /// A path's first word that names a type: the focus, if it is of that type.
    Root(String),
    /// `.name`
    Member(Box<Expr>, Member),
    /// `.name.ofType(T)`, in one: the property of the choice is looked up by its full name.
    Choice(Box<Expr>, Member, Vec<Key>, TypeTest),
    /// `.ofType(T)`
    OfType(Box<Expr>, TypeTest),
    /// `as T`, `.as(T)`: of a single item.
    As(Box<Expr>, TypeTest),
    /// `is T`, `.is(T)`: of a single item.
    Is(Box<Expr>, TypeTest),
    /// `[n]`
    Item(Box<Expr>, Box<Expr>),
    /// `.first()`
    First(Box<Expr>),
    /// `.last()`
    Last(Box<Expr>),
    /// `.tail()` and `.skip(n)`
    Skip(Box<Expr>, Box<Expr>),
    /// `.take(n)`
    Take(Box<Expr>, Box<Expr>),
    /// `.single()`
    Single(Box<Expr>),
    /// `.where(criteria)`
    Where(Box<Expr>, Box<Expr>),
    /// `.select(projection)`
    Select(Box<Expr>, Box<Expr>),
    /// `.repeat(projection)`: each item once
    Repeat(Box<Expr>, Box<Expr>),
    /// `.aggregate(step, init)`
    Aggregate(Box<Expr>, Box<Expr>, Option<Box<Expr>>),
    /// `.children()`
    Children(Box<Expr>),
    /// `.descendants()`
    Descendants(Box<Expr>),
    /// `.exists()`, `.exists(criteria)`
    Exists(Box<Expr>),
    /// `.empty()`
    IsEmpty(Box<Expr>),
    /// `.all(criteria)`
    All(Box<Expr>, Box<Expr>),
    /// `.allTrue()`, `.anyTrue()`, `.allFalse()`, `.anyFalse()`
    Quantified(Quantifier, Box<Expr>),
    /// `.distinct()`
    Distinct(Box<Expr>),
    /// `.isDistinct()`
    IsDistinct(Box<Expr>),
    /// `.subsetOf(other)`; `supersetOf` with the operands the other way round
    SubsetOf(Box<Expr>, Box<Expr>),
    /// `.intersect(other)`
    Intersect(Box<Expr>, Box<Expr>),
    /// `.exclude(other)`
    Exclude(Box<Expr>, Box<Expr>),
    /// `.combine(other)`: all items of both
    Combine(Box<Expr>, Box<Expr>),
    /// `.sum()`, `.min()`, `.max()`, `.avg()`
    Reduce(Reduction, Box<Expr>),
    /// `.count()`
    Count(Box<Expr>),
    /// `.hasValue()`
    HasValue(Box<Expr>),
    /// `.not()`
    Not(Box<Expr>),
    /// `.extension(url)`
    Extension(Box<Expr>, Box<Expr>),
    /// `.join(separator)`
    Join(Box<Expr>, Option<Box<Expr>>),
    /// `.split(separator)`; `.toChars()` without one
    Split(Box<Expr>, Option<Box<Expr>>),
    /// `.matches(pattern)`; of the whole string if the flag is set
    Matches(Box<Expr>, Pattern, bool),
    /// `.replaceMatches(pattern, substitution)`
    ReplaceMatches(Box<Expr>, Pattern, Box<Expr>),
    /// A function of one item, on single arguments.
    Function(&'static Function, Box<Expr>, Vec<Expr>),
    /// `.getResourceKey()`
    ResourceKey(Box<Expr>),
    /// `.getReferenceKey(Type)`
    ReferenceKey(Box<Expr>, Option<String>),
    /// `.iif(…)` on something: evaluated on its single item, or on nothing.
    On(Box<Expr>, Box<Expr>),
    /// `iif(criterion, then, else)`
    If(Box<Expr>, Box<Expr>, Box<Expr>),
    /// `=` and, negated, `!=`
    Equal(Box<Expr>, Box<Expr>, bool),
    /// `~` and, negated, `!~`
    Equivalent(Box<Expr>, Box<Expr>, bool),
    /// `<`, `<=`, `>`, `>=`
    Compare(Comparison, Box<Expr>, Box<Expr>),
    /// `and`: all of them
    And(Vec<Expr>),
    /// `or`: any of them
    Or(Vec<Expr>),
    /// `xor`
    Xor(Box<Expr>, Box<Expr>),
    /// `implies`
    Implies(Box<Expr>, Box<Expr>),
    /// `&`
    Concatenate(Box<Expr>, Box<Expr>),
    /// `+`, `-`, `*`, `/`, `div`, `mod`
    Arithmetic(Arithmetic, Box<Expr>, Box<Expr>),
    /// `-operand`
    Negate(Box<Expr>),
    /// `|`: all items, each once
    Union(Vec<Expr>),
    /// `in`; `contains` with the operands the other way round
    In(Box<Expr>, Box<Expr>),
}

/// An element to be looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    /// Its name.
    pub name: String,
    /// Whether it is, or can be, a choice: then any property that begins with the name can be it.
    pub choice: bool,
    /// The properties that it can be and their types, where the type of what it is taken from is known; without them both are found out
    /// when it is evaluated.
    pub keys: Vec<Key>,
}

/// A property by its full name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    /// Its name.
    pub name: String,
    /// The type of its values.
    pub of: Type,
}

/// What is asked of booleans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quantifier {
    /// `allTrue`
    AllTrue,
    /// `anyTrue`
    AnyTrue,
    /// `allFalse`
    AllFalse,
    /// `anyFalse`
    AnyFalse,
}

/// What numbers (and, of the order, whatever has one) are reduced to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reduction {
    /// `sum`
    Sum,
    /// `min`
    Min,
    /// `max`
    Max,
    /// `avg`
    Average,
}

/// Order comparisons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

/// Operators on numbers; `+` also joins strings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arithmetic {
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/`
    Divide,
    /// `div`
    WholeDivide,
    /// `mod`
    Modulo,
}

impl Comparison {
    /// As it is written.
    pub(crate) fn symbol(self) -> &'static str {
        match self {
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }

    /// Whether it holds of operands in that order.
    pub(crate) fn holds(self, order: std::cmp::Ordering) -> bool {
        match self {
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
        }
    }
}

impl Arithmetic {
    /// As it is written.
    pub(crate) fn symbol(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::WholeDivide => "div",
            Self::Modulo => "mod",
        }
    }
}

impl Quantifier {
    /// The value that is looked for, and whether all must have it.
    pub(crate) fn asks(self) -> (bool, bool) {
        match self {
            Self::AllTrue => (true, true),
            Self::AnyTrue => (true, false),
            Self::AllFalse => (false, true),
            Self::AnyFalse => (false, false),
        }
    }

    /// The function's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::AllTrue => "allTrue()",
            Self::AnyTrue => "anyTrue()",
            Self::AllFalse => "allFalse()",
            Self::AnyFalse => "anyFalse()",
        }
    }
}

impl Reduction {
    /// The function's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sum => "sum()",
            Self::Min => "min()",
            Self::Max => "max()",
            Self::Average => "avg()",
        }
    }
}
