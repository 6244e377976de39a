//! The columns of a statement's answer: of any type that PostgreSQL has. What is not sent in a form that we read comes as its text.

use std::borrow::Cow;
use std::fmt::Write as _;

use fhir_core::column::ColumnKind;
use fhir_core::row::Cell;

use crate::decode;

/// A column of the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlColumn {
    /// Name; several may have the same.
    pub name: String,
    /// PostgreSQL's name of its type.
    pub sql_type: String,
    /// It holds arrays.
    pub collection: bool,
    form: Form,
    /// What the outer select casts it to, so that it comes in that form.
    cast: Option<&'static str>,
    /// A value may be of any length.
    unbounded: bool,
}

/// How a value, or a member, is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Of(ColumnKind),
    Real,
    /// `json`, which has no version byte.
    Json,
}

impl SqlColumn {
    /// By PostgreSQL's fixed number of its type; `fallback` names a type that has none.
    pub(super) fn new(name: &str, oid: u32, fallback: &str) -> Self {
        use ColumnKind as Kind;
        let of = |kind: Kind| (Form::Of(kind), None);
        let text = (Form::Of(Kind::Text), Some("text"));
        let texts = (Form::Of(Kind::Text), Some("text[]"));
        let named = type_name(oid);
        let (form, cast) = match oid {
            16 | 1000 => of(Kind::Boolean),
            23 | 1007 => of(Kind::Integer),
            20 | 1016 => of(Kind::BigInt),
            1700 | 1231 => of(Kind::Decimal),
            25 | 1043 | 1042 | 1009 | 1015 | 1014 => of(Kind::Text),
            1184 | 1185 => of(Kind::TimestampTz),
            1114 | 1115 => of(Kind::Timestamp),
            1082 | 1182 => of(Kind::Date),
            1083 | 1183 => of(Kind::Time),
            701 | 1022 => of(Kind::Double),
            3802 | 3807 => of(Kind::Json),
            700 | 1021 => (Form::Real, None),
            114 | 199 => (Form::Json, None),
            21 => (Form::Of(Kind::Integer), Some("integer")),
            1005 => (Form::Of(Kind::Integer), Some("integer[]")),
            26 => (Form::Of(Kind::BigInt), Some("bigint")),
            _ if named.is_some_and(|name| name.ends_with("[]")) => texts,
            _ => text,
        };
        Self {
            name: name.to_owned(),
            sql_type: named.map_or_else(|| fallback.to_lowercase(), str::to_owned),
            collection: named.is_some_and(|name| name.ends_with("[]")),
            form,
            cast,
            unbounded: !matches!(
                oid,
                16 | 20 | 21 | 23 | 26 | 700 | 701 | 1082 | 1083 | 1114 | 1184 | 1186 | 1266 | 2950
            ),
        }
    }

    /// The cell of its binary form; `None` where it is not of that form, or not to be shown.
    pub(super) fn cell(&self, bytes: Option<&[u8]>) -> Option<Cell<'static>> {
        match bytes {
            None => Some(Cell::Null),
            Some(bytes) if self.collection => array(self.form, bytes),
            Some(bytes) => value(self.form, bytes),
        }
    }
}

/// What the outer select asks for: the columns in forms that are read here, with null in place of values of more than `max_bytes`, and a last column
/// that says whether there is such a one. Columns are called `c1`, `c2`, ...
pub(super) fn outer_select(columns: &[SqlColumn], max_bytes: usize) -> String {
    let (mut list, mut too_large) = (String::new(), String::from("false"));
    for (i, column) in columns.iter().enumerate() {
        let name = format!("c{}", i + 1);
        let shown = match column.cast {
            Some(cast) => format!("{name}::{cast}"),
            None => name.clone(),
        };
        // Writing to a String cannot fail.
        let _ = if column.unbounded {
            let _ = write!(too_large, " OR pg_column_size({name}) > {max_bytes}");
            write!(
                list,
                "CASE WHEN pg_column_size({name}) > {max_bytes} THEN NULL ELSE {shown} END, "
            )
        } else {
            write!(list, "{shown}, ")
        };
    }
    format!("{list}{too_large}")
}

fn value(form: Form, bytes: &[u8]) -> Option<Cell<'static>> {
    let date = || bytes.try_into().ok().map(i32::from_be_bytes);
    let moment = || bytes.try_into().ok().map(i64::from_be_bytes);
    match form {
        Form::Real => {
            let value = f32::from_be_bytes(bytes.try_into().ok()?);
            Some(Cell::Decimal(value.to_string().into()))
        }
        Form::Json => Some(Cell::Json(Cow::Owned(
            std::str::from_utf8(bytes).ok()?.to_owned(),
        ))),
        // PostgreSQL has dates and times that the calendar has not.
        Form::Of(ColumnKind::Date) if date() == Some(i32::MAX) => Some(Cell::Text("infinity".into())),
        Form::Of(ColumnKind::Date) if date() == Some(i32::MIN) => Some(Cell::Text("-infinity".into())),
        Form::Of(ColumnKind::Timestamp | ColumnKind::TimestampTz) if moment() == Some(i64::MAX) => {
            Some(Cell::Text("infinity".into()))
        }
        Form::Of(ColumnKind::Timestamp | ColumnKind::TimestampTz) if moment() == Some(i64::MIN) => {
            Some(Cell::Text("-infinity".into()))
        }
        Form::Of(ColumnKind::Time) if moment() == Some(86_400_000_000) => Some(Cell::Text("24:00:00".into())),
        Form::Of(kind) => Some(decode::value(kind, bytes)?.to_owned()),
    }
}

