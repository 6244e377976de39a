//! `+ - * / div mod` and signs (FHIRPath N1, section 6.6).

use std::borrow::Cow;

use super::{has_no_order, quantities};
use crate::fhirpath::{
    error::Fault,
    eval::Resource,
    expr::Arithmetic,
    functions::bounded,
    quantity::Quantity,
    temporal::Temporal,
    value::{Item, Value},
};
use crate::number::Integer;

/// What it takes to compute with decimals: a quotient is tried at many scales.
const STEPS: u64 = 8;

/// Two items and what is between them; empty where the result is out of range, or after a division by zero.
pub(crate) fn arithmetic<'a>(
    op: Arithmetic,
    a: &Item<'a>,
    b: &Item<'a>,
    resource: &Resource<'a>,
) -> Result<Option<Value<'a>>, Fault> {
    resource.steps(STEPS)?;
    resource.read(a);
    resource.read(b);
    let (Some(x), Some(y)) = (a.borrowed_operand(), b.borrowed_operand()) else {
        return if has_no_order(a) || has_no_order(b) {
            Err(Fault::Operands(op.symbol()))
        } else {
            Ok(None)
        };
    };
    match (&x, &y) {
        (Value::Integer(x), Value::Integer(y)) => Ok(integers(op, *x, *y)),
        (Value::Text(a), Value::Text(b)) if op == Arithmetic::Add => {
            bounded(a.len() + b.len())?;
            resource.build(a.len() + b.len())?;
            Ok(Some(Value::Text(Cow::Owned(format!("{a}{b}")))))
        }
        (Value::Temporal(at, _), Value::Quantity(by)) => moved(op, *at, by),
        // A date whose type is not known.
        (Value::Text(text), Value::Quantity(by)) if a.is_untyped() => match Temporal::parse(text) {
            Some(at) => moved(op, at, by),
            None => Err(Fault::Operands(op.symbol())),
        },
        _ if x.is_number() && y.is_number() => Ok(decimals(op, &x, &y)),
        _ => match quantities(&x, &y, resource) {
            Some((a, b)) => of_quantities(op, &a, &b),
            None => Err(Fault::Operands(op.symbol())),
        },
    }
}

fn integers<'a>(op: Arithmetic, a: Integer, b: Integer) -> Option<Value<'a>> {
    let result = match op {
        Arithmetic::Add => a.with(b, i64::checked_add),
        Arithmetic::Subtract => a.with(b, i64::checked_sub),
        Arithmetic::Multiply => a.with(b, i64::checked_mul),
        Arithmetic::WholeDivide => a.with(b, i64::checked_div),
        // Nothing is left, even of the least one, whose quotient is out of range.
        Arithmetic::Modulo => a.with(b, |a, b| if b == -1 { Some(0) } else { a.checked_rem(b) }),
        Arithmetic::Divide => return decimals(op, &Value::Integer(a), &Value::Integer(b)),
    };
    result.map(Value::Integer)
}

/// Nothing of numbers with more digits than are computed with.
fn decimals<'a>(op: Arithmetic, a: &Value<'_>, b: &Value<'_>) -> Option<Value<'a>> {
    let is_long = [a, b]
        .iter()
        .any(|value| matches!(value, Value::Integer(value) if value.is_long()));
    let (a, b) = (a.decimal()?, b.decimal()?);
    let result = match op {
        Arithmetic::Add => a.plus(b),
        Arithmetic::Subtract => a.minus(b),
        Arithmetic::Multiply => a.times(b),
        Arithmetic::Divide => a.over(b),
        Arithmetic::Modulo => a.remainder(b),
        Arithmetic::WholeDivide => {
            let quotient = i64::try_from(a.whole_quotient(b)?).ok()?;
            let integer = if is_long {
                Some(Integer::long(quotient))
            } else {
                i32::try_from(quotient).ok().map(Integer::from)
            };
            return integer.map(Value::Integer);
        }
    };
    result.map(Value::Decimal)
}

fn of_quantities<'a>(op: Arithmetic, a: &Quantity, b: &Quantity) -> Result<Option<Value<'a>>, Fault> {
    let result = match op {
        Arithmetic::Add => a.plus(b),
        Arithmetic::Subtract => b.negated().and_then(|b| a.plus(&b)),
        Arithmetic::Multiply => a.times(b),
        Arithmetic::Divide => a.over(b),
        Arithmetic::WholeDivide | Arithmetic::Modulo => return Err(Fault::Operands(op.symbol())),
    };
    Ok(result.map(|quantity| Value::Quantity(Box::new(quantity))))
}

/// A date or time and an amount of calendar time. A definite duration above seconds is none: a year of 365.25 days does not lead to a date.
fn moved<'a>(op: Arithmetic, at: Temporal, by: &Quantity) -> Result<Option<Value<'a>>, Fault> {
    let amount = match op {
        Arithmetic::Add => Some(by.value),
        Arithmetic::Subtract => by.value.negated(),
        _ => return Err(Fault::Operands(op.symbol())),
    };
    let unit = by.unit.calendar().ok_or(Fault::Operands(op.symbol()))?;
    Ok(amount
        .and_then(|amount| at.plus(amount, unit))
        .map(Value::temporal))
}

/// A number or quantity with the other sign.
pub(crate) fn negate<'a>(item: &Item<'a>, resource: &Resource<'a>) -> Result<Option<Value<'a>>, Fault> {
    resource.read(item);
    match item.borrowed_operand() {
        Some(Value::Integer(value)) => Ok(value.map(i64::checked_neg).map(Value::Integer)),
        Some(Value::Decimal(value)) => Ok(value.negated().map(Value::Decimal)),
        Some(Value::Quantity(quantity)) => Ok(quantity
            .negated()
            .map(|quantity| Value::Quantity(Box::new(quantity)))),
        Some(Value::Huge(_)) => Ok(None),
        None if !has_no_order(item) => Ok(None),
        _ => Err(Fault::Operands("-")),
    }
}
