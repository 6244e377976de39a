//! `+ - * / div mod` and signs (FHIRPath N1, section 6.6).

use std::borrow::Cow;

use super::{has_no_order, quantities};
use crate::fhirpath::{
    error::Fault,
    eval::Resource,
    expr::Arithmetic,
    functions::bounded,
    model::Class,
    quantity::Quantity,
    temporal::Temporal,
    value::{Item, Value},
};

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
        (Value::Integer(x), Value::Integer(y)) => {
            let range = Range::of(&[(a, *x), (b, *y)]);
            Ok(integers(op, *x, *y).filter(|result| range.holds(result)))
        }
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

/// What an integer can be: of 32 bits (FHIRPath N1, 4.1.3); of 64 where an operand is an integer64, or has more than 32 already.
#[derive(PartialEq, Eq)]
pub(in crate::fhirpath) enum Range {
    Integer,
    Integer64,
}

impl Range {
    pub(in crate::fhirpath) fn of(operands: &[(&Item<'_>, i64)]) -> Self {
        let is_long = |(item, value): &(&Item<'_>, i64)| {
            let of = item.element().and_then(|element| element.of);
            of.is_some_and(|of| of.class() == Class::Integer64) || i32::try_from(*value).is_err()
        };
        if operands.iter().any(is_long) {
            Self::Integer64
        } else {
            Self::Integer
        }
    }

    pub(in crate::fhirpath) fn holds(&self, result: &Value<'_>) -> bool {
        match result {
            Value::Integer(value) => *self == Self::Integer64 || i32::try_from(*value).is_ok(),
            _ => true,
        }
    }
}

fn integers<'a>(op: Arithmetic, a: i64, b: i64) -> Option<Value<'a>> {
    let result = match op {
        Arithmetic::Add => a.checked_add(b),
        Arithmetic::Subtract => a.checked_sub(b),
        Arithmetic::Multiply => a.checked_mul(b),
        Arithmetic::WholeDivide => a.checked_div(b),
        Arithmetic::Modulo => a.checked_rem(b),
        Arithmetic::Divide => return decimals(op, &Value::Integer(a), &Value::Integer(b)),
    };
    result.map(Value::Integer)
}

/// Nothing of numbers with more digits than are computed with.
fn decimals<'a>(op: Arithmetic, a: &Value<'_>, b: &Value<'_>) -> Option<Value<'a>> {
    let (a, b) = (a.decimal()?, b.decimal()?);
    let result = match op {
        Arithmetic::Add => a.plus(b),
        Arithmetic::Subtract => a.minus(b),
        Arithmetic::Multiply => a.times(b),
        Arithmetic::Divide => a.over(b),
        Arithmetic::Modulo => a.remainder(b),
        Arithmetic::WholeDivide => {
            let quotient = a.whole_quotient(b)?;
            return i32::try_from(quotient)
                .ok()
                .map(|value| Value::Integer(value.into()));
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
        Some(Value::Integer(value)) => {
            let range = Range::of(&[(item, value)]);
            Ok(value
                .checked_neg()
                .map(Value::Integer)
                .filter(|result| range.holds(result)))
        }
        Some(Value::Decimal(value)) => Ok(value.negated().map(Value::Decimal)),
        Some(Value::Quantity(quantity)) => Ok(quantity
            .negated()
            .map(|quantity| Value::Quantity(Box::new(quantity)))),
        Some(Value::Huge(_)) => Ok(None),
        None if !has_no_order(item) => Ok(None),
        _ => Err(Fault::Operands("-")),
    }
}
