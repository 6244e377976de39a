//! Each parameter in each form, on bodies as HAPI holds them; and what is refused.

use chrono::DateTime;

use super::*;

const CONDITION: &str = r#"{"resourceType":"Condition","id":"c","code":{"coding":[{"system":"http://snomed.info/sct","code":"44054006",
    "display":"Diabetes mellitus TYPE 2"},{"code":"local,1|a"},{"system":"http://x","display":"no code"}],"text":"Zuckerkrankheit GROß"},
    "subject":{"reference":"Patient/p-1"}}"#;

fn state(id: &str, content: Content) -> State {
    State {
        id: id.into(),
        version: 1,
        last_updated: DateTime::UNIX_EPOCH,
        content,
    }
}

fn examined(resource_type: &str, asked: &[(&str, &str)], body: &str) -> Examined {
    let search = Search::new(resource_type, asked.iter().copied()).unwrap();
    search.examine(&mut Tape::default(), &state("c", Content::Body(body.into())))
}

fn matches(resource_type: &str, name: &str, value: &str, body: &str) -> bool {
    matches!(
        examined(resource_type, &[(name, value)], body),
        Examined::Match(_)
    )
}

fn refused(resource_type: &str, name: &str, value: &str) -> InvalidField {
    Search::new(resource_type, [(name, value)]).unwrap_err()
}

#[test]
fn codes_are_found_in_every_form() {
    for (value, found) in [
        ("44054006", true),
        ("4405400", false),
        ("http://snomed.info/sct|44054006", true),
        ("http://loinc.org|44054006", false),
        ("|44054006", false),
        ("|local\\,1\\|a", true),
        ("local\\,1\\|a", true),
        ("local", false),
        ("http://snomed.info/sct|", true),
        ("http://loinc.org|", false),
        ("http://x|", false),
        ("1,44054006", true),
        ("1,2", false),
        ("http://loinc.org|1,http://snomed.info/sct|44054006", true),
    ] {
        assert_eq!(matches("Condition", "code", value, CONDITION), found, "{value}");
    }
}

#[test]
fn words_are_found_in_text_and_displays_whatever_their_case() {
    for (value, found) in [
        ("mellitus type", true),
        ("zuckerKRANK", true),
        ("gro\u{df}", true),
        ("no CODE", true),
        ("insipidus", false),
        ("insipidus,TYPE 2", true),
        ("44054006", false),
    ] {
        assert_eq!(
            matches("Condition", "code:text", value, CONDITION),
            found,
            "{value}"
        );
    }
}

