//! `~` and `!~` (FHIRPath N1, sections 6.1.2 and 6.1.4): as people mean the same. Always true or false.

use super::{Pair, quantities, temporals};
use crate::{
    fhirpath::{
        error::Fault,
        eval::Focus,
        number::{Decimal, compare_lexical},
        value::{Item, Value},
    },
    json::{Kind, Node},
};

/// `~` of two collections: the same items in any order; two empty ones are equivalent.
pub fn equivalent(a: &[Item<'_>], b: &[Item<'_>], focus: &Focus<'_, '_>) -> Result<bool, Fault> {
    matched(a, b, focus, &|a, b| items(a, b, focus))
}

/// Whether each of `a` has its own equivalent in `b`.
fn matched<T>(
    a: &[T],
    b: &[T],
    focus: &Focus<'_, '_>,
    same: &dyn Fn(&T, &T) -> Result<bool, Fault>,
) -> Result<bool, Fault> {
    if a.len() != b.len() {
        return Ok(false);
    }
    let mut taken = vec![false; b.len()];
    'each: for item in a {
        for (other, taken) in b.iter().zip(&mut taken) {
            focus.resource.step()?;
            if !*taken && same(item, other)? {
                *taken = true;
                continue 'each;
            }
        }
        return Ok(false);
    }
    Ok(true)
}

fn items(a: &Item<'_>, b: &Item<'_>, focus: &Focus<'_, '_>) -> Result<bool, Fault> {
    let untyped = a.is_untyped() || b.is_untyped();
    if let (Some(a), Some(b)) = (a.operand(), b.operand()) {
        return Ok(values(&a, &b, untyped));
    }
    let (Some(a), Some(b)) = (a.element(), b.element()) else {
        return Ok(false);
    };
    match (a.node, b.node) {
        (Some(a), Some(b)) => nodes(a, b, focus),
        // Primitives without a value: what is beside it.
        (None, None) => match (a.extra, b.extra) {
            (Some(a), Some(b)) => nodes(a, b, focus),
            _ => Ok(false),
        },
        _ => Ok(false),
    }
}

fn values(a: &Value<'_>, b: &Value<'_>, untyped: bool) -> bool {
    match (a, b) {
        (Value::Boolean(a), Value::Boolean(b)) => a == b,
        (Value::Type(a), Value::Type(b)) => a == b,
        _ if a.is_number() && b.is_number() => numbers(&a.lexical(), &b.lexical()),
        _ => match (temporals(a, b, untyped), a, b) {
            (Pair::Temporal(a, b), ..) => {
                a.is_time() == b.is_time() && a.compare(b).is_some_and(std::cmp::Ordering::is_eq)
            }
            (Pair::Other, Value::Text(a), Value::Text(b)) => folded(a).eq(folded(b)),
            _ => quantities(a, b).is_some_and(|(a, b)| a.equivalent(&b)),
        },
    }
}

/// To the digits of the less precise one; those with more digits than are computed with, by all of them.
fn numbers(a: &str, b: &str) -> bool {
    match (Decimal::parse(a), Decimal::parse(b)) {
        (Some(a), Some(b)) => a.equivalent(b),
        _ => compare_lexical(a, b).is_eq(),
    }
}

/// The characters of a string without regard to case, and any white space as a space.
fn folded(text: &str) -> impl Iterator<Item = char> {
    text.chars()
        .flat_map(char::to_lowercase)
        .map(|c| if c.is_whitespace() { ' ' } else { c })
}

/// Elements by their JSON: members of the same names, lists in any order. The depth is the text's, which is bounded.
fn nodes(a: Node<'_>, b: Node<'_>, focus: &Focus<'_, '_>) -> Result<bool, Fault> {
    focus.resource.step()?;
    match (a.kind(), b.kind()) {
        (Kind::Array, Kind::Array) => {
            let (a, b): (Vec<_>, Vec<_>) = (a.items().collect(), b.items().collect());
            matched(&a, &b, focus, &|a, b| nodes(*a, *b, focus))
        }
        (Kind::Object, Kind::Object) => {
            if a.members().count() != b.members().count() {
                return Ok(false);
            }
            for (name, value) in a.members() {
                let Some(other) = b.member(name) else {
                    return Ok(false);
                };
                if !nodes(value, other, focus)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        (Kind::String, Kind::String) => Ok(folded(a.text()).eq(folded(b.text()))),
        (Kind::Number, Kind::Number) => Ok(numbers(a.text(), b.text())),
        (a_kind, b_kind) => Ok(a_kind == b_kind && a.text() == b.text()),
    }
}
