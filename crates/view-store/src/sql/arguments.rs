//! Parameters: bound as values, never put into the text. Texts are of the type that PostgreSQL infers from their place: it is asked first, and
//! the parameter is cast to what it says.

use std::ops::Range;

use chrono::{DateTime, Utc};
use sqlx::Arguments as _;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArguments, PgTypeInfo};

use super::columns::type_name;
use super::errors::SqlError;

/// A parameter's value.
#[derive(Debug, Clone, PartialEq)]
pub enum SqlArgument {
    /// Null of the type that its place asks for.
    Null,
    /// `boolean`
    Boolean(bool),
    /// `integer` where it fits, else `bigint`
    Integer(i64),
    /// `numeric`, as text
    Decimal(String),
    /// Of the type that its place asks for.
    Text(String),
    /// `timestamptz`
    Timestamp(DateTime<Utc>),
    /// `jsonb`, as text
    Json(String),
    /// An array; the members are of one kind, or null.
    List(Vec<SqlArgument>),
}

/// Where `$n` stands in the text, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterPlace {
    /// The `$n`.
    pub range: Range<usize>,
    /// n, from 1.
    pub number: usize,
}

const TEXT: u32 = 25;
const TEXTS: u32 = 1009;

impl SqlArgument {
    /// The type that PostgreSQL is told; 0 asks it.
    pub(super) fn declared(&self) -> PgTypeInfo {
        let oid = match self {
            Self::Null | Self::Text(_) => 0,
            Self::Boolean(_) => 16,
            Self::Integer(value) if i32::try_from(*value).is_ok() => 23,
            Self::Integer(_) => 20,
            Self::Decimal(_) => 1700,
            Self::Timestamp(_) => 1184,
            Self::Json(_) => 3802,
            Self::List(members) => match members.iter().find(|member| **member != Self::Null) {
                None | Some(Self::Null | Self::Text(_) | Self::List(_)) => 0,
                Some(Self::Boolean(_)) => 1000,
                Some(Self::Integer(_)) => 1016,
                Some(Self::Decimal(_)) => 1231,
                Some(Self::Timestamp(_)) => 1185,
                Some(Self::Json(_)) => 3807,
            },
        };
        PgTypeInfo::with_oid(Oid(oid))
    }

    /// It is sent as text, or as an array of texts, and cast to its type.
    fn sent_as(&self) -> Option<&'static str> {
        match self {
            Self::Null | Self::Text(_) | Self::Decimal(_) | Self::Json(_) => Some("text"),
            Self::Boolean(_) | Self::Integer(_) | Self::Timestamp(_) => None,
            Self::List(members) => match members.iter().find(|member| **member != Self::Null) {
                Some(Self::Boolean(_) | Self::Integer(_) | Self::Timestamp(_)) => None,
                _ => Some("text[]"),
            },
        }
    }

    /// What stands in the statement for `$number`, whose type is `oid`.
    pub(super) fn written(&self, number: usize, oid: u32) -> Result<String, SqlError> {
        match (self.sent_as(), oid) {
            (None, _) | (Some("text"), TEXT) | (Some("text[]"), TEXTS) => Ok(format!("${number}")),
            (Some(sent), _) => match type_name(oid) {
                Some(name) => Ok(format!("(${number}::{sent}::{name})")),
                None => Err(SqlError::Parameter {
                    number,
                    rule: "its place asks for a type that no parameter can have: write a cast, such as $1::text",
                }),
            },
        }
    }

    pub(super) fn bind(&self, arguments: &mut PgArguments, number: usize) -> Result<(), SqlError> {
        let added = match self {
            Self::Null => arguments.add(None::<String>),
            Self::Boolean(value) => arguments.add(value),
            Self::Integer(value) => match i32::try_from(*value) {
                Ok(value) => arguments.add(value),
                Err(_) => arguments.add(value),
            },
            Self::Decimal(text) | Self::Text(text) | Self::Json(text) => arguments.add(text),
            Self::Timestamp(at) => arguments.add(at),
            Self::List(members) => return bind_list(members, arguments, number),
        };
        added.map_err(|_| too_long(number))
    }
}

fn bind_list(members: &[SqlArgument], arguments: &mut PgArguments, number: usize) -> Result<(), SqlError> {
    use SqlArgument as A;
    let texts = all(members, |member| match member {
        A::Text(text) | A::Decimal(text) | A::Json(text) => Some(text.clone()),
        _ => None,
    });
    let added = if let Some(texts) = texts {
        arguments.add(texts)
    } else if let Some(numbers) = all(members, |member| match member {
        A::Integer(value) => Some(*value),
        _ => None,
    }) {
        arguments.add(numbers)
    } else if let Some(booleans) = all(members, |member| match member {
        A::Boolean(value) => Some(*value),
        _ => None,
    }) {
        arguments.add(booleans)
    } else if let Some(times) = all(members, |member| match member {
        A::Timestamp(at) => Some(*at),
        _ => None,
    }) {
        arguments.add(times)
    } else {
        return Err(SqlError::Parameter {
            number,
            rule: "the members of a list must be of one kind, or null, and no lists",
        });
    };
    added.map_err(|_| too_long(number))
}

/// The members, if all are null or of the kind that `of` takes.
fn all<T>(members: &[SqlArgument], of: impl Fn(&SqlArgument) -> Option<T>) -> Option<Vec<Option<T>>> {
    let member = |member: &SqlArgument| match member {
        SqlArgument::Null => Some(None),
        other => of(other).map(Some),
    };
    members.iter().map(member).collect()
}

fn too_long(number: usize) -> SqlError {
    SqlError::Parameter {
        number,
        rule: "the value is too long",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cast_to_what_their_place_asks_for() {
        let text = SqlArgument::Text("'; DROP TABLE x; --".into());
        assert_eq!(text.written(1, 25).expect("text"), "$1");
        assert_eq!(text.written(2, 1082).expect("a date"), "($2::text::date)");
        let list = SqlArgument::List(vec![text.clone(), SqlArgument::Null]);
        assert_eq!(list.written(1, 1009).expect("texts"), "$1");
        assert_eq!(list.written(1, 1007).expect("numbers"), "($1::text[]::integer[])");
        assert_eq!(SqlArgument::Integer(7).written(3, 20).expect("a number"), "$3");
        // regclass: its input function reads the catalog.
        assert!(text.written(1, 2205).is_err());
    }
}
