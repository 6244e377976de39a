//! From what the database says to a statement to what its caller gets.

use api::{
    Code, ServiceError,
    sql::{SqlParameters, SqlQuestion},
};
use view_store::sql::SqlError;

use super::fault::Fault;
use crate::{config::SqlLimits, errors::store_error};

/// `back` leads from places in the text that was run to those in the caller's.
pub(super) fn sql_error(
    error: SqlError,
    limits: &SqlLimits,
    question: &SqlQuestion,
    back: impl FnOnce(usize) -> usize,
) -> ServiceError {
    match error {
        SqlError::Store(error) => store_error(error),
        SqlError::Refused { rule, sqlstate, at } => Fault {
            at,
            rule: format!("{rule} (SQLSTATE {sqlstate})"),
        }
        .back(back)
        .for_caller(&question.statement),
        SqlError::Parameter { number, rule } => {
            let field = match &question.parameters {
                SqlParameters::Positional(_) => "parameters",
                SqlParameters::Named(_) => "named_parameters",
            };
            ServiceError::new(Code::Invalid, format!("{}: {rule}", parameter(question, number))).at(field)
        }
        SqlError::TimedOut => ServiceError::new(
            Code::DeadlineExceeded,
            format!(
                "statement: it took longer than sql.timeout_seconds ({} s): ask for less, or filter by indexed columns",
                limits.timeout_seconds.as_secs_f64()
            ),
        )
        .because("STATEMENT_TIMED_OUT"),
        SqlError::Exhausted(what) => {
            ServiceError::new(Code::Exhausted, format!("statement: {what}: ask for less"))
        }
        SqlError::ValueTooLarge => too_many_bytes(limits),
        SqlError::ViewGone => ServiceError::new(
            Code::Unavailable,
            "statement: a view was dropped or replaced meanwhile: try again",
        ),
        SqlError::NotAReader(what) => {
            ServiceError::new(Code::Precondition, format!("Sql is not served: {what}"))
        }
    }
}

/// A parameter as the caller knows it.
fn parameter(question: &SqlQuestion, number: usize) -> String {
    match &question.parameters {
        SqlParameters::Positional(_) => format!("parameters: ${number}"),
        SqlParameters::Named(named) => {
            let name = number.checked_sub(1).and_then(|place| named.get(place));
            format!("named_parameters: {}", name.map_or("", |(name, _)| name))
        }
    }
}

pub(super) fn too_many_bytes(limits: &SqlLimits) -> ServiceError {
    ServiceError::new(
        Code::Exhausted,
        format!(
            "statement: the answer is larger than sql.max_bytes ({}): ask for fewer columns or rows",
            limits.max_bytes
        ),
    )
}

pub(super) fn too_many_rows(limits: &SqlLimits) -> ServiceError {
    ServiceError::new(
        Code::Exhausted,
        format!(
            "statement: the answer has more rows than sql.max_rows ({}): write LIMIT, or set limit",
            limits.max_rows
        ),
    )
}
