//! Regular expressions and what they cost: their size, told by the limit that they fit, bounds the time that each byte of a text takes.

use std::collections::HashMap;

use regex::{Regex, RegexBuilder};

/// Bytes that a compiled expression may take.
const MAX_SIZE: usize = 1024 * 1024;

/// Bytes that one may take that is compiled for a single resource.
const MAX_COMPUTED: usize = 128 * 1024;

/// Bytes that the smallest is taken to have.
const MIN_SIZE: usize = 4 * 1024;

/// Longest that is read, in bytes: what is read takes a thousand times its length for a moment.
const MAX_LENGTH: usize = 16 * 1024;

/// Bytes that all expressions of a view may take: each is built and kept with the view.
const MAX_ALL: usize = 4 * 1024 * 1024;

/// What each of them counts at least: its states are kept, too, once it has run.
const MIN_SHARE: usize = 16 * 1024;

/// Bytes for the states that were met, at least.
const STATES: usize = 256 * 1024;

/// Bytes of an expression that a byte of a text is matched against in the time of a step.
const PER_STEP: usize = 2048;

const TOO_BIG: &str = "it is too big";

/// A regular expression that was built.
#[derive(Debug, Clone)]
pub(crate) struct Automaton {
    pub(super) regex: Regex,
    /// Bytes that it takes, as the power of two that they fit.
    size: usize,
}

impl Automaton {
    /// What it takes to match it against a text of so many bytes, in steps.
    pub(super) fn cost(&self, bytes: usize) -> u64 {
        (bytes as u64).saturating_mul(self.size.div_ceil(PER_STEP) as u64)
    }

    /// What it took to build it.
    pub(super) fn building(&self) -> u64 {
        self.size as u64
    }
}

/// The expressions of a view: each built once, however often it is written.
#[derive(Debug, Default)]
pub(crate) struct Patterns {
    known: HashMap<(String, bool), Automaton>,
    /// What they take together.
    taken: usize,
}

impl Patterns {
    /// The expression, if it and all others of the view are not too big.
    pub(in crate::fhirpath) fn get(&mut self, text: &str, whole: bool) -> Result<Automaton, &'static str> {
        let key = (text.to_owned(), whole);
        if let Some(compiled) = self.known.get(&key) {
            return Ok(compiled.clone());
        }
        let left = MAX_ALL.saturating_sub(self.taken);
        if left == 0 {
            return Err("all regular expressions of the view together are too big");
        }
        // What is refused costs as much as what is not.
        self.taken += MIN_SHARE + text.len() * 16;
        let compiled = build(text, whole, MAX_SIZE).inspect_err(|why| {
            if *why == TOO_BIG {
                self.taken += MAX_SIZE;
            }
        })?;
        self.taken += compiled.size;
        self.known.insert(key, compiled.clone());
        Ok(compiled)
    }
}

/// One that is of a resource.
pub(super) fn computed(text: &str, whole: bool) -> Result<Automaton, &'static str> {
    build(text, whole, MAX_COMPUTED)
}

/// A pattern, or one for the whole of a text. It is built alone first: `a)|(b` is none, whatever is put around it.
fn build(text: &str, whole: bool, limit: usize) -> Result<Automaton, &'static str> {
    if text.len() > MAX_LENGTH {
        return Err("it is too long");
    }
    let alone = of_size(text, limit)?;
    if whole {
        of_size(&format!(r"\A(?:{text})\z"), limit)
    } else {
        Ok(alone)
    }
}

fn of_size(text: &str, limit: usize) -> Result<Automaton, &'static str> {
    let mut size = MIN_SIZE;
    loop {
        match regex(text, size) {
            Ok(regex) => return Ok(Automaton { regex, size }),
            Err(regex::Error::CompiledTooBig(_)) if size < limit => size *= 2,
            Err(regex::Error::CompiledTooBig(_)) => return Err(TOO_BIG),
            Err(_) => {
                return Err("its syntax is not known (look-around and back-references are not supported)");
            }
        }
    }
}

/// A point stands for the end of a line, too (FHIRPath's single-line mode).
fn regex(text: &str, size: usize) -> Result<Regex, regex::Error> {
    RegexBuilder::new(text)
        .dot_matches_new_line(true)
        .size_limit(size)
        .dfa_size_limit(size.max(STATES))
        .build()
}
