//! A compiled expression: small operators, each over the collection of the one below.

use super::{ast::Literal, types::TypeTest};

/// An operator. Recursion over it is bounded by the parser's depth limit.
#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    /// A literal or a constant's value.
    Literal(Literal),
    /// `{}`
    Empty,
    /// The focus: `$this`, or what a path begins at.
    This,
    /// `$index`: the place of the focus in the collection that is filtered or projected.
    Index,
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
    Choice(Box<Expr>, Member, Vec<String>, TypeTest),
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
    /// `.exists()`, `.exists(criteria)`
    Exists(Box<Expr>),
    /// `.empty()`
    IsEmpty(Box<Expr>),
    /// `.all(criteria)`
    All(Box<Expr>, Box<Expr>),
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
    /// `.getResourceKey()`
    ResourceKey(Box<Expr>),
    /// `.getReferenceKey(Type)`
    ReferenceKey(Box<Expr>, Option<String>),
    /// `iif(criterion, then, else)`
    If(Box<Expr>, Box<Expr>, Box<Expr>),
    /// `=` and, negated, `!=`
    Equal(Box<Expr>, Box<Expr>, bool),
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
    /// `+`, `-`, `*`, `/`
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
pub struct Member {
    /// Its name.
    pub name: String,
    /// Whether an element of this name can be a choice.
    pub choice: bool,
}

/// Order comparisons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
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
pub enum Arithmetic {
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/`
    Divide,
}

impl Comparison {
    /// As it is written.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }

    /// Whether it holds of operands in that order.
    pub fn holds(self, order: std::cmp::Ordering) -> bool {
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
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
        }
    }
}

/// The type of an expression's items, where the expression alone fixes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StaticType {
    /// Boolean
    Boolean,
    /// Integer
    Integer,
    /// Decimal
    Decimal,
    /// String, or a date or time in its lexical form
    Text,
}

impl Expr {
    /// The type of the items, where the expression alone fixes it: a literal's, an operator's, a function's.
    pub fn static_type(&self) -> Option<StaticType> {
        match self {
            Expr::Literal(Literal::Boolean(_))
            | Expr::Exists(_)
            | Expr::IsEmpty(_)
            | Expr::All(..)
            | Expr::HasValue(_)
            | Expr::Not(_)
            | Expr::Is(..)
            | Expr::Equal(..)
            | Expr::Compare(..)
            | Expr::And(_)
            | Expr::Or(_)
            | Expr::Xor(..)
            | Expr::Implies(..)
            | Expr::In(..) => Some(StaticType::Boolean),
            Expr::Literal(Literal::Integer(_)) | Expr::Count(_) | Expr::RowIndex | Expr::Index => {
                Some(StaticType::Integer)
            }
            Expr::Literal(Literal::Decimal(_)) => Some(StaticType::Decimal),
            Expr::Literal(Literal::Text(_) | Literal::Temporal(..))
            | Expr::Join(..)
            | Expr::ResourceKey(_)
            | Expr::ReferenceKey(..) => Some(StaticType::Text),
            Expr::Arithmetic(op, a, b) => match (a.static_type()?, b.static_type()?) {
                (StaticType::Integer, StaticType::Integer) if *op != Arithmetic::Divide => {
                    Some(StaticType::Integer)
                }
                (StaticType::Text, StaticType::Text) => Some(StaticType::Text),
                _ => Some(StaticType::Decimal),
            },
            Expr::If(_, a, b) => a.static_type().filter(|t| b.static_type() == Some(*t)),
            Expr::Negate(e)
            | Expr::First(e)
            | Expr::Last(e)
            | Expr::Single(e)
            | Expr::Item(e, _)
            | Expr::Skip(e, _)
            | Expr::Take(e, _)
            | Expr::Where(e, _)
            | Expr::Select(_, e) => e.static_type(),
            _ => None,
        }
    }
}
