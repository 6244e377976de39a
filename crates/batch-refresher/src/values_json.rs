//! A row as `values_json`: a JSON array with every digit that HAPI holds.

use std::fmt::Write as _;

use chrono::SecondsFormat;
use fhir_core::row::{Cell, RowSink};

/// Collects rows as JSON texts.
#[derive(Debug, Default)]
pub struct JsonRows(pub Vec<String>);

impl RowSink for JsonRows {
    fn row(&mut self, cells: &[Cell<'_>]) {
        let mut text = String::with_capacity(cells.len() * 16);
        push_list(&mut text, cells);
        self.0.push(text);
    }
}

fn push_list(text: &mut String, cells: &[Cell<'_>]) {
    text.push('[');
    for (i, cell) in cells.iter().enumerate() {
        if i > 0 {
            text.push(',');
        }
        push(text, cell);
    }
    text.push(']');
}

fn push(text: &mut String, cell: &Cell<'_>) {
    // Writing to a String cannot fail.
    let _ = match cell {
        Cell::Null => write!(text, "null"),
        Cell::Boolean(v) => write!(text, "{v}"),
        Cell::Integer(v) => write!(text, "{v}"),
        Cell::BigInt(v) => write!(text, "{v}"),
        Cell::Decimal(v) | Cell::Json(v) => write!(text, "{v}"),
        Cell::Text(v) => write!(text, "{}", serde_json::Value::from(v.as_ref())),
        Cell::TimestampTz(v) => write!(text, "\"{}\"", v.to_rfc3339_opts(SecondsFormat::AutoSi, true)),
        Cell::Timestamp(v) => write!(text, "\"{}\"", v.format("%Y-%m-%dT%H:%M:%S%.f")),
        Cell::Date(v) => write!(text, "\"{v}\""),
        Cell::Time(v) => write!(text, "\"{v}\""),
        Cell::Double(v) if v.is_finite() => write!(text, "{v}"),
        Cell::Double(v) => write!(text, "\"{v}\""),
        Cell::List(v) => {
            push_list(text, v);
            Ok(())
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_digit_and_every_character_stays() {
        let mut rows = JsonRows::default();
        rows.row(&[
            Cell::Null,
            Cell::Boolean(true),
            Cell::Integer(-3),
            Cell::Decimal("6.500".into()),
            Cell::Text("Zoë \"Z\" \n".into()),
            Cell::TimestampTz("2026-11-22T10:06:51.646Z".parse().unwrap()),
            Cell::Json("{\"value\":1.0}".into()),
            Cell::List(vec![Cell::Text("a".into()), Cell::Null]),
        ]);
        rows.row(&[]);
        assert_eq!(
            rows.0[0],
            r#"[null,true,-3,6.500,"Zoë \"Z\" \n","2026-11-22T10:06:51.646Z",{"value":1.0},["a",null]]"#
        );
        assert_eq!(rows.0[1], "[]");
    }
}
