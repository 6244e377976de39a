//! One scope, as SMART App Launch writes it (2.2.0, "Scopes for requesting FHIR resources", and 1.0.0's form), and what it is worth here.
//!
//! ```text
//! system/Observation.rs      v2: any of c r u d s, in this order
//! system/*.read              v1: read, write or *
//! system/researchflow.refresh    ours: operations that are not reading
//! ```
//!
//! A row of a view can come of any resource of its type, found by any search: so a view needs both `r` (read) and `s` (search) of the type, which v1's `read` is.

use fhir_core::resource::is_r4_type;

/// What a scope is worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Of the resources of a type.
    Resources {
        /// `None`: of every type.
        of: Option<String>,
        /// Single ones by their ids.
        read: bool,
        /// All that a search finds.
        search: bool,
    },
    /// Operations that are not reading.
    Right(Right),
    /// Nothing, and why.
    Nothing(Worthless),
}

/// Operations that are not reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Right {
    /// `system/researchflow.operate`: views, statistics, caches, Subscriptions, backups; what tells of the inside.
    Operate,
    /// `system/researchflow.ingest`: resources into the speed layer, and out of it.
    Ingest,
    /// `system/researchflow.refresh`: runs of the batch.
    Refresh,
}

impl Right {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Operate, Self::Ingest, Self::Refresh];

    /// The scope that grants it.
    pub fn scope(self) -> &'static str {
        match self {
            Self::Operate => "system/researchflow.operate",
            Self::Ingest => "system/researchflow.ingest",
            Self::Refresh => "system/researchflow.refresh",
        }
    }
}

/// Why a scope grants nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Worthless {
    /// `…?category=…`: rows of a view no longer show what of a resource the query would look at, so it cannot be held; granting more than it says would be wrong.
    Query,
    /// `patient/…`, `user/…`: of one patient, or of a person who is logged in; there is neither here.
    Context,
    /// Neither `r` nor `s` is in it.
    NoReading,
    /// Of another system, of a type that R4 does not have, or mistyped.
    Unknown,
}

impl Worthless {
    /// For the caller: the rule, without the scope itself.
    pub(crate) fn rule(self) -> &'static str {
        match self {
            Self::Query => {
                "a scope with a query (system/Observation.rs?category=…) grants nothing, as a view's rows cannot be held to it: ask for the scope without the query"
            }
            Self::Context => {
                "scopes of patient/ and user/ grant nothing: no patient is in context and no person logged in here; ask for system/"
            }
            Self::NoReading => {
                "scopes that only write, create, update or delete grant nothing: views are read"
            }
            Self::Unknown => "some scopes are not known here, or name no resource type of FHIR R4",
        }
    }
}

impl Scope {
    /// Reads a scope. There is no error: an authorisation server may give scopes that are for others.
    pub(crate) fn parse(text: &str) -> Self {
        let unknown = Self::Nothing(Worthless::Unknown);
        let Some((context, what)) = text.split_once('/') else {
            return unknown;
        };
        match context {
            "system" => {}
            "patient" | "user" => return Self::Nothing(Worthless::Context),
            _ => return unknown,
        }
        if what.contains('?') {
            return Self::Nothing(Worthless::Query);
        }
        if let Some(right) = Right::ALL.into_iter().find(|right| right.scope() == text) {
            return Self::Right(right);
        }
        let Some((of, access)) = what.split_once('.') else {
            return unknown;
        };
        let of = match of {
            "*" => None,
            of if is_r4_type(of) => Some(of.to_owned()),
            _ => return unknown,
        };
        let (read, search) = match access {
            // v1
            "read" | "*" => (true, true),
            "write" => (false, false),
            letters if is_v2(letters) => (letters.contains('r'), letters.contains('s')),
            _ => return unknown,
        };
        if read || search {
            Self::Resources { of, read, search }
        } else {
            Self::Nothing(Worthless::NoReading)
        }
    }
}

/// Letters of `cruds`, each once at most, in this order; at least one.
fn is_v2(letters: &str) -> bool {
    let mut left = "cruds".chars();
    !letters.is_empty() && letters.chars().all(|letter| left.any(|known| known == letter))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources(of: Option<&str>, read: bool, search: bool) -> Scope {
        Scope::Resources {
            of: of.map(str::to_owned),
            read,
            search,
        }
    }

    #[test]
    fn scopes_of_both_forms_are_read() {
        for (text, expected) in [
            ("system/Patient.rs", resources(Some("Patient"), true, true)),
            ("system/Patient.cruds", resources(Some("Patient"), true, true)),
            ("system/*.rs", resources(None, true, true)),
            ("system/*.read", resources(None, true, true)),
            ("system/*.*", resources(None, true, true)),
            (
                "system/Observation.r",
                resources(Some("Observation"), true, false),
            ),
            (
                "system/Observation.s",
                resources(Some("Observation"), false, true),
            ),
            (
                "system/Observation.ds",
                resources(Some("Observation"), false, true),
            ),
            ("system/researchflow.operate", Scope::Right(Right::Operate)),
            ("system/researchflow.ingest", Scope::Right(Right::Ingest)),
            ("system/researchflow.refresh", Scope::Right(Right::Refresh)),
        ] {
            assert_eq!(Scope::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_held_or_is_for_others_grants_nothing_and_says_why() {
        for (text, why) in [
            ("system/Observation.rs?category=laboratory", Worthless::Query),
            ("system/*.rs?_tag=x", Worthless::Query),
            ("patient/Patient.rs", Worthless::Context),
            ("user/*.rs", Worthless::Context),
            ("patient/Observation.rs?category=laboratory", Worthless::Context),
            ("system/Patient.write", Worthless::NoReading),
            ("system/Patient.cud", Worthless::NoReading),
            ("openid", Worthless::Unknown),
            ("launch/patient", Worthless::Unknown),
            ("system/Patient", Worthless::Unknown),
            ("system/Patient.", Worthless::Unknown),
            // Letters in another order, twice, or unknown.
            ("system/Patient.sr", Worthless::Unknown),
            ("system/Patient.rrs", Worthless::Unknown),
            ("system/Patient.rsx", Worthless::Unknown),
            ("system/patient.rs", Worthless::Unknown),
            ("system/NoSuchType.rs", Worthless::Unknown),
            ("System/Patient.rs", Worthless::Unknown),
            ("system/researchflow.everything", Worthless::Unknown),
            ("system/researchflow.*", Worthless::Unknown),
            ("system/*.rs ", Worthless::Unknown),
            ("", Worthless::Unknown),
        ] {
            assert_eq!(Scope::parse(text), Scope::Nothing(why), "{text}");
        }
    }
}
