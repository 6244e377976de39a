//! An error as an HTTP answer carries it: FHIR's OperationOutcome with a status, and for each issue its code and the parameter at fault.
//!
//! A [`ServiceError`] becomes one by its code; what the reference of an operation wants told more exactly is made here by what kind of mistake it is.

use serde_json::{Value, json};

use crate::ServiceError;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issue {
    /// Of FHIR R4's value set `issue-type`.
    pub code: &'static str,
    /// The parameters at fault; none if it is not one of them.
    pub expression: Vec<String>,
    /// The rule, and what to do; never a value.
    pub diagnostics: String,
}

/// What is wrong with a request, or with answering it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.issues.iter().map(|issue| issue.diagnostics.as_str()).collect::<Vec<_>>().join("; "))]
pub struct Outcome {
    /// Status of HTTP.
    pub status: u16,
    /// Never empty.
    pub issues: Vec<Issue>,
}

impl Outcome {
    /// One issue.
    pub fn new(status: u16, code: &'static str, expression: &[&str], diagnostics: impl Into<String>) -> Self {
        Self {
            status,
            issues: vec![Issue {
                code,
                expression: expression.iter().map(|&name| name.to_owned()).collect(),
                diagnostics: diagnostics.into(),
            }],
        }
    }

    /// A parameter breaks a rule.
    pub fn invalid(parameter: &str, rule: impl Into<String>) -> Self {
        Self::new(400, "invalid", &[parameter], rule)
    }

    /// A parameter, or a value of it, that is not served.
    pub fn unsupported(parameter: &str, what: impl Into<String>) -> Self {
        Self::new(400, "not-supported", &[parameter], what)
    }

    /// A parameter that narrows the data names what does not exist.
    pub fn no_such_scope(parameter: &str, what: impl Into<String>) -> Self {
        Self::new(400, "not-found", &[parameter], what)
    }

    /// What the operation is about does not exist.
    pub fn unresolved(parameter: &str, what: impl Into<String>) -> Self {
        Self::new(404, "not-found", &[parameter], what)
    }

    /// The answer cannot be given in the form that the header `Accept` asks for.
    pub fn not_acceptable(what: impl Into<String>) -> Self {
        Self::new(406, "not-supported", &[], what)
    }

    /// What was named can be read, and not be used.
    pub fn unprocessable(parameters: &[&str], why: impl Into<String>) -> Self {
        Self::new(422, "invalid", parameters, why)
    }

    /// Adds what else is wrong; the status stays.
    pub fn and(&mut self, other: Self) {
        self.issues.extend(other.issues);
    }

    /// The FHIR resource.
    pub fn resource(&self) -> Value {
        let issues = self.issues.iter().map(|issue| {
            let mut json = json!({"severity": "error", "code": issue.code, "diagnostics": issue.diagnostics});
            if !issue.expression.is_empty() {
                json["expression"] = issue.expression.clone().into();
            }
            json
        });
        json!({"resourceType": "OperationOutcome", "issue": issues.collect::<Vec<_>>()})
    }
}

impl From<ServiceError> for Outcome {
    fn from(error: ServiceError) -> Self {
        Self::new(error.code.http(), error.code.issue_type(), &[], error.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Code;

    #[test]
    fn issues_are_told_together_under_the_status_of_the_first() {
        let mut outcome = Outcome::unresolved("subjectCanonical", "no such view");
        outcome.and(Outcome::no_such_scope("patient", "no such patient"));
        assert_eq!(outcome.status, 404);
        let said = outcome.resource();
        assert_eq!(said["issue"][0]["expression"], json!(["subjectCanonical"]));
        assert_eq!(said["issue"][1]["code"], "not-found");
        assert_eq!(outcome.to_string(), "no such view; no such patient");
    }

    #[test]
    fn an_error_of_a_service_keeps_its_status_and_names_no_parameter() {
        let outcome = Outcome::from(ServiceError::new(Code::Unavailable, "later"));
        assert_eq!(outcome.status, 503);
        assert_eq!(outcome.resource()["issue"][0].get("expression"), None);
    }
}
