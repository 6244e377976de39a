//! Strings in other forms: `encode`, `decode`, `escape`, `unescape` (FHIRPath N1, section 5.6, trial use).

use std::borrow::Cow;

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE},
};

use super::scalar::{Answer, Call, Function, Yields, bounded};
use crate::fhirpath::value::Value;

pub(super) static FUNCTIONS: [Function; 4] = [
    Function {
        name: "encode",
        shown: "encode()",
        arguments: (1, 1),
        takes: "one argument: 'base64', 'urlbase64' or 'hex'",
        yields: Yields::Text,
        run: |call| convert(call, encode),
    },
    Function {
        name: "decode",
        shown: "decode()",
        arguments: (1, 1),
        takes: "one argument: 'base64', 'urlbase64' or 'hex'",
        yields: Yields::Text,
        run: |call| convert(call, decode),
    },
    Function {
        name: "escape",
        shown: "escape()",
        arguments: (1, 1),
        takes: "one argument: 'html' or 'json'",
        yields: Yields::Text,
        run: |call| convert(call, escape),
    },
    Function {
        name: "unescape",
        shown: "unescape()",
        arguments: (1, 1),
        takes: "one argument: 'html' or 'json'",
        yields: Yields::Text,
        run: |call| convert(call, unescape),
    },
];

/// What is written for characters in HTML.
const HTML: [(char, &str); 5] = [
    ('&', "&amp;"),
    ('<', "&lt;"),
    ('>', "&gt;"),
    ('"', "&quot;"),
    ('\'', "&#39;"),
];

/// Empty for a form that is not known, and for text that is not of that form.
fn convert<'a>(call: &Call<'_, 'a>, with: fn(&str, &str) -> Option<String>) -> Answer<'a> {
    let (Some(text), Some(form)) = (call.text()?, call.text_argument(0)?) else {
        return Ok(None);
    };
    // What is longer than any form of the longest text is not worked on, whatever would be left of it.
    bounded(text.len() / 2)?;
    let converted = with(&text, &form);
    bounded(converted.as_ref().map_or(0, String::len))?;
    Ok(converted.map(|text| Value::Text(Cow::Owned(text))))
}

fn encode(text: &str, form: &str) -> Option<String> {
    match form {
        "base64" => Some(STANDARD.encode(text)),
        "urlbase64" => Some(URL_SAFE.encode(text)),
        "hex" => {
            let digit = |value: u8| char::from_digit(value.into(), 16);
            text.bytes()
                .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
                .collect()
        }
        _ => None,
    }
}

fn decode(text: &str, form: &str) -> Option<String> {
    let bytes = match form {
        "base64" => STANDARD.decode(text).ok()?,
        "urlbase64" => URL_SAFE.decode(text).ok()?,
        "hex" => {
            let (pairs, rest) = text.as_bytes().as_chunks::<2>();
            let digit = |byte: u8| char::from(byte).to_digit(16);
            let byte = |pair: &[u8; 2]| u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok();
            let bytes: Option<Vec<u8>> = pairs.iter().map(byte).collect();
            bytes.filter(|_| rest.is_empty())?
        }
        _ => return None,
    };
    String::from_utf8(bytes).ok()
}

fn escape(text: &str, form: &str) -> Option<String> {
    match form {
        "html" => {
            let mut out = String::with_capacity(text.len());
            for char in text.chars() {
                match HTML.iter().find(|(plain, _)| *plain == char) {
                    Some((_, escaped)) => out.push_str(escaped),
                    None => out.push(char),
                }
            }
            Some(out)
        }
        "json" => {
            let quoted = serde_json::Value::from(text).to_string();
            Some(quoted[1..quoted.len() - 1].to_owned())
        }
        _ => None,
    }
}

fn unescape(text: &str, form: &str) -> Option<String> {
    match form {
        "html" => {
            let mut out = String::with_capacity(text.len());
            let mut rest = text;
            while let Some(at) = rest.find('&') {
                out.push_str(&rest[..at]);
                rest = &rest[at..];
                if let Some((plain, escaped)) = HTML.iter().find(|(_, escaped)| rest.starts_with(escaped)) {
                    out.push(*plain);
                    rest = &rest[escaped.len()..];
                } else {
                    out.push('&');
                    rest = &rest[1..];
                }
            }
            out.push_str(rest);
            Some(out)
        }
        "json" => serde_json::from_str(&format!("\"{text}\"")).ok(),
        _ => None,
    }
}
