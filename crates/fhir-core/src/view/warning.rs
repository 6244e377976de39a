//! What a definition is told about, and evaluated nevertheless.

use std::fmt;

/// A column whose declared type is not what its expression yields (SQL on FHIR: a runner may tell).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewWarning {
    /// JSON path in the definition (`select[0].column[2].type`).
    pub at: String,
    /// The column's name.
    pub column: String,
    /// The type that the definition declares, as it writes it.
    pub declared: String,
    /// The types that the expression can yield.
    pub inferred: Vec<&'static str>,
}

impl fmt::Display for ViewWarning {
    /// One line, with the place.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: column {} is declared as {}, and its path yields {}; correct one of them",
            self.at,
            self.column,
            self.declared,
            self.inferred.join(" or ")
        )
    }
}
