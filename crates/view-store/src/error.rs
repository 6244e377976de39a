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
        /// Whether a value or the size of what was written is at fault: only then would it be refused again, and the rest be taken.
        data: bool,
    },
    /// All connections are in use, and none became free in time.
    #[error(
        "all {connections} connections to the views' PostgreSQL are in use, and none became free within {} ms: try again in a moment",
        patience.as_millis()
    )]
    Busy {
        /// How many there may be.
        connections: u32,
        /// For how long it was waited.
        patience: std::time::Duration,
    },
    /// The schema is missing or of another release.
    #[error("{0}")]
    NotMigrated(String),
    /// The views of the type have changed since they were loaded: load them again.
    #[error("the views of {resource_type} have changed: try again")]
    ViewsChanged {
        /// The type.
        resource_type: String,
    },
    /// No view of that name; `known` are those that exist.
    #[error("there is no view {}; there are: {}", shortened(.name), listed(.known))]
    UnknownView {
        /// As asked.
        name: String,
        /// Names, in their order.
        known: Vec<String>,
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
        data: driver::is_of_the_data(&error),
    }
}

/// A name that a caller has given, for a message: names are short, and anything may have been given.
pub fn shortened(name: &str) -> &str {
    if name.chars().count() <= 64 {
        name
    } else {
        "of that length"
    }
}

/// Names that there are, for a message.
pub fn listed(names: &[String]) -> String {
    if names.is_empty() {
        "none yet".to_owned()
    } else {
        names.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_view_is_named_with_those_that_there_are() {
        let unknown = |name: &str, known: &[&str]| {
            let known = known.iter().map(|name| (*name).to_owned()).collect();
            StoreError::UnknownView {
                name: name.into(),
                known,
            }
            .to_string()
        };
        assert_eq!(unknown("a", &["b", "c"]), "there is no view a; there are: b, c");
        assert_eq!(unknown("a", &[]), "there is no view a; there are: none yet");
        assert!(!unknown(&"x".repeat(65), &[]).contains("xxx"));
    }
}
