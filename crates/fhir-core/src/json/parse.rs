//! Text to tape, in one pass, without recursion; what is not wanted is passed over.

use super::{
    Entry, Kind, Projection, Seen,
    bitmap::Bitmap,
    projection::{Key, Place, Symbol},
    shape::{Number, Shapes},
    tape::{Open, Tape},
};

/// Reads one text.
pub(super) struct Parser<'t> {
    text: &'t str,
    bytes: &'t [u8],
    /// Where it reads, and after a refusal, what was refused.
    pub(super) at: usize,
    bitmap: &'t Bitmap,
    entries: &'t mut Vec<Entry>,
    unescaped: &'t mut String,
    /// The containers that are open.
    open: &'t mut Vec<Open>,
    seen: &'t mut [Seen],
    again: &'t mut Vec<Seen>,
    shapes: &'t mut Shapes,
    projection: &'t Projection,
    /// See [`Doc`](super::Doc).
    pub(super) nested: bool,
    /// See [`Doc`](super::Doc).
    pub(super) irregular: bool,
}

/// Why the text is not read, where it is read; small, since it is the other half of every result.
#[derive(Clone, Copy)]
pub(super) enum Refused {
    Syntax,
    TooDeep,
}

/// A key, what the next one comes after, and what is wanted of it.
type KeyRead = (Entry, Number, Option<(Symbol, Place)>);

/// Whether a value is all there, or a container that was only opened.
#[derive(Clone, Copy, PartialEq)]
enum Is {
    Complete,
    Open,
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "read refuses texts of 4 GiB; entries are fewer than bytes, decoded strings shorter"
)]
impl<'t> Parser<'t> {
    pub(super) fn new(text: &'t str, tape: &'t mut Tape, projection: &'t Projection) -> Self {
        Self {
            text,
            bytes: text.as_bytes(),
            at: 0,
            bitmap: &tape.bitmap,
            entries: &mut tape.entries,
            unescaped: &mut tape.unescaped,
            open: &mut tape.open,
            seen: &mut tape.seen,
            again: &mut tape.again,
            shapes: &mut tape.shapes,
            projection,
            nested: false,
            irregular: false,
        }
    }

    pub(super) fn run(&mut self) -> Result<(), Refused> {
        let mut before = self.value(Projection::ROOT)?;
        while let Some(&Open { place, close, .. }) = self.open.last() {
            if self.peek() == Some(close) {
                self.close();
                before = Is::Complete;
                continue;
            }
            if before == Is::Complete {
                self.take(b',')?;
            }
            before = if close == b'}' {
                self.members(place)?
            } else {
                self.items(place)?
            };
        }
        if self.peek().is_none() {
            Ok(())
        } else {
            Err(Refused::Syntax)
        }
    }

    /// Items of an array, up to one that opens a container or to the last.
    fn items(&mut self, place: Place) -> Result<Is, Refused> {
        loop {
            if self.value(place)? == Is::Open {
                self.nested |= self.open.last().is_some_and(|open| open.close == b']');
                return Ok(Is::Open);
            }
            if !self.comma() {
                return Ok(Is::Complete);
            }
        }
    }

    /// Members of an object, up to one that opens a container or to the last. Neither key nor value stays if nobody wants it.
    fn members(&mut self, of: Place) -> Result<Is, Refused> {
        let mut before = (self.open.last()).map_or_else(|| Number::before_first(of), |open| open.before);
        loop {
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            let (key, number, wanted) = match self.shapes.meet(before, rest) {
                Some(met) => {
                    let key = self.entry(Kind::String, self.at + 1, self.at + met.length - 2, false);
                    self.at += met.length;
                    (key, met.number, met.wanted)
                }
                None => self.other_key(of, before)?,
            };
            match wanted {
                None => self.pass_over()?,
                Some((symbol, place)) => {
                    self.entries.push(Entry {
                        next: symbol.number(),
                        ..key
                    });
                    let seen = &mut self.seen[place.number()];
                    if seen.count != 0 {
                        self.again.push(*seen);
                        seen.before = self.again.len() as u32;
                    }
                    seen.entry = self.entries.len() as u32;
                    seen.count += if symbol.is_beside() { 2 } else { 1 };
                    if self.value(place)? == Is::Open {
                        if let [.., own, _] = self.open.as_mut_slice() {
                            own.before = number;
                        }
                        return Ok(Is::Open);
                    }
                }
            }
            before = number;
            if !self.comma() {
                return Ok(Is::Complete);
            }
        }
    }

    /// Passes a comma, if one is next.
    fn comma(&mut self) -> bool {
        let found = self.bytes.get(self.at) == Some(&b',') || self.peek() == Some(b',');
        self.at += usize::from(found);
        found
    }

    /// The next byte that is no white space.
    fn peek(&mut self) -> Option<u8> {
        loop {
            match self.bytes.get(self.at) {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.at += 1,
                other => return other.copied(),
            }
        }
    }

