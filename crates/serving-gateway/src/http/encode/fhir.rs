//! Rows as a `Parameters` resource with a `row` for each, its columns as parts with a typed value; a null is no part.
//!
//! The table from SQL types to FHIR's is that of OperationDefinition SQLRun (3.0.0-ballot). What it does not have, arrays and JSON among it, cannot be
//! written in this format.

use api::{
    Code, Outcome, ServiceError,
    proto::serving::{Column, Row, Value, value::Kind},
};
use chrono::{SecondsFormat, SubsecRound as _};

use super::json;

pub(super) const BEGIN: &[u8] = br#"{"resourceType":"Parameters""#;
pub(super) const BEFORE_FIRST: &[u8] = b",\"parameter\":[\n";
pub(super) const BETWEEN: &[u8] = b",\n";
pub(super) const END: &[u8] = b"\n]}";

/// Writes rows.
pub(super) struct Fhir {
    columns: Vec<(String, Vec<u8>, Type)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Type {
    Boolean,
    Integer,
    Integer64,
    Decimal,
    String,
    Date,
    Time,
    DateTime,
    Instant,
}

impl Type {
    /// Of PostgreSQL's name of a type.
    fn of(sql_type: &str) -> Option<Self> {
        let base = sql_type.split('(').next().unwrap_or(sql_type).trim();
        Some(match base {
            _ if sql_type.ends_with("[]") => return None,
            "boolean" => Self::Boolean,
            "smallint" | "integer" => Self::Integer,
            "bigint" => Self::Integer64,
            "numeric" | "real" | "double precision" => Self::Decimal,
            "text" | "character" | "character varying" => Self::String,
            "date" => Self::Date,
            "time without time zone" | "time with time zone" | "time" => Self::Time,
            "timestamp without time zone" => Self::DateTime,
            "timestamp with time zone" => Self::Instant,
            _ => return None,
        })
    }

    fn member(self) -> &'static str {
        match self {
            Self::Boolean => "valueBoolean",
            Self::Integer => "valueInteger",
            Self::Integer64 => "valueInteger64",
            Self::Decimal => "valueDecimal",
            Self::String => "valueString",
            Self::Date => "valueDate",
            Self::Time => "valueTime",
            Self::DateTime => "valueDateTime",
            Self::Instant => "valueInstant",
        }
    }
}

impl Fhir {
    pub(super) fn new(columns: &[Column]) -> Result<Self, Outcome> {
        let column = |column: &Column| {
            let of = Type::of(&column.sql_type).ok_or_else(|| {
                let why = format!(
                    "_format: column {} is of the type {}, which FHIR has no value for: ask for ndjson, json or csv",
                    column.name, column.sql_type
                );
                Outcome::unprocessable(&[], why)
            })?;
            let mut head = br#"{"name":"#.to_vec();
            json::text(&column.name, &mut head);
            head.extend_from_slice(format!(",\"{}\":", of.member()).as_bytes());
            Ok((column.name.clone(), head, of))
        };
        let columns = columns.iter().map(column).collect::<Result<_, Outcome>>()?;
        Ok(Self { columns })
    }

    pub(super) fn row(&self, row: &Row, out: &mut Vec<u8>) -> Result<(), ServiceError> {
        out.extend_from_slice(br#"{"name":"row""#);
        let mut any = false;
        for ((name, head, of), value) in self.columns.iter().zip(&row.values) {
            if value.kind.is_none() {
                continue;
            }
            out.extend_from_slice(if any { b"," } else { br#","part":["# });
            any = true;
            out.extend_from_slice(head);
            self::value(name, *of, value, out)?;
            out.push(b'}');
        }
        out.extend_from_slice(if any { b"]}" } else { b"}" });
        Ok(())
    }
}

fn value(column: &str, of: Type, value: &Value, out: &mut Vec<u8>) -> Result<(), ServiceError> {
    match (&value.kind, of) {
        // FHIR's JSON has it as a text: many readers have no such numbers.
        (Some(Kind::Integer(number)), Type::Integer64) => {
            out.extend_from_slice(format!("\"{number}\"").as_bytes());
        }
        (Some(Kind::Timestamp(at)), Type::Instant) => {
            let at = api::time::datetime("value", at)?.round_subsecs(3);
            json::text(&at.to_rfc3339_opts(SecondsFormat::AutoSi, true), out);
        }
        (Some(Kind::Decimal(digits)), _) if !json::is_number(digits) => {
            let why = format!(
                "column {column} holds a number that FHIR has no value for: ask for ndjson, json or csv"
            );
            return Err(ServiceError::new(Code::Unprocessable, why));
        }
        _ => json::value(value, out),
    }
    Ok(())
}
