//! Tokens to syntax tree: precedence climbing over the grammar of FHIRPath N1.

use super::{
    ast::{Ast, AstKind, Literal},
    error::{PathError, PathErrorKind},
    lexer::{Token, TokenKind, tokens},
    quantity::{Calendar, MAX_UNIT, Quantity, Unit},
    temporal::Temporal,
};
use crate::number::Decimal;

/// Deepest tree. Evaluation recurses over it, so this bounds the stack; a chain of `and`, `or` or `|` counts as one.
pub(crate) const MAX_DEPTH: usize = 64;

/// Parses one expression.
pub(crate) fn parse(text: &str) -> Result<Ast, PathError> {
    let mut parser = Parser {
        tokens: tokens(text)?,
        next: 0,
        nested: 0,
    };
    let ast = parser.expression(0)?;
    match parser.peek() {
        TokenKind::End => Ok(ast),
        _ => Err(parser.unexpected("an operator or the end")),
    }
}

/// A type specifier: the argument of `ofType` and `getReferenceKey` (`Quantity`, `FHIR.Patient`, `System.String`).
pub(crate) fn type_name(ast: &Ast) -> Option<String> {
    match &ast.kind {
        AstKind::Member { base: None, name } => Some(name.clone()),
        AstKind::Member {
            base: Some(base),
            name,
        } => match &base.kind {
            AstKind::Member {
                base: None,
                name: namespace,
            } if namespace == "FHIR" || namespace == "System" => Some(format!("{namespace}.{name}")),
            _ => None,
        },
        _ => None,
    }
}

struct Parser<'e> {
    tokens: Vec<Token<'e>>,
    next: usize,
    nested: usize,
}

/// Operators by how tightly they bind, and how one is told from a word or symbol.
fn binary(kind: &TokenKind<'_>) -> Option<(u8, &'static str)> {
    let name = match kind {
        TokenKind::Word(word) => *word,
        TokenKind::Symbol(symbol) => *symbol,
        _ => return None,
    };
    [
        (1, "implies"),
        (2, "or"),
        (2, "xor"),
        (3, "and"),
        (4, "in"),
        (4, "contains"),
        (5, "="),
        (5, "~"),
        (5, "!="),
        (5, "!~"),
        (6, "<="),
        (6, "<"),
        (6, ">"),
        (6, ">="),
        (7, "|"),
        (8, "is"),
        (8, "as"),
        (9, "+"),
        (9, "-"),
        (9, "&"),
        (10, "*"),
        (10, "/"),
        (10, "div"),
        (10, "mod"),
    ]
    .into_iter()
    .find(|(_, op)| *op == name)
}

