//! Text to tape, in one pass, without recursion.

use super::{Doc, Entry, JsonError, Kind};

/// Objects and arrays within each other. FHIR's deepest real resources (questionnaires) stay below 40.
pub const MAX_DEPTH: usize = 200;

impl<'t> Doc<'t> {
    /// Parses one JSON text (RFC 8259). Of duplicate keys the last counts; half a surrogate pair reads as U+FFFD.
    pub fn parse(bytes: &'t [u8]) -> Result<Self, JsonError> {
        if u32::try_from(bytes.len()).is_err() {
            return Err(JsonError::TooLong);
        }
        let text = std::str::from_utf8(bytes).map_err(|e| JsonError::InvalidUtf8 { at: e.valid_up_to() })?;
        let doc = Doc {
            text,
            entries: Vec::with_capacity(text.len() / 16 + 4),
            unescaped: String::new(),
            irregular: false,
        };
        let mut parser = Parser {
            bytes,
            at: 0,
            open: Vec::with_capacity(16),
            doc,
        };
        parser.run()?;
        Ok(parser.doc)
    }
}

struct Parser<'t> {
    bytes: &'t [u8],
    at: usize,
    /// Entries of the containers that are open.
    open: Vec<usize>,
    doc: Doc<'t>,
}

/// What may come next.
#[derive(Clone, Copy, PartialEq)]
enum Expect {
    Value,
    /// A value or `]`.
    FirstItem,
    Key,
    /// A key or `}`.
    FirstKey,
    /// A comma or the container's end.
    Separator,
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "parse refuses texts of 4 GiB; entries are fewer than bytes, decoded strings shorter"
)]
impl Parser<'_> {
    fn run(&mut self) -> Result<(), JsonError> {
        let mut expect = Expect::Value;
        loop {
            self.skip_space();
            let Some(&byte) = self.bytes.get(self.at) else {
                return Err(self.syntax());
            };
            expect = match (expect, byte) {
                (Expect::FirstItem, b']') | (Expect::FirstKey, b'}') => self.close(),
                (Expect::Separator, b',') => {
                    self.at += 1;
                    if self.in_object() {
                        Expect::Key
                    } else {
                        Expect::Value
                    }
                }
                (Expect::Separator, b'}') if self.in_object() => self.close(),
                (Expect::Separator, b']') if !self.in_object() => self.close(),
                (Expect::Key | Expect::FirstKey, b'"') => {
                    self.string()?;
                    self.skip_space();
                    self.take(b':')?;
                    Expect::Value
                }
                (Expect::Separator | Expect::Key | Expect::FirstKey, _) => return Err(self.syntax()),
                (Expect::Value | Expect::FirstItem, b'{') => self.open(Kind::Object, Expect::FirstKey)?,
                (Expect::Value | Expect::FirstItem, b'[') => self.open(Kind::Array, Expect::FirstItem)?,
                (Expect::Value | Expect::FirstItem, _) => {
                    self.scalar(byte)?;
                    Expect::Separator
                }
            };
            if expect == Expect::Separator && self.open.is_empty() {
                self.skip_space();
                return if self.at == self.bytes.len() {
                    Ok(())
                } else {
                    Err(self.syntax())
                };
            }
        }
    }

    fn syntax(&self) -> JsonError {
        JsonError::Syntax { at: self.at }
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.bytes.get(self.at) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> Result<(), JsonError> {
        if self.bytes.get(self.at) == Some(&byte) {
            self.at += 1;
            return Ok(());
        }
        Err(self.syntax())
    }

    fn in_object(&self) -> bool {
        self.open
            .last()
            .is_some_and(|&i| self.doc.entries[i].kind == Kind::Object)
    }

    fn push(&mut self, kind: Kind, start: usize, end: usize, decoded: bool) {
        let next = self.doc.entries.len() as u32 + 1;
        self.doc.entries.push(Entry {
            start: start as u32,
            end: end as u32,
            next,
            kind,
            decoded,
        });
    }

    fn open(&mut self, kind: Kind, then: Expect) -> Result<Expect, JsonError> {
        if self.open.len() == MAX_DEPTH {
            return Err(JsonError::TooDeep);
        }
        self.open.push(self.doc.entries.len());
        self.push(kind, self.at, self.at, false);
        self.at += 1;
        Ok(then)
    }

    fn close(&mut self) -> Expect {
        self.at += 1;
        let next = self.doc.entries.len() as u32;
        if let Some(open) = self.open.pop() {
            self.doc.entries[open].end = self.at as u32;
            self.doc.entries[open].next = next;
        }
        Expect::Separator
    }

    fn scalar(&mut self, first: u8) -> Result<(), JsonError> {
        match first {
            b'"' => self.string(),
            b't' => self.word(b"true", Kind::True),
            b'f' => self.word(b"false", Kind::False),
            b'n' => self.word(b"null", Kind::Null),
            b'-' | b'0'..=b'9' => self.number(),
            _ => Err(self.syntax()),
        }
    }

    fn word(&mut self, word: &[u8], kind: Kind) -> Result<(), JsonError> {
        if !self.bytes[self.at..].starts_with(word) {
            return Err(self.syntax());
        }
        self.push(kind, self.at, self.at + word.len(), false);
        self.at += word.len();
        Ok(())
    }

    fn number(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        if self.bytes[self.at] == b'-' {
            self.at += 1;
        }
        if self.bytes.get(self.at) == Some(&b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.bytes.get(self.at) {
            self.at += 1;
            if let Some(b'+' | b'-') = self.bytes.get(self.at) {
                self.at += 1;
            }
            self.digits()?;
        }
        self.push(Kind::Number, start, self.at, false);
        Ok(())
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        if self.at == start {
            Err(self.syntax())
        } else {
            Ok(())
        }
    }

    /// A string, from its opening quote on.
    fn string(&mut self) -> Result<(), JsonError> {
        let start = self.at + 1;
        self.at = start;
        self.plain();
        if self.bytes.get(self.at) == Some(&b'"') {
            self.push(Kind::String, start, self.at, false);
            self.at += 1;
            return Ok(());
        }
        let begin = self.doc.unescaped.len();
        let mut from = start;
        loop {
            self.doc.unescaped.push_str(&self.doc.text[from..self.at]);
            match self.bytes.get(self.at) {
                Some(b'"') => break,
                Some(b'\\') => self.escape()?,
                _ => return Err(self.syntax()),
            }
            from = self.at;
            self.plain();
        }
        self.at += 1;
        self.push(Kind::String, begin, self.doc.unescaped.len(), true);
        Ok(())
    }

    /// Skips to the next quote, backslash or control character: eight bytes at a time, since most of a resource is strings.
    fn plain(&mut self) {
        while let Some(bytes) = self.bytes[self.at..].first_chunk() {
            let found = special(u64::from_le_bytes(*bytes));
            if found != 0 {
                self.at += found.trailing_zeros() as usize / 8;
                return;
            }
            self.at += 8;
        }
        while let Some(&byte) = self.bytes.get(self.at) {
            if byte == b'"' || byte == b'\\' || byte < 0x20 {
                return;
            }
            self.at += 1;
        }
    }

    fn escape(&mut self) -> Result<(), JsonError> {
        let Some(&byte) = self.bytes.get(self.at + 1) else {
            return Err(self.syntax());
        };
        let char = match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode(),
            _ => return Err(self.syntax()),
        };
        self.at += 2;
        self.doc.unescaped.push(char);
        Ok(())
    }

    fn unicode(&mut self) -> Result<(), JsonError> {
        let unit = self.hex(self.at + 2)?;
        self.at += 6;
        let mut code = u32::from(unit);
        if (0xD800..0xDC00).contains(&unit)
            && self.bytes[self.at..].starts_with(b"\\u")
            && let low @ 0xDC00..0xE000 = self.hex(self.at + 2)?
        {
            self.at += 6;
            code = 0x10000 + ((code - 0xD800) << 10) + (u32::from(low) - 0xDC00);
        }
        let char = char::from_u32(code).unwrap_or_else(|| {
            self.doc.irregular = true;
            char::REPLACEMENT_CHARACTER
        });
        self.doc.irregular |= char == '\0';
        self.doc.unescaped.push(char);
        Ok(())
    }

    fn hex(&self, at: usize) -> Result<u16, JsonError> {
        let Some(digits) = self.bytes.get(at..at + 4) else {
            return Err(self.syntax());
        };
        digits
            .iter()
            .try_fold(0, |unit, &byte| match char::from(byte).to_digit(16) {
                Some(digit) => Ok(unit << 4 | digit as u16),
                None => Err(self.syntax()),
            })
    }
}

/// The high bit of each byte that is a quote, a backslash or a control character; exact for the lowest of them.
fn special(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    let zero = |word: u64| word.wrapping_sub(ONES) & !word;
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    (zero(word ^ (ONES * u64::from(b'"'))) | zero(word ^ (ONES * u64::from(b'\\'))) | control) & HIGH
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_ends_where_it_ends_whatever_its_length() {
        for length in 0..40 {
            for end in ['"', '\\', '\n'] {
                let text = format!("\"{}{end}xrest of it that is long enough", "é".repeat(length));
                let doc = Doc::parse(text.as_bytes());
                assert_eq!(
                    doc.err(),
                    Some(JsonError::Syntax {
                        at: 2 * length + 1 + usize::from(end == '"')
                    }),
                    "{text}"
                );
            }
            let text = format!("\"{}\\n{}\"", "~".repeat(length), "\u{80}\u{ff}".repeat(length));
            let expected = format!("{}\n{}", "~".repeat(length), "\u{80}\u{ff}".repeat(length));
            assert_eq!(
                Doc::parse(text.as_bytes()).unwrap().root().as_str(),
                Some(expected.as_str())
            );
        }
    }
}
