//! The resources that are written, and what each view must show of them. All that a body holds follows from the resource and a sequence number, so an
//! answer's rows can be held to it by a few lines here, which share nothing with the evaluator of views.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use super::history::Key;

/// System of the identifier that tells these resources from all others.
const SYSTEM: &str = "urn:consistency";

/// Codes of conditions.
pub const CODES: [&str; 3] = ["one", "two", "three"];

/// Genders of patients.
pub const GENDERS: [&str; 4] = ["male", "female", "other", "unknown"];

/// A sort of resources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Patients that others refer to: they are never deleted.
    Home,
    /// Patients that come and go.
    Guest,
    /// Conditions of the home's patients, now of one, now of another.
    Condition,
    /// Observations.
    Observation,
}

/// How many there are of each sort, and what their ids begin with.
#[derive(Debug, Clone)]
pub struct Population {
    /// Begins all ids.
    pub prefix: String,
    /// Patients that are never deleted.
    pub homes: usize,
    /// Of each of the other sorts.
    pub others: usize,
}

/// A resource that is written.
#[derive(Debug, Clone)]
pub struct Subject {
    /// Its sort.
    pub kind: Kind,
    /// Its number among those of its sort.
    pub index: usize,
    /// Type and id.
    pub key: Key,
}

impl Population {
    /// All of them; those that others refer to come first.
    pub fn subjects(&self) -> Vec<Subject> {
        let sorts = [
            (Kind::Home, self.homes),
            (Kind::Guest, self.others),
            (Kind::Condition, self.others),
            (Kind::Observation, self.others),
        ];
        let all = sorts
            .into_iter()
            .flat_map(|(kind, count)| (0..count).map(move |index| (kind, index)));
        all.map(|(kind, index)| self.subject(kind, index)).collect()
    }

    fn subject(&self, kind: Kind, index: usize) -> Subject {
        let (resource_type, name) = match kind {
            Kind::Home => ("Patient", "home"),
            Kind::Guest => ("Patient", "guest"),
            Kind::Condition => ("Condition", "condition"),
            Kind::Observation => ("Observation", "observation"),
        };
        Subject {
            kind,
            index,
            key: Key {
                resource_type,
                id: format!("{}-{name}-{index:03}", self.prefix),
            },
        }
    }

    /// The patient of a condition at a sequence number.
    fn patient_of(&self, index: usize, sequence: u64) -> String {
        let step = usize::try_from(sequence / 3).unwrap_or_default();
        self.subject(Kind::Home, (index + step) % self.homes.max(1))
            .key
            .id
    }

    /// The body with which the resource is put.
    pub fn body(&self, subject: &Subject, sequence: u64) -> Value {
        let Subject { kind, index, key } = subject;
        let mut body = json!({
            "resourceType": key.resource_type, "id": key.id,
            "identifier": [{"system": SYSTEM, "value": sequence.to_string()}],
        });
        match kind {
            Kind::Home | Kind::Guest => {
                body["active"] = json!(active(sequence));
                body["gender"] = json!(gender(sequence));
                let names: Vec<Value> = parts(sequence, names(sequence))
                    .map(|part| json!({"family": part}))
                    .collect();
                body["name"] = json!(names);
            }
            Kind::Condition => {
                body["subject"] =
                    json!({"reference": format!("Patient/{}", self.patient_of(*index, sequence))});
                body["code"] = json!({"coding": [{"system": SYSTEM, "code": code(sequence)}]});
                let system = "http://terminology.hl7.org/CodeSystem/condition-clinical";
                body["clinicalStatus"] = json!({"coding": [{"system": system, "code": status(sequence)}]});
            }
            Kind::Observation => {
                body["status"] = json!(if is_final(sequence) {
                    "final"
                } else {
                    "preliminary"
                });
                body["code"] = json!({"text": "of the consistency checker"});
                body["issued"] = json!(issued(sequence));
                body["valueQuantity"] = quantity(sequence, 0);
                let parts: Vec<Value> = parts(sequence, components(sequence))
                    .enumerate()
                    .map(|(number, part)| json!({"code": {"text": part}, "valueQuantity": quantity(sequence, number)}))
                    .collect();
                if !parts.is_empty() {
                    body["component"] = json!(parts);
                }
            }
        }
        body
    }
}

fn names(sequence: u64) -> u64 {
    1 + sequence % 4
}

fn components(sequence: u64) -> u64 {
    sequence % 4
}

