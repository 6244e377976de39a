//! Statements of callers, run with a reader's rights: in a read-only transaction, within bounds of time, rows and bytes.
//!
//! A statement is checked before it comes here. This is what holds where that check has a hole: the rights of the role `researchflow_reader`, a
//! `READ ONLY` transaction, one statement by the extended protocol, a time-out, and a connection that is cleaned before it is used again.

mod arguments;
mod columns;
mod edited;
mod errors;
mod reader;
mod statement;

pub use arguments::{ParameterPlace, SqlArgument};
pub use columns::SqlColumn;
pub use edited::Edited;
pub use errors::SqlError;
pub use reader::{SqlLayer, SqlReader, SqlSettings, ViewFreshness};
pub use statement::{Prepared, SqlRow, SqlSelect, SqlSnapshot};
