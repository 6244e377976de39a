//! What is wrong with a statement, and where.

use api::ServiceError;

/// A fault at a place of the caller's text. Names parts of SQL, never a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// In bytes; `None` where it is the statement as a whole.
    pub(super) at: Option<usize>,
    /// What is wrong, and what to do.
    pub(super) rule: String,
}

/// What a check says.
pub(super) type Checked<T = ()> = Result<T, Fault>;

impl Fault {
    pub(super) fn at(at: usize, rule: impl Into<String>) -> Self {
        Self {
            at: Some(at),
            rule: rule.into(),
        }
    }

    pub(super) fn whole(rule: impl Into<String>) -> Self {
        Self {
            at: None,
            rule: rule.into(),
        }
    }

    /// The same fault, its place put through `back`.
    pub(super) fn back(self, back: impl FnOnce(usize) -> usize) -> Self {
        Self {
            at: self.at.map(back),
            ..self
        }
    }

    /// For the caller, whose text is `text`: the place as character (from 1), line and column.
    pub(super) fn for_caller(self, text: &str) -> ServiceError {
        let Self { at, rule } = self;
        let rule = match at {
            Some(at) => format!("{}: {rule}", place(text, at)),
            None => rule,
        };
        ServiceError::invalid("statement", rule)
    }
}

fn place(text: &str, at: usize) -> String {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!(
        "at character {} (line {line}, column {column})",
        before.chars().count() + 1
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_in_characters_from_one() {
        let text = "SELECT 'é',\n  x";
        let said = Fault::at(text.len() - 1, "no").for_caller(text).message;
        assert_eq!(said, "statement: at character 15 (line 2, column 3): no");
        assert_eq!(
            Fault::at(900, "no").for_caller("a").message,
            "statement: at character 2 (line 1, column 2): no"
        );
    }
}
