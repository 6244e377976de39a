//! What the driver says, in words that may be shown: for the views' PostgreSQL and for HAPI's alike.

use std::str::FromStr as _;

use sqlx::postgres::PgConnectOptions;
use sqlx::{PgPool, Postgres, Transaction};

/// Lock not to be had within `lock_timeout`.
const LOCK_NOT_AVAILABLE: &str = "55P03";

/// Classes of SQLSTATE whose messages tell of the server, of a transaction, of rights or of names: none quotes a value. What functions and triggers raise by themselves (P0), what
/// they say in foreign languages (38, 39), data exceptions (22) and others may quote any.
const TELLING: [&str; 16] = [
    "08", "0A", "25", "26", "28", "34", "3D", "3F", "40", "42", "53", "54", "55", "57", "58", "XX",
];

/// PostgreSQL's message with its SQLSTATE, or what became of the connection; never a value, a URL or a password.
pub fn reason(error: &sqlx::Error) -> String {
    let Some(database) = error.as_database_error() else {
        return match error {
            sqlx::Error::Io(e) => format!("connection lost or refused ({})", e.kind()),
            sqlx::Error::PoolTimedOut => "no connection became free in time".into(),
            sqlx::Error::PoolClosed => "the pool is closed".into(),
            sqlx::Error::Tls(_) => "TLS could not be set up".into(),
            sqlx::Error::Protocol(_) => "the connection was interrupted".into(),
            sqlx::Error::ColumnDecode { index, .. } => {
                format!("column {index} of the answer is not of the expected type")
            }
            _ => "the client failed".into(),
        };
    };
    let code = database.code().unwrap_or_default();
    match code.get(..2).unwrap_or_default() {
        class if TELLING.contains(&class) => format!("{} (SQLSTATE {code})", database.message()),
        // A trigger may say this with words of its own; the name of the constraint is ours.
        "23" => match database.constraint() {
            Some(constraint) => format!("the constraint {constraint} was broken (SQLSTATE {code})"),
            None => format!("a constraint was broken (SQLSTATE {code})"),
        },
        "22" => format!("a value was refused (SQLSTATE {code})"),
        _ => format!("it was refused (SQLSTATE {code})"),
    }
}

/// Whether another try may help without anyone doing something.
pub fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::Protocol(_)
        | sqlx::Error::WorkerCrashed => true,
        _ => sqlstate(error).is_some_and(|code| {
            // Connection exceptions, insufficient resources, operator intervention (shutdown, crash, not yet up).
            ["08", "53", "57P"].iter().any(|class| code.starts_with(class))
                // And idle for too long, read-only for now.
                || ["40001", "40P01", LOCK_NOT_AVAILABLE, "25P03", "25006"].contains(&code.as_str())
        }),
    }
}

/// Whether the connection is gone: over another one the same may succeed at once.
pub(crate) fn is_connection_lost(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Io(_) | sqlx::Error::Protocol(_))
        || sqlstate(error).is_some_and(|code| code.starts_with("08") || code.starts_with("57P"))
}

/// Data exceptions, constraints that are broken, and limits that a row exceeds. All else (a cancelled statement, a full disk, a bug) says nothing
/// about the row.
pub(crate) fn is_of_the_data(error: &sqlx::Error) -> bool {
    sqlstate(error).is_some_and(|code| ["22", "23", "54"].iter().any(|class| code.starts_with(class)))
}

/// A transaction on a connection of the pool, which is begun to its end even if whoever asks for it goes meanwhile.
///
/// The driver would give the connection back within the transaction that has just begun, without knowing of it: whoever gets it next would go on in
/// that transaction, with a snapshot that is as old as its first statement.
pub async fn begin(
    pool: &PgPool,
    statement: &'static str,
) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    let pool = pool.clone();
    // Nobody waits for it any more: then it is dropped as a whole, and rolled back.
    match tokio::spawn(async move { pool.begin_with(statement).await }).await {
        Ok(begun) => begun,
        Err(stopped) if stopped.is_panic() => std::panic::resume_unwind(stopped.into_panic()),
        // The runtime ends.
        Err(_) => Err(sqlx::Error::PoolClosed),
    }
}

/// Whether a text is a URL by which the driver can try to connect.
pub fn is_postgres_url(url: &str) -> bool {
    (url.starts_with("postgres://") || url.starts_with("postgresql://"))
        && PgConnectOptions::from_str(url).is_ok()
}

/// SQLSTATE of an error that PostgreSQL reported.
pub(crate) fn sqlstate(error: &sqlx::Error) -> Option<String> {
    error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code)
        .map(Into::into)
}

/// Whether an error says that a lock could not be had within `lock_timeout`.
pub(crate) fn is_lock_timeout(error: &sqlx::Error) -> bool {
    sqlstate(error).as_deref() == Some(LOCK_NOT_AVAILABLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_one_that_the_driver_can_read() {
        for good in [
            "postgres://u@127.0.0.1:5432/views",
            "postgresql://u:p@host/db?sslmode=disable",
        ] {
            assert!(is_postgres_url(good), "{good}");
        }
        for bad in ["", "127.0.0.1:5432", "mysql://u@h/db", "postgres://u@h:port/db"] {
            assert!(!is_postgres_url(bad), "{bad}");
        }
    }

    #[test]
    fn an_error_of_the_client_is_no_reason_to_try_again_and_shows_nothing_of_its_cause() {
        let error = sqlx::Error::Configuration("postgres://u:s3cret@host".into());
        assert!(!is_transient(&error));
        assert_eq!(reason(&error), "the client failed");
        assert!(is_transient(&sqlx::Error::PoolTimedOut));
    }
}
