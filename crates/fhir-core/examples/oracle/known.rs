//! The differences that are explained: a file of reasons, each with the questions whose answers differ for it.
//!
//! ```text
//! # why they differ, with the section of the specification
//! * 'a'.indexOf('') => [0]
//! patient name.tail() => error
//! ```
//!
//! `*` is every resource. Our answer stands behind the arrow: an explanation is no licence to answer something else tomorrow.

use serde_json::Value;

use crate::{
    Failure,
    answer::{Answer, Question},
    compare,
};

/// All that is explained.
#[derive(Debug, Default)]
pub(crate) struct Known(Vec<Entry>);

#[derive(Debug)]
struct Entry {
    line: String,
    resource: Option<String>,
    expression: String,
    ours: Answer,
    used: bool,
}

impl Known {
    pub(crate) fn read(text: &str) -> Result<Self, Failure> {
        let mut known = Self::default();
        let mut reason = false;
        for line in text.lines().filter(|line| !line.is_empty()) {
            if line.starts_with('#') {
                reason = true;
                continue;
            }
            if !reason {
                return Err(format!("known.txt: no reason stands above {line}").into());
            }
            known
                .0
                .push(entry(line).ok_or_else(|| format!("known.txt: unreadable: {line}"))?);
        }
        Ok(known)
    }

    /// Whether our answer is the one that is explained; the entries that say so are needed.
    pub(crate) fn explains(&mut self, question: &Question, ours: &Answer) -> bool {
        let mut explained = false;
        for entry in &mut self.0 {
            let asked = entry.expression == question.expression
                && entry
                    .resource
                    .as_ref()
                    .is_none_or(|resource| *resource == question.resource);
            if asked && compare::same(&question.expression, ours, &entry.ours) {
                entry.used = true;
                explained = true;
            }
        }
        explained
    }

    /// The entries that nothing needed.
    pub(crate) fn stale(&self) -> Vec<&str> {
        self.0
            .iter()
            .filter(|e| !e.used)
            .map(|e| e.line.as_str())
            .collect()
    }
}

fn entry(line: &str) -> Option<Entry> {
    let (question, ours) = line.rsplit_once(" => ")?;
    let (resource, expression) = question.split_once(' ')?;
    let ours = match ours {
        "error" => Answer::Error(String::new()),
        items => match serde_json::from_str(items).ok()? {
            Value::Array(items) => Answer::Items(items),
            _ => return None,
        },
    };
    Some(Entry {
        line: line.to_owned(),
        resource: (resource != "*").then(|| resource.to_owned()),
        expression: expression.to_owned(),
        ours,
        used: false,
    })
}
