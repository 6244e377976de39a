//! A row as `values_json` of `RunView`: a JSON array with one member a column, with every digit that HAPI holds. Written and read here.

use std::{borrow::Cow, fmt::Write as _};

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, SecondsFormat};
use fhir_core::{
    column::{Column, ColumnKind},
    row::{Cell, RowSink},
};
use serde_json::value::RawValue;

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

/// One row, read as its columns say; `None` where it does not fit them.
pub fn cells<'a>(columns: &[Column], json: &'a str) -> Option<Vec<Cell<'a>>> {
    let values: Vec<&RawValue> = serde_json::from_str(json).ok()?;
    if values.len() != columns.len() {
        return None;
    }
    columns
        .iter()
        .zip(values)
        .map(|(column, value)| cell(column, value.get()))
        .collect()
}

fn cell<'a>(column: &Column, json: &'a str) -> Option<Cell<'a>> {
    if json == "null" {
        return Some(Cell::Null);
    }
    if !column.collection {
        return single(column.kind, json);
    }
    let members: Vec<&RawValue> = serde_json::from_str(json).ok()?;
    let members = members.into_iter().map(|member| match member.get() {
        "null" => Some(Cell::Null),
        member => single(column.kind, member),
    });
    members.collect::<Option<_>>().map(Cell::List)
}

fn single(kind: ColumnKind, json: &str) -> Option<Cell<'_>> {
    let text = || {
        serde_json::from_str::<Cow<'_, str>>(json)
            .ok()
            .map(Cow::into_owned)
    };
    Some(match kind {
        ColumnKind::Boolean => Cell::Boolean(json.parse().ok()?),
        ColumnKind::Integer => Cell::Integer(json.parse().ok()?),
        ColumnKind::BigInt => Cell::BigInt(json.trim_matches('"').parse().ok()?),
        ColumnKind::Decimal | ColumnKind::DecimalOf { .. } => Cell::Decimal(json.trim_matches('"').into()),
        ColumnKind::Text => Cell::Text(text()?.into()),
        ColumnKind::TimestampTz => Cell::TimestampTz(DateTime::parse_from_rfc3339(&text()?).ok()?.to_utc()),
        ColumnKind::Timestamp => Cell::Timestamp(text()?.parse::<NaiveDateTime>().ok()?),
        ColumnKind::Date => Cell::Date(text()?.parse::<NaiveDate>().ok()?),
        ColumnKind::Time => Cell::Time(text()?.parse::<NaiveTime>().ok()?),
        ColumnKind::Double => Cell::Double(json.trim_matches('"').parse().ok()?),
        ColumnKind::Json => Cell::Json(json.into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(kind: ColumnKind, collection: bool) -> Column {
        Column {
            collection,
            ..Column::new("c", kind)
        }
    }

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

    #[test]
    fn values_keep_what_json_says() {
        let columns = [
            column(ColumnKind::Decimal, false),
            column(ColumnKind::Text, true),
            column(ColumnKind::Boolean, false),
            column(ColumnKind::TimestampTz, false),
            column(ColumnKind::Json, false),
            column(ColumnKind::Date, false),
        ];
        let json = r#"[7.10, ["a\n\u00e9", null], true, "2026-01-01T10:00:00.5Z", {"x": 1.0}, "2026-01-31"]"#;
        let cells = cells(&columns, json).expect("a row");
        assert_eq!(cells[0], Cell::Decimal("7.10".into()));
        assert_eq!(cells[1], Cell::List(vec![Cell::Text("a\né".into()), Cell::Null]));
        assert_eq!(cells[2], Cell::Boolean(true));
        assert_eq!(
            cells[3],
            Cell::TimestampTz("2026-01-01T10:00:00.5Z".parse().expect("a time"))
        );
        assert_eq!(cells[4], Cell::Json(r#"{"x": 1.0}"#.into()));
        assert_eq!(cells[5], Cell::Date("2026-01-31".parse().expect("a date")));
    }

    #[test]
    fn what_does_not_fit_is_no_row() {
        assert!(cells(&[column(ColumnKind::Integer, false)], "[1.5]").is_none());
        assert!(cells(&[column(ColumnKind::Integer, false)], "[1, 2]").is_none());
        assert!(cells(&[column(ColumnKind::Text, false)], "{}").is_none());
        assert!(cells(&[column(ColumnKind::Text, false)], "[1]").is_none());
    }

    #[test]
    fn what_is_written_is_read_for_every_kind_of_column() {
        let at = "2026-01-31T10:09:44.706123Z"
            .parse::<DateTime<chrono::Utc>>()
            .expect("a time");
        let singles = [
            (ColumnKind::Boolean, Cell::Boolean(false)),
            (ColumnKind::Integer, Cell::Integer(i32::MIN)),
            (ColumnKind::BigInt, Cell::BigInt(i64::MAX)),
            (ColumnKind::Decimal, Cell::Decimal("-0.0500".into())),
            (
                ColumnKind::DecimalOf {
                    precision: 6,
                    scale: 2,
                },
                Cell::Decimal("1234.50".into()),
            ),
            (ColumnKind::Text, Cell::Text("Zoë \"\\\" \n\u{1F600}".into())),
            (ColumnKind::TimestampTz, Cell::TimestampTz(at)),
            (ColumnKind::Timestamp, Cell::Timestamp(at.naive_utc())),
            (ColumnKind::Date, Cell::Date(at.date_naive())),
            (ColumnKind::Time, Cell::Time(at.time())),
            (ColumnKind::Double, Cell::Double(-1.5e300)),
            (ColumnKind::Double, Cell::Double(f64::INFINITY)),
            (ColumnKind::Json, Cell::Json(r#"{"value": 1.10}"#.into())),
        ];
        let (mut columns, mut written) = (Vec::new(), Vec::new());
        for (kind, cell) in &singles {
            columns.extend([column(*kind, false), column(*kind, false), column(*kind, true)]);
            let list = Cell::List(vec![cell.clone(), Cell::Null]);
            written.extend([cell.clone(), Cell::Null, list]);
        }
        let mut rows = JsonRows::default();
        rows.row(&written);
        assert_eq!(cells(&columns, &rows.0[0]), Some(written));
    }
}
