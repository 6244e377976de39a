//! What an expression yields on a resource: items as JSON, or an error.

use std::{collections::HashMap, fmt};

use serde_json::Value;

use crate::Failure;

/// An expression on a resource.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Question {
    /// The resource's file, without its ending.
    pub(crate) resource: String,
    pub(crate) expression: String,
}

#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// The items; numbers in their lexical form, dates, times and quantities as strings.
    Items(Vec<Value>),
    /// Refused, or failed. What it says is for people only.
    Error(String),
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.resource, self.expression)
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Items(items) => write!(f, "{}", Value::from(items.clone())),
            Self::Error(error) => write!(f, "error: {error}"),
        }
    }
}

/// Answers, one JSON object each line.
pub(crate) fn read(lines: &str) -> Result<HashMap<Question, Answer>, Failure> {
    let mut answers = HashMap::new();
    for line in lines.lines() {
        let answer: Value = serde_json::from_str(line).map_err(|error| format!("{error} in {line}"))?;
        let text = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
        let question = Question {
            resource: text("resource"),
            expression: text("expression"),
        };
        let answer = match &answer["items"] {
            Value::Array(items) => Answer::Items(items.clone()),
            _ => Answer::Error(text("error")),
        };
        answers.insert(question, answer);
    }
    Ok(answers)
}
