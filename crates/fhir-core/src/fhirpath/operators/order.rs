//! `<`, `<=`, `>`, `>=` (FHIRPath N1, section 6.2).

use super::{Pair, has_no_order, numbers, quantities, temporals};
use crate::fhirpath::{
    error::Fault,
    eval::Resource,
    expr::Comparison,
    value::{Item, Value},
};

/// Whether two items are in that order; empty where partial dates, or units, leave it open.
pub(crate) fn compare(
    op: Comparison,
    a: &Item<'_>,
    b: &Item<'_>,
    resource: &Resource<'_>,
) -> Result<Option<bool>, Fault> {
    resource.read(a);
    resource.read(b);
    let untyped = a.is_untyped() || b.is_untyped();
    let (Some(x), Some(y)) = (a.borrowed_operand(), b.borrowed_operand()) else {
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
        (Pair::Other, Value::Text(a), Value::Text(b)) => {
            resource.spend_bytes(a.len().min(b.len()));
            Ok(Some(op.holds(a.cmp(b))))
        }
        _ => match quantities(&a, &b, resource) {
            Some((a, b)) => Ok(a.compare(&b).map(|order| op.holds(order))),
            None => Err(Fault::Operands(op.symbol())),
        },
    }
}
