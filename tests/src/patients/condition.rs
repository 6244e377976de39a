//! Diagnoses.

use chrono::Duration;
use serde_json::{Value, json};

use super::codes::Ailment;
use super::dice::Dice;
use super::encounter::{Visit, date_time};
use super::person::Person;

pub(crate) fn draw(dice: &mut Dice, person: &Person, visit: &Visit, ailment: &Ailment) -> Value {
    let status = if ailment.chronic {
        *dice.pick(&["active", "active", "active", "recurrence", "remission"])
    } else {
        *dice.pick(&["active", "resolved", "resolved", "inactive"])
    };
    let mut condition = json!({"resourceType": "Condition", "id": dice.id()});
    let wrong = dice.percent(2);
    // FHIR forbids a clinical status where the entry was a mistake.
    if !wrong && dice.percent(96) {
        condition["clinicalStatus"] = json!({"coding": [
            {"system": "http://terminology.hl7.org/CodeSystem/condition-clinical", "code": status},
        ]});
    }
    if wrong || dice.percent(85) {
        let verification = if wrong {
            "entered-in-error"
        } else {
            *dice.pick(&["confirmed", "confirmed", "provisional"])
        };
        condition["verificationStatus"] = json!({"coding": [
            {"system": "http://terminology.hl7.org/CodeSystem/condition-ver-status", "code": verification},
        ]});
    }
    if dice.percent(70) {
        condition["category"] = json!([{"coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/condition-category",
            "code": *dice.pick(&["encounter-diagnosis", "problem-list-item"]),
        }]}]);
    }
    condition["code"] = code(dice, ailment);
    if dice.percent(15) {
        condition["bodySite"] = json!([{"text": "left"}, {"text": "right"}]);
    }
    condition["subject"] = person.reference.clone();
    if dice.percent(90) {
        condition["encounter"] = visit.reference.clone();
    }
    onset(dice, &mut condition, person, visit);
    if status == "resolved" && !wrong {
        let days = dice.between(3, 90);
        condition["abatementDateTime"] = json!(date_time(visit.start + Duration::days(days)));
    }
    if dice.percent(80) {
        condition["recordedDate"] = json!(date_time(visit.start));
    }
    if dice.percent(10) {
        condition["note"] =
            json!([{"text": "Family history; see letter.\nFollow-up in 3 months – „dringend“."}]);
    }
    condition
}

/// Both codings, one, or words only.
fn code(dice: &mut Dice, ailment: &Ailment) -> Value {
    let snomed =
        json!({"system": "http://snomed.info/sct", "code": ailment.snomed, "display": ailment.display});
    let icd10 = json!({"system": "http://hl7.org/fhir/sid/icd-10", "code": ailment.icd10});
    let mut code = match dice.between(1, 100) {
        1..=55 => json!({"coding": [snomed, icd10]}),
        56..=75 => json!({"coding": [snomed]}),
        76..=92 => json!({"coding": [icd10]}),
        93..=96 => {
            json!({"coding": [icd10, snomed, {"system": "http://hospital.example.org/dx", "code": format!("L-{}", ailment.icd10), "userSelected": true}]})
        }
        _ => return json!({"text": ailment.display.to_lowercase()}),
    };
    if dice.percent(75) {
        code["text"] = json!(ailment.display);
    }
    code
}

fn onset(dice: &mut Dice, condition: &mut Value, person: &Person, visit: &Visit) {
    match dice.between(1, 100) {
        1..=65 => condition["onsetDateTime"] = json!(date_time(visit.start)),
        66..=75 => condition["onsetDateTime"] = json!(visit.start.format("%Y-%m").to_string()),
        76..=84 => {
            let age = dice.between(0, person.age_at_last_visit);
            condition["onsetAge"] =
                json!({"value": age, "unit": "years", "system": "http://unitsofmeasure.org", "code": "a"});
        }
        85..=89 => condition["onsetPeriod"] = json!({"start": visit.start.format("%Y").to_string()}),
        90..=93 => condition["onsetString"] = json!("since childhood"),
        _ => {}
    }
}
