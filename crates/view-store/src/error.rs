//! What can go wrong with the views' PostgreSQL.

use crate::driver;

/// An error of the view store. No message holds a row's content or a password.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// PostgreSQL said no, or cannot be reached.
    #[error("the views' PostgreSQL failed while {doing}: {reason}")]
    Database {
        /// What was being done.
        doing: &'static str,
        /// PostgreSQL's message with its SQLSTATE, without details.
        reason: String,
        /// Whether another try may help: connection lost, lock not to be had, serialisation.
        transient: bool,
    },
    /// The schema is missing or of another release.
    #[error("{0}")]
    NotMigrated(String),
    /// The views of the type have changed since they were loaded: load them again.
    #[error("the views of {resource_type} have changed")]
    ViewsChanged {
        /// The type.
        resource_type: String,
    },
    /// No view of that name; `known` are those that exist.
    #[error("there is no view {name}; there are: {known}")]
    UnknownView {
        /// As asked.
        name: String,
        /// Names, comma separated.
        known: String,
    },
    /// A definition asks what no PostgreSQL table can hold.
    #[error("{0}")]
    InvalidDefinition(String),
    /// A definition cannot replace the registered one without force.
    #[error("{0}")]
    Incompatible(String),
    /// What the registry holds cannot be used.
    #[error("the registry is inconsistent: {0}")]
    Inconsistent(String),
    /// A value of a condition does not fit its column's type, or a column does not exist.
    #[error("{0}")]
    InvalidSelect(String),
}

/// Turns PostgreSQL's errors into ours, with what was being done.
pub(crate) fn during(doing: &'static str) -> impl Fn(sqlx::Error) -> StoreError + Copy {
    move |error| StoreError::Database {
        doing,
        reason: driver::reason(&error),
        transient: driver::is_transient(&error),
    }
}
