//! `ReadPatientResources`: the current bodies of all resources of some types that are of named patients.
//!
//! HAPI's index of references finds the candidates: whatever refers to one of the patients by any element. Whose a resource is, its body says, by the same path and the same
//! engine as a view's column `subject.getReferenceKey(Patient)`: so what a criterion counts to a patient, and what is read of the patient, cannot differ. An observation
//! that names somebody's mother as its performer is not the mother's.

use std::{collections::HashSet, sync::Arc};

use api::batch::TypedState;
use async_stream::try_stream;
use fhir_core::{
    json::Tape,
    resource::{Content, State, is_r4_type, patient_elements},
    row::{Cell, Rows},
    view::{CompiledView, ViewSet},
};
use futures::{Stream, StreamExt as _};
use serde_json::json;

use crate::{
    hapi::{Hapi, HapiError, Selection, body_bytes},
    messages::messages,
};

/// A type, and how its resources say whose they are.
#[derive(Debug, Clone)]
pub struct OwnedType {
    name: String,
    /// One row a resource, with the patients' keys; `None`: the type is Patient, and selected by id.
    owners: Option<Arc<CompiledView>>,
}

impl OwnedType {
    /// Refused, with the reason: what is no type of FHIR R4, and types whose resources are nobody's.
    pub fn of(name: &str) -> Result<Self, String> {
        if !is_r4_type(name) {
            return Err("must be names of FHIR R4's resource types, such as Condition".to_owned());
        }
        if name == "Patient" {
            return Ok(Self {
                name: name.to_owned(),
                owners: None,
            });
        }
        let columns: Vec<_> = patient_elements(name)
            .into_iter()
            .map(|element| {
                json!({"name": element, "path": format!("{element}.getReferenceKey(Patient)"), "collection": true})
            })
            .collect();
        if columns.is_empty() {
            return Err(format!("{name} has no element that says whose a resource is"));
        }
        let definition = json!({"resource": name, "status": "active", "select": [{"column": columns}]});
        let owners = CompiledView::from_json(&definition.to_string()).map_err(|errors| errors.to_string())?;
        Ok(Self {
            name: name.to_owned(),
            owners: Some(Arc::new(owners)),
        })
    }
}

/// Reads them, type by type, each in one snapshot; deleted ones are left out. Dropping the stream ends the reading.
pub fn read(
    hapi: Hapi,
    types: Vec<OwnedType>,
    patients: Vec<String>,
) -> impl Stream<Item = Result<Vec<TypedState>, HapiError>> + Send + 'static {
    try_stream! {
        let wanted: Arc<HashSet<String>> = Arc::new(patients.iter().cloned().collect());
        let selection = Selection { patients, ..Selection::default() };
        for OwnedType { name, owners } in types {
            let mut chunks = std::pin::pin!(hapi.select(&name, &selection));
            while let Some(chunk) = chunks.next().await {
                let mut states = chunk?;
                if let Some(view) = owners.clone() {
                    let wanted = wanted.clone();
                    let kept = tokio::task::spawn_blocking(move || of_patients(&view, states, &wanted)).await;
                    states = kept.map_err(|_| HapiError::Database {
                        doing: "looking whose resources are",
                        reason: "broken off".to_owned(),
                        transient: true,
                    })?;
                }
                states.retain(|state| !state.is_deleted());
                for states in messages(states, body_bytes) {
                    let named = |state| TypedState { resource_type: name.clone(), state };
                    yield states.into_iter().map(named).collect::<Vec<_>>();
                }
            }
        }
    }
}

/// Those of the patients; with those of which it cannot be said.
fn of_patients(view: &CompiledView, states: Vec<State>, wanted: &HashSet<String>) -> Vec<State> {
    let (set, mut tape) = (ViewSet::new([view]), Tape::default());
    let mut kept = Vec::with_capacity(states.len());
    for mut state in states {
        let Content::Body(body) = &state.content else {
            kept.push(state);
            continue;
        };
        let mut rows = Rows::default();
        let evaluated = set
            .read(&mut tape, body)
            .and_then(|reading| reading.rows(0, &mut rows));
        if evaluated.is_err() {
            state.content = Content::Unreadable("it cannot be evaluated whose it is".to_owned());
            kept.push(state);
        } else if rows.0.iter().flatten().any(|cell| names_one_of(cell, wanted)) {
            kept.push(state);
        }
    }
    kept
}

fn names_one_of(cell: &Cell<'_>, wanted: &HashSet<String>) -> bool {
    match cell {
        Cell::List(members) => members.iter().any(|member| names_one_of(member, wanted)),
        Cell::Text(id) => wanted.contains(id.as_ref()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    fn kept(resource_type: &str, bodies: &[&str]) -> Vec<usize> {
        let owned = OwnedType::of(resource_type).expect("somebody's");
        let states = bodies.iter().enumerate().map(|(i, body)| State {
            id: i.to_string(),
            version: 1,
            last_updated: DateTime::UNIX_EPOCH,
            content: Content::Body(body.as_bytes().to_vec()),
        });
        let wanted = HashSet::from(["p-1".to_owned(), "p-2".to_owned()]);
        of_patients(&owned.owners.expect("a view"), states.collect(), &wanted)
            .iter()
            .map(|state| state.id.parse().expect("a number"))
            .collect()
    }

    #[test]
    fn only_the_resources_own_subject_counts() {
        let bodies = [
            r#"{"resourceType":"Observation","subject":{"reference":"Patient/p-1"}}"#,
            r#"{"resourceType":"Observation","subject":{"reference":"Patient/p-3"},"performer":[{"reference":"Patient/p-1"}]}"#,
            r#"{"resourceType":"Observation","subject":{"reference":"Group/p-1"}}"#,
            r#"{"resourceType":"Observation"}"#,
            r#"{"resourceType":"Observation","subject":{"reference":"Patient/p-2/_history/3"}}"#,
        ];
        assert_eq!(kept("Observation", &bodies), [0, 4]);
        let accounts = [
            r#"{"resourceType":"Account","subject":[{"reference":"Device/p-1"},{"reference":"Patient/p-2"}]}"#,
            r#"{"resourceType":"Account","subject":[{"reference":"Device/p-1"}]}"#,
        ];
        assert_eq!(kept("Account", &accounts), [0]);
        assert_eq!(
            kept(
                "Task",
                &[r#"{"resourceType":"Task","for":{"reference":"Patient/p-1"}}"#]
            ),
            [0]
        );
    }

    #[test]
    fn types_that_are_nobodys_are_refused() {
        for (name, reason) in [
            ("Practitioner", "no element"),
            ("Conditions", "FHIR R4"),
            ("DomainResource", "FHIR R4"),
        ] {
            let refused = OwnedType::of(name).expect_err("refused");
            assert!(refused.contains(reason), "{refused}");
        }
        assert!(OwnedType::of("Patient").is_ok());
    }
}