fn active(sequence: u64) -> bool {
    !sequence.is_multiple_of(3)
}

fn is_final(sequence: u64) -> bool {
    sequence.is_multiple_of(2)
}

fn gender(sequence: u64) -> &'static str {
    GENDERS[usize::try_from(sequence % 4).unwrap_or_default()]
}

fn code(sequence: u64) -> &'static str {
    CODES[usize::try_from(sequence % 3).unwrap_or_default()]
}

fn status(sequence: u64) -> &'static str {
    if sequence.is_multiple_of(2) {
        "resolved"
    } else {
        "active"
    }
}

/// `7:2/3`: of change 7 the second of three.
fn parts(sequence: u64, count: u64) -> impl Iterator<Item = String> {
    (1..=count).map(move |number| format!("{sequence}:{number}/{count}"))
}

/// With a zero at its end, which a number that is not exact would lose.
fn value(sequence: u64, number: usize) -> String {
    format!("{sequence}.{number}0")
}

fn quantity(sequence: u64, number: usize) -> Value {
    let number: Option<serde_json::Number> = value(sequence, number).parse().ok();
    json!({"value": number, "unit": "1"})
}

fn issued(sequence: u64) -> String {
    let at = DateTime::<Utc>::UNIX_EPOCH + TimeDelta::seconds(i64::try_from(sequence).unwrap_or_default());
    at.format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A view that is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// A row for each name of a patient.
    Names,
    /// A row for each patient that is in use.
    Active,
    /// A row for each condition.
    Conditions,
    /// A row for each condition that is resolved.
    Resolved,
    /// A row for each component of an observation.
    Components,
    /// A row for each observation that is final.
    Final,
}

impl View {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Names,
        Self::Active,
        Self::Conditions,
        Self::Resolved,
        Self::Components,
        Self::Final,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Names => "consistency_names",
            Self::Active => "consistency_active",
            Self::Conditions => "consistency_conditions",
            Self::Resolved => "consistency_resolved",
            Self::Components => "consistency_components",
            Self::Final => "consistency_final",
        }
    }

    /// The resources that it is over.
    pub fn resource_type(self) -> &'static str {
        match self {
            Self::Names | Self::Active => "Patient",
            Self::Conditions | Self::Resolved => "Condition",
            Self::Components | Self::Final => "Observation",
        }
    }

    /// Its columns: the first is the resource's id, the second the sequence number.
    pub fn columns(self) -> &'static [&'static str] {
        match self {
            Self::Names => &["id", "seq", "active", "part"],
            Self::Active => &["id", "seq", "gender"],
            Self::Conditions => &["id", "seq", "patient_id", "code", "status"],
            Self::Resolved => &["id", "seq", "patient_id"],
            Self::Components => &["id", "seq", "issued", "part", "value"],
            Self::Final => &["id", "seq", "value"],
        }
    }
}

/// A row: the texts of its values, in the order of [`View::columns`].
pub type Row = Vec<String>;

/// What a view must show.
pub trait Shows {
    /// The rows of a resource of the view's type in a state, in any order.
    fn rows(&self, view: View, id: &str, sequence: u64) -> Vec<Row>;
}

impl Shows for Population {
    fn rows(&self, view: View, id: &str, sequence: u64) -> Vec<Row> {
        let head = || vec![id.to_owned(), sequence.to_string()];
        let row = |more: Vec<String>| head().into_iter().chain(more).collect();
        match view {
            View::Names => parts(sequence, names(sequence))
                .map(|part| row(vec![active(sequence).to_string(), part]))
                .collect(),
            View::Active if active(sequence) => vec![row(vec![gender(sequence).to_owned()])],
            View::Conditions | View::Resolved => {
                let index = id.rsplit('-').next().and_then(|number| number.parse().ok());
                let patient = self.patient_of(index.unwrap_or_default(), sequence);
                if view == View::Conditions {
                    return vec![row(vec![
                        patient,
                        code(sequence).to_owned(),
                        status(sequence).to_owned(),
                    ])];
                }
                let resolved = status(sequence) == "resolved";
                resolved.then(|| row(vec![patient])).into_iter().collect()
            }
            View::Components => parts(sequence, components(sequence))
                .enumerate()
                .map(|(number, part)| row(vec![issued(sequence), part, value(sequence, number)]))
                .collect(),
            View::Final if is_final(sequence) => vec![row(vec![value(sequence, 0)])],
            View::Active | View::Final => Vec::new(),
        }
    }
}
