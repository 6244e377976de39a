//! When two answers are the same.

use fhir_core::number::compare_lexical;
use serde_json::{Map, Number, Value};

use crate::answer::Answer;

/// FHIRPath's decimals have at least eight digits after the point (N1, section 4.1.4); what an implementation computes beyond is its own.
const DIGITS: usize = 8;

/// How far two computed numbers may be apart: one in the last of those digits, of numbers of any size.
const TOLERANCE: f64 = 1e-8;

/// Calendar units, and the UCUM code that FHIR has for them.
const CALENDAR: [(&str, &str); 8] = [
    ("year", "a"),
    ("month", "mo"),
    ("week", "wk"),
    ("day", "d"),
    ("hour", "h"),
    ("minute", "min"),
    ("second", "s"),
    ("millisecond", "ms"),
];

/// Whether two answers to an expression are the same.
pub(crate) fn same(expression: &str, ours: &Answer, theirs: &Answer) -> bool {
    match (ours, theirs) {
        (Answer::Error(_), Answer::Error(_)) => true,
        (Answer::Items(ours), Answer::Items(theirs)) => {
            let alike = if is_path(expression) {
                PartialEq::eq
            } else {
                same_value
            };
            ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(a, b)| alike(a, b))
        }
        _ => false,
    }
}

/// Whether an expression only looks up elements: then numbers have the resource's digits, each of them.
fn is_path(expression: &str) -> bool {
    expression
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '[' | ']' | '_'))
        && expression.starts_with(|c: char| c.is_ascii_alphabetic())
}

fn same_value(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => same_number(a, b),
        (Value::Object(a), Value::String(b)) => same_quantity(a, b).unwrap_or(false),
        _ => a == b,
    }
}

/// Our computed quantity, which is FHIR's, and their text: `4 days`, `10 'mg'`.
fn same_quantity(ours: &Map<String, Value>, theirs: &str) -> Option<bool> {
    let (number, unit) = theirs.split_once(' ')?;
    let (Value::Number(value), Value::String(code)) = (ours.get("value")?, ours.get("unit")?) else {
        return None;
    };
    let same_unit = match unit.strip_prefix('\'').and_then(|unit| unit.strip_suffix('\'')) {
        Some(unit) => unit == code,
        None => CALENDAR.contains(&(unit.strip_suffix('s').unwrap_or(unit), code)),
    };
    Some(same_unit && ours.len() == 2 && same_number(value, &serde_json::from_str(number).ok()?))
}

fn same_number(a: &Number, b: &Number) -> bool {
    let (a, b) = (a.to_string(), b.to_string());
    if compare_lexical(&a, &b).is_eq() {
        return true;
    }
    let digits = |text: &str| text.split_once('.').map_or(0, |(_, digits)| digits.len());
    if digits(&a) < DIGITS && digits(&b) < DIGITS {
        return false;
    }
    match (a.parse::<f64>(), b.parse::<f64>()) {
        (Ok(a), Ok(b)) => (a - b).abs() <= TOLERANCE * a.abs().max(1.0),
        _ => false,
    }
}
