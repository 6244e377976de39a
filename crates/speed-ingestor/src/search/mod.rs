//! FHIR search over the bodies of resources: what a scan of recent resources is asked for, and whether a body meets it. Pure.
//!
//! ```text
//! parameters ──elements: where it is in this type── Search ──examine(state)──► Examined ──► Gathered: the newest, all patients, the count
//!             └─values: what is asked ──────────────┘
//! ```
//!
//! Several parameters must all hold, alternatives of one are separated by commas. References are compared by type and id, as the keys of SQL on FHIR are,
//! whatever the base of their URL. A parameter that cannot be evaluated is refused by name, with those that can; no error holds a value.

mod elements;
mod gathered;
mod term;
#[cfg(test)]
mod tests;
mod values;

use api::InvalidField;
use fhir_core::{
    json::{Projection, Tape},
    resource::{Content, State},
};

pub use gathered::{Gathered, Summary};

use self::term::{Term, any_at, referred_by};

/// Parameters of one search.
const MAX_PARAMETERS: usize = 50;

/// A search over resources of one type.
#[derive(Debug)]
pub struct Search {
    terms: Vec<Term>,
    /// `None`: the resource is a patient itself.
    patients: Option<Vec<&'static str>>,
    /// All that the terms and the patients need.
    projection: Projection,
}

/// What a state is to a search.
#[derive(Debug, PartialEq, Eq)]
pub enum Examined {
    /// It does not match.
    Not,
    /// It matches; these are its patients.
    Match(Vec<String>),
    /// It cannot be read. It matches if nothing is asked for.
    Unreadable,
}

impl Search {
    /// What these parameters, as (name, value), ask of resources of this type.
    pub fn new<'p>(
        resource_type: &str,
        parameters: impl IntoIterator<Item = (&'p str, &'p str)>,
    ) -> Result<Self, InvalidField> {
        let terms = parameters
            .into_iter()
            .map(|(name, value)| Term::new(resource_type, name, value))
            .take(MAX_PARAMETERS + 1)
            .collect::<Result<Vec<_>, _>>()?;
        if terms.len() > MAX_PARAMETERS {
            let rule = format!("must be at most {MAX_PARAMETERS}");
            return Err(InvalidField::new("parameters", rule));
        }
        let patients = (resource_type != "Patient").then(|| elements::patients_of(resource_type));
        let mut projection = Projection::default();
        for path in terms
            .iter()
            .flat_map(|term| &term.paths)
            .chain(patients.iter().flatten())
        {
            let place = path
                .split('.')
                .fold(Projection::ROOT, |place, name| projection.want(place, name));
            projection.want_whole(place);
        }
        Ok(Self {
            terms,
            patients,
            projection,
        })
    }

    /// Whether nothing is asked for: then every state matches, deletions too.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// Whether a state matches.
    pub fn examine(&self, tape: &mut Tape, state: &State) -> Examined {
        let body = match &state.content {
            Content::Body(body) => body,
            Content::Deleted if self.is_empty() => return Examined::Match(Vec::new()),
            Content::Deleted => return Examined::Not,
            Content::Unreadable(_) => return Examined::Unreadable,
        };
        let Ok(document) = tape.read(body, &self.projection) else {
            return Examined::Unreadable;
        };
        let root = document.root();
        if !self.terms.iter().all(|term| term.holds(&state.id, root)) {
            return Examined::Not;
        }
        let Some(paths) = &self.patients else {
            return Examined::Match(vec![state.id.clone()]);
        };
        let mut patients = Vec::new();
        any_at(paths, root, |reference| {
            if let Some(("Patient", id)) = referred_by(reference) {
                patients.push(id.to_owned());
            }
            false
        });
        Examined::Match(patients)
    }
}
