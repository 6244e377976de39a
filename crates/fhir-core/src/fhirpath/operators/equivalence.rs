//! `~` and `!~` (FHIRPath N1, sections 6.1.2 and 6.1.4): as people mean the same. Always true or false.

use super::{Pair, quantities, temporals};
use crate::{
    fhirpath::{
        error::Fault,
        eval::Focus,
        path,
        value::{Item, Value},
    },
    json::{Kind, Node},
    number::{Decimal, compare_lexical},
};

/// `~` of two collections: the same items in any order; two empty ones are equivalent.
pub(crate) fn equivalent<'a>(a: &[Item<'a>], b: &[Item<'a>], focus: &Focus<'a, '_>) -> Result<bool, Fault> {
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

fn items<'a>(a: &Item<'a>, b: &Item<'a>, focus: &Focus<'a, '_>) -> Result<bool, Fault> {
    let untyped = a.is_untyped() || b.is_untyped();
    focus.resource.read(a);
    focus.resource.read(b);
    if let (Some(a), Some(b)) = (a.borrowed_operand(), b.borrowed_operand()) {
        return values(&a, &b, untyped, focus);
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

fn values(a: &Value<'_>, b: &Value<'_>, untyped: bool, focus: &Focus<'_, '_>) -> Result<bool, Fault> {
    Ok(match (a, b) {
        (Value::Boolean(a), Value::Boolean(b)) => a == b,
        (Value::Type(a), Value::Type(b)) => a == b,
        _ if a.is_number() && b.is_number() => numbers(&a.lexical(), &b.lexical()),
        _ => match (temporals(a, b, untyped), a, b) {
            (Pair::Temporal(a, b), ..) => {
                a.is_time() == b.is_time() && a.compare(b).is_some_and(std::cmp::Ordering::is_eq)
            }
            (Pair::Other, Value::Text(a), Value::Text(b)) => texts(a, b, focus)?,
            _ => quantities(a, b, focus.resource).is_some_and(|(a, b)| a.equivalent(&b)),
        },
    })
}

/// To the digits of the less precise one; those with more digits than are computed with, by all of them.
fn numbers(a: &str, b: &str) -> bool {
    match (Decimal::parse(a), Decimal::parse(b)) {
        (Some(a), Some(b)) => a.equivalent(b),
        _ => compare_lexical(a, b).is_eq(),
    }
}

fn texts(a: &str, b: &str, focus: &Focus<'_, '_>) -> Result<bool, Fault> {
    if path::same_text(a, b, focus.resource) {
        return Ok(true);
    }
    // Each character is looked up in Unicode's tables.
    focus.resource.steps(a.len().min(b.len()) as u64)?;
    Ok(folded(a).eq(folded(b)))
}

/// The characters of a string without regard to case, and any white space as a space.
fn folded(text: &str) -> impl Iterator<Item = char> {
    text.chars()
        .flat_map(char::to_lowercase)
        .map(|c| if c.is_whitespace() { ' ' } else { c })
}

/// Elements by their JSON: members of the same names, lists in any order. The depth is the text's, which is bounded.
fn nodes<'a>(a: Node<'a>, b: Node<'a>, focus: &Focus<'a, '_>) -> Result<bool, Fault> {
    focus.resource.step()?;
    match (a.kind(), b.kind()) {
        (Kind::Array, Kind::Array) => {
            let (a, b): (Vec<_>, Vec<_>) = (a.items().collect(), b.items().collect());
            matched(&a, &b, focus, &|a, b| nodes(*a, *b, focus))
        }
        (Kind::Object, Kind::Object) => {
            let mut work = 0;
            let pairs = a.pairs(b, &mut work);
            focus.resource.steps(work)?;
            for (a, b) in pairs.iter().flatten() {
                if !nodes(*a, *b, focus)? {
                    return Ok(false);
                }
            }
            Ok(pairs.is_some())
        }
        (Kind::String, Kind::String) => texts(a.text(), b.text(), focus),
        (Kind::Number, Kind::Number) => {
            focus.resource.spend_digits(a.text().len());
            focus.resource.spend_digits(b.text().len());
            Ok(numbers(a.text(), b.text()))
        }
        (a_kind, b_kind) => Ok(a_kind == b_kind && a.text() == b.text()),
    }
}
