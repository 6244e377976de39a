//! Cells of rows as values of an answer.

use fhir_core::row::Cell;

use crate::{
    proto::serving::{Value, ValueList, value::Kind},
    time,
};

impl From<&Cell<'_>> for Value {
    fn from(cell: &Cell<'_>) -> Self {
        let kind = match cell {
            Cell::Null => None,
            Cell::Boolean(value) => Some(Kind::Boolean(*value)),
            Cell::Integer(value) => Some(Kind::Integer(i64::from(*value))),
            Cell::BigInt(value) => Some(Kind::Integer(*value)),
            Cell::Decimal(value) => Some(Kind::Decimal(value.to_string())),
            Cell::Text(value) => Some(Kind::Text(value.to_string())),
            Cell::TimestampTz(value) => Some(Kind::Timestamp(time::timestamp(*value))),
            Cell::Timestamp(value) => Some(Kind::Text(value.format("%Y-%m-%dT%H:%M:%S%.f").to_string())),
            Cell::Date(value) => Some(Kind::Text(value.to_string())),
            Cell::Time(value) => Some(Kind::Text(value.to_string())),
            Cell::Double(value) => Some(Kind::Decimal(value.to_string())),
            Cell::Json(value) => Some(Kind::Json(value.to_string())),
            Cell::List(values) => Some(Kind::List(ValueList {
                values: values.iter().map(Into::into).collect(),
            })),
        };
        Self { kind }
    }
}
