//! Equality, order and arithmetic of items (FHIRPath N1, section 6).

use std::{borrow::Cow, cmp::Ordering};

use super::{
    error::Fault,
    eval::Few,
    expr::{Arithmetic, Comparison},
    number::compare_lexical,
    temporal::Temporal,
    value::{Item, Value},
};

/// `=` of two collections: empty where one is, or where partial dates leave it open; false where their lengths differ.
pub fn equal(a: &Few<'_>, b: &Few<'_>) -> Option<bool> {
    let (a, b) = (a.as_slice(), b.as_slice());
    if a.is_empty() || b.is_empty() {
        return None;
    }
    if a.len() != b.len() {
        return Some(false);
    }
    let mut all = Some(true);
    for (a, b) in a.iter().zip(b) {
        match same(a, b) {
            Some(true) => {}
            Some(false) => return Some(false),
            None => all = None,
        }
    }
    all
}

/// `=` of two items.
pub fn same(a: &Item<'_>, b: &Item<'_>) -> Option<bool> {
    match (a.value(), b.value()) {
        (Some(a), Some(b)) => same_values(&a, &b),
        (None, None) => {
            let node = |item: &Item<'_>| item.element().and_then(|e| e.node).is_some();
            if !node(a) || !node(b) {
                return None;
            }
            let (a, b) = (a.element()?.node?, b.element()?.node?);
            Some(a.same(b))
        }
        // A primitive without a value has none to compare; an object and a value differ.
        (None, Some(_)) => a.element().and_then(|e| e.node).map(|_| false),
        (Some(_), None) => b.element().and_then(|e| e.node).map(|_| false),
    }
}

fn same_values(a: &Value<'_>, b: &Value<'_>) -> Option<bool> {
    match (a, b) {
        (Value::Boolean(a), Value::Boolean(b)) => Some(a == b),
        (Value::Text(a), Value::Text(b)) if a == b => Some(true),
        (Value::Temporal(_, a), Value::Temporal(_, b)) if a == b => Some(true),
        _ if a.is_number() && b.is_number() => Some(numbers(a, b).is_eq()),
        _ => match temporals(a, b) {
            Pair::Temporal(a, b) => a.compare(b).map(Ordering::is_eq),
            Pair::Unreadable | Pair::Other => Some(false),
        },
    }
}

/// `<`, `<=`, `>`, `>=` of two items; empty where partial dates leave it open.
pub fn compare(op: Comparison, a: &Item<'_>, b: &Item<'_>) -> Result<Option<bool>, Fault> {
    let (Some(a), Some(b)) = (a.value(), b.value()) else {
        let object =
            |item: &Item<'_>| item.value().is_none() && item.element().is_some_and(|e| e.node.is_some());
        return if object(a) || object(b) {
            Err(Fault::Operands(op.symbol()))
        } else {
            Ok(None)
        };
    };
    if a.is_number() && b.is_number() {
        return Ok(Some(op.holds(numbers(&a, &b))));
    }
    match (temporals(&a, &b), &a, &b) {
        (Pair::Temporal(a, b), ..) => Ok(a.compare(b).map(|order| op.holds(order))),
        (Pair::Unreadable, ..) => Ok(None),
        (Pair::Other, Value::Text(a), Value::Text(b)) => Ok(Some(op.holds(a.cmp(b)))),
        _ => Err(Fault::Operands(op.symbol())),
    }
}

fn numbers(a: &Value<'_>, b: &Value<'_>) -> Ordering {
    match (a, b) {
        (Value::Integer(a), Value::Integer(b)) => a.cmp(b),
        _ => match (a.decimal(), b.decimal()) {
            (Some(a), Some(b)) => a.cmp(&b),
            _ => compare_lexical(&a.lexical(), &b.lexical()),
        },
    }
}

/// Two values, as dates or times.
enum Pair {
    /// Both are.
    Temporal(Temporal, Temporal),
    /// One is, and the other is a string that cannot be read as one.
    Unreadable,
    /// Neither is meant to be one.
    Other,
}

/// Both as dates or times. The JSON of a date is a string, so a string beside a date is read as a date, and two strings that both name a
/// day are dates.
fn temporals(a: &Value<'_>, b: &Value<'_>) -> Pair {
    let like = |like: &Temporal, text: &str| {
        if like.is_time() {
            Temporal::time(text)
        } else {
            Temporal::date(text)
        }
    };
    let pair = match (a, b) {
        (Value::Temporal(a, _), Value::Temporal(b, _)) => Some((*a, *b)),
        (Value::Temporal(a, _), Value::Text(b)) => like(a, b).map(|b| (*a, b)),
        (Value::Text(a), Value::Temporal(b, _)) => like(b, a).map(|a| (a, *b)),
        (Value::Text(a), Value::Text(b)) => match (day(a), day(b)) {
            (Some(a), Some(b)) => Some((a, b)),
            _ => return Pair::Other,
        },
        _ => return Pair::Other,
    };
    pair.map_or(Pair::Unreadable, |(a, b)| Pair::Temporal(a, b))
}

/// A string that names at least a day: nothing else in FHIR looks like it.
fn day(text: &str) -> Option<Temporal> {
    let bytes = text.as_bytes();
    (bytes.len() >= 10 && bytes[4] == b'-' && bytes[7] == b'-').then(|| Temporal::date(text))?
}

/// `+ - * /` of two items; empty where the result is out of range, or after a division by zero.
pub fn arithmetic<'a>(op: Arithmetic, a: &Item<'a>, b: &Item<'a>) -> Result<Option<Value<'a>>, Fault> {
    let (Some(a), Some(b)) = (a.value(), b.value()) else {
        let object =
            |item: &Item<'_>| item.value().is_none() && item.element().is_some_and(|e| e.node.is_some());
        return if object(a) || object(b) {
            Err(Fault::Operands(op.symbol()))
        } else {
            Ok(None)
        };
    };
    if let (Value::Text(a), Value::Text(b), Arithmetic::Add) = (&a, &b, op) {
        return Ok(Some(Value::Text(Cow::Owned(format!("{a}{b}")))));
    }
    if !a.is_number() || !b.is_number() {
        return Err(Fault::Operands(op.symbol()));
    }
    if let (Value::Integer(a), Value::Integer(b)) = (&a, &b) {
        let result = match op {
            Arithmetic::Add => Some(a.checked_add(*b)),
            Arithmetic::Subtract => Some(a.checked_sub(*b)),
            Arithmetic::Multiply => Some(a.checked_mul(*b)),
            Arithmetic::Divide => None,
        };
        if let Some(result) = result {
            return Ok(result.map(Value::Integer));
        }
    }
    let (Some(a), Some(b)) = (a.decimal(), b.decimal()) else {
        return Ok(None);
    };
    Ok(match op {
        Arithmetic::Add => a.plus(b),
        Arithmetic::Subtract => a.minus(b),
        Arithmetic::Multiply => a.times(b),
        Arithmetic::Divide => a.over(b),
    }
    .map(Value::Decimal))
}

/// A number with the other sign.
pub fn negate<'a>(item: &Item<'a>) -> Result<Option<Value<'a>>, Fault> {
    match item.value() {
        None if item.element().is_some_and(|e| e.node.is_none()) => Ok(None),
        Some(Value::Integer(value)) => Ok(value.checked_neg().map(Value::Integer)),
        Some(Value::Decimal(value)) => Ok(value.negated().map(Value::Decimal)),
        Some(Value::Huge(_)) => Ok(None),
        _ => Err(Fault::Operands("-")),
    }
}