impl<'e> Parser<'e> {
    fn peek(&self) -> &TokenKind<'e> {
        &self.tokens[self.next].kind
    }

    fn at(&self) -> usize {
        self.tokens[self.next].at
    }

    /// Takes a token; the last one, `End`, is never passed.
    fn take(&mut self) -> TokenKind<'e> {
        let kind = self.peek().clone();
        if kind != TokenKind::End {
            self.next += 1;
        }
        kind
    }

    fn takes(&mut self, symbol: &'static str) -> bool {
        let is = *self.peek() == TokenKind::Symbol(symbol);
        if is {
            self.next += 1;
        }
        is
    }

    fn expect(&mut self, symbol: &'static str, expected: &'static str) -> Result<(), PathError> {
        if self.takes(symbol) {
            Ok(())
        } else {
            Err(self.unexpected(expected))
        }
    }

    fn unexpected(&self, expected: &'static str) -> PathError {
        self.error(
            self.at(),
            PathErrorKind::Token {
                found: self.peek().describe(),
                expected,
            },
        )
    }

    #[expect(clippy::unused_self, reason = "reads as the other constructors of errors")]
    fn error(&self, at: usize, kind: PathErrorKind) -> PathError {
        PathError { at, kind }
    }

    /// A node over others of that depth, its own checked.
    fn node(&self, at: usize, depth_below: usize, kind: AstKind) -> Result<Ast, PathError> {
        if depth_below >= MAX_DEPTH {
            return Err(self.error(at, PathErrorKind::TooBig("is nested too deep")));
        }
        Ok(Ast {
            at,
            depth: depth_below + 1,
            kind,
        })
    }

    fn expression(&mut self, min: u8) -> Result<Ast, PathError> {
        self.nested += 1;
        if self.nested > MAX_DEPTH {
            return Err(self.error(self.at(), PathErrorKind::TooBig("is nested too deep")));
        }
        let mut left = self.unary()?;
        while let Some((power, op)) = binary(self.peek()) {
            if power < min.max(1) {
                break;
            }
            let at = self.at();
            self.take();
            if op == "is" || op == "as" {
                let depth = left.depth;
                let name = self.type_specifier()?;
                left = self.node(
                    at,
                    depth,
                    AstKind::Type {
                        op,
                        operand: Box::new(left),
                        name,
                    },
                )?;
                continue;
            }
            let right = self.expression(power + 1)?;
            left = self.join(at, op, left, right)?;
        }
        self.nested -= 1;
        Ok(left)
    }

    fn join(&self, at: usize, op: &'static str, left: Ast, right: Ast) -> Result<Ast, PathError> {
        let depth = left.depth.max(right.depth);
        match left {
            Ast {
                at,
                depth: left_depth,
                kind:
                    AstKind::Binary {
                        op: same,
                        mut operands,
                    },
            } if same == op && matches!(op, "and" | "or" | "|") => {
                let depth = left_depth.max(right.depth + 1);
                operands.push(right);
                self.node(at, depth - 1, AstKind::Binary { op, operands })
            }
            left => self.node(
                at,
                depth,
                AstKind::Binary {
                    op,
                    operands: vec![left, right],
                },
            ),
        }
    }

    fn type_specifier(&mut self) -> Result<String, PathError> {
        let mut name = self.identifier("a type")?;
        if matches!(name.as_str(), "FHIR" | "System") && self.takes(".") {
            name = format!("{name}.{}", self.identifier("a type")?);
        }
        Ok(name)
    }

    fn identifier(&mut self, expected: &'static str) -> Result<String, PathError> {
        match self.peek() {
            TokenKind::Word(word) => {
                let word = (*word).to_owned();
                self.take();
                Ok(word)
            }
            TokenKind::Delimited(name) => {
                let name = name.clone();
                self.take();
                Ok(name)
            }
            _ => Err(self.unexpected(expected)),
        }
    }

    /// Signs, then a term with all that hangs on it.
    fn unary(&mut self) -> Result<Ast, PathError> {
        let at = self.at();
        let mut negative = false;
        loop {
            if self.takes("-") {
                negative = !negative;
            } else if !self.takes("+") {
                break;
            }
        }
        let term = self.postfix()?;
        if !negative {
            return Ok(term);
        }
        let depth = term.depth;
        self.node(at, depth, AstKind::Negate(Box::new(term)))
    }

    fn postfix(&mut self) -> Result<Ast, PathError> {
        let mut term = self.term()?;
        loop {
            let at = self.at();
            let depth = term.depth;
            if self.takes(".") {
                let at = self.at();
                // The grammar has `name.$this`; a variable is what it is, whatever it stands behind.
                if let TokenKind::Special(word) = self.peek() {
                    let kind = AstKind::Behind {
                        base: Box::new(term),
                        word: (*word).to_owned(),
                    };
                    self.take();
                    term = self.node(at, depth, kind)?;
                    continue;
                }
                let name = self.identifier("an element or function")?;
                term = self.invocation(at, Some(term), name)?;
            } else if self.takes("[") {
                let index = self.expression(0)?;
                self.expect("]", "']'")?;
                let depth = depth.max(index.depth);
                term = self.node(
                    at,
                    depth,
                    AstKind::Indexer {
                        base: Box::new(term),
                        index: Box::new(index),
                    },
                )?;
            } else {
                return Ok(term);
            }
        }
    }

    /// An element or a call, once its name is taken.
    fn invocation(&mut self, at: usize, base: Option<Ast>, name: String) -> Result<Ast, PathError> {
        let mut depth = base.as_ref().map_or(0, |b| b.depth);
        let base = base.map(Box::new);
        if !self.takes("(") {
            return self.node(at, depth, AstKind::Member { base, name });
        }
        let mut args = Vec::new();
        if !self.takes(")") {
            loop {
                let arg = self.expression(0)?;
                depth = depth.max(arg.depth);
                args.push(arg);
                if self.takes(")") {
                    break;
                }
                self.expect(",", "',' or ')'")?;
            }
        }
        self.node(at, depth, AstKind::Call { base, name, args })
    }

    fn term(&mut self) -> Result<Ast, PathError> {
        let at = self.at();
        if self.takes("(") {
            let inner = self.expression(0)?;
            self.expect(")", "')'")?;
            return Ok(inner);
        }
        if self.takes("{") {
            self.expect("}", "'}'")?;
            return self.node(at, 0, AstKind::Empty);
        }
        let kind = match self.peek().clone() {
            TokenKind::Word(word @ ("true" | "false")) => AstKind::Literal(Literal::Boolean(word == "true")),
            TokenKind::Word("and" | "or" | "xor" | "implies" | "div" | "mod") => {
                return Err(self.unexpected("an expression"));
            }
            TokenKind::Word(_) | TokenKind::Delimited(_) => {
                let name = self.identifier("an expression")?;
                return self.invocation(at, None, name);
            }
            TokenKind::Text(text) => AstKind::Literal(Literal::Text(text.into())),
            TokenKind::Number(text) => {
                self.take();
                return self.number(at, text);
            }
            TokenKind::Temporal { text, time } => {
                let temporal = if time {
                    Temporal::time(text)
                } else if text.contains('T') {
                    Temporal::date_time(text)
                } else {
                    Temporal::date(text)
                };
                let temporal =
                    temporal.ok_or_else(|| self.error(at, PathErrorKind::Literal("date or time")))?;
                AstKind::Literal(Literal::Temporal(temporal, text.trim_end_matches('T').to_owned()))
            }
            TokenKind::Special(word) => AstKind::Special(word.to_owned()),
            TokenKind::Constant(name) => AstKind::Constant(name),
            TokenKind::Symbol(_) | TokenKind::End => return Err(self.unexpected("an expression")),
        };
        self.take();
        self.node(at, 0, kind)
    }

    /// A number, or with a unit after it a quantity.
    fn number(&mut self, at: usize, text: &str) -> Result<Ast, PathError> {
        let unit = match self.peek() {
            TokenKind::Text(code) => Some(Unit::Ucum(code.clone())),
            TokenKind::Word(word) => Calendar::of_word(word).map(Unit::Calendar),
            _ => None,
        };
        let literal = if let Some(unit) = unit {
            if unit.code().len() > MAX_UNIT {
                return Err(self.error(at, PathErrorKind::Literal("unit of at most 256 bytes")));
            }
            self.take();
            Decimal::parse(text).map(|value| Literal::Quantity(Quantity { value, unit }))
        } else if text.contains('.') {
            Decimal::parse(text).map(Literal::Decimal)
        } else {
            text.parse().ok().map(Literal::whole)
        };
        let literal = literal.ok_or_else(|| self.error(at, PathErrorKind::Literal("number")))?;
        self.node(at, 0, AstKind::Literal(literal))
    }
}