    fn take(&mut self, byte: u8) -> Result<(), Refused> {
        if self.peek() == Some(byte) {
            self.at += 1;
            return Ok(());
        }
        Err(Refused::Syntax)
    }

    /// A key that is not the expected one.
    fn other_key(&mut self, of: Place, before: Number) -> Result<KeyRead, Refused> {
        if self.peek() != Some(b'"') {
            return Err(Refused::Syntax);
        }
        let (start, unescaped) = (self.at, self.unescaped.len());
        let key = self.string()?;
        let source = if key.decoded {
            self.unescaped.as_str()
        } else {
            self.text
        };
        let name = Key::within(source, key.start as usize, key.end as usize);
        let wanted = self.projection.member(of, name);
        if wanted.is_none() {
            self.unescaped.truncate(unescaped);
        }
        // Only what is written without space or escapes is expected again.
        let plain = !key.decoded && self.bytes.get(self.at) == Some(&b':');
        self.take(b':')?;
        let number = if plain {
            self.shapes.learn(of, before, &self.bytes[start..self.at], wanted)
        } else {
            Number::before_first(of)
        };
        Ok((key, number, wanted))
    }

    /// Passes over a value.
    fn pass_over(&mut self) -> Result<(), Refused> {
        let end = match self.peek() {
            Some(b'"') => self.bitmap.string(self.at + 1).map(|(end, _)| end + 1),
            Some(b'{' | b'[') => self.bitmap.container_end(self.bytes, self.at),
            Some(b'-' | b'0'..=b'9' | b't' | b'f' | b'n') => {
                // Never past a quote: what is a string is for the bitmap to say.
                let rest = &self.bytes[self.at..];
                let length = rest
                    .iter()
                    .position(|byte| !matches!(byte, b'0'..=b'9' | b'a'..=b'z' | b'E' | b'-' | b'+' | b'.'));
                length.map(|length| self.at + length)
            }
            _ => None,
        };
        self.at = end.ok_or(Refused::Syntax)?;
        Ok(())
    }

