//! FHIRPath (N1, as far as views use it): text to operators to items.
//!
//! ```text
//! text ──lexer──► tokens ──parser──► Ast ──compile (constants, functions, types)──► Expr ──eval(focus)──► Items, one at a time
//! ```
//!
//! Evaluation pushes items through the operators, without collections in between: `first()` stops what is below it. Expressions are compiled
//! against FHIR R4's types (`model`): elements are looked up by the names that their properties have, and carry their type. What the table
//! does not have (another version's elements) is read as its JSON is, and typed where its property's name tells the type (`valueQuantity`); an
//! element that is not there is empty. Before that, `uses` tells which members an expression can touch, and `straight` makes lists of
//! steps of those that are plain paths.
//!
//! Deviations from FHIRPath N1: a string beside a date is read as a date, in order and equality alike (N1: an error, and unequal); string
//! functions take dates as they are written (N1: an error).

pub(crate) mod ast;
pub(crate) mod compile;
pub(crate) mod direct;
pub mod error;
pub(crate) mod eval;
pub(crate) mod expr;
pub(crate) mod functions;
pub(crate) mod lexer;
pub(crate) mod model;
pub(crate) mod operators;
pub(crate) mod parser;
mod path;
pub(crate) mod quantity;
pub(crate) mod straight;
pub mod temporal;
pub(crate) mod types;
mod ucum;
pub(crate) mod uses;
pub(crate) mod value;

pub use path::split_reference;
