//! A statement as tokens: what is looked at before it is parsed, and its parameters. By PostgreSQL's own scanner, so that nothing is found within
//! strings, comments, quoted names or casts.

use std::ops::Range;

use pg_query::protobuf::{KeywordKind, ScanToken, Token};
use view_store::sql::{Edited, ParameterPlace};

use super::fault::{Checked, Fault};

/// How many tokens a statement may have: far more than people write, and little enough for the parser and for PostgreSQL's planner. Long lists of
/// values belong into a parameter.
const MAX_TOKENS: usize = 10_000;

/// How deep parentheses and brackets may nest.
const MAX_NESTING: usize = 100;

/// How many of the signs that operators are made of may follow each other. PostgreSQL's scanner reads a run of them again for each token in it.
const MAX_SIGNS: usize = 256;

/// A statement within its bounds, as far as tokens tell.
#[derive(Debug, Clone)]
pub(super) struct Scanned<'a> {
    /// Up to the semicolon that ends it.
    pub(super) text: &'a str,
    tokens: Vec<ScanToken>,
}

impl<'a> Scanned<'a> {
    /// Scans a text, and refuses what cannot be one SELECT.
    pub(super) fn of(text: &'a str) -> Checked<Self> {
        if let Some(at) = text.find('\0') {
            return Err(Fault::at(at, "a NUL character is not allowed"));
        }
        no_long_runs_of_signs(text)?;
        let mut tokens = pg_query::scan_tokens(text).map_err(|error| cannot_scan(text, &error))?;
        tokens.retain(|token| !is_comment(token));
        if tokens.len() > MAX_TOKENS {
            let rule = format!(
                "has {} words and signs; {MAX_TOKENS} are allowed: give long lists as one parameter, = ANY ($1)",
                tokens.len()
            );
            return Err(Fault::whole(rule));
        }
        let end = match tokens.iter().position(|token| is(token, Token::Ascii59)) {
            None => text.len(),
            Some(first) => {
                if let Some(more) = tokens[first..].iter().find(|token| !is(token, Token::Ascii59)) {
                    return Err(Fault::at(
                        start(more),
                        "only one statement is allowed: end the text here",
                    ));
                }
                let end = start(&tokens[first]);
                tokens.truncate(first);
                end
            }
        };
        let this = Self {
            text: &text[..end],
            tokens,
        };
        this.begins_as_select()?;
        this.nests_within_bounds()?;
        Ok(this)
    }

    fn begins_as_select(&self) -> Checked {
        let rule = "must be one SELECT (or WITH ... SELECT, VALUES, TABLE)";
        match self.tokens.first() {
            None => Err(Fault::whole(rule)),
            Some(first) => {
                let begins = [
                    Token::Select,
                    Token::With,
                    Token::Values,
                    Token::Table,
                    Token::Ascii40,
                ];
                if begins.iter().any(|begin| is(first, *begin)) {
                    Ok(())
                } else {
                    Err(Fault::at(start(first), rule))
                }
            }
        }
    }

    fn nests_within_bounds(&self) -> Checked {
        let mut depth = 0_usize;
        for token in &self.tokens {
            if is(token, Token::Ascii40) || is(token, Token::Ascii91) {
                depth += 1;
            } else if is(token, Token::Ascii41) || is(token, Token::Ascii93) {
                depth = depth.saturating_sub(1);
            }
            if depth > MAX_NESTING {
                let rule = format!("parentheses and brackets may nest {MAX_NESTING} deep at most");
                return Err(Fault::at(start(token), rule));
            }
        }
        Ok(())
    }

    /// The ends of the tokens, in bytes.
    pub(super) fn ends(&self) -> Vec<usize> {
        self.tokens.iter().map(end).collect()
    }

    /// The start of a token, by its number.
    pub(super) fn start_of(&self, token: usize) -> usize {
        self.tokens.get(token).map_or(self.text.len(), start)
    }

    /// The place after the `WITH` or `WITH RECURSIVE` that begins at `at`.
    pub(super) fn after_with(&self, at: usize) -> usize {
        let first = self.tokens.partition_point(|token| start(token) < at);
        let second = self
            .tokens
            .get(first + 1)
            .filter(|token| is(token, Token::Recursive));
        second.or(self.tokens.get(first)).map_or(at, end)
    }

    /// Where `$1`, `$2` ... stand.
    pub(super) fn places(&self) -> Vec<ParameterPlace> {
        let params = self.tokens.iter().filter(|token| is(token, Token::Param));
        let place = |token: &ScanToken| {
            let range = start(token)..end(token);
            let number = self.text.get(start(token) + 1..end(token))?.parse().ok()?;
            Some(ParameterPlace { range, number })
        };
        params.filter_map(place).collect()
    }

    /// The text with `$n` in place of each `:name`, n being the name's place among `names`.
    pub(super) fn numbered(&self, names: &[String]) -> Checked<Edited> {
        if let Some(place) = self.places().first() {
            let rule = "$ and a number cannot stand beside named parameters";
            return Err(Fault::at(place.range.start, rule));
        }
        let mut used = vec![false; names.len()];
        let mut replacements: Vec<(Range<usize>, String)> = Vec::new();
        for pair in self.tokens.windows(2) {
            let [colon, name] = pair else { continue };
            let is_name = is(name, Token::Ident) || name.keyword_kind() != KeywordKind::NoKeyword;
            if !is(colon, Token::Ascii58) || end(colon) != start(name) || !is_name {
                continue;
            }
            let written = self.text.get(start(name)..end(name)).unwrap_or_default();
            let Some(place) = names.iter().position(|name| name == written) else {
                let rule = format!("this parameter has no value; there are: {}", listed(names));
                return Err(Fault::at(start(colon), rule));
            };
            used[place] = true;
            // The blank keeps it apart from a name before it, of which a dollar sign could be a part.
            replacements.push((start(colon)..end(name), format!(" ${}", place + 1)));
        }
        if let Some(unused) = used.iter().position(|used| !used) {
            let rule = format!("does not use the named parameter {}: leave it out", names[unused]);
            return Err(Fault::whole(rule));
        }
        Ok(Edited::of(self.text, &replacements))
    }
}

