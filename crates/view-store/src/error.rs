//! What can go wrong with the views' PostgreSQL.

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
        reason: reason(&error),
        transient: is_transient(&error),
    }
}

/// SQLSTATE of an error that PostgreSQL reported.
pub(crate) fn sqlstate(error: &sqlx::Error) -> Option<String> {
    error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code)
        .map(Into::into)
}

/// Lock not to be had within `lock_timeout`.
const LOCK_NOT_AVAILABLE: &str = "55P03";

/// Whether an error says that a lock could not be had within `lock_timeout`.
pub(crate) fn is_lock_timeout(error: &sqlx::Error) -> bool {
    sqlstate(error).as_deref() == Some(LOCK_NOT_AVAILABLE)
}

fn reason(error: &sqlx::Error) -> String {
    let Some(database) = error.as_database_error() else {
        return match error {
            sqlx::Error::Io(e) => format!("connection lost or refused ({})", e.kind()),
            sqlx::Error::PoolTimedOut => "no connection became free in time".into(),
            sqlx::Error::PoolClosed => "the pool is closed".into(),
            sqlx::Error::Tls(_) => "TLS could not be set up".into(),
            sqlx::Error::Protocol(_) => "the connection was interrupted".into(),
            _ => "the client failed".into(),
        };
    };
    let code = database.code().unwrap_or_default();
    // Messages of class 22 (data exceptions) quote the value.
    if code.starts_with("22") {
        format!("a value was refused (SQLSTATE {code})")
    } else {
        format!("{} (SQLSTATE {code})", database.message())
    }
}

fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::Protocol(_)
        | sqlx::Error::WorkerCrashed => true,
        _ => sqlstate(error).is_some_and(|code| {
            // Connection exceptions, insufficient resources, operator intervention (shutdown, crash, not yet up).
            ["08", "53", "57P"].iter().any(|class| code.starts_with(class))
                || ["40001", "40P01", LOCK_NOT_AVAILABLE, "25P03"].contains(&code.as_str())
        }),
    }
}
