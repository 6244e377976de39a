//! What `Sql` asks, validated: values and shapes; what the statement may say is for the service to check.

use chrono::{DateTime, Utc};

use crate::{
    InvalidField,
    proto::serving::{self as proto, value::Kind},
    query::{FreshnessDemand, limit},
    time,
};

/// How many parameters a statement may have.
const MAX_PARAMETERS: usize = 1_000;
/// How many members a list may have.
const MAX_MEMBERS: usize = 100_000;

/// A value for a parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SqlValue {
    /// SQL's null, of whatever type is asked for.
    Null,
    /// `boolean`
    Boolean(bool),
    /// `bigint`
    Integer(i64),
    /// `numeric`, as its exact text.
    Decimal(String),
    /// Read as the type that its place asks for.
    Text(String),
    /// `timestamptz`
    Timestamp(DateTime<Utc>),
    /// `jsonb`, as its text.
    Json(String),
    /// An array whose members are of one kind, or null; no lists within.
    List(Vec<SqlValue>),
}

/// The values of a statement's parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SqlParameters {
    /// Of `$1`, `$2`, ...
    Positional(Vec<SqlValue>),
    /// Of `:name`.
    Named(Vec<(String, SqlValue)>),
}

/// A question in SQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlQuestion {
    /// One SELECT.
    pub statement: String,
    /// Its parameters.
    pub parameters: SqlParameters,
    /// Names by which the statement calls views, each with the view's own name: as the dependencies of an `SQLQuery` have labels.
    pub tables: Vec<(String, String)>,
    /// Freshness.
    pub freshness: FreshnessDemand,
    /// At most so many rows.
    pub limit: Option<i64>,
    /// The plan is wanted, not the rows.
    pub explain: bool,
}

impl SqlQuestion {
    /// A statement with `$1`, `$2`, ...; all else as if nothing were asked.
    pub fn positional(statement: impl Into<String>, values: Vec<SqlValue>) -> Result<Self, InvalidField> {
        check_values("parameters", values.iter())?;
        Self::new(statement.into(), SqlParameters::Positional(values))
    }

    /// A statement with `:name`, as SQL on FHIR's `SQLQuery` has it; all else as if nothing were asked. The values are bound, never put into the text.
    pub fn named(
        statement: impl Into<String>,
        mut values: Vec<(String, SqlValue)>,
    ) -> Result<Self, InvalidField> {
        check_values("named_parameters", values.iter().map(|(_, value)| value))?;
        // Their order decides their numbers: the same text for the same names.
        values.sort_by(|a, b| a.0.cmp(&b.0));
        if !values.iter().all(|(name, _)| is_name(name)) {
            let rule = "a name must be of letters, digits and _, and not begin with a digit";
            return Err(InvalidField::new("named_parameters", rule));
        }
        if values.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err(InvalidField::new(
                "named_parameters",
                "a name may have one value only",
            ));
        }
        Self::new(statement.into(), SqlParameters::Named(values))
    }

    fn new(statement: String, parameters: SqlParameters) -> Result<Self, InvalidField> {
        if statement.trim().is_empty() {
            return Err(InvalidField::new("statement", "must be a SELECT"));
        }
        Ok(Self {
            statement,
            parameters,
            tables: Vec::new(),
            freshness: FreshnessDemand::default(),
            limit: None,
            explain: false,
        })
    }
}

impl TryFrom<proto::SqlRequest> for SqlQuestion {
    type Error = InvalidField;

    fn try_from(request: proto::SqlRequest) -> Result<Self, InvalidField> {
        let named = !request.named_parameters.is_empty();
        if named && !request.parameters.is_empty() {
            return Err(InvalidField::new(
                "named_parameters",
                "must be empty where parameters are given: use $1 or :name, not both",
            ));
        }
        let mut question = if named {
            let values = request.named_parameters.into_iter();
            let values = values.map(|(name, v)| Ok((name, value("named_parameters", v)?)));
            Self::named(request.statement, values.collect::<Result<_, InvalidField>>()?)?
        } else {
            let values = request.parameters.into_iter();
            let values = values.map(|v| value("parameters", v));
            Self::positional(request.statement, values.collect::<Result<_, InvalidField>>()?)?
        };
        question.limit = limit("limit", request.limit)?;
        question.explain = request.explain;
        if let Some(demand) = request.freshness {
            question.freshness = demand.try_into()?;
        }
        Ok(question)
    }
}

fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && name.len() <= 63
}

