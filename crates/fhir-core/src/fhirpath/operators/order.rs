//! `<`, `<=`, `>`, `>=` (FHIRPath N1, section 6.2).

use super::{Pair, has_no_order, numbers, quantities, temporals};
use crate::fhirpath::{
    error::Fault,
    expr::Comparison,
    value::{Item, Value},
};

/// Whether two items are in that order; empty where partial dates, or units, leave it open.
pub fn compare(op: Comparison, a: &Item<'_>, b: &Item<'_>) -> Result<Option<bool>, Fault> {
    let untyped = a.is_untyped() || b.is_untyped();
    let (Some(x), Some(y)) = (a.operand(), b.operand()) else {
        return if has_no_order(a) || has_no_order(b) {
            Err(Fault::Operands(op.symbol()))
        } else {
            Ok(None)
        };
    };
    let (a, b) = (x, y);
    if a.is_number() && b.is_number() {
        return Ok(Some(op.holds(numbers(&a, &b))));
    }
    match (temporals(&a, &b, untyped), &a, &b) {
        (Pair::Temporal(a, b), ..) if a.is_time() != b.is_time() => Err(Fault::Operands(op.symbol())),
        (Pair::Temporal(a, b), ..) => Ok(a.compare(b).map(|order| op.holds(order))),
        (Pair::Unreadable, ..) => Ok(None),
        (Pair::Other, Value::Text(a), Value::Text(b)) => Ok(Some(op.holds(a.cmp(b)))),
        _ => match quantities(&a, &b) {
            Some((a, b)) => Ok(a.compare(&b).map(|order| op.holds(order))),
            None => Err(Fault::Operands(op.symbol())),
        },
    }
}
