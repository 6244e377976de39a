//! A constant's value: `valueCode: "a"`, checked to be of its type (FHIR R4, "Data Types").

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;

use crate::{
    fhirpath::{
        ast::Literal,
        temporal::{Form, Temporal},
    },
    number::Decimal,
    resource::is_id,
};

/// The literal; what to write if the value is not of the type, and nothing if constants do not have the type.
pub(super) fn literal(of_type: &str, value: &Value) -> Result<Literal, Option<&'static str>> {
    let (read, write) = match of_type {
        "boolean" => (value.as_bool().map(Literal::Boolean), "write true or false"),
        "integer" | "unsignedInt" | "positiveInt" => (integer(of_type, value), "write a number of 32 bits"),
        "integer64" => (integer64(value), "write a number of 64 bits, as a string"),
        "decimal" => (decimal(value), "write a number of at most 38 digits"),
        "date" => (temporal(value, date), "write YYYY, YYYY-MM or YYYY-MM-DD"),
        "dateTime" => (
            temporal(value, date_time),
            "write a date, or YYYY-MM-DDThh:mm:ss with an offset or Z",
        ),
        "instant" => (
            temporal(value, instant),
            "write YYYY-MM-DDThh:mm:ss with an offset or Z",
        ),
        "time" => (temporal(value, time), "write hh:mm:ss"),
        "string" => (text(value, |_| true), "write a string"),
        "id" => (
            text(value, is_id),
            "write 1 to 64 letters, digits, hyphens and points",
        ),
        "code" => (
            text(value, is_code),
            "write words with single spaces between them",
        ),
        "uri" | "url" | "canonical" => (text(value, is_uri), "write a URI without spaces"),
        "oid" => (
            text(value, is_oid),
            "write urn:oid: and numbers with points between them",
        ),
        "uuid" => (
            text(value, is_uuid),
            "write urn:uuid: and a UUID in small letters",
        ),
        "base64Binary" => (text(value, is_base64), "write base64 with its padding"),
        _ => return Err(None),
    };
    read.ok_or(Some(write))
}

fn integer(of_type: &str, value: &Value) -> Option<Literal> {
    let least = match of_type {
        "integer" => i32::MIN,
        "unsignedInt" => 0,
        _ => 1,
    };
    let value = i32::try_from(value.as_i64()?).ok()?;
    (value >= least).then_some(Literal::Integer(value))
}

/// JSON has it as a string.
fn integer64(value: &Value) -> Option<Literal> {
    let value = value.as_i64().or_else(|| value.as_str()?.parse().ok())?;
    Some(Literal::Integer64(value))
}

fn decimal(value: &Value) -> Option<Literal> {
    Decimal::parse(&value.as_number()?.to_string()).map(Literal::Decimal)
}

fn temporal(value: &Value, read: fn(&str) -> Option<Temporal>) -> Option<Literal> {
    let text = value.as_str()?;
    Some(Literal::Temporal(read(text)?, text.to_owned()))
}

fn date(text: &str) -> Option<Temporal> {
    Temporal::date(text).filter(|date| date.form() == Form::Date)
}

/// With a time of day it has an offset, as FHIR asks for.
fn date_time(text: &str) -> Option<Temporal> {
    if date(text).is_some() {
        return Temporal::date_time(text);
    }
    instant(text)
}

fn instant(text: &str) -> Option<Temporal> {
    Temporal::date_time(text).filter(|at| at.moment().is_some())
}

fn time(text: &str) -> Option<Temporal> {
    Temporal::time(text).filter(|time| time.time_of_day().is_some())
}

fn text(value: &Value, is: fn(&str) -> bool) -> Option<Literal> {
    let text = value.as_str()?;
    is(text).then(|| Literal::Text(text.into()))
}

fn is_code(text: &str) -> bool {
    text.split(' ')
        .all(|word| !word.is_empty() && !word.contains(char::is_whitespace))
}

fn is_uri(text: &str) -> bool {
    !text.is_empty() && !text.contains(char::is_whitespace)
}

fn is_oid(text: &str) -> bool {
    let number = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_digit())
            && (part == "0" || !part.starts_with('0'))
    };
    text.strip_prefix("urn:oid:")
        .and_then(|oid| oid.split_once('.'))
        .is_some_and(|(root, rest)| matches!(root, "0" | "1" | "2") && rest.split('.').all(number))
}

fn is_uuid(text: &str) -> bool {
    let Some(uuid) = text.strip_prefix("urn:uuid:") else {
        return false;
    };
    let digits = |part: &str| part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    uuid.split('-').map(str::len).eq([8, 4, 4, 4, 12]) && uuid.split('-').all(digits)
}

fn is_base64(text: &str) -> bool {
    let packed: String = text.split_whitespace().collect();
    !packed.is_empty() && STANDARD.decode(packed).is_ok()
}
