//! What is wrong with a field of a request.

use crate::ServiceError;

/// A field of a request breaks a rule. Never holds the field's value: it may be a patient's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {rule}")]
pub struct InvalidField {
    /// Path of the field in the request.
    pub field: &'static str,
    /// The rule, and what to do.
    pub rule: String,
}

impl InvalidField {
    /// A field and the rule that it breaks.
    pub fn new(field: &'static str, rule: impl Into<String>) -> Self {
        Self {
            field,
            rule: rule.into(),
        }
    }
}

impl From<InvalidField> for ServiceError {
    fn from(invalid: InvalidField) -> Self {
        Self::invalid(invalid.field, invalid.rule)
    }
}

/// A message field that the contract makes optional and the service needs.
pub fn required<T>(field: &'static str, value: Option<T>) -> Result<T, InvalidField> {
    value.ok_or_else(|| InvalidField::new(field, "must be set"))
}

/// Texts that go to PostgreSQL, which has no NUL character in a text.
pub fn without_nul(field: &'static str, texts: &[String]) -> Result<(), InvalidField> {
    if texts.iter().any(|text| text.contains('\0')) {
        Err(InvalidField::new(field, "must not hold a NUL character"))
    } else {
        Ok(())
    }
}