    // Each of its callers is a loop of its own.
    #[expect(
        clippy::inline_always,
        reason = "measured: a call for each value costs a tenth of the reading"
    )]
    #[inline(always)]
    fn value(&mut self, place: Place) -> Result<Is, Refused> {
        match self.peek() {
            Some(b'"') => {
                // Pushed where it is made: an entry that comes out of a result is copied so that the processor waits for it.
                let (start, end, escapes) = self.string_bounds()?;
                if escapes {
                    let string = self.unescape(start, end)?;
                    self.entries.push(string);
                } else {
                    self.push(Kind::String, start, end);
                }
            }
            Some(b'{') => return self.open(Kind::Object, place, b'}'),
            Some(b'[') => return self.open(Kind::Array, place, b']'),
            Some(b't') => self.word(b"true", Kind::True)?,
            Some(b'f') => self.word(b"false", Kind::False)?,
            Some(b'n') => self.word(b"null", Kind::Null)?,
            Some(b'-' | b'0'..=b'9') => self.number()?,
            _ => return Err(Refused::Syntax),
        }
        Ok(Is::Complete)
    }

    fn entry(&self, kind: Kind, start: usize, end: usize, decoded: bool) -> Entry {
        Entry {
            start: start as u32,
            end: end as u32,
            next: self.entries.len() as u32 + 1,
            kind,
            decoded,
        }
    }

    fn push(&mut self, kind: Kind, start: usize, end: usize) {
        let entry = self.entry(kind, start, end, false);
        self.entries.push(entry);
    }

    fn open(&mut self, kind: Kind, place: Place, close: u8) -> Result<Is, Refused> {
        if self.open.len() == super::MAX_DEPTH {
            return Err(Refused::TooDeep);
        }
        let entry = self.entries.len();
        self.open.push(Open {
            entry,
            place,
            close,
            before: Number::before_first(place),
        });
        self.push(kind, self.at, self.at);
        self.at += 1;
        Ok(Is::Open)
    }

    fn close(&mut self) {
        self.at += 1;
        let next = self.entries.len() as u32;
        if let Some(open) = self.open.pop() {
            let entry = &mut self.entries[open.entry];
            entry.end = self.at as u32;
            entry.next = next;
        }
    }

    fn word(&mut self, word: &[u8], kind: Kind) -> Result<(), Refused> {
        if !self.bytes[self.at..].starts_with(word) {
            return Err(Refused::Syntax);
        }
        self.push(kind, self.at, self.at + word.len());
        self.at += word.len();
        Ok(())
    }

    fn number(&mut self) -> Result<(), Refused> {
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
        self.push(Kind::Number, start, self.at);
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Refused> {
        let start = self.at;
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        if self.at == start {
            Err(Refused::Syntax)
        } else {
            Ok(())
        }
    }

    /// Passes a string, from its opening quote on: where its content begins and ends, and whether it holds escapes.
    #[inline]
    fn string_bounds(&mut self) -> Result<(usize, usize, bool), Refused> {
        let start = self.at + 1;
        let (end, escapes) = self.bitmap.string(start).ok_or(Refused::Syntax)?;
        self.at = end + 1;
        Ok((start, end, escapes))
    }

    /// A string, as an entry that is not pushed.
    fn string(&mut self) -> Result<Entry, Refused> {
        let (start, end, escapes) = self.string_bounds()?;
        if escapes {
            return self.unescape(start, end);
        }
        Ok(self.entry(Kind::String, start, end, false))
    }

    /// A string whose content is decoded into the side buffer.
    #[cold]
    fn unescape(&mut self, start: usize, end: usize) -> Result<Entry, Refused> {
        let after = self.at;
        let begin = self.unescaped.len();
        let mut from = start;
        while let Some(place) = self.bitmap.backslash(from, end) {
            self.unescaped.push_str(&self.text[from..place]);
            self.at = place;
            self.escape()?;
            from = self.at;
        }
        self.unescaped.push_str(&self.text[from..end]);
        self.at = after;
        Ok(self.entry(Kind::String, begin, self.unescaped.len(), true))
    }

    fn escape(&mut self) -> Result<(), Refused> {
        let Some(&byte) = self.bytes.get(self.at + 1) else {
            return Err(Refused::Syntax);
        };
        let char = match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode(),
            _ => return Err(Refused::Syntax),
        };
        self.at += 2;
        self.unescaped.push(char);
        Ok(())
    }

    fn unicode(&mut self) -> Result<(), Refused> {
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
            self.irregular = true;
            char::REPLACEMENT_CHARACTER
        });
        self.irregular |= char == '\0';
        self.unescaped.push(char);
        Ok(())
    }

    fn hex(&self, at: usize) -> Result<u16, Refused> {
        let Some(digits) = self.bytes.get(at..at + 4) else {
            return Err(Refused::Syntax);
        };
        digits
            .iter()
            .try_fold(0, |unit, &byte| match char::from(byte).to_digit(16) {
                Some(digit) => Ok(unit << 4 | digit as u16),
                None => Err(Refused::Syntax),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::JsonError;

    fn read(text: &str) -> Result<Option<String>, JsonError> {
        let mut tape = Tape::default();
        let doc = tape.read(text.as_bytes(), &Projection::whole())?;
        Ok(doc.root().as_str().map(str::to_owned))
    }

    #[test]
    fn a_string_ends_where_it_ends_whatever_its_length() {
        for length in 0..150 {
            let plain = "é".repeat(length);
            for (text, at) in [
                (format!("\"{plain}\"xrest of it"), 2 * length + 2),
                (format!("\"{plain}\\xrest of it\""), 2 * length + 1),
                (format!("\"{plain}\nrest of it\""), 2 * length + 1),
            ] {
                assert_eq!(read(&text), Err(JsonError::Syntax { at }), "{text}");
            }
            let text = format!("\"{}\\n{}\"", "~".repeat(length), "\u{80}\u{ff}".repeat(length));
            let expected = format!("{}\n{}", "~".repeat(length), "\u{80}\u{ff}".repeat(length));
            assert_eq!(read(&text), Ok(Some(expected)));
        }
    }

    #[test]
    fn backslashes_escape_each_other_over_any_border() {
        for before in 0..140 {
            for pairs in 0..4 {
                let text = format!("\"{}{}\\\"\"", "x".repeat(before), "\\\\".repeat(pairs));
                let expected = format!("{}{}\"", "x".repeat(before), "\\".repeat(pairs));
                assert_eq!(read(&text), Ok(Some(expected)), "{text}");
            }
        }
    }

    /// What is passed over ends where it would end if it were read.
    #[test]
    fn unwanted_values_are_passed_over() {
        let mut projection = Projection::default();
        projection.want(Projection::ROOT, "b");
        for length in 0..140 {
            let fill = "x".repeat(length);
            for value in [
                format!("\"{fill}\\\"}}]\""),
                format!("{{\"b\":[{{}},\"{fill}]}}{{[\"],\"c\":{{\"d\":[[]]}}}}"),
                format!("[[[\"{fill}\"],[]],{{}}]"),
                format!("-{}.5e3", "1".repeat(length + 1)),
                "true".to_owned(),
                "null ".to_owned(),
            ] {
                let text = format!("{{\"a\":{value},\"b\" : \"found\",\"c\":{value}}}");
                let mut tape = Tape::default();
                let doc = tape.read(text.as_bytes(), &projection).unwrap();
                assert_eq!(doc.root().members().count(), 1, "{text}");
                assert_eq!(
                    doc.root().member("b").map(crate::json::Node::text),
                    Some("found"),
                    "{text}"
                );
            }
        }
    }
}
