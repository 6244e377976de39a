//! Rows as JSON objects, each with all columns: numbers with every digit, times in FHIR's lexical form, collections as arrays.

use api::{
    proto::serving::{Column, Row, Value, value::Kind},
    time,
};
use chrono::SecondsFormat;

/// Writes objects.
pub(super) struct Json {
    /// `"name":`, with what stands before it.
    keys: Vec<Vec<u8>>,
}

impl Json {
    pub(super) fn new(columns: &[Column]) -> Self {
        let key = |(i, column): (usize, &Column)| {
            let mut key = vec![if i == 0 { b'{' } else { b',' }];
            text(&column.name, &mut key);
            key.push(b':');
            key
        };
        Self {
            keys: columns.iter().enumerate().map(key).collect(),
        }
    }

    pub(super) fn row(&self, row: &Row, out: &mut Vec<u8>) {
        for (key, value) in self.keys.iter().zip(&row.values) {
            out.extend_from_slice(key);
            self::value(value, out);
        }
        out.push(b'}');
    }
}

/// One value.
pub(super) fn value(value: &Value, out: &mut Vec<u8>) {
    match &value.kind {
        None => out.extend_from_slice(b"null"),
        Some(Kind::Boolean(true)) => out.extend_from_slice(b"true"),
        Some(Kind::Boolean(false)) => out.extend_from_slice(b"false"),
        Some(Kind::Integer(number)) => out.extend_from_slice(number.to_string().as_bytes()),
        // What JSON has no number for, such as NaN, is told as a text.
        Some(Kind::Decimal(digits)) if is_number(digits) => out.extend_from_slice(digits.as_bytes()),
        Some(Kind::Decimal(other)) => text(other, out),
        Some(Kind::Text(content)) => text(content, out),
        Some(Kind::Timestamp(at)) => text(&instant(at, SecondsFormat::AutoSi), out),
        Some(Kind::Json(json)) => out.extend_from_slice(on_one_line(json).as_bytes()),
        Some(Kind::List(list)) => {
            out.push(b'[');
            for (i, member) in list.values.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                self::value(member, out);
            }
            out.push(b']');
        }
    }
}

/// A text as a JSON string.
pub(super) fn text(text: &str, out: &mut Vec<u8>) {
    // Of a text, into memory: it cannot fail.
    let _written = serde_json::to_writer(out, text);
}

/// An instant in FHIR's lexical form.
pub(super) fn instant(at: &prost_types::Timestamp, digits: SecondsFormat) -> String {
    time::datetime("value", at).map_or_else(|_| String::new(), |at| at.to_rfc3339_opts(digits, true))
}

/// Whether JSON takes the text as a number.
pub(super) fn is_number(digits: &str) -> bool {
    let bytes = digits.as_bytes();
    bytes.last().is_some_and(u8::is_ascii_digit)
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E'))
}

/// A line is a row: JSON that was written over several is put on one.
pub(super) fn on_one_line(json: &str) -> std::borrow::Cow<'_, str> {
    if !json.contains(['\n', '\r']) {
        return json.into();
    }
    // Strings hold no line breaks: only what stands between the tokens goes.
    json.replace(['\n', '\r'], " ").into()
}
