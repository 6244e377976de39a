//! What is wrong with an expression, and what fails while one is evaluated.

/// Why an expression is refused when it is compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} (at character {at})")]
pub struct PathError {
    /// Where in the expression: characters before it.
    pub at: usize,
    /// What is wrong there.
    pub kind: PathErrorKind,
}

/// What is wrong with an expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathErrorKind {
    /// No token begins like this.
    #[error("unexpected character '{0}'")]
    Character(char),
    /// A string, delimited identifier or comment without its end.
    #[error("{0} is not closed")]
    Unclosed(&'static str),
    /// A backslash before something that it does not escape.
    #[error("unknown escape in a string")]
    Escape,
    /// A number, date or time that is none.
    #[error("malformed {0} literal")]
    Literal(&'static str),
    /// A token in a place where another is needed.
    #[error("{found} where {expected} is expected")]
    Token {
        /// What stands there.
        found: String,
        /// What could stand there.
        expected: &'static str,
    },
    /// Longer or deeper nested than is evaluated.
    #[error("expression {0}")]
    TooBig(&'static str),
    /// A function that is not known, or not supported.
    #[error("unknown function {name}(); supported are {supported}")]
    Function {
        /// Its name.
        name: String,
        /// Those that are supported.
        supported: String,
    },
    /// A function called with other arguments than it has.
    #[error("{name}() takes {takes}")]
    Arguments {
        /// Its name.
        name: String,
        /// What it takes.
        takes: &'static str,
    },
    /// A function that views cannot have, whoever evaluates them.
    #[error("{name}() is not for views: {why}")]
    Refused {
        /// Its name.
        name: String,
        /// Why.
        why: &'static str,
    },
    /// A regular expression that is none, or too big.
    #[error("the regular expression cannot be used: {0}")]
    Pattern(&'static str),
    /// A constant that the view does not define.
    #[error("undefined constant %{0}; define it in constant[]")]
    Constant(String),
    /// A name that is no FHIR type.
    #[error("unknown type {0}")]
    Type(String),
    /// Something of FHIRPath that is not evaluated here.
    #[error("{0} not supported")]
    Unsupported(String),
}

/// What fails while an expression is evaluated: never says the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Several items where an operator or function takes one.
    #[error("{0} needs a single item and got several")]
    Several(&'static str),
    /// Operands that do not go together.
    #[error("operands of {0} are of types that do not go together")]
    Operands(&'static str),
    /// An item of a type that a function does not take.
    #[error("{0} got an item of a type that it does not take")]
    Argument(&'static str),
    /// A regular expression, computed, that is none, or too big.
    #[error("{0} got a regular expression that cannot be used")]
    Pattern(&'static str),
    /// A string longer than is built.
    #[error("a string gets longer than {0} bytes")]
    TooLong(usize),
    /// A collection with more items than are kept.
    #[error("a collection gets more than {0} items")]
    TooMany(usize),
    /// More text than is built for one resource.
    #[error("evaluation builds more than {0} bytes of text")]
    TooMuch(u64),
    /// More work than one resource is given.
    #[error("evaluation takes more than {0} steps")]
    Steps(u64),
}
