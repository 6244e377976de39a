//! `=` and `!=` (FHIRPath N1, section 6.1.1).

use std::cmp::Ordering;

use super::{Pair, conversion, numbers, quantities, temporals};
use crate::{
    fhirpath::{
        eval::{Few, Resource},
        model::{Class, Type},
        path::same_text,
        value::{Item, Value},
    },
    json::Node,
};

/// `=` of two collections: empty where one is, or where partial dates leave it open; false where their lengths differ.
pub(crate) fn equal<'a>(a: &Few<'a>, b: &Few<'a>, resource: &Resource<'a>) -> Option<bool> {
    let (a, b) = (a.as_slice(), b.as_slice());
    if a.is_empty() || b.is_empty() {
        return None;
    }
    if a.len() != b.len() {
        return Some(false);
    }
    let mut all = Some(true);
    for (a, b) in a.iter().zip(b) {
        match same(a, b, resource) {
            Some(true) => {}
            Some(false) => return Some(false),
            None => all = None,
        }
    }
    all
}

/// `=` of two items; empty where it depends on what is not known.
pub(crate) fn same<'a>(a: &Item<'a>, b: &Item<'a>, resource: &Resource<'a>) -> Option<bool> {
    let untyped = a.is_untyped() || b.is_untyped();
    resource.read(a);
    resource.read(b);
    match (a.borrowed(), b.borrowed()) {
        (Some(a), Some(b)) => same_values(&a, &b, untyped, resource),
        (None, None) => same_elements(a, b, resource),
        // A primitive without a value has none to compare; an object and a value differ, but for quantities.
        (None, Some(value)) => a.is_complex().then(|| same_quantity(a, &value, resource))?,
        (Some(value), None) => b.is_complex().then(|| same_quantity(b, &value, resource))?,
    }
}

fn same_values(a: &Value<'_>, b: &Value<'_>, untyped: bool, resource: &Resource<'_>) -> Option<bool> {
    match (a, b) {
        (Value::Boolean(a), Value::Boolean(b)) => Some(a == b),
        (Value::Text(a), Value::Text(b)) if same_text(a, b, resource) => Some(true),
        (Value::Temporal(a, x), Value::Temporal(b, y)) if x == y && a == b => Some(true),
        (Value::Type(a), Value::Type(b)) => Some(a == b),
        _ if a.is_number() && b.is_number() => Some(numbers(a, b).is_eq()),
        _ => match temporals(a, b, untyped) {
            Pair::Temporal(a, b) if a.is_time() != b.is_time() => Some(false),
            Pair::Temporal(a, b) => a.compare(b).map(Ordering::is_eq),
            Pair::Unreadable => Some(false),
            Pair::Other => match quantities(a, b, resource) {
                Some((a, b)) => a.compare(&b).map(Ordering::is_eq),
                None => Some(false),
            },
        },
    }
}

/// Elements with elements of their own: the same JSON; quantities also by what they amount to. Primitives without a value have what stands
/// beside it.
fn same_elements<'a>(a: &Item<'a>, b: &Item<'a>, resource: &Resource<'a>) -> Option<bool> {
    let same = |a: Node<'a>, b| {
        let mut work = 0;
        let same = a.same(b, &mut work);
        resource.spend(work);
        same
    };
    let (x, y) = (a.element()?, b.element()?);
    let (Some(x_node), Some(y_node)) = (x.node, y.node) else {
        let alike = x.extra.zip(y.extra).is_some_and(|(x, y)| same(x, y));
        return Some(x.node.is_none() && y.node.is_none() && alike);
    };
    if same(x_node, y_node) {
        return Some(true);
    }
    let is_quantity = |of: Option<Type>| of.is_some_and(|of| of.class() == Class::Quantity);
    if is_quantity(x.of) && is_quantity(y.of) {
        let (x, y) = (x.quantity()?, y.quantity()?);
        conversion(&x, &y, resource);
        return x.compare(&y).map(Ordering::is_eq);
    }
    Some(false)
}

fn same_quantity(complex: &Item<'_>, value: &Value<'_>, resource: &Resource<'_>) -> Option<bool> {
    let Some(operand) = complex.operand() else {
        return Some(false);
    };
    match quantities(&operand, value, resource) {
        Some((a, b)) if !value.is_number() => a.compare(&b).map(Ordering::is_eq),
        _ => Some(false),
    }
}
