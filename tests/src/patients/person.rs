//! The patient.

use chrono::{Datelike, NaiveDate};
use serde_json::{Value, json};

use super::dice::Dice;

/// The last year of which this hospital has records.
pub(crate) const LAST_YEAR: i64 = 2025;

/// A patient, and what its other resources need of it.
#[derive(Debug, Clone)]
pub(crate) struct Person {
    pub(crate) resource: Value,
    pub(crate) reference: Value,
    pub(crate) age_at_last_visit: i64,
}

/// Family name, given names, official spelling, of many scripts.
const NAMES: &[(&str, &[&str], &str)] = &[
    ("Kowalczyk", &["Łucja", "Stanisław", "Zofia"], "PL"),
    ("Müller", &["Jürgen", "Anneliese", "Björn"], "DE"),
    ("O'Brien", &["Siobhán", "Pádraig", "Róisín"], "IE"),
    ("Nguyễn", &["Thị Hồng", "Văn Đức", "Ánh"], "VN"),
    ("李", &["小龙", "娜", "伟"], "CN"),
    ("Иванова", &["Ольга", "Алёна", "Мария"], "RU"),
    ("الحسن", &["فاطمة", "يوسف"], "EG"),
    ("García Márquez", &["José", "María José", "Íñigo"], "ES"),
    ("Smith", &["Alice", "Bob", "Grace", "James"], "US"),
    ("Johnson-Öberg", &["Åsa", "Nils", "Maja"], "SE"),
    ("Σταύρου", &["Ελένη", "Γιώργος"], "GR"),
    ("Çelik", &["İpek", "Oğuz"], "TR"),
    ("de la Cruz", &["Ana", "Luis"], "MX"),
    ("Kawasaki", &["さくら", "健太"], "JP"),
    ("Van der Berg", &["Joost", "Anneke"], "NL"),
];

const PLACES: &[(&str, &str, &str)] = &[
    ("Springfield", "MA", "01103"),
    ("Zürich", "ZH", "8001"),
    ("Łódź", "LD", "90-001"),
    ("Kraków", "MA", "30-002"),
    ("Boston", "MA", "02115"),
    ("São Paulo", "SP", "01000-000"),
    ("Reykjavík", "1", "101"),
];

const RACES: &[(&str, &str)] = &[
    ("2106-3", "White"),
    ("2054-5", "Black or African American"),
    ("2028-9", "Asian"),
    ("2131-1", "Other Race"),
];

pub(crate) fn draw(dice: &mut Dice, index: u64) -> Person {
    let id = dice.id();
    let born = dice.day(1931, LAST_YEAR - 2);
    let gender = *dice.pick(&[
        "male", "female", "male", "female", "male", "female", "other", "unknown",
    ]);
    let mut patient = json!({"resourceType": "Patient", "id": id});
    if dice.percent(40) {
        patient["meta"] = meta(dice);
    }
    if dice.percent(30) {
        patient["text"] = json!({
            "status": "generated",
            "div": "<div xmlns=\"http://www.w3.org/1999/xhtml\">A synthetic patient &amp; nobody else</div>",
        });
    }
    if dice.percent(60) {
        patient["extension"] = extensions(dice);
    }
    patient["identifier"] = identifiers(dice, index);
    if dice.percent(92) {
        patient["active"] = json!(dice.percent(95));
    }
    if dice.percent(97) {
        patient["name"] = names(dice, gender);
    }
    if dice.percent(70) {
        patient["telecom"] = telecom(dice);
    }
    if dice.percent(95) {
        patient["gender"] = json!(gender);
    }
    birth_date(dice, &mut patient, born);
    deceased(dice, &mut patient, born);
    if dice.percent(85) {
        patient["address"] = addresses(dice);
    }
    if dice.percent(50) {
        let (code, display) = *dice.pick(&[
            ("M", "Married"),
            ("S", "Never Married"),
            ("W", "Widowed"),
            ("D", "Divorced"),
        ]);
        patient["maritalStatus"] = json!({"coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/v3-MaritalStatus", "code": code, "display": display,
        }], "text": display});
    }
    if dice.percent(8) {
        patient["multipleBirthInteger"] = json!(dice.between(1, 3));
    }
    if dice.percent(25) {
        patient["communication"] = json!([{"language": {"coding": [
            {"system": "urn:ietf:bcp:47", "code": *dice.pick(&["en-US", "pl", "de-CH", "zh"])},
        ]}, "preferred": true}]);
    }
    if dice.percent(20) {
        // A practice outside the hospital: known by name only.
        patient["generalPractitioner"] = json!([{"display": "Dr. med. Ødegård"}]);
    }
    let reference = json!({"reference": format!("Patient/{id}")});
    Person {
        resource: patient,
        reference,
        age_at_last_visit: LAST_YEAR - i64::from(born.year()),
    }
}

fn meta(dice: &mut Dice) -> Value {
    let mut meta = json!({"profile": ["http://hl7.org/fhir/us/core/StructureDefinition/us-core-patient"]});
    if dice.percent(40) {
        meta["tag"] = json!([{"system": "http://example.org/fhir/ward", "code": *dice.pick(&["a1", "b2"]), "display": "Ward"}]);
    }
    if dice.percent(20) {
        meta["security"] = json!([{"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R", "display": "restricted"}]);
    }
    meta
}

