//! Regular expressions: `matches`, `matchesFull`, `replaceMatches` (FHIRPath N1, section 5.6). They take linear time, and a literal one is
//! compiled with the view.

use std::borrow::Cow;

use regex::{Captures, Regex};

use super::{
    Compiling,
    automaton::{self, Automaton},
    scalar::{MAX_TEXT, bounded},
};
use crate::fhirpath::{
    ast::Literal,
    compile::Typed,
    error::{Fault, PathError, PathErrorKind},
    eval::{Focus, single},
    expr::Expr,
    model::{Types, system},
    value::{Item, Value},
};

/// What a computed expression costs beside those that were compiled with the view.
const STEPS: u64 = 10_000;

/// And each of its characters.
const CHARACTER: u64 = 64;

/// A regular expression.
#[derive(Debug, Clone)]
pub(crate) enum Pattern {
    /// Written out, and compiled.
    Compiled(Automaton),
    /// Of each resource.
    Computed(Box<Expr>),
}

impl Pattern {
    /// The expression that yields it, if it is not written out.
    pub(crate) fn computed(&self) -> Option<&Expr> {
        match self {
            Self::Compiled(_) => None,
            Self::Computed(expr) => Some(expr),
        }
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Compiled(a), Self::Compiled(b)) => a.regex.as_str() == b.regex.as_str(),
            (Self::Computed(a), Self::Computed(b)) => a == b,
            _ => false,
        }
    }
}

pub(super) fn compile(call: &Compiling<'_>) -> Option<Result<Typed, PathError>> {
    let arguments = match call.name {
        "matches" | "matchesFull" => 1,
        "replaceMatches" => 2,
        _ => return None,
    };
    Some(if call.args.len() == arguments {
        build(call)
    } else {
        Err(call.wrong(if arguments == 1 {
            "one argument, a regular expression"
        } else {
            "two arguments, a regular expression and its substitution"
        }))
    })
}

fn build(call: &Compiling<'_>) -> Result<Typed, PathError> {
    let on = Box::new(call.on()?.expr);
    let whole = call.name == "matchesFull";
    let pattern = match call.argument(0)?.expr {
        Expr::Literal(Literal::Text(text)) => {
            let compiled = call.context.pattern(&text, whole);
            Pattern::Compiled(compiled.map_err(|why| PathError {
                at: call.args[0].at,
                kind: PathErrorKind::Pattern(why),
            })?)
        }
        other => Pattern::Computed(Box::new(other)),
    };
    Ok(if call.name == "replaceMatches" {
        let with = Box::new(call.argument(1)?.expr);
        Typed::new(
            Expr::ReplaceMatches(on, pattern, with),
            Types::one(system::STRING),
        )
    } else {
        Typed::new(Expr::Matches(on, pattern, whole), Types::one(system::BOOLEAN))
    })
}

/// The string that an operand yields.
fn text<'a>(
    expr: &'a Expr,
    focus: &Focus<'a, '_>,
    name: &'static str,
) -> Result<Option<Cow<'a, str>>, Fault> {
    let Some(item) = single(expr, focus, name)? else {
        return Ok(None);
    };
    match item.text() {
        None if item.value().is_some() || item.is_complex() => Err(Fault::Argument(name)),
        text => Ok(text),
    }
}

/// `.matches(pattern)`, `.matchesFull(pattern)`
pub(in crate::fhirpath) fn matches<'a>(
    on: &'a Expr,
    pattern: &'a Pattern,
    whole: bool,
    focus: &Focus<'a, '_>,
) -> Result<Option<bool>, Fault> {
    let name = if whole { "matchesFull()" } else { "matches()" };
    let Some(subject) = text(on, focus, name)? else {
        return Ok(None);
    };
    with_regex(pattern, whole, name, subject.len(), focus, |regex| {
        regex.is_match(&subject)
    })
}

/// `.replaceMatches(pattern, substitution)`
pub(in crate::fhirpath) fn replace_matches<'a>(
    on: &'a Expr,
    pattern: &'a Pattern,
    with: &'a Expr,
    focus: &Focus<'a, '_>,
) -> Result<Option<Item<'a>>, Fault> {
    let name = "replaceMatches()";
    let (Some(subject), Some(with)) = (text(on, focus, name)?, text(with, focus, name)?) else {
        return Ok(None);
    };
    focus.resource.characters(with.len())?;
    let with = named(&with);
    let mut length = subject.len();
    let replaced = with_regex(pattern, false, name, subject.len(), focus, |regex| {
        // Counted once: a substitution can be long, and the matches many.
        let groups = with.matches('$').count();
        let replaced = regex.replace_all(&subject, |captures: &Captures<'_>| {
            let mut out = String::new();
            // Each group is at most the whole match. What could get too long is not built, and refused below.
            let most = captures[0]
                .len()
                .saturating_mul(groups)
                .saturating_add(with.len());
            // The substitution is read again for each match.
            focus.resource.spend((1 + with.len()) as u64);
            if most.saturating_add(length) > MAX_TEXT {
                length = MAX_TEXT + 1;
            } else if !focus.resource.is_spent() {
                captures.expand(&with, &mut out);
                length += out.len();
            }
            out
        });
        replaced.into_owned()
    })?;
    bounded(length)?;
    focus.resource.build(length)?;
    Ok(replaced.map(|text| Item::Value(Value::Text(Cow::Owned(text)))))
}

/// `$1a` means the first group and an `a`; the library reads a name, `1a`. `$$` is a dollar to both.
fn named(with: &str) -> String {
    let mut out = String::with_capacity(with.len() + 8);
    let mut rest = with;
    while let Some(at) = rest.find('$') {
        let after = &rest[at + 1..];
        if let Some(behind) = after.strip_prefix('$') {
            out.push_str(&rest[..at + 2]);
            rest = behind;
            continue;
        }
        let digits = after.bytes().take_while(u8::is_ascii_digit).count();
        out.push_str(&rest[..=at]);
        if digits > 0 {
            out.push('{');
            out.push_str(&after[..digits]);
            out.push('}');
        }
        rest = &after[digits..];
    }
    out.push_str(rest);
    out
}

/// Runs what matches a text of so many bytes; each of its bytes counts.
fn with_regex<'a, T>(
    pattern: &'a Pattern,
    whole: bool,
    name: &'static str,
    bytes: usize,
    focus: &Focus<'a, '_>,
    run: impl FnOnce(&Regex) -> T,
) -> Result<Option<T>, Fault> {
    match pattern {
        Pattern::Compiled(compiled) => {
            focus.resource.steps(compiled.cost(bytes))?;
            Ok(Some(run(&compiled.regex)))
        }
        Pattern::Computed(expr) => {
            let Some(text) = text(expr, focus, name)? else {
                return Ok(None);
            };
            focus.resource.steps(STEPS + text.len() as u64 * CHARACTER)?;
            let compiled = automaton::computed(&text, whole).map_err(|_| Fault::Pattern(name))?;
            focus.resource.steps(compiled.building())?;
            focus.resource.steps(compiled.cost(bytes))?;
            Ok(Some(run(&compiled.regex)))
        }
    }
}
