//! An expression's text to tokens (FHIRPath N1, section 10; grammar of the specification).

use super::error::{PathError, PathErrorKind};

/// Longest expression, in bytes. Value sets of a few hundred codes are written out in real views.
pub(crate) const MAX_LENGTH: usize = 64 * 1024;

/// A token and where it begins.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Token<'e> {
    /// Characters before it.
    pub at: usize,
    /// What it is.
    pub kind: TokenKind<'e>,
}

/// What a token is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum TokenKind<'e> {
    /// A word: identifier or keyword.
    Word(&'e str),
    /// An identifier in backticks: never a keyword.
    Delimited(String),
    /// A string, escapes decoded.
    Text(String),
    /// A number.
    Number(&'e str),
    /// A date, dateTime or time, without `@` (a time without `T`, marked by the flag).
    Temporal {
        /// The lexical form as FHIR writes it.
        text: &'e str,
        /// Whether it began with `@T`.
        time: bool,
    },
    /// `$this`, `$index`, `$total`: the word.
    Special(&'e str),
    /// `%name`: the name.
    Constant(String),
    /// An operator or bracket.
    Symbol(&'static str),
    /// After the last token.
    End,
}

/// The longer ones first.
const SYMBOLS: [&str; 23] = [
    "<=", ">=", "!=", "!~", "=", "~", "<", ">", "+", "-", "*", "/", "&", "|", "(", ")", "[", "]", "{", "}",
    ".", ",", "!",
];

impl TokenKind<'_> {
    /// How an error names the token.
    pub(crate) fn describe(&self) -> String {
        match self {
            TokenKind::Word(word) => format!("'{word}'"),
            TokenKind::Delimited(name) => format!("'`{name}`'"),
            TokenKind::Text(_) => "a string".into(),
            TokenKind::Number(_) => "a number".into(),
            TokenKind::Temporal { .. } => "a date or time".into(),
            TokenKind::Special(word) => format!("'${word}'"),
            TokenKind::Constant(name) => format!("'%{name}'"),
            TokenKind::Symbol(symbol) => format!("'{symbol}'"),
            TokenKind::End => "the end".into(),
        }
    }
}

/// All tokens of an expression, the last one [`TokenKind::End`].
pub(crate) fn tokens(text: &str) -> Result<Vec<Token<'_>>, PathError> {
    if text.len() > MAX_LENGTH {
        return Err(PathError {
            at: 0,
            kind: PathErrorKind::TooBig("is longer than 64 KiB"),
        });
    }
    let mut lexer = Lexer { text, at: 0 };
    let mut characters = Characters {
        text,
        bytes: 0,
        count: 0,
    };
    let mut tokens = Vec::new();
    loop {
        let token = lexer.next().map_err(|(at, kind)| PathError {
            at: characters.before(at),
            kind,
        })?;
        let end = token.kind == TokenKind::End;
        tokens.push(Token {
            at: characters.before(token.at),
            ..token
        });
        if end {
            return Ok(tokens);
        }
    }
}

/// Counts characters from one place of a text to the next.
struct Characters<'e> {
    text: &'e str,
    bytes: usize,
    count: usize,
}

impl Characters<'_> {
    /// How many there are before a byte; none of the places asked for lies before the last one.
    fn before(&mut self, byte: usize) -> usize {
        let new = self.text.get(self.bytes..byte).unwrap_or_default();
        self.count += new.chars().count();
        self.bytes += new.len();
        self.count
    }
}

struct Lexer<'e> {
    text: &'e str,
    at: usize,
}

type Failure = (usize, PathErrorKind);