#[test]
fn patients_are_found_by_id_type_and_url() {
    for (value, found) in [
        ("p-1", true),
        ("Patient/p-1", true),
        ("http://hapi.example/fhir/Patient/p-1", true),
        ("p-2", false),
        ("Patient/p-2,p-1", true),
    ] {
        assert_eq!(
            matches("Condition", "patient", value, CONDITION),
            found,
            "{value}"
        );
        assert_eq!(
            matches("Condition", "subject", value, CONDITION),
            found,
            "{value}"
        );
    }
    let of = |reference: &str| format!(r#"{{"subject":{{"reference":"{reference}"}}}}"#);
    for (reference, found) in [
        ("http://hapi.example/fhir/Patient/p-1", true),
        ("Patient/p-1/_history/3", true),
        ("Group/p-1", false),
        ("#p-1", false),
        ("urn:uuid:p-1", false),
        ("Patient?identifier=p-1", false),
    ] {
        assert_eq!(
            matches("Condition", "patient", "p-1", &of(reference)),
            found,
            "{reference}"
        );
    }
    assert!(matches("Condition", "subject", "Group/p-1", &of("Group/p-1")));
    assert!(!matches("Condition", "subject", "Patient/p-1", &of("Group/p-1")));
    assert!(matches("Condition", "subject", "p-1", &of("Group/p-1")));
}

#[test]
fn genders_are_found_with_and_without_their_system() {
    let body = r#"{"gender":"female"}"#;
    for (value, found) in [
        ("female", true),
        ("male", false),
        ("male,female", true),
        ("http://hl7.org/fhir/administrative-gender|female", true),
        ("http://hl7.org/fhir/administrative-gender|", true),
        ("http://hl7.org/fhir/administrative-gender|male", false),
    ] {
        assert_eq!(matches("Patient", "gender", value, body), found, "{value}");
        assert!(!matches("Patient", "gender", value, "{}"), "{value}");
    }
}

#[test]
fn each_types_own_elements_are_searched() {
    let concept = r#"{"coding":[{"code":"1"}]}"#;
    for (resource_type, name, body) in [
        (
            "MedicationRequest",
            "code",
            format!(r#"{{"medicationCodeableConcept":{concept}}}"#),
        ),
        ("AllergyIntolerance", "code", format!(r#"{{"code":{concept}}}"#)),
        (
            "AllergyIntolerance",
            "code",
            format!(r#"{{"reaction":[{{}},{{"substance":[{concept}]}}]}}"#),
        ),
        (
            "Immunization",
            "vaccine-code",
            format!(r#"{{"vaccineCode":{concept}}}"#),
        ),
        (
            "FamilyMemberHistory",
            "code",
            format!(r#"{{"condition":[{{"code":{concept}}}]}}"#),
        ),
        (
            "Questionnaire",
            "code",
            r#"{"item":[{"code":[{"code":"1"}]}]}"#.into(),
        ),
        (
            "Coverage",
            "patient",
            r#"{"beneficiary":{"reference":"Patient/1"}}"#.into(),
        ),
        (
            "Coverage",
            "beneficiary",
            r#"{"beneficiary":{"reference":"Patient/1"}}"#.into(),
        ),
        ("Task", "patient", r#"{"for":{"reference":"Patient/1"}}"#.into()),
        (
            "Appointment",
            "patient",
            r#"{"participant":[{"actor":{"reference":"Location/1"}},{"actor":{"reference":"Patient/1"}}]}"#
                .into(),
        ),
    ] {
        assert!(matches(resource_type, name, "1", &body), "{resource_type} {name}");
        assert!(
            !matches(resource_type, name, "2", &body),
            "{resource_type} {name}"
        );
    }
}

#[test]
fn several_parameters_must_all_hold() {
    let asked = |code, patient| examined("Condition", &[("code", code), ("patient", patient)], CONDITION);
    let found = Examined::Match(vec!["p-1".into()]);
    assert_eq!(asked("44054006", "p-1"), found);
    assert_eq!(asked("1", "p-1"), Examined::Not);
    assert_eq!(asked("44054006", "p-2"), Examined::Not);
    let twice = [("code", "44054006"), ("code", "local\\,1\\|a")];
    assert_eq!(examined("Condition", &twice, CONDITION), found);
    let twice = [("code", "44054006"), ("code", "1")];
    assert_eq!(examined("Condition", &twice, CONDITION), Examined::Not);
}

#[test]
fn ids_are_the_states_own_and_patients_their_own() {
    assert!(matches("Goal", "_id", "a,c", r#"{"id":"other"}"#));
    assert!(!matches("Goal", "_id", "a,b", r#"{"id":"a"}"#));
    assert_eq!(examined("Patient", &[], "{}"), Examined::Match(vec!["c".into()]));
    let body = r#"{"participant":[{"actor":{"reference":"Patient/a"}},{"actor":{"reference":"Practitioner/b"}},{"actor":{"reference":"Patient/c"}}]}"#;
    assert_eq!(
        examined("Appointment", &[], body),
        Examined::Match(vec!["a".into(), "c".into()])
    );
    assert_eq!(examined("Medication", &[], "{}"), Examined::Match(vec![]));
}

#[test]
fn what_has_no_body_matches_only_where_nothing_is_asked() {
    let all = Search::new("Patient", []).unwrap();
    let some = Search::new("Patient", [("_id", "c")]).unwrap();
    let tape = &mut Tape::default();
    let deleted = state("c", Content::Deleted);
    assert_eq!(all.examine(tape, &deleted), Examined::Match(vec![]));
    assert_eq!(some.examine(tape, &deleted), Examined::Not);
    for content in [
        Content::Unreadable("it lies elsewhere".into()),
        Content::Body(b"{\"id\":".to_vec()),
    ] {
        assert_eq!(
            all.examine(tape, &state("c", content.clone())),
            Examined::Unreadable
        );
        assert_eq!(some.examine(tape, &state("c", content)), Examined::Unreadable);
    }
}

#[test]
fn bodies_of_other_shapes_match_nothing_and_break_nothing() {
    for body in [
        "[]",
        "1",
        r#"{"code":1,"subject":"Patient/p-1","gender":["x"]}"#,
        r#"{"code":{"coding":"44054006","text":5},"subject":{"reference":{}}}"#,
        r#"{"code":[[{"coding":[[1]]}]],"subject":null}"#,
    ] {
        for (name, value) in [
            ("code", "44054006"),
            ("code:text", "a"),
            ("patient", "p-1"),
            ("subject", "p-1"),
        ] {
            assert!(!matches("Condition", name, value, body), "{name} {body}");
        }
        assert!(!matches("Patient", "gender", "male", body), "{body}");
    }
}

#[test]
fn what_cannot_be_bound_is_refused_by_name_with_what_can() {
    for (resource_type, name, known) in [
        ("Condition", "birthdate", "_id, code, code:text, patient, subject"),
        ("Condition", "gender", "_id, code, code:text, patient, subject"),
        ("Patient", "code", "_id, gender"),
        ("Patient", "gender:not", "_id, gender"),
        (
            "Immunization",
            "code",
            "_id, vaccine-code, vaccine-code:text, patient",
        ),
        ("AllergyIntolerance", "x", "_id, code, code:text, patient"),
        ("Condition", "code:in", "_id, code, code:text, patient, subject"),
        (
            "Condition",
            "patient:Patient",
            "_id, code, code:text, patient, subject",
        ),
        ("Condition", "_id:text", "_id, code, code:text, patient, subject"),
    ] {
        let error = refused(resource_type, name, "Zaphod");
        assert_eq!(error.field, "parameters.name");
        let rule = format!("{name} cannot be bound to an element of {resource_type}; these can: {known}");
        assert_eq!(error.rule, rule);
    }
    for name in ["", "Zaphod Beeblebrox", "\u{e9}", &"x".repeat(65)] {
        let error = refused("Patient", name, "Zaphod");
        assert_eq!(
            error.rule,
            "must be the name of a search parameter of Patient: _id, gender"
        );
    }
    let many = vec![("_id", "a"); MAX_PARAMETERS + 1];
    assert!(Search::new("Patient", many[1..].iter().copied()).is_ok());
    assert_eq!(Search::new("Patient", many).unwrap_err().field, "parameters");
}

#[test]
fn a_bad_value_is_refused_by_rule_and_not_shown() {
    let many = "Zaphod,".repeat(1_000) + "Zaphod";
    for (resource_type, name, value, rule) in [
        ("Patient", "gender", "Zaphod", "male, female, other, unknown"),
        ("Patient", "gender", "Male", "male, female, other, unknown"),
        ("Patient", "gender", "|male", "administrative-gender|"),
        (
            "Patient",
            "gender",
            "http://Zaphod|male",
            "administrative-gender|",
        ),
        ("Patient", "gender", "", "must not be empty"),
        ("Patient", "_id", "Zaphod Beeblebrox", "1 to 64 letters"),
        ("Patient", "_id", "Patient/Zaphod", "1 to 64 letters"),
        ("Condition", "code", "Zaphod,", "empty alternative"),
        ("Condition", "code", ",", "empty alternative"),
        ("Condition", "code", "|", "a system or a code"),
        ("Condition", "code", "Zaphod|1|2", "system|code"),
        ("Condition", "code", "Zaphod\\", "backslash"),
        ("Condition", "code", "\\Zaphod", "backslash"),
        ("Condition", "code", &many, "at most 1000 alternatives"),
        ("Condition", "code:text", " ", "must not be empty"),
        ("Condition", "patient", "Group/Zaphod", "Patient/id"),
        ("Condition", "patient", "Zaphod Beeblebrox", "Patient/id"),
        ("Condition", "patient", "Zaphod/Patient/1", "Patient/id"),
        ("Condition", "patient", "http://Zaphod/Patient", "Patient/id"),
        ("Condition", "subject", "#Zaphod", "Type/id"),
        ("Condition", "subject", "urn:uuid:Zaphod", "Type/id"),
    ] {
        let error = refused(resource_type, name, value);
        assert_eq!(error.field, "parameters.value", "{name}={value}");
        assert!(error.rule.starts_with(&format!("of {name} must ")), "{error}");
        assert!(error.rule.contains(rule), "{error}");
        assert!(!error.to_string().contains("Zaphod"), "{error}");
    }
}
