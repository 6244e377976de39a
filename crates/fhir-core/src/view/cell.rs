//! An item to a cell of its column's type.

use std::borrow::Cow;

use chrono::{DateTime, NaiveDateTime, NaiveTime, SubsecRound, Timelike, Utc};

use crate::{
    column::{Column, ColumnKind},
    fhirpath::{
        temporal::Temporal,
        value::{Element, Item, Value},
    },
    json::{Kind, Node, write::quoted},
    number::{fits_numeric, round_to},
    row::Cell,
    view::error::EvalError,
};

/// Why an item is no cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Misfit {
    Type,
    NotPrimitive,
    Nul,
}

/// The cell of an item; `None` for a primitive element without a value.
pub(super) fn cell<'a>(item: &Item<'a>, column: &Column) -> Result<Option<Cell<'a>>, EvalError> {
    if let Item::Element(Element { node: None, .. }) = item {
        return Ok(None);
    }
    convert(item, column.kind).map(Some).map_err(|misfit| {
        let name = column.name.clone();
        match misfit {
            Misfit::NotPrimitive if column.fhir_type.is_none() => EvalError::NotPrimitive { column: name },
            Misfit::Nul => EvalError::Nul { column: name },
            _ => EvalError::Type {
                column: name,
                sql_type: column.kind.sql_name(),
            },
        }
    })
}

fn convert<'a>(item: &Item<'a>, kind: ColumnKind) -> Result<Cell<'a>, Misfit> {
    if kind == ColumnKind::Json {
        return json(item).map(Cell::Json);
    }
    let lexical = lexical(item)?;
    let numeric = is_number(item);
    Ok(match kind {
        ColumnKind::Boolean => Cell::Boolean(item.boolean().ok_or(Misfit::Type)?),
        ColumnKind::Integer if numeric => Cell::Integer(lexical.parse().map_err(|_| Misfit::Type)?),
        // FHIR writes an integer64 as a string.
        ColumnKind::BigInt if numeric || item.boolean().is_none() => {
            Cell::BigInt(lexical.parse().map_err(|_| Misfit::Type)?)
        }
        ColumnKind::Decimal if numeric && fits_numeric(&lexical) => Cell::Decimal(lexical),
        ColumnKind::DecimalOf { precision, scale } if numeric && fits_numeric(&lexical) => Cell::Decimal(
            Cow::Owned(round_to(&lexical, precision, scale).ok_or(Misfit::Type)?),
        ),
        ColumnKind::Double if numeric => {
            let value: f64 = lexical.parse().map_err(|_| Misfit::Type)?;
            if !value.is_finite() {
                return Err(Misfit::Type);
            }
            Cell::Double(value)
        }
        ColumnKind::Text => {
            if may_hold_nul(item) && lexical.contains('\0') {
                return Err(Misfit::Nul);
            }
            Cell::Text(lexical)
        }
        ColumnKind::TimestampTz => Cell::TimestampTz(moment(&lexical).ok_or(Misfit::Type)?),
        ColumnKind::Timestamp => Cell::Timestamp(timestamp(&lexical).ok_or(Misfit::Type)?),
        ColumnKind::Date => {
            let at = Temporal::date(&lexical).ok_or(Misfit::Type)?;
            Cell::Date(
                at.day()
                    .or_else(|| at.local().map(|l| l.date()))
                    .ok_or(Misfit::Type)?,
            )
        }
        ColumnKind::Time => {
            let time = Temporal::time(&lexical)
                .and_then(Temporal::time_of_day)
                .ok_or(Misfit::Type)?;
            Cell::Time(time.trunc_subsecs(6))
        }
        _ => return Err(Misfit::Type),
    })
}

/// Whether it has to be looked for: hardly a text has one.
fn may_hold_nul(item: &Item<'_>) -> bool {
    match item {
        Item::Element(element) => element.node.is_some_and(Node::may_hold_nul),
        Item::Value(_) => true,
    }
}

fn is_number(item: &Item<'_>) -> bool {
    match item {
        Item::Element(element) => element.node.is_some_and(|n| n.kind() == Kind::Number),
        Item::Value(value) => value.is_number(),
    }
}

fn lexical<'a>(item: &Item<'a>) -> Result<Cow<'a, str>, Misfit> {
    match item {
        Item::Element(element) => match element.node.filter(|n| n.is_primitive()) {
            Some(node) => Ok(Cow::Borrowed(node.text())),
            None => Err(Misfit::NotPrimitive),
        },
        Item::Value(value) => Ok(value.lexical()),
    }
}

fn json<'a>(item: &Item<'a>) -> Result<Cow<'a, str>, Misfit> {
    match item {
        Item::Element(element) => element.node.and_then(Node::json).ok_or(Misfit::Type),
        // As FHIR writes a quantity.
        Item::Value(Value::Quantity(quantity)) => {
            let unit = quantity.unit.code();
            if unit.contains('\0') {
                return Err(Misfit::Nul);
            }
            let (value, unit) = (quantity.value, quoted(unit));
            Ok(Cow::Owned(format!("{{\"value\":{value},\"unit\":{unit}}}")))
        }
        Item::Value(value @ (Value::Text(_) | Value::Temporal(..) | Value::Type(_))) => {
            let text = value.lexical();
            if text.contains('\0') {
                Err(Misfit::Nul)
            } else {
                Ok(Cow::Owned(quoted(&text)))
            }
        }
        Item::Value(value) => Ok(value.lexical()),
    }
}

/// To the microsecond, as PostgreSQL keeps it; what is finer is cut. A leap second is the next second.
fn moment(lexical: &str) -> Option<DateTime<Utc>> {
    let at = Temporal::date(lexical)?.moment()?;
    if at.nanosecond() < 1_000_000_000 {
        return Some(at.trunc_subsecs(6));
    }
    DateTime::from_timestamp_micros(at.timestamp_micros())
}

/// Date and time as written, an offset dropped (as PostgreSQL's cast does); a date is its midnight.
fn timestamp(lexical: &str) -> Option<NaiveDateTime> {
    let at = Temporal::date(lexical)?;
    let local = at
        .local()
        .or_else(|| at.day().map(|day| day.and_time(NaiveTime::MIN)))?;
    Some(DateTime::from_timestamp_micros(local.and_utc().timestamp_micros())?.naive_utc())
}
