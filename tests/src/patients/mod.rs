//! Synthetic patients that look like a hospital's. No real persons: everything is drawn from tables here.
//!
//! A [`Hospital`] is a seed. Patient number `i` of a hospital is always the same, whatever was asked before, so any size can be streamed, restarted
//! and split over workers. A patient comes as its resources in an order that a server which checks references accepts: Patient, Encounter, Condition,
//! Observation, MedicationRequest, FHIR R4 JSON. On purpose the data are as untidy as real ones: several codings or none, missing parts, extensions
//! on primitives, numbers with trailing zeros, names in many scripts, dates of every precision.
//!
//! [`changes`] draws what happens later: updates, deletes, re-creations, new findings.

pub mod changes;
mod codes;
mod condition;
mod dice;
mod encounter;
mod medication;
mod observation;
mod person;

use serde_json::Value;

use dice::Dice;

/// A source of patients.
#[derive(Debug, Clone, Copy)]
pub struct Hospital {
    seed: u64,
}

impl Hospital {
    /// The hospital of a seed.
    pub const fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// Patient number `index`: the resources, Patient first.
    pub fn patient(&self, index: u64) -> Vec<Value> {
        let mut dice = self.dice(index);
        let person = person::draw(&mut dice, index);
        let mut resources = vec![person.resource.clone()];
        let ailments = codes::ailments_of(&mut dice, person.age_at_last_visit);
        let visits = encounter::draw(&mut dice, &person, &ailments);
        resources.extend(visits.iter().map(|visit| visit.resource.clone()));
        for ailment in &ailments {
            let visit = dice.pick(&visits).clone();
            resources.push(condition::draw(&mut dice, &person, &visit, ailment));
        }
        for visit in &visits {
            resources.extend(observation::draw_vital_signs(&mut dice, &person, visit));
        }
        for ailment in &ailments {
            let visit = dice.pick(&visits).clone();
            resources.extend(observation::draw_laboratory(&mut dice, &person, &visit, ailment));
            resources.extend(medication::draw(&mut dice, &person, &visit, ailment));
        }
        let order = [
            "Patient",
            "Encounter",
            "Condition",
            "Observation",
            "MedicationRequest",
        ];
        resources.sort_by_key(|resource| order.iter().position(|one| resource["resourceType"] == *one));
        resources
    }

    /// All resources of the first `count` patients, patient by patient.
    pub fn resources(self, count: u64) -> impl Iterator<Item = Value> {
        (0..count).flat_map(move |index| self.patient(index))
    }

    fn dice(self, index: u64) -> Dice {
        Dice::new(self.seed).split(index)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn key(resource: &Value) -> String {
        format!(
            "{}/{}",
            resource["resourceType"].as_str().unwrap(),
            resource["id"].as_str().unwrap()
        )
    }

    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    if let ("reference", Value::String(target)) = (name.as_str(), member) {
                        found.push(target.clone());
                    }
                    references(member, found);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_patients_in_any_order() {
        let hospital = Hospital::new(7);
        let late = hospital.patient(19);
        let all: Vec<Value> = hospital.resources(20).collect();
        assert!(all.ends_with(&late));
        assert_ne!(Hospital::new(8).patient(19), late);
    }

    #[test]
    fn references_point_backwards_and_ids_are_unique_and_not_numeric() {
        let mut known = BTreeSet::new();
        for resource in Hospital::new(1).resources(200) {
            let mut targets = Vec::new();
            references(&resource, &mut targets);
            for target in targets {
                assert!(
                    known.contains(&target),
                    "{target} is not there before it is referred to"
                );
            }
            let id = resource["id"].as_str().unwrap();
            assert!(id.len() <= 64 && !id.bytes().all(|byte| byte.is_ascii_digit()));
            assert!(known.insert(key(&resource)));
        }
    }

    #[test]
    fn every_kind_of_untidiness_occurs() {
        let text: String = Hospital::new(1)
            .resources(300)
            .map(|resource| resource.to_string() + "\n")
            .collect();
        for part in [
            "http://snomed.info/sct",
            "http://loinc.org",
            "http://hl7.org/fhir/sid/icd-10",
            "http://www.nlm.nih.gov/research/umls/rxnorm",
            "dataAbsentReason",
            "_birthDate",
            "deceasedDateTime",
            "deceasedBoolean",
            "onsetAge",
            "onsetPeriod",
            "valueCodeableConcept",
            "valueString",
            "\"component\"",
            "referenceRange",
            "\"meta\"",
            "0,\"unit\"",
            "李",
            "entered-in-error",
        ] {
            assert!(text.contains(part), "{part} does not occur");
        }
        assert!(
            text.lines()
                .any(|line| line.contains("\"Patient\"") && !line.contains("\"gender\""))
        );
        assert!(text.lines().any(
            |line| line.contains("\"Condition\"") && !line.contains("\"coding\":[{\"system\":\"http://s")
        ));
    }
}
