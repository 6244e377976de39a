//! What can go wrong with HAPI's PostgreSQL.

/// An error of reading HAPI's database. No message holds content, an id or a password.
#[derive(Debug, thiserror::Error)]
pub enum HapiError {
    /// PostgreSQL said no, or cannot be reached.
    #[error("HAPI's PostgreSQL failed while {doing}: {reason}")]
    Database {
        /// What was being done.
        doing: &'static str,
        /// PostgreSQL's message with its SQLSTATE, without details.
        reason: String,
        /// Whether another try may help.
        transient: bool,
    },
    /// The database or the role cannot be used as it is; the message says what to do.
    #[error("{0}")]
    Refused(String),
}

impl HapiError {
    /// Wraps an error of the driver: PostgreSQL's primary message only, since details may quote values.
    pub(crate) fn of(doing: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |error| match &error {
            sqlx::Error::Database(db) => {
                let state = db.code().unwrap_or_default().into_owned();
                // connection failures, operator intervention, lack of resources, serialisation
                let transient = ["08", "57", "53", "40"]
                    .iter()
                    .any(|class| state.starts_with(class));
                Self::Database {
                    doing,
                    reason: format!("{} (SQLSTATE {state})", db.message()),
                    transient,
                }
            }
            sqlx::Error::ColumnDecode { index, .. } => Self::Database {
                doing,
                reason: format!("column {index} is not of the expected type"),
                transient: false,
            },
            other => Self::Database {
                doing,
                reason: other.to_string(),
                transient: true,
            },
        }
    }

    /// Whether another try may help without anyone doing something.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Database { transient: true, .. })
    }
}
