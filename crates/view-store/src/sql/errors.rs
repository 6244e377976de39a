//! What PostgreSQL says to a statement, in our words: its own quote values, and some of them are a patient's.

use sqlx::postgres::{PgDatabaseError, PgErrorPosition};

use crate::StoreError;
use crate::driver::{self, sqlstate};

use super::edited::Edited;

/// Why a statement has no answer. No message holds a value, neither of a row nor of the statement.
#[derive(Debug, thiserror::Error)]
pub enum SqlError {
    /// The database cannot be reached, or is not as it should be.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The statement is at fault.
    #[error("{rule} (SQLSTATE {sqlstate})")]
    Refused {
        /// What is wrong, and what to do.
        rule: &'static str,
        /// PostgreSQL's code.
        sqlstate: String,
        /// The place in the text, in bytes.
        at: Option<usize>,
    },
    /// A parameter cannot be bound.
    #[error("{rule}")]
    Parameter {
        /// From 1.
        number: usize,
        /// What is wrong, and what to do.
        rule: &'static str,
    },
    /// It ran for longer than it may.
    #[error("the statement took too long")]
    TimedOut,
    /// PostgreSQL's memory or disk for it is at an end.
    #[error("{0}")]
    Exhausted(&'static str),
    /// One value is larger than a whole answer may be.
    #[error("a value is too large")]
    ValueTooLarge,
    /// A view is no longer there.
    #[error("a view was dropped or replaced meanwhile")]
    ViewGone,
    /// The login may do more than read, or not even that.
    #[error("{0}")]
    NotAReader(&'static str),
}

/// What PostgreSQL said to `statement`, which was made of the caller's text.
pub(super) fn refused(error: &sqlx::Error, statement: Option<&Edited>) -> SqlError {
    let Some(sqlstate) = sqlstate(error) else {
        return failed(error);
    };
    match sqlstate.as_str() {
        "57014" => return SqlError::TimedOut,
        "53400" => {
            return SqlError::Exhausted("the statement needs more disk than it may take (temp_file_limit)");
        }
        "53100" => return SqlError::Exhausted("the views' PostgreSQL has no disk left for it"),
        "53200" => return SqlError::Exhausted("the views' PostgreSQL has no memory left for it"),
        _ => {}
    }
    let Some(rule) = rule(&sqlstate) else {
        return failed(error);
    };
    let position = error
        .as_database_error()
        .and_then(|error| error.try_downcast_ref::<PgDatabaseError>())
        .and_then(PgDatabaseError::position);
    let at = match (position, statement) {
        (Some(PgErrorPosition::Original(character)), Some(statement)) => {
            Some(statement.original_of_character(character))
        }
        _ => None,
    };
    SqlError::Refused { rule, sqlstate, at }
}

/// Of an error that is not the statement's: its code and no message, which may quote a value.
fn failed(error: &sqlx::Error) -> SqlError {
    SqlError::Store(StoreError::Database {
        doing: "running a statement",
        reason: match sqlstate(error) {
            Some(sqlstate) => format!("it has failed (SQLSTATE {sqlstate})"),
            None => driver::reason(error),
        },
        transient: driver::is_transient(error),
        data: false,
    })
}

/// The rule that a statement breaks; `None` where it is not the statement's fault.
fn rule(sqlstate: &str) -> Option<&'static str> {
    Some(match sqlstate {
        "42601" => "the text is not SQL as this PostgreSQL reads it",
        "42703" => "there is no such column here",
        "42702" => "the column's name is ambiguous: put the table's name before it",
        "42P01" => "there is no such table here",
        "42P09" => "the table's name is ambiguous: give each an alias",
        "42712" => "a name is given to two tables: give each an alias of its own",
        "42701" | "42P10" => "a column is named twice, or a number stands for no column",
        "42883" => "there is no such function or operator for values of these types: write casts",
        "42725" => "several functions or operators fit: write casts",
        "42804" | "42846" => "values of these types do not go together: write casts",
        "42P18" => "the type of a parameter cannot be told here: write a cast, such as $1::text",
        "42803" => "a column must be in GROUP BY, or within an aggregate, and aggregates may not stand here",
        "42P20" => "a window function may not stand here, or its window is not right",
        "42P19" => {
            "the recursion is not of the form: a part that does not refer to itself, UNION, a part that does"
        }
        "42P21" | "42P22" => "the collation cannot be told: write COLLATE",
        "42704" => "there is no such type, collation or object",
        "42809" | "42P02" | "42611" | "42622" | "42602" | "42939" => "a name or construct may not stand here",
        "42501" => "it needs rights that a reader does not have",
        "42P17" | "42P13" | "42P11" | "42P16" => "the definition is not valid here",
        "0A000" => "this PostgreSQL does not do that",
        "21000" => "a subquery that must give one row gives more: aggregate it, or write LIMIT 1",
        "22012" => "a division by zero",
        "22003" => "a number is out of the range of its type",
        "22001" => "a text is too long for its type",
        "22007" | "22P02" | "22008" => "a text is not a value of the type that is asked for",
        "2201B" => "a regular expression is not valid",
        "25006" | "25000" | "25P01" | "25001" => "only reading is allowed",
        "54000" | "54001" | "54011" | "54023" => "the statement, or a value that it makes, is too large",
        other if other.starts_with("22") => "a value is not what its function or type takes",
        other if other.starts_with("2F") || other.starts_with("39") || other.starts_with("38") => {
            "a function has failed"
        }
        other if other.starts_with("26") || other.starts_with("34") => "there is no such statement or cursor",
        other if other.starts_with("42") => "the statement breaks a rule of SQL",
        "P0001" => "a function has failed",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_of_the_statement_have_a_rule_and_others_have_none() {
        for code in [
            "42601", "42703", "22012", "22023", "42999", "21000", "54001", "25006",
        ] {
            assert!(rule(code).is_some(), "{code}");
        }
        for code in ["57P01", "XX000", "08006", "40001", "58030"] {
            assert!(rule(code).is_none(), "{code}");
        }
    }
}
