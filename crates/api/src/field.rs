//! What is wrong with a field of a request.

use crate::{Code, ServiceError};

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
        Self::new(Code::Invalid, invalid.to_string())
    }
}

/// A message field that the contract makes optional and the service needs.
pub fn required<T>(field: &'static str, value: Option<T>) -> Result<T, InvalidField> {
    value.ok_or_else(|| InvalidField::new(field, "must be set"))
}
