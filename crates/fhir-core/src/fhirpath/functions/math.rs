//! Functions of a number (FHIRPath N1, section 5.7). Empty where there is no result, or none in range.

use super::scalar::{Answer, Call, Function, Yields, plain};
use crate::fhirpath::{
    error::Fault,
    quantity::Quantity,
    value::{Item, Value},
};
use crate::number::{Decimal, Toward};

pub(super) static FUNCTIONS: [Function; 10] = [
    plain("abs", "abs()", Yields::Same, absolute),
    plain("ceiling", "ceiling()", Yields::Whole, |call| {
        to_integer(call, Toward::Up)
    }),
    plain("floor", "floor()", Yields::Whole, |call| {
        to_integer(call, Toward::Down)
    }),
    plain("truncate", "truncate()", Yields::Whole, |call| {
        to_integer(call, Toward::Zero)
    }),
    plain("exp", "exp()", Yields::Decimal, |call| {
        decimal(call, Decimal::exp)
    }),
    plain("ln", "ln()", Yields::Decimal, |call| decimal(call, Decimal::ln)),
    plain("sqrt", "sqrt()", Yields::Decimal, |call| {
        decimal(call, Decimal::sqrt)
    }),
    Function {
        name: "log",
        shown: "log()",
        arguments: (1, 1),
        takes: "one argument, the base",
        yields: Yields::Decimal,
        run: log,
    },
    Function {
        name: "power",
        shown: "power()",
        arguments: (1, 1),
        takes: "one argument, the exponent",
        yields: Yields::Decimal,
        run: power,
    },
    Function {
        name: "round",
        shown: "round()",
        arguments: (0, 1),
        takes: "at most one argument, the digits after the point",
        yields: Yields::Decimal,
        run: round,
    },
];

/// The number to compute with; nothing of one with more digits than that.
fn number(call: &Call<'_, '_>) -> Result<Option<Decimal>, Fault> {
    match call.item.value() {
        Some(value) if value.is_number() => Ok(value.decimal()),
        _ => call.misfit(),
    }
}

fn absolute<'a>(call: &Call<'_, 'a>) -> Answer<'a> {
    Ok(match call.item.operand() {
        // The least integer has no opposite in its range.
        Some(Value::Integer(value)) => value.map(i64::checked_abs).map(Value::Integer),
        Some(Value::Quantity(quantity)) => quantity.value.absolute().map(|value| {
            Value::Quantity(Box::new(Quantity {
                value,
                unit: quantity.unit,
            }))
        }),
        _ => number(call)?.and_then(Decimal::absolute).map(Value::Decimal),
    })
}

fn to_integer<'a>(call: &Call<'_, 'a>, toward: Toward) -> Answer<'a> {
    // An integer64 stays what it is.
    if let Some(value @ Value::Integer(_)) = call.item.value() {
        return Ok(Some(value));
    }
    Ok(number(call)?
        .and_then(|value| i32::try_from(value.integer(toward)?).ok())
        .map(|value| Value::Integer(value.into())))
}

fn decimal<'a>(call: &Call<'_, 'a>, of: fn(Decimal) -> Option<Decimal>) -> Answer<'a> {
    Ok(number(call)?.and_then(of).map(Value::Decimal))
}

fn log<'a>(call: &Call<'_, 'a>) -> Answer<'a> {
    let (value, base) = (number(call)?, call.decimal_argument(0)?);
    Ok(value
        .zip(base)
        .and_then(|(value, base)| value.log(base))
        .map(Value::Decimal))
}

fn power<'a>(call: &Call<'_, 'a>) -> Answer<'a> {
    let (value, exponent) = (number(call)?, call.decimal_argument(0)?);
    let Some((value, exponent)) = value.zip(exponent) else {
        return Ok(None);
    };
    let Some(power) = value.power(exponent) else {
        return Ok(None);
    };
    let integer = |item: &Item<'_>| match item.value() {
        Some(Value::Integer(integer)) if !integer.is_long() => Some(integer),
        _ => None,
    };
    // Of integers it is one if it is whole, and nothing where that is out of range. Of an integer64 it is a decimal, as its type says.
    let integers = integer(call.item).zip(call.argument(0).and_then(integer));
    Ok(match integers.filter(|_| power.whole().is_some()) {
        Some((a, b)) => a.with(b, |_, _| power.integer(Toward::Zero)).map(Value::Integer),
        None => Some(Value::Decimal(power)),
    })
}

fn round<'a>(call: &Call<'_, 'a>) -> Answer<'a> {
    let digits = match call.integer_argument(0)? {
        None if call.is_given(0) => return Ok(None),
        None => 0,
        Some(digits) => u32::try_from(digits).map_err(|_| Fault::Argument("round()"))?,
    };
    Ok(number(call)?
        .and_then(|value| {
            // Digits beyond those that it has are none to round.
            let digits = digits.min(value.scale());
            value.rounded(digits, Toward::HalfUp)
        })
        .map(Value::Decimal))
}
