//! Findings: laboratory results, vital signs, and what is said in words or codes.

use serde_json::{Value, json};

use super::codes::{Ailment, Test};
use super::dice::{Dice, decimal};
use super::encounter::{Visit, date_time};
use super::person::Person;

const UCUM: &str = "http://unitsofmeasure.org";

const HEIGHT: Test = Test {
    loinc: "8302-2",
    display: "Body height",
    unit: "cm",
    low: 480,
    high: 2020,
    normal: (480, 2020),
    digits: 1,
};
const WEIGHT: Test = Test {
    loinc: "29463-7",
    display: "Body weight",
    unit: "kg",
    low: 300,
    high: 14_000,
    normal: (300, 14_000),
    digits: 2,
};
const HEART_RATE: Test = Test {
    loinc: "8867-4",
    display: "Heart rate",
    unit: "/min",
    low: 42,
    high: 151,
    normal: (60, 100),
    digits: 0,
};
const TEMPERATURE: Test = Test {
    loinc: "8310-5",
    display: "Body temperature",
    unit: "Cel",
    low: 355,
    high: 412,
    normal: (361, 375),
    digits: 1,
};

/// What is measured at most visits.
pub(crate) fn draw_vital_signs(dice: &mut Dice, person: &Person, visit: &Visit) -> Vec<Value> {
    let mut found = Vec::new();
    if dice.percent(60) {
        found.push(blood_pressure(dice, person, visit));
    }
    for test in [HEIGHT, WEIGHT, HEART_RATE, TEMPERATURE] {
        if dice.percent(30) {
            found.push(measured(dice, person, visit, &test, "vital-signs"));
        }
    }
    if dice.percent(25) {
        found.push(smoking_status(dice, person, visit));
    }
    if dice.percent(6) {
        let mut finding = base(
            dice,
            person,
            visit,
            "exam",
            "10210-3",
            "Physical findings of General status Narrative",
        );
        finding["valueString"] =
            json!(*dice.pick(&["unauffällig", "alert & oriented ×3", "cachectic; pale\tskin"]));
        found.push(finding);
    }
    found
}

/// What an illness makes one measure.
pub(crate) fn draw_laboratory(
    dice: &mut Dice,
    person: &Person,
    visit: &Visit,
    ailment: &Ailment,
) -> Vec<Value> {
    let mut found = Vec::new();
    for test in ailment.tests {
        for _ in 0..dice.between(1, 2) {
            found.push(measured(dice, person, visit, test, "laboratory"));
        }
    }
    found
}

fn base(
    dice: &mut Dice,
    person: &Person,
    visit: &Visit,
    category: &str,
    loinc: &str,
    display: &str,
) -> Value {
    let status = *dice.pick(&[
        "final",
        "final",
        "final",
        "final",
        "final",
        "preliminary",
        "amended",
        "entered-in-error",
    ]);
    let mut observation = json!({"resourceType": "Observation", "id": dice.id(), "status": status});
    if dice.percent(96) {
        observation["category"] = json!([{"coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": category,
        }]}]);
    }
    let mut coding = vec![json!({"system": "http://loinc.org", "code": loinc, "display": display})];
    if dice.percent(25) {
        coding.push(json!({"system": "http://hospital.example.org/lab", "code": format!("LAB{}", loinc.replace('-', ""))}));
    }
    observation["code"] = json!({"coding": coding});
    if dice.percent(70) {
        observation["code"]["text"] = json!(display);
    }
    observation["subject"] = person.reference.clone();
    if dice.percent(92) {
        observation["encounter"] = visit.reference.clone();
    }
    match dice.between(1, 100) {
        1..=85 => observation["effectiveDateTime"] = json!(date_time(visit.start)),
        86..=90 => observation["effectiveDateTime"] = json!(visit.start.format("%Y-%m-%d").to_string()),
        91..=95 => {
            observation["effectivePeriod"] = json!({"start": date_time(visit.start)});
        }
        _ => {}
    }
    if dice.percent(80) {
        let millis = dice.between(0, 999);
        observation["issued"] = json!(
            visit
                .start
                .format(&format!("%Y-%m-%dT%H:%M:%S.{millis:03}Z"))
                .to_string()
        );
    }
    observation
}

fn measured(dice: &mut Dice, person: &Person, visit: &Visit, test: &Test, category: &str) -> Value {
    let mut observation = base(dice, person, visit, category, test.loinc, test.display);
    if dice.percent(3) {
        observation["dataAbsentReason"] = json!({"coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/data-absent-reason",
            "code": *dice.pick(&["error", "not-performed"]),
        }]});
        return observation;
    }
    let units = dice.between(test.low, test.high);
    let mut quantity = json!({
        "value": decimal(units, test.digits), "unit": test.unit, "system": UCUM, "code": test.unit,
    });
    if dice.percent(4) {
        quantity["comparator"] = json!(*dice.pick(&["<", ">="]));
    }
    observation["valueQuantity"] = quantity;
    let (low, high) = test.normal;
    if dice.percent(60) && category == "laboratory" {
        let flag = match units {
            _ if units < low => "L",
            _ if units > high => "H",
            _ => "N",
        };
        observation["interpretation"] = json!([{"coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation", "code": flag,
        }]}]);
        observation["referenceRange"] = json!([{
            "low": {"value": decimal(low, test.digits), "unit": test.unit},
            "high": {"value": decimal(high, test.digits), "unit": test.unit},
        }]);
    }
    observation
}

fn blood_pressure(dice: &mut Dice, person: &Person, visit: &Visit) -> Value {
    let mut observation = base(
        dice,
        person,
        visit,
        "vital-signs",
        "85354-9",
        "Blood pressure panel",
    );
    let component = |code: &str, display: &str, value: Value| {
        json!({
            "code": {"coding": [{"system": "http://loinc.org", "code": code, "display": display}]},
            "valueQuantity": {"value": value, "unit": "mm[Hg]", "system": UCUM, "code": "mm[Hg]"},
        })
    };
    let systolic = dice.decimal(880, 2100, 1);
    let mut components = vec![component("8480-6", "Systolic blood pressure", systolic)];
    if dice.percent(97) {
        let diastolic = dice.decimal(48, 119, 0);
        components.push(component("8462-4", "Diastolic blood pressure", diastolic));
    }
    observation["component"] = Value::Array(components);
    observation
}

fn smoking_status(dice: &mut Dice, person: &Person, visit: &Visit) -> Value {
    let mut observation = base(
        dice,
        person,
        visit,
        "social-history",
        "72166-2",
        "Tobacco smoking status",
    );
    let (code, display) = *dice.pick(&[
        ("266919005", "Never smoked tobacco"),
        ("8517006", "Ex-smoker"),
        ("77176002", "Smoker"),
    ]);
    observation["valueCodeableConcept"] = json!({
        "coding": [{"system": "http://snomed.info/sct", "code": code, "display": display}], "text": display,
    });
    observation
}
