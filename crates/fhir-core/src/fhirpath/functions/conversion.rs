//! Conversions, and whether they succeed (FHIRPath N1, section 5.5). What cannot be converted is empty.

use std::borrow::Cow;

use super::scalar::{Answer, Call, Function, Yields, plain};
use crate::fhirpath::{
    error::Fault,
    quantity::Quantity,
    temporal::{Form, Temporal},
    value::Value,
};
use crate::number::{Decimal, Toward};

type Conversion = for<'a> fn(Value<'a>) -> Option<Value<'a>>;

pub(super) static FUNCTIONS: [Function; 16] = [
    plain("toBoolean", "toBoolean()", Yields::Boolean, |c| {
        convert(c, boolean)
    }),
    plain("toInteger", "toInteger()", Yields::Integer, |c| {
        convert(c, integer)
    }),
    plain("toDecimal", "toDecimal()", Yields::Decimal, |c| {
        convert(c, decimal)
    }),
    plain("toString", "toString()", Yields::Text, |c| convert(c, string)),
    plain("toDate", "toDate()", Yields::Date, |c| convert(c, date)),
    plain("toDateTime", "toDateTime()", Yields::DateTime, |c| {
        convert(c, date_time)
    }),
    plain("toTime", "toTime()", Yields::Time, |c| convert(c, time)),
    plain("convertsToBoolean", "convertsToBoolean()", Yields::Boolean, |c| {
        converts(c, boolean)
    }),
    plain("convertsToInteger", "convertsToInteger()", Yields::Boolean, |c| {
        converts(c, integer)
    }),
    plain("convertsToDecimal", "convertsToDecimal()", Yields::Boolean, |c| {
        converts(c, decimal)
    }),
    plain("convertsToString", "convertsToString()", Yields::Boolean, |c| {
        converts(c, string)
    }),
    plain("convertsToDate", "convertsToDate()", Yields::Boolean, |c| {
        converts(c, date)
    }),
    plain(
        "convertsToDateTime",
        "convertsToDateTime()",
        Yields::Boolean,
        |c| converts(c, date_time),
    ),
    plain("convertsToTime", "convertsToTime()", Yields::Boolean, |c| {
        converts(c, time)
    }),
    Function {
        name: "toQuantity",
        shown: "toQuantity()",
        arguments: (0, 1),
        takes: "at most one argument, the unit",
        yields: Yields::Quantity,
        run: |call| Ok(to_quantity(call)?.map(|q| Value::Quantity(Box::new(q)))),
    },
    Function {
        name: "convertsToQuantity",
        shown: "convertsToQuantity()",
        arguments: (0, 1),
        takes: "at most one argument, the unit",
        yields: Yields::Boolean,
        run: |call| Ok(Some(Value::Boolean(to_quantity(call)?.is_some()))),
    },
];

#[expect(clippy::unnecessary_wraps, reason = "reads as an answer")]
fn convert<'a>(call: &Call<'_, 'a>, conversion: Conversion) -> Answer<'a> {
    Ok(call.item.operand().and_then(conversion))
}

/// Of a primitive without a value there is nothing to tell.
#[expect(clippy::unnecessary_wraps, reason = "reads as an answer")]
fn converts<'a>(call: &Call<'_, 'a>, conversion: Conversion) -> Answer<'a> {
    let converts = match call.item.operand() {
        Some(value) => conversion(value).is_some(),
        None if call.item.is_complex() => false,
        None => return Ok(None),
    };
    Ok(Some(Value::Boolean(converts)))
}

fn boolean(value: Value<'_>) -> Option<Value<'_>> {
    let value = match value {
        Value::Boolean(value) => value,
        Value::Integer(value) if matches!(value.value(), 0 | 1) => value.value() == 1,
        Value::Decimal(value) if value == Decimal::from(1) => true,
        Value::Decimal(value) if value.is_zero() => false,
        Value::Text(text) => match text.to_ascii_lowercase().as_str() {
            "true" | "t" | "yes" | "y" | "1" | "1.0" => true,
            "false" | "f" | "no" | "n" | "0" | "0.0" => false,
            _ => return None,
        },
        _ => return None,
    };
    Some(Value::Boolean(value))
}

fn integer(value: Value<'_>) -> Option<Value<'_>> {
    let value = match value {
        Value::Boolean(value) => i32::from(value),
        Value::Integer(value) => i32::try_from(value.value()).ok()?,
        Value::Text(text) if !text.contains('.') => {
            i32::try_from(Decimal::read(&text)?.integer(Toward::Zero)?).ok()?
        }
        _ => return None,
    };
    Some(Value::Integer(value.into()))
}

fn decimal(value: Value<'_>) -> Option<Value<'_>> {
    Some(Value::Decimal(match value {
        Value::Boolean(true) => Decimal::read("1.0")?,
        Value::Boolean(false) => Decimal::read("0.0")?,
        Value::Integer(value) => Decimal::from(value.value()),
        Value::Text(text) => Decimal::read(&text)?,
        Value::Decimal(_) | Value::Huge(_) => return Some(value),
        _ => return None,
    }))
}

fn string(value: Value<'_>) -> Option<Value<'_>> {
    match value {
        Value::Type(_) => None,
        Value::Text(text) | Value::Temporal(_, text) => Some(Value::Text(text)),
        other => Some(Value::Text(other.lexical())),
    }
}

fn date(value: Value<'_>) -> Option<Value<'_>> {
    let (temporal, text) = match value {
        // The string of a moment is none of a day.
        Value::Text(text) => {
            let temporal = Temporal::date(&text).filter(|t| t.form() == Form::Date)?;
            (temporal, text)
        }
        Value::Temporal(temporal, text) => (temporal, text),
        _ => return None,
    };
    match temporal.form() {
        Form::Time => None,
        Form::Date => Some(Value::Temporal(temporal, text)),
        Form::DateTime => {
            // The date is what stands before the time.
            let day = text.split('T').next().unwrap_or_default();
            Temporal::date(day).map(Value::temporal)
        }
    }
}

fn date_time(value: Value<'_>) -> Option<Value<'_>> {
    let text = match value {
        Value::Temporal(temporal, _) if temporal.is_time() => return None,
        Value::Text(text) | Value::Temporal(_, text) => text,
        _ => return None,
    };
    Some(Value::Temporal(Temporal::date_time(&text)?, text))
}

fn time(value: Value<'_>) -> Option<Value<'_>> {
    match value {
        Value::Temporal(temporal, _) if temporal.is_time() => Some(value),
        Value::Text(text) => {
            // `T10:30` is a time, too.
            let temporal = Temporal::time(text.strip_prefix('T').unwrap_or(&text))?;
            Some(Value::Temporal(temporal, Cow::Owned(temporal.to_string())))
        }
        _ => None,
    }
}

fn to_quantity(call: &Call<'_, '_>) -> Result<Option<Quantity>, Fault> {
    let unit = call.text_argument(0)?;
    if call.is_given(0) && unit.is_none() {
        return Ok(None);
    }
    let quantity = match call.item.operand() {
        Some(Value::Quantity(quantity)) => Some(*quantity),
        Some(Value::Boolean(value)) => Some(Quantity::plain(Decimal::from(i64::from(value)))),
        Some(Value::Text(text)) => Quantity::parse(&text),
        Some(value) => value.decimal().map(Quantity::plain),
        None => None,
    };
    Ok(match (quantity, unit) {
        (Some(quantity), Some(unit)) => quantity.to(&unit),
        (quantity, _) => quantity,
    })
}