fn value(field: &'static str, value: proto::Value) -> Result<SqlValue, InvalidField> {
    Ok(match value.kind {
        None => SqlValue::Null,
        Some(Kind::Boolean(value)) => SqlValue::Boolean(value),
        Some(Kind::Integer(value)) => SqlValue::Integer(value),
        Some(Kind::Decimal(value)) => SqlValue::Decimal(value),
        Some(Kind::Text(value)) => SqlValue::Text(value),
        Some(Kind::Timestamp(value)) => SqlValue::Timestamp(time::datetime(field, &value)?),
        Some(Kind::Json(value)) => SqlValue::Json(value),
        Some(Kind::List(list)) => {
            let members = list.values.into_iter().map(|member| self::value(field, member));
            SqlValue::List(members.collect::<Result<_, _>>()?)
        }
    })
}

fn check_values<'a>(
    field: &'static str,
    values: impl ExactSizeIterator<Item = &'a SqlValue>,
) -> Result<(), InvalidField> {
    if values.len() > MAX_PARAMETERS {
        let rule = format!("may have {MAX_PARAMETERS} values at most: give many as one list");
        return Err(InvalidField::new(field, rule));
    }
    for value in values {
        check_value(field, value)?;
        let SqlValue::List(members) = value else { continue };
        if members.len() > MAX_MEMBERS {
            let rule = format!("a list may have {MAX_MEMBERS} members at most");
            return Err(InvalidField::new(field, rule));
        }
        let mut kinds = members.iter().filter(|member| **member != SqlValue::Null);
        let first = kinds.next();
        let alike = |member: &SqlValue| {
            first.is_none_or(|first| std::mem::discriminant(member) == std::mem::discriminant(first))
        };
        if members.iter().any(|member| matches!(member, SqlValue::List(_))) || !kinds.all(alike) {
            let rule = "the members of a list must be of one kind, or null, and no lists";
            return Err(InvalidField::new(field, rule));
        }
        for member in members {
            check_value(field, member)?;
        }
    }
    Ok(())
}

fn check_value(field: &'static str, value: &SqlValue) -> Result<(), InvalidField> {
    match value {
        SqlValue::Text(text) | SqlValue::Decimal(text) | SqlValue::Json(text) if text.contains('\0') => {
            Err(InvalidField::new(
                field,
                "a value holds a NUL character, which PostgreSQL does not take",
            ))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> SqlValue {
        SqlValue::Text(text.into())
    }

    #[test]
    fn lists_are_of_one_kind() {
        let list = |members| SqlQuestion::positional("SELECT $1", vec![SqlValue::List(members)]);
        assert!(list(vec![text("a"), SqlValue::Null, text("b")]).is_ok());
        assert!(list(vec![SqlValue::Null, SqlValue::Null]).is_ok());
        assert!(list(vec![text("a"), SqlValue::Integer(1)]).is_err());
        assert!(list(vec![SqlValue::List(vec![])]).is_err());
        assert!(list(vec![text("a\0")]).is_err());
        assert!(list(vec![SqlValue::Integer(1); MAX_MEMBERS + 1]).is_err());
    }

    #[test]
    fn names_are_names_and_have_one_value() {
        let named = |names: &[&str]| {
            let values = names.iter().map(|name| ((*name).to_owned(), SqlValue::Null));
            SqlQuestion::named("SELECT 1", values.collect())
        };
        assert!(named(&["b", "_a9"]).is_ok());
        for bad in [&["a", "a"][..], &["1a"], &["a b"], &[""], &["é"]] {
            let refused = named(bad).expect_err("refused");
            assert_eq!(refused.field, "named_parameters");
        }
    }

    #[test]
    fn a_request_has_one_sort_of_parameters_and_a_statement() {
        let request = || proto::SqlRequest {
            statement: "SELECT 1".into(),
            ..Default::default()
        };
        assert!(SqlQuestion::try_from(request()).is_ok());
        let mut both = request();
        both.parameters = vec![proto::Value::default()];
        both.named_parameters.insert("a".into(), proto::Value::default());
        assert!(SqlQuestion::try_from(both).is_err());
        let empty = proto::SqlRequest {
            statement: " \n".into(),
            ..Default::default()
        };
        assert_eq!(
            SqlQuestion::try_from(empty).expect_err("nothing").field,
            "statement"
        );
        let negative = proto::SqlRequest {
            limit: -1,
            ..request()
        };
        assert!(SqlQuestion::try_from(negative).is_err());
    }
}
