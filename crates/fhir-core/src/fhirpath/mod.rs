//! FHIRPath (N1, as far as views use it): text to operators to items.
//!
//! ```text
//! text ──lexer──► tokens ──parser──► Ast ──compile (constants, functions, types)──► Expr ──eval(focus)──► Items, one at a time
//! ```
//!
//! Evaluation pushes items through the operators, without collections in between: `first()` stops what is below it. JSON is read without
//! FHIR's schema, so an element's type is known where its property name tells it (`valueQuantity`) and otherwise taken from the JSON value;
//! an unknown element is empty.
//!
//! Before that, [`uses`] tells which members an expression can touch, and [`straight`] makes lists of steps of those that are plain paths.

pub mod ast;
pub mod compile;
pub mod error;
pub mod eval;
pub mod expr;
pub mod functions;
pub mod lexer;
pub mod number;
pub mod operators;
pub mod parser;
mod path;
pub mod straight;
pub mod temporal;
pub mod types;
pub mod uses;
pub mod value;
