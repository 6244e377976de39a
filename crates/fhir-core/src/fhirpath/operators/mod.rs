//! Operators on items (FHIRPath N1, section 6).

mod arithmetic;
mod equality;
mod equivalence;
mod order;

pub(crate) use arithmetic::{arithmetic, negate};
pub(crate) use equality::{equal, same};
pub(crate) use equivalence::equivalent;
pub(crate) use order::compare;

use std::{borrow::Cow, cmp::Ordering};

use super::{
    eval::Resource,
    model::Class,
    quantity::Quantity,
    temporal::Temporal,
    value::{Item, Value},
};
use crate::number::compare_lexical;

/// Two numbers of any length.
fn numbers(a: &Value<'_>, b: &Value<'_>) -> Ordering {
    match (a, b) {
        (Value::Integer(a), Value::Integer(b)) => a.value().cmp(&b.value()),
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

/// Both as dates or times. A string beside a date is read as a date; two strings are dates where the type of one is not known, and both
/// name a day.
fn temporals(a: &Value<'_>, b: &Value<'_>, untyped: bool) -> Pair {
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
        (Value::Text(a), Value::Text(b)) if untyped => match (day(a), day(b)) {
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

/// A quantity; a number is one without a unit.
fn quantity<'v>(value: &'v Value<'_>) -> Option<Cow<'v, Quantity>> {
    match value {
        Value::Quantity(quantity) => Some(Cow::Borrowed(quantity)),
        other => Some(Cow::Owned(Quantity::plain(other.decimal()?))),
    }
}

/// Two quantities, or one and a number.
fn quantities<'v>(
    a: &'v Value<'_>,
    b: &'v Value<'_>,
    resource: &Resource<'_>,
) -> Option<(Cow<'v, Quantity>, Cow<'v, Quantity>)> {
    let one = matches!(a, Value::Quantity(_)) || matches!(b, Value::Quantity(_));
    if !one {
        return None;
    }
    let (a, b) = (quantity(a)?, quantity(b)?);
    conversion(&a, &b, resource);
    Some((a, b))
}

/// Steps that it takes to make out a character of a unit.
const UNIT: usize = 8;

/// Counts the conversion of one unit to another.
fn conversion(a: &Quantity, b: &Quantity, resource: &Resource<'_>) {
    let (a, b) = (a.unit.code(), b.unit.code());
    if a != b {
        resource.spend((UNIT * (a.len() + b.len())) as u64);
    }
}

/// Whether an item has elements, and is not a quantity whose value is only not known (one with a comparator).
fn has_no_order(item: &Item<'_>) -> bool {
    let is_quantity = item
        .element()
        .and_then(|e| e.of)
        .is_some_and(|of| of.class() == Class::Quantity);
    item.is_complex() && !is_quantity
}
