//! What a caller may do: the sum of its scopes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use api::{Code, ServiceError};
use axum::http::Extensions;

use crate::scope::{Right, Scope, Worthless};

/// What a caller may do. Cheap to clone; it travels in the request's extensions, beside [`daemon::Principal`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grants(Option<Arc<Granted>>);

/// By scopes.
#[derive(Debug, Default, PartialEq, Eq)]
struct Granted {
    /// Of every type: `r` and `s`.
    all: Letters,
    /// By type.
    types: BTreeMap<String, Letters>,
    rights: BTreeSet<Right>,
    worthless: BTreeSet<Worthless>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Letters {
    read: bool,
    search: bool,
}

impl Letters {
    fn and(self, other: Self) -> Self {
        Self {
            read: self.read || other.read,
            search: self.search || other.search,
        }
    }

    fn both(self) -> bool {
        self.read && self.search
    }
}

impl Grants {
    /// Everything: of who calls where no authorisation is configured.
    pub fn everything() -> Self {
        Self(None)
    }

    /// What these scopes grant together; nothing for none.
    pub fn of<'a>(scopes: impl IntoIterator<Item = &'a str>) -> Self {
        let mut granted = Granted::default();
        for scope in scopes {
            match Scope::parse(scope) {
                Scope::Resources { of, read, search } => {
                    let letters = Letters { read, search };
                    let held = match of {
                        None => &mut granted.all,
                        Some(of) => granted.types.entry(of).or_default(),
                    };
                    *held = held.and(letters);
                }
                Scope::Right(right) => {
                    granted.rights.insert(right);
                }
                Scope::Nothing(why) => {
                    granted.worthless.insert(why);
                }
            }
        }
        Self(Some(Arc::new(granted)))
    }

    /// Those of a request: what the guard put there. Everything where there is none: a service without authorisation has no guard.
    pub fn of_request(extensions: &Extensions) -> Self {
        extensions.get::<Self>().cloned().unwrap_or_else(Self::everything)
    }

    /// Nothing is kept from this caller.
    pub fn is_everything(&self) -> bool {
        self.0.is_none()
    }

    /// Whether rows and resources of a type may be read.
    pub fn may_read(&self, resource_type: &str) -> bool {
        self.0.as_ref().is_none_or(|granted| {
            let of_type = granted.types.get(resource_type).copied().unwrap_or_default();
            granted.all.and(of_type).both()
        })
    }

    /// Of every type, also of those that no view is over yet.
    pub fn may_read_all(&self) -> bool {
        self.0.as_ref().is_none_or(|granted| granted.all.both())
    }

    /// Of at least one type.
    pub fn may_read_some(&self) -> bool {
        self.may_read_all()
            || self
                .0
                .as_ref()
                .is_some_and(|granted| granted.types.keys().any(|of| self.may_read(of)))
    }

    /// Whether an operation that is not reading may be done.
    pub fn has(&self, right: Right) -> bool {
        self.0
            .as_ref()
            .is_none_or(|granted| granted.rights.contains(&right))
    }

    /// May be read, or the refusal: `what` is the part of the request that needs it, such as "view patients".
    pub fn to_read(&self, what: &str, resource_type: &str) -> Result<(), ServiceError> {
        if self.may_read(resource_type) {
            return Ok(());
        }
        // The type is that of a view, a definition or a request: of R4's names, or nobody could have a scope of it.
        let named = if fhir_core::resource::is_r4_type(resource_type) {
            resource_type
        } else {
            "*"
        };
        Err(self.refused(&format!("{what} needs the scope system/{named}.rs")))
    }

    /// A refusal that says what is needed, and why scopes that are held do not help.
    pub(crate) fn refused(&self, needed: &str) -> ServiceError {
        let mut message = format!("not allowed: {needed}");
        for why in self.0.iter().flat_map(|granted| &granted.worthless) {
            message.push_str("; ");
            message.push_str(why.rule());
        }
        ServiceError::new(Code::Forbidden, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(scopes: &[&str]) -> Grants {
        Grants::of(scopes.iter().copied())
    }

    #[test]
    fn a_view_needs_reading_and_searching_of_its_type() {
        for (scopes, may) in [
            (&["system/Patient.rs"][..], true),
            (&["system/Patient.read"], true),
            (&["system/*.rs"], true),
            (&["system/*.read", "openid"], true),
            // Each of another scope: together they are both.
            (&["system/Patient.r", "system/Patient.s"], true),
            (&["system/Patient.r", "system/*.s"], true),
            (&["system/Patient.r"], false),
            (&["system/Patient.s"], false),
            (&["system/Observation.rs"], false),
            (&["system/Patient.r", "system/Observation.s"], false),
            (&["system/Patient.rs?gender=female"], false),
            (&["patient/Patient.rs", "user/Patient.rs"], false),
            (&["system/researchflow.operate"], false),
            (&[], false),
        ] {
            assert_eq!(of(scopes).may_read("Patient"), may, "{scopes:?}");
            assert_eq!(
                of(scopes).to_read("view patients", "Patient").is_ok(),
                may,
                "{scopes:?}"
            );
        }
    }

    #[test]
    fn all_some_and_rights_are_told_apart() {
        let one = of(&["system/Patient.rs", "system/researchflow.ingest"]);
        assert!(one.may_read_some() && !one.may_read_all());
        assert!(one.has(Right::Ingest) && !one.has(Right::Operate) && !one.has(Right::Refresh));
        assert!(of(&["system/*.rs"]).may_read_all());
        assert!(!of(&["system/*.rs"]).has(Right::Operate));
        assert!(!of(&["system/Patient.r"]).may_read_some());
        assert!(!of(&[]).may_read_some());
        let everything = Grants::everything();
        assert!(
            everything.may_read("Patient") && everything.may_read_all() && everything.has(Right::Refresh)
        );
    }

    #[test]
    fn a_refusal_says_what_is_needed_and_why_other_scopes_do_not_help() {
        let held = of(&["system/Observation.rs?category=secret-word", "patient/Patient.rs"]);
        let refused = held.to_read("view patients", "Patient").expect_err("it may not");
        assert_eq!(refused.code, Code::Forbidden);
        for told in [
            "view patients",
            "system/Patient.rs",
            "with a query",
            "patient/ and user/",
        ] {
            assert!(refused.message.contains(told), "{}", refused.message);
        }
        assert!(!refused.message.contains("secret-word"), "{}", refused.message);
    }
}
