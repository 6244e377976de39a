//! What can go wrong with HAPI's PostgreSQL.

use view_store::driver;

/// An error of reading HAPI's database. No message holds content, an id or a password.
#[derive(Debug, thiserror::Error)]
pub enum HapiError {
    /// PostgreSQL said no, or cannot be reached.
    #[error("HAPI's PostgreSQL failed while {doing}: {reason}")]
    Database {
        /// What was being done.
        doing: &'static str,
        /// What may be shown of it: see [`view_store::driver::reason`].
        reason: String,
        /// Whether another try may help.
        transient: bool,
    },
    /// The database or the role cannot be used as it is; the message says what to do.
    #[error("{0}")]
    Refused(String),
}

impl HapiError {
    /// Wraps an error of the driver, with what was being done.
    pub(crate) fn of(doing: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |error| Self::Database {
            doing,
            reason: driver::reason(&error),
            transient: driver::is_transient(&error),
        }
    }

    /// Whether another try may help without anyone doing something.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Database { transient: true, .. })
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use sqlx::error::{DatabaseError, ErrorKind};

    use super::*;

    /// What PostgreSQL reports.
    #[derive(Debug, thiserror::Error)]
    #[error("{1}")]
    struct Reported(&'static str, &'static str);

    impl DatabaseError for Reported {
        fn message(&self) -> &str {
            self.1
        }

        fn code(&self) -> Option<Cow<'_, str>> {
            Some(self.0.into())
        }

        fn as_error(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
            self
        }

        fn as_error_mut(&mut self) -> &mut (dyn std::error::Error + Send + Sync + 'static) {
            self
        }

        fn into_error(self: Box<Self>) -> Box<dyn std::error::Error + Send + Sync + 'static> {
            self
        }

        fn kind(&self) -> ErrorKind {
            ErrorKind::Other
        }
    }

    fn reported(code: &'static str, message: &'static str) -> HapiError {
        HapiError::of("reading")(sqlx::Error::Database(Box::new(Reported(code, message))))
    }

    #[test]
    fn law_9_a_message_that_quotes_a_value_is_not_shown() {
        let error = reported("22P02", "invalid input syntax for type integer: \"Zaphod\"");
        assert!(!error.to_string().contains("Zaphod"), "{error}");
        assert!(error.to_string().contains("22P02"), "{error}");
    }

    #[test]
    fn what_no_waiting_mends_is_not_tried_again() {
        assert!(reported("57P03", "the database system is starting up").is_transient());
        assert!(!reported("57014", "canceling statement due to statement timeout").is_transient());
        let misled = HapiError::of("connecting")(sqlx::Error::Configuration("postgres://u:s3cret@h".into()));
        assert!(
            !misled.is_transient() && !misled.to_string().contains("s3cret"),
            "{misled}"
        );
        assert!(HapiError::of("connecting")(sqlx::Error::PoolTimedOut).is_transient());
    }
}
