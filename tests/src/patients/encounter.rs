//! Visits.

use chrono::{Duration, NaiveDate, NaiveDateTime};
use serde_json::{Value, json};

use super::codes::Ailment;
use super::dice::Dice;
use super::person::{LAST_YEAR, Person};

/// A visit, and what its other resources need of it.
#[derive(Debug, Clone)]
pub(crate) struct Visit {
    pub(crate) resource: Value,
    pub(crate) reference: Value,
    pub(crate) start: NaiveDateTime,
}

/// Class of v3-ActCode; SNOMED CT code and words of the type; longest stay in minutes.
const KINDS: &[(&str, &str, &str, i64)] = &[
    ("AMB", "185349003", "Encounter for check up", 60),
    ("AMB", "185345009", "Encounter for symptom", 45),
    ("EMER", "50849002", "Emergency room admission", 600),
    ("IMP", "32485007", "Hospital admission", 20_000),
    ("VR", "448337001", "Telemedicine consultation", 30),
];

/// An instant as a FHIR dateTime, in the hospital's zone.
pub(crate) fn date_time(at: NaiveDateTime) -> String {
    at.format("%Y-%m-%dT%H:%M:%S+01:00").to_string()
}

pub(crate) fn draw(dice: &mut Dice, person: &Person, ailments: &[&Ailment]) -> Vec<Visit> {
    let count = dice.between(1, 2) + i64::try_from(ailments.len()).unwrap_or(0).min(5);
    (0..count).map(|_| draw_one(dice, person, ailments)).collect()
}

fn draw_one(dice: &mut Dice, person: &Person, ailments: &[&Ailment]) -> Visit {
    let id = dice.id();
    let (class, code, words, longest) = *dice.pick(KINDS);
    let day: NaiveDate = dice.day(
        (LAST_YEAR - person.age_at_last_visit + 1).clamp(2012, LAST_YEAR),
        LAST_YEAR,
    );
    let start = day.and_time(chrono::NaiveTime::MIN) + Duration::seconds(dice.between(25_000, 70_000));
    let status = *dice.pick(&[
        "finished",
        "finished",
        "finished",
        "finished",
        "in-progress",
        "cancelled",
        "planned",
    ]);
    let mut encounter = json!({
        "resourceType": "Encounter",
        "id": id,
        "status": status,
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": class},
    });
    if dice.percent(90) {
        encounter["type"] = json!([{
            "coding": [{"system": "http://snomed.info/sct", "code": code, "display": words}],
            "text": words,
        }]);
    }
    encounter["subject"] = person.reference.clone();
    if dice.percent(60) {
        encounter["participant"] = json!([{"individual": {"display": "Dr. Κωνσταντίνου"}}]);
    }
    if dice.percent(95) {
        let mut period = json!({"start": date_time(start)});
        if status == "finished" {
            period["end"] = json!(date_time(start + Duration::minutes(dice.between(5, longest))));
        }
        encounter["period"] = period;
    }
    if dice.percent(50) && !ailments.is_empty() {
        let ailment = dice.pick(ailments);
        encounter["reasonCode"] = json!([{"coding": [
            {"system": "http://snomed.info/sct", "code": ailment.snomed, "display": ailment.display},
        ]}]);
    }
    if class == "IMP" {
        encounter["hospitalization"] = json!({"dischargeDisposition": {"text": "Discharged to home"}});
        encounter["length"] = json!({"value": dice.decimal(5, 190, 1), "unit": "d", "system": "http://unitsofmeasure.org", "code": "d"});
    }
    let reference = json!({"reference": format!("Encounter/{id}")});
    Visit {
        resource: encounter,
        reference,
        start,
    }
}
