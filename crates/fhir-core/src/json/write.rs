//! A value of the tape as JSON text that `jsonb` takes.

use std::borrow::Cow;

use super::{Kind, Node};
use crate::number::fits_numeric;

impl<'a> Node<'a> {
    /// The value as JSON text for PostgreSQL's `jsonb`: as written where that is possible. `None` if `jsonb` cannot hold it (NUL in a
    /// string, a number beyond `numeric`).
    pub fn json(self) -> Option<Cow<'a, str>> {
        if self.kind() == Kind::String {
            let text = self.text();
            return (!text.contains('\0')).then(|| Cow::Owned(quoted(text)));
        }
        if !self.numbers_fit() {
            return None;
        }
        if !self.doc().irregular {
            return Some(Cow::Borrowed(self.text()));
        }
        let mut out = String::new();
        self.rewrite(&mut out).then_some(Cow::Owned(out))
    }

    /// Recursion is bounded by the parser's depth limit.
    fn numbers_fit(self) -> bool {
        match self.kind() {
            Kind::Number => fits_numeric(self.text()),
            Kind::Array => self.items().all(Node::numbers_fit),
            Kind::Object => self.members().all(|(_, value)| value.numbers_fit()),
            _ => true,
        }
    }

    fn rewrite(self, out: &mut String) -> bool {
        match self.kind() {
            Kind::String => quote(self.text(), out),
            Kind::Array => {
                out.push('[');
                for (i, item) in self.items().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    if !item.rewrite(out) {
                        return false;
                    }
                }
                out.push(']');
                true
            }
            Kind::Object => {
                out.push('{');
                for (i, (key, value)) in self.members().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    if !quote(key, out) {
                        return false;
                    }
                    out.push(':');
                    if !value.rewrite(out) {
                        return false;
                    }
                }
                out.push('}');
                true
            }
            _ => {
                out.push_str(self.text());
                true
            }
        }
    }
}

/// A string as a JSON string.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    quote(text, &mut out);
    out
}

fn quote(text: &str, out: &mut String) -> bool {
    out.push('"');
    for char in text.chars() {
        match char {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\0' => return false,
            c if c < ' ' => {
                out.push_str("\\u00");
                for digit in [c as u32 >> 4, c as u32 & 15] {
                    out.push(char::from_digit(digit, 16).unwrap_or('0'));
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
    true
}