fn extensions(dice: &mut Dice) -> Value {
    let (code, display) = *dice.pick(RACES);
    let mut extensions = vec![json!({
        "url": "http://hl7.org/fhir/us/core/StructureDefinition/us-core-race",
        "extension": [
            {"url": "ombCategory", "valueCoding": {"system": "urn:oid:2.16.840.1.113883.6.238", "code": code, "display": display}},
            {"url": "text", "valueString": display},
        ],
    })];
    if dice.percent(50) {
        let birth_sex = *dice.pick(&["F", "M", "UNK"]);
        extensions.push(json!({
            "url": "http://hl7.org/fhir/us/core/StructureDefinition/us-core-birthsex", "valueCode": birth_sex,
        }));
    }
    if dice.percent(30) {
        extensions.push(json!({
            "url": "http://example.org/fhir/StructureDefinition/quality-adjusted-life-years",
            "valueDecimal": dice.decimal(0, 90_000, 3),
        }));
    }
    Value::Array(extensions)
}

fn identifiers(dice: &mut Dice, index: u64) -> Value {
    let mut identifiers = vec![json!({
        "use": "usual",
        "type": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "MR"}]},
        "system": "http://hospital.example.org/mrn",
        "value": format!("MRN{index:09}"),
    })];
    if dice.percent(30) {
        let number = dice.between(10_000_000, 99_999_999);
        identifiers
            .push(json!({"system": "http://insurance.example.org/member", "value": format!("X-{number}")}));
    }
    Value::Array(identifiers)
}

fn names(dice: &mut Dice, gender: &str) -> Value {
    let (family, given, _) = *dice.pick(NAMES);
    let mut official = json!({"use": "official", "family": family});
    if dice.percent(97) {
        let mut all = vec![*dice.pick(given)];
        if dice.percent(25) {
            all.push(*dice.pick(given));
        }
        official["given"] = json!(all);
    }
    if dice.percent(20) {
        official["prefix"] = json!([if gender == "female" { "Dr." } else { "Prof." }]);
    }
    let mut names = vec![official];
    if dice.percent(15) {
        let (maiden, ..) = *dice.pick(NAMES);
        names.push(json!({"use": "maiden", "family": maiden, "period": {"end": "1999"}}));
    }
    if dice.percent(10) {
        names.insert(
            0,
            json!({"use": "nickname", "given": [*dice.pick(&["Bobby 🐻", "Ace", "Żaba"])]}),
        );
    }
    Value::Array(names)
}

fn telecom(dice: &mut Dice) -> Value {
    let mut telecom = vec![json!({
        "system": "phone", "value": format!("+1 555-{:04}", dice.between(0, 9999)), "use": *dice.pick(&["home", "mobile"]),
    })];
    if dice.percent(40) {
        telecom.push(json!({"system": "email", "value": format!("p{}@example.org", dice.between(1, 99_999)), "rank": 1}));
    }
    Value::Array(telecom)
}

/// Whole dates mostly; year and month, a year, none with the reason why.
fn birth_date(dice: &mut Dice, patient: &mut Value, born: NaiveDate) {
    match dice.between(1, 100) {
        1..=88 => patient["birthDate"] = json!(born.format("%Y-%m-%d").to_string()),
        89..=93 => patient["birthDate"] = json!(born.format("%Y-%m").to_string()),
        94..=96 => patient["birthDate"] = json!(born.format("%Y").to_string()),
        _ => {
            patient["_birthDate"] = json!({"extension": [{
                "url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown",
            }]});
        }
    }
}

fn deceased(dice: &mut Dice, patient: &mut Value, born: NaiveDate) {
    match dice.between(1, 100) {
        1..=8 => {
            let day = dice.day(i64::from(born.year()) + 1, LAST_YEAR);
            patient["deceasedDateTime"] = json!(format!("{}T{:02}:40:00+01:00", day, dice.between(0, 23)));
        }
        9..=20 => patient["deceasedBoolean"] = json!(dice.percent(10)),
        _ => {}
    }
}

fn addresses(dice: &mut Dice) -> Value {
    let (city, state, postal_code) = *dice.pick(PLACES);
    let mut address = json!({
        "use": "home",
        "line": [format!("{} Lindenstraße", dice.between(1, 220))],
        "city": city,
        "state": state,
        "postalCode": postal_code,
    });
    if dice.percent(30) {
        address["line"] = json!([
            format!("{} Rue de l’Hôpital", dice.between(1, 99)),
            "Apt. 3\u{a0}b"
        ]);
    }
    if dice.percent(30) {
        address["extension"] = json!([{
            "url": "http://hl7.org/fhir/StructureDefinition/geolocation",
            "extension": [
                {"url": "latitude", "valueDecimal": dice.decimal(-90_000_000, 90_000_000, 6)},
                {"url": "longitude", "valueDecimal": dice.decimal(-180_000_000, 180_000_000, 6)},
            ],
        }]);
    }
    if dice.percent(12) {
        return json!([address, {"use": "temp", "city": "Genève", "period": {"start": "2024-02"}}]);
    }
    json!([address])
}
