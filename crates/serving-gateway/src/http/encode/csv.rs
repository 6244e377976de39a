//! Rows as RFC 4180 has them: lines end with CR LF, a field is quoted where it must be.
//!
//! A null is an empty field, an empty text is `""`, as PostgreSQL's COPY has it; but in an answer of one column a null is `""` too, for many readers take
//! an empty line for none. A collection is its JSON array, in one field.

use api::proto::serving::{Column, Row, Value, value::Kind};
use chrono::SecondsFormat;

use super::json;

/// Writes lines.
pub(super) struct Csv {
    header: Option<Vec<u8>>,
}

impl Csv {
    pub(super) fn new(columns: &[Column], header: bool) -> Self {
        let mut line = Vec::new();
        for (i, column) in columns.iter().enumerate() {
            if i > 0 {
                line.push(b',');
            }
            field(&column.name, &mut line);
        }
        line.extend_from_slice(b"\r\n");
        Self {
            header: header.then_some(line),
        }
    }

    pub(super) fn header(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.header.as_deref().unwrap_or_default());
    }
}

/// One line.
pub(super) fn row(row: &Row, out: &mut Vec<u8>) {
    for (i, value) in row.values.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        self::value(value, row.values.len() == 1, out);
    }
    out.extend_from_slice(b"\r\n");
}

fn value(value: &Value, alone: bool, out: &mut Vec<u8>) {
    match &value.kind {
        None if alone => out.extend_from_slice(b"\"\""),
        None => {}
        Some(Kind::Decimal(text) | Kind::Text(text)) => field(text, out),
        Some(Kind::Boolean(_) | Kind::Integer(_)) => json::value(value, out),
        Some(Kind::Timestamp(at)) => field(&json::instant(at, SecondsFormat::AutoSi), out),
        Some(Kind::Json(_) | Kind::List(_)) => {
            let mut text = Vec::new();
            json::value(value, &mut text);
            field(&String::from_utf8_lossy(&text), out);
        }
    }
}

fn field(text: &str, out: &mut Vec<u8>) {
    if !text.is_empty() && !text.contains(['"', ',', '\r', '\n']) {
        out.extend_from_slice(text.as_bytes());
        return;
    }
    out.push(b'"');
    for byte in text.bytes() {
        if byte == b'"' {
            out.push(b'"');
        }
        out.push(byte);
    }
    out.push(b'"');
}
