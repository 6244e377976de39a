//! How precisely a value was written, and what it can be: `precision`, `lowBoundary`, `highBoundary` (SQL on FHIR, "Functions"); and what
//! is told of a single item: `getValue`, `type`, `comparable`.

use super::scalar::{Answer, Call, Function, Yields};
use crate::fhirpath::{
    model::Class,
    quantity::Quantity,
    temporal::Temporal,
    value::{Item, Value},
};
use crate::number::Integer;

pub(super) static FUNCTIONS: [Function; 6] = [
    Function {
        name: "lowBoundary",
        shown: "lowBoundary()",
        arguments: (0, 1),
        takes: "at most one argument, the precision",
        yields: Yields::Edge,
        run: |call| boundary(call, false),
    },
    Function {
        name: "highBoundary",
        shown: "highBoundary()",
        arguments: (0, 1),
        takes: "at most one argument, the precision",
        yields: Yields::Edge,
        run: |call| boundary(call, true),
    },
    Function {
        name: "precision",
        shown: "precision()",
        arguments: (0, 0),
        takes: "no argument",
        yields: Yields::Integer,
        run: precision,
    },
    Function {
        name: "getValue",
        shown: "getValue()",
        arguments: (0, 0),
        takes: "no argument",
        yields: Yields::Same,
        run: |call| Ok(call.item.value()),
    },
    Function {
        name: "type",
        shown: "type()",
        arguments: (0, 0),
        takes: "no argument",
        yields: Yields::TypeInfo,
        run: |call| {
            Ok(match call.item {
                Item::Element(element) => element.type_of().map(Value::Type),
                Item::Value(value) => Some(Value::Type(value.type_of())),
            })
        },
    },
    Function {
        name: "comparable",
        shown: "comparable()",
        arguments: (1, 1),
        takes: "one argument, a quantity",
        yields: Yields::Boolean,
        run: comparable,
    },
];

fn boundary<'a>(call: &Call<'_, 'a>, high: bool) -> Answer<'a> {
    let precision = call.integer_argument(0)?;
    if call.is_given(0) && precision.is_none() {
        return Ok(None);
    }
    Ok(match call.item.operand().or_else(|| end(call.item, high)) {
        Some(Value::Temporal(value, _)) => value.boundary(high, precision).map(Value::temporal),
        Some(Value::Quantity(quantity)) => quantity.value.boundary(high, precision).map(|value| {
            Value::Quantity(Box::new(Quantity {
                value,
                unit: quantity.unit,
            }))
        }),
        Some(value) if value.is_number() => value
            .decimal()
            .and_then(|value| value.boundary(high, precision))
            .map(Value::Decimal),
        None if is_period(call.item) => None,
        _ => return call.misfit(),
    })
}

fn is_period(item: &Item<'_>) -> bool {
    let of = item.element().and_then(|element| element.of);
    of.is_some_and(|of| of.name() == "Period")
}

/// Where a Period begins or ends.
fn end<'a>(item: &Item<'a>, high: bool) -> Option<Value<'a>> {
    let period = item.element().filter(|_| is_period(item))?.node?;
    let text = period.member(if high { "end" } else { "start" })?.as_str()?;
    Some(Value::Temporal(Temporal::date_time(text)?, text.into()))
}

fn precision<'a>(call: &Call<'_, 'a>) -> Answer<'a> {
    Ok(match call.item.value() {
        Some(Value::Temporal(value, _)) => Some(Value::Integer(Integer::of(value.digits_written()))),
        Some(value) if value.is_number() => value
            .decimal()
            .map(|value| Value::Integer(Integer::of(value.scale().into()))),
        _ => return call.misfit(),
    })
}

fn is_quantity(item: &Item<'_>) -> bool {
    match item {
        Item::Element(element) => element.of.is_some_and(|of| of.class() == Class::Quantity),
        Item::Value(value) => matches!(value, Value::Quantity(_)),
    }
}

fn comparable<'a>(call: &Call<'_, 'a>) -> Answer<'a> {
    let Some(other) = call.argument(0) else {
        return Ok(None);
    };
    match (call.item.operand(), other.operand()) {
        (Some(Value::Quantity(a)), Some(Value::Quantity(b))) => {
            Ok(Some(Value::Boolean(a.compare(&b).is_some())))
        }
        // One with a comparator is no number.
        _ if is_quantity(call.item) && is_quantity(other) => Ok(Some(Value::Boolean(false))),
        _ => call.misfit(),
    }
}