impl<'e> Lexer<'e> {
    fn rest(&self) -> &'e str {
        &self.text[self.at..]
    }

    /// Takes the bytes for which `keep` holds (all of them ASCII).
    fn take(&mut self, keep: impl Fn(u8) -> bool) -> &'e str {
        let rest = self.rest();
        let length = rest.bytes().take_while(|&b| b.is_ascii() && keep(b)).count();
        self.at += length;
        &rest[..length]
    }

    fn skip_space(&mut self) -> Result<(), Failure> {
        loop {
            self.take(|b| b.is_ascii_whitespace());
            if self.rest().starts_with("//") {
                self.at = self
                    .rest()
                    .find('\n')
                    .map_or(self.text.len(), |end| self.at + end);
            } else if self.rest().starts_with("/*") {
                let Some(end) = self.rest().find("*/") else {
                    return Err((self.at, PathErrorKind::Unclosed("a comment")));
                };
                self.at += end + 2;
            } else {
                return Ok(());
            }
        }
    }

    fn next(&mut self) -> Result<Token<'e>, Failure> {
        self.skip_space()?;
        let at = self.at;
        let Some(first) = self.rest().chars().next() else {
            return Ok(Token {
                at,
                kind: TokenKind::End,
            });
        };
        let kind = match first {
            'A'..='Z' | 'a'..='z' | '_' => TokenKind::Word(self.word()),
            '0'..='9' => self.number(),
            '\'' => TokenKind::Text(self.quoted('\'', "a string")?),
            '`' => TokenKind::Delimited(self.quoted('`', "a delimited identifier")?),
            '"' => {
                return Err((
                    at,
                    PathErrorKind::Unsupported("a double-quoted string (use single quotes) is".into()),
                ));
            }
            '@' => self.temporal()?,
            '$' => {
                self.at += 1;
                TokenKind::Special(self.word())
            }
            '%' => self.constant()?,
            _ => {
                let Some(symbol) = SYMBOLS.into_iter().find(|s| self.rest().starts_with(s)) else {
                    return Err((at, PathErrorKind::Character(first)));
                };
                self.at += symbol.len();
                TokenKind::Symbol(symbol)
            }
        };
        Ok(Token { at, kind })
    }

    fn word(&mut self) -> &'e str {
        self.take(|b| b.is_ascii_alphanumeric() || b == b'_')
    }

    fn number(&mut self) -> TokenKind<'e> {
        let start = self.at;
        self.take(|b| b.is_ascii_digit());
        let fraction = self
            .rest()
            .strip_prefix('.')
            .is_some_and(|r| r.starts_with(|c: char| c.is_ascii_digit()));
        if fraction {
            self.at += 1;
            self.take(|b| b.is_ascii_digit());
        }
        TokenKind::Number(&self.text[start..self.at])
    }

    fn temporal(&mut self) -> Result<TokenKind<'e>, Failure> {
        let at = self.at;
        self.at += 1;
        let start = self.at;
        self.take(|b| b.is_ascii_digit() || matches!(b, b'-' | b':' | b'T' | b'Z' | b'+'));
        // A point belongs to it only before a digit: `@T12:30.toString()` is a call.
        let fraction = self
            .rest()
            .strip_prefix('.')
            .is_some_and(|r| r.starts_with(|c: char| c.is_ascii_digit()));
        if fraction {
            self.at += 1;
            self.take(|b| b.is_ascii_digit() || matches!(b, b'-' | b':' | b'Z' | b'+'));
        }
        let text = &self.text[start..self.at];
        if text.is_empty() {
            return Err((at, PathErrorKind::Literal("date or time")));
        }
        Ok(match text.strip_prefix('T') {
            Some(time) => TokenKind::Temporal {
                text: time,
                time: true,
            },
            None => TokenKind::Temporal { text, time: false },
        })
    }

    fn constant(&mut self) -> Result<TokenKind<'e>, Failure> {
        let at = self.at;
        self.at += 1;
        let name = match self.rest().chars().next() {
            Some('`') => self.quoted('`', "a constant's name")?,
            Some('\'') => self.quoted('\'', "a constant's name")?,
            _ => self.word().to_owned(),
        };
        if name.is_empty() {
            return Err((at, PathErrorKind::Character('%')));
        }
        Ok(TokenKind::Constant(name))
    }

    fn quoted(&mut self, quote: char, what: &'static str) -> Result<String, Failure> {
        let at = self.at;
        self.at += 1;
        let mut out = String::new();
        let unclosed = || (at, PathErrorKind::Unclosed(what));
        loop {
            let char = self.rest().chars().next().ok_or_else(unclosed)?;
            self.at += char.len_utf8();
            if char == quote {
                return Ok(out);
            }
            if char != '\\' {
                out.push(char);
                continue;
            }
            let escape = self.rest().chars().next().ok_or_else(unclosed)?;
            let escaped_at = self.at - 1;
            self.at += escape.len_utf8();
            out.push(match escape {
                '\'' | '"' | '`' | '\\' | '/' => escape,
                'f' => '\u{c}',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'u' => self.unicode().ok_or((escaped_at, PathErrorKind::Escape))?,
                _ => return Err((escaped_at, PathErrorKind::Escape)),
            });
        }
    }

    fn unicode(&mut self) -> Option<char> {
        let unit = |lexer: &mut Self| {
            let digits = lexer.rest().get(..4)?;
            let value = digits
                .bytes()
                .all(|b| b.is_ascii_hexdigit())
                .then(|| u16::from_str_radix(digits, 16).ok())?;
            lexer.at += 4;
            value
        };
        let first = unit(self)?;
        let mut units = vec![first];
        if (0xD800..0xDC00).contains(&first) && self.rest().starts_with("\\u") {
            self.at += 2;
            units.push(unit(self)?);
        }
        char::decode_utf16(units).next()?.ok()
    }
}
