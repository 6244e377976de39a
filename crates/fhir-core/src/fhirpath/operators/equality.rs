//! `=` and `!=` (FHIRPath N1, section 6.1.1).

use std::cmp::Ordering;

use super::{Pair, numbers, quantities, temporals};
use crate::fhirpath::{
    eval::Few,
    model::Class,
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

/// `=` of two items; empty where it depends on what is not known.
pub fn same(a: &Item<'_>, b: &Item<'_>) -> Option<bool> {
    let untyped = a.is_untyped() || b.is_untyped();
    match (a.value(), b.value()) {
        (Some(a), Some(b)) => same_values(&a, &b, untyped),
        (None, None) => same_elements(a, b),
        // A primitive without a value has none to compare; an object and a value differ, but for quantities.
        (None, Some(value)) => a.is_complex().then(|| same_quantity(a, &value))?,
        (Some(value), None) => b.is_complex().then(|| same_quantity(b, &value))?,
    }
}

fn same_values(a: &Value<'_>, b: &Value<'_>, untyped: bool) -> Option<bool> {
    match (a, b) {
        (Value::Boolean(a), Value::Boolean(b)) => Some(a == b),
        (Value::Text(a), Value::Text(b)) if a == b => Some(true),
        (Value::Temporal(a, x), Value::Temporal(b, y)) if x == y && a == b => Some(true),
        (Value::Type(a), Value::Type(b)) => Some(a == b),
        _ if a.is_number() && b.is_number() => Some(numbers(a, b).is_eq()),
        _ => match temporals(a, b, untyped) {
            Pair::Temporal(a, b) if a.is_time() != b.is_time() => Some(false),
            Pair::Temporal(a, b) => a.compare(b).map(Ordering::is_eq),
            Pair::Unreadable => Some(false),
            Pair::Other => match quantities(a, b) {
                Some((a, b)) => a.compare(&b).map(Ordering::is_eq),
                None => Some(false),
            },
        },
    }
}

/// Elements with elements of their own: the same JSON; quantities also by what they amount to. Primitives without a value have what stands
/// beside it.
fn same_elements(a: &Item<'_>, b: &Item<'_>) -> Option<bool> {
    let (x, y) = (a.element()?, b.element()?);
    let (Some(x_node), Some(y_node)) = (x.node, y.node) else {
        let alike = x.extra.zip(y.extra).is_some_and(|(x, y)| x.same(y));
        return Some(x.node.is_none() && y.node.is_none() && alike);
    };
    if x_node.same(y_node) {
        return Some(true);
    }
    let is_quantity =
        |of: Option<crate::fhirpath::model::Type>| of.is_some_and(|of| of.class() == Class::Quantity);
    if is_quantity(x.of) && is_quantity(y.of) {
        return x.quantity()?.compare(&y.quantity()?).map(Ordering::is_eq);
    }
    Some(false)
}

fn same_quantity(complex: &Item<'_>, value: &Value<'_>) -> Option<bool> {
    let Some(operand) = complex.operand() else {
        return Some(false);
    };
    match quantities(&operand, value) {
        Some((a, b)) if !value.is_number() => a.compare(&b).map(Ordering::is_eq),
        _ => Some(false),
    }
}