fn no_long_runs_of_signs(text: &str) -> Checked {
    let mut run = 0;
    for (at, byte) in text.bytes().enumerate() {
        run = if b"~!@#^&|`?+-*/%<>=".contains(&byte) {
            run + 1
        } else {
            0
        };
        if run > MAX_SIGNS {
            let rule = format!("more than {MAX_SIGNS} signs in a row, such as ---- or ****, are not allowed");
            return Err(Fault::at(at, rule));
        }
    }
    Ok(())
}

fn listed(names: &[String]) -> String {
    if names.is_empty() {
        "none".into()
    } else {
        names.join(", ")
    }
}

fn is(token: &ScanToken, kind: Token) -> bool {
    token.token == kind as i32
}

fn is_comment(token: &ScanToken) -> bool {
    is(token, Token::SqlComment) || is(token, Token::CComment)
}

fn start(token: &ScanToken) -> usize {
    usize::try_from(token.start).unwrap_or_default()
}

fn end(token: &ScanToken) -> usize {
    usize::try_from(token.end).unwrap_or_default()
}

/// The scanner's message ends with the rest of the text from the fault on: of it only the place is told.
fn cannot_scan(text: &str, error: &pg_query::Error) -> Fault {
    let message = error.to_string();
    let (what, rest) = message.split_once(" at or near \"").unwrap_or((&message, ""));
    let rest = rest.strip_suffix('"').unwrap_or(rest);
    let at = text.find(rest).filter(|_| !rest.is_empty()).unwrap_or(text.len());
    let rule = if what.contains("unterminated") {
        "a string, a quoted name or a comment does not end"
    } else if what.contains("parameter") || what.contains("numeric literal") || what.contains("integer") {
        "a number or a parameter runs into what follows it"
    } else if what.contains("Unicode") || what.contains("escape") {
        "an escape in a string or a name is not valid"
    } else {
        "the text cannot be read as SQL"
    };
    Fault::at(at, rule)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(text: &str, names: &[&str]) -> Result<String, String> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let scanned = Scanned::of(text).map_err(|fault| fault.rule)?;
        scanned
            .numbered(&names)
            .map(|edited| edited.text().to_owned())
            .map_err(|fault| fault.rule)
    }

    #[test]
    fn names_are_found_where_they_are_parameters_and_nowhere_else() {
        let text =
            "SELECT ':a', \":a\", x::a, $$:a$$, y[1: a] -- :a\n FROM t WHERE b=:b AND c IN (:a,:b) /* :a */";
        assert_eq!(
            numbered(text, &["a", "b"]).as_deref(),
            Ok(
                "SELECT ':a', \":a\", x::a, $$:a$$, y[1: a] -- :a\n FROM t WHERE b= $2 AND c IN ( $1, $2) /* :a */"
            )
        );
        assert_eq!(numbered("SELECT x:user", &["user"]).as_deref(), Ok("SELECT x $1"));
    }

    #[test]
    fn unknown_and_unused_names_are_refused() {
        assert!(numbered("SELECT :b", &["a"]).is_err_and(|rule| rule.contains("no value; there are: a")));
        assert!(numbered("SELECT 1", &["a"]).is_err_and(|rule| rule.contains("does not use")));
        assert!(numbered("SELECT :a, $1", &["a"]).is_err());
        // Names are compared as they are written.
        assert!(numbered("SELECT :A", &["a"]).is_err());
    }

    #[test]
    fn one_statement_that_begins_as_a_select_is_let_through() {
        let at = |text: &str| Scanned::of(text).map(|scanned| scanned.text.to_owned());
        assert_eq!(at("SELECT 1 ; ; -- done"), Ok("SELECT 1 ".into()));
        assert_eq!(at("/* a */ (SELECT ';')"), Ok("/* a */ (SELECT ';')".into()));
        assert_eq!(at("SELECT 1; DROP TABLE x").expect_err("two").at, Some(10));
        assert_eq!(at("  DROP TABLE x").expect_err("a write").at, Some(2));
        assert!(at("-- nothing").is_err());
        assert_eq!(at("SELECT\0").expect_err("NUL").at, Some(6));
        assert!(at(&format!("SELECT {}1{}", "(".repeat(101), ")".repeat(101))).is_err());
        assert!(at(&format!("SELECT 1{}", "+1".repeat(5_000))).is_err());
        // The scanner takes seconds over these.
        for signs in ["/*", "+-"] {
            let long = format!("SELECT 1 {}", signs.repeat(30_000));
            assert!(at(&long).is_err_and(|fault| fault.rule.contains("in a row")));
        }
        assert!(at(&format!("/*{}*/ SELECT 1 --{}", "*".repeat(200), "-".repeat(200))).is_ok());
    }

    #[test]
    fn what_does_not_end_is_told_by_its_place_without_its_text() {
        for (text, at) in [
            ("SELECT 'Smith", 7),
            ("SELECT \"Smith", 7),
            ("SELECT 1 /* Smith", 9),
            ("SELECT $x$Smith", 7),
        ] {
            let fault = Scanned::of(text).expect_err("does not end");
            assert_eq!(fault.at, Some(at), "{text}");
            assert!(!fault.rule.contains("Smith"), "{}", fault.rule);
        }
    }
}
