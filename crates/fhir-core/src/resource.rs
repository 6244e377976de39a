//! A state of a FHIR resource, as the layers hand it to each other.

use std::fmt;

use chrono::{DateTime, Utc};

use crate::fhirpath::model::Type;

/// What HAPI had for one resource at some time: one version of it, a deletion, or nothing any more.
#[derive(Clone, PartialEq, Eq)]
pub struct State {
    /// The logical id, without the type.
    pub id: String,
    /// `meta.versionId`; 0 where HAPI has no row of the resource (never created, expunged, restored away).
    pub version: i64,
    /// `meta.lastUpdated`; for a resource that HAPI has no row of, the clock of the reading that found nothing.
    pub last_updated: DateTime<Utc>,
    /// What the resource holds.
    pub content: Content,
}

/// The content of a [`State`].
#[derive(Clone, PartialEq, Eq)]
pub enum Content {
    /// The resource as JSON text in UTF-8, with `id` and `meta`.
    Body(Vec<u8>),
    /// Deleted, or gone.
    Deleted,
    /// HAPI holds it in a form that cannot be read; the reason names no content.
    Unreadable(String),
}

impl Content {
    /// As contracts and stores carry it: whether it is deleted, the body, why there is none.
    pub fn parts(&self) -> (bool, &[u8], &str) {
        match self {
            Self::Body(body) => (false, body, ""),
            Self::Deleted => (true, &[], ""),
            Self::Unreadable(reason) => (false, &[], reason),
        }
    }

    /// The same, without a copy of the body.
    pub fn into_parts(self) -> (bool, Vec<u8>, String) {
        match self {
            Self::Body(body) => (false, body, String::new()),
            Self::Deleted => (true, Vec::new(), String::new()),
            Self::Unreadable(reason) => (false, Vec::new(), reason),
        }
    }

    /// From what [`Content::parts`] gave.
    pub fn from_parts(deleted: bool, body: Vec<u8>, unreadable: String) -> Self {
        if deleted {
            Self::Deleted
        } else if unreadable.is_empty() {
            Self::Body(body)
        } else {
            Self::Unreadable(unreadable)
        }
    }
}

/// FHIR's rule of ids.
pub fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
}

/// Whether a text looks like the name of a resource type.
pub fn is_type(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_uppercase())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Whether FHIR R4 has a resource type of this name.
pub fn is_r4_type(name: &str) -> bool {
    let resource = Type::fhir("Resource");
    Type::fhir(name)
        .is_some_and(|named| !named.is_abstract() && resource.is_some_and(|resource| named.is(resource)))
}

/// The elements by which a resource of this FHIR R4 type says whose it is: `subject` or `patient` where it has them as references, and the elements that stand for
/// them in a few types. Elements in which a patient is only mentioned (performer, asserter, member) are none of them. Empty for Patient itself, and for types
/// that are nobody's.
pub fn patient_elements(resource_type: &str) -> Vec<&'static str> {
    const BY_NAME: [&str; 2] = ["subject", "patient"];
    // What their search parameter `patient` searches.
    const BY_TYPE: [(&str, &str); 3] = [
        ("Coverage", "beneficiary"),
        ("ResearchSubject", "individual"),
        ("Task", "for"),
    ];
    let (Some(of_type), Some(reference)) = (Type::fhir(resource_type), Type::fhir("Reference")) else {
        return Vec::new();
    };
    let own = BY_TYPE.iter().filter(|(name, _)| *name == resource_type);
    let names = BY_NAME.into_iter().chain(own.map(|(_, element)| *element));
    // A definition's `subject[x]` names a kind of subject, not a subject.
    names
        .filter(|name| {
            of_type
                .element(name)
                .is_some_and(|element| !element.choice && element.types.contains(&reference))
        })
        .collect()
}

impl fmt::Debug for State {
    /// Neither id nor body: what is printed may end in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, content, .. } = self;
        write!(f, "State(version {version}, {content:?})")
    }
}

impl fmt::Debug for Content {
    /// What it is, never the body.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Body(body) => write!(f, "a body of {} bytes", body.len()),
            Self::Deleted => f.write_str("deleted"),
            Self::Unreadable(reason) => write!(f, "unreadable: {reason}"),
        }
    }
}

impl State {
    /// A state in which HAPI has no row of the resource, as found by a reading of clock `at`.
    pub fn gone(id: impl Into<String>, at: DateTime<Utc>) -> Self {
        Self {
            id: id.into(),
            version: 0,
            last_updated: at,
            content: Content::Deleted,
        }
    }

    /// Whether the resource is deleted or gone.
    pub fn is_deleted(&self) -> bool {
        matches!(self.content, Content::Deleted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_what_its_parts_say() {
        for content in [
            Content::Body(b"{}".to_vec()),
            Content::Body(Vec::new()),
            Content::Deleted,
            Content::Unreadable("it lies elsewhere".into()),
        ] {
            let (deleted, body, unreadable) = content.parts();
            assert_eq!(
                Content::from_parts(deleted, body.to_vec(), unreadable.to_owned()),
                content
            );
            let (deleted, body, unreadable) = content.clone().into_parts();
            assert_eq!(Content::from_parts(deleted, body, unreadable), content);
        }
    }

    #[test]
    fn a_resource_says_whose_it_is_by_an_element_of_its_own() {
        for (name, elements) in [
            ("Condition", &["subject"][..]),
            ("Immunization", &["patient"]),
            ("Coverage", &["beneficiary"]),
            ("ResearchSubject", &["individual"]),
            ("Task", &["for"]),
            ("Account", &["subject"]),
            ("Patient", &[]),
            ("Practitioner", &[]),
            ("ActivityDefinition", &[]),
            ("Nothing", &[]),
        ] {
            assert_eq!(patient_elements(name), elements, "{name}");
        }
    }

    #[test]
    fn ids_and_types_keep_to_fhirs_rules() {
        assert!(is_id("a-1.B") && is_id(&"x".repeat(64)));
        assert!(!is_id("") && !is_id("a b") && !is_id("a_b") && !is_id("\u{e9}") && !is_id(&"x".repeat(65)));
        assert!(is_type("Patient"));
        assert!(!is_type("") && !is_type("patient") && !is_type("Pat ient"));
    }
}