/// An array: a list, of lists where it has several dimensions.
fn array(form: Form, bytes: &[u8]) -> Option<Cell<'static>> {
    let mut rest = bytes;
    let dimensions = usize::try_from(decode::take_i32(&mut rest)?).ok()?;
    let (_has_null, _oid) = (decode::take_i32(&mut rest)?, decode::take_i32(&mut rest)?);
    if dimensions == 0 {
        return Some(Cell::List(Vec::new()));
    }
    let mut lengths = Vec::new();
    for _ in 0..dimensions {
        lengths.push(usize::try_from(decode::take_i32(&mut rest)?).ok()?);
        let _from = decode::take_i32(&mut rest)?;
    }
    list(form, &lengths, &mut rest)
}

fn list(form: Form, lengths: &[usize], rest: &mut &[u8]) -> Option<Cell<'static>> {
    let (length, inner) = lengths.split_first()?;
    let mut members = Vec::with_capacity((*length).min(rest.len()));
    for _ in 0..*length {
        members.push(if inner.is_empty() {
            match usize::try_from(decode::take_i32(rest)?) {
                Err(_) => Cell::Null,
                Ok(size) => {
                    let (member, after) = rest.split_at_checked(size)?;
                    *rest = after;
                    value(form, member)?
                }
            }
        } else {
            list(form, inner, rest)?
        });
    }
    Some(Cell::List(members))
}

/// PostgreSQL's name of a built-in type, by its fixed number: those that a value may be cast to, and that columns are named by.
pub(super) fn type_name(oid: u32) -> Option<&'static str> {
    Some(match oid {
        16 => "boolean",
        17 => "bytea",
        20 => "bigint",
        21 => "smallint",
        23 => "integer",
        25 => "text",
        114 => "json",
        700 => "real",
        701 => "double precision",
        1042 => "bpchar",
        1043 => "character varying",
        1082 => "date",
        1083 => "time without time zone",
        1114 => "timestamp without time zone",
        1184 => "timestamp with time zone",
        1186 => "interval",
        1266 => "time with time zone",
        1700 => "numeric",
        2950 => "uuid",
        3802 => "jsonb",
        4072 => "jsonpath",
        3904 => "int4range",
        3906 => "numrange",
        3908 => "tsrange",
        3910 => "tstzrange",
        3912 => "daterange",
        3926 => "int8range",
        1000 => "boolean[]",
        1001 => "bytea[]",
        1016 => "bigint[]",
        1005 => "smallint[]",
        1007 => "integer[]",
        1009 => "text[]",
        199 => "json[]",
        1021 => "real[]",
        1022 => "double precision[]",
        1014 => "bpchar[]",
        1015 => "character varying[]",
        1182 => "date[]",
        1183 => "time without time zone[]",
        1115 => "timestamp without time zone[]",
        1185 => "timestamp with time zone[]",
        1187 => "interval[]",
        1270 => "time with time zone[]",
        1231 => "numeric[]",
        2951 => "uuid[]",
        3807 => "jsonb[]",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_calendar_has_not_is_shown_as_it_is_written() {
        let cell = |oid: u32, bytes: &[u8]| SqlColumn::new("c", oid, "").cell(Some(bytes));
        assert_eq!(
            cell(1082, &i32::MAX.to_be_bytes()),
            Some(Cell::Text("infinity".into()))
        );
        assert_eq!(
            cell(1184, &i64::MIN.to_be_bytes()),
            Some(Cell::Text("-infinity".into()))
        );
        assert_eq!(
            cell(1083, &86_400_000_000_i64.to_be_bytes()),
            Some(Cell::Text("24:00:00".into()))
        );
        assert_eq!(
            cell(700, &0.1_f32.to_be_bytes()),
            Some(Cell::Decimal("0.1".into()))
        );
        // Beyond the years that can be shown.
        assert_eq!(cell(1082, &(i32::MAX - 1).to_be_bytes()), None);
        assert_eq!(cell(23, &[0, 1]), None);
    }

    #[test]
    fn large_values_are_left_out_by_the_database() {
        let columns = [SqlColumn::new("n", 23, ""), SqlColumn::new("u", 99_999, "Mine")];
        assert_eq!(
            outer_select(&columns, 9),
            "c1, CASE WHEN pg_column_size(c2) > 9 THEN NULL ELSE c2::text END, false OR pg_column_size(c2) > 9"
        );
        assert_eq!(columns[1].sql_type, "mine");
        assert_eq!(outer_select(&[], 9), "false");
    }
}
