use super::*;

fn query(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}

fn get(pairs: &[(&str, &str)]) -> Result<RunRequest, Outcome> {
    RunRequest::read(Operation::SqlRun, None, query(pairs), None)
}

fn post(parameters: &str) -> Result<RunRequest, Outcome> {
    let body = format!(r#"{{"resourceType":"Parameters","parameter":[{parameters}]}}"#);
    RunRequest::read(Operation::SqlRun, None, Vec::new(), Some(&body))
}

/// Status, code and parameters of the first issue.
fn first(refused: &Outcome) -> (u16, &str, Vec<&str>) {
    let issue = &refused.issues[0];
    (
        refused.status,
        issue.code,
        issue.expression.iter().map(String::as_str).collect(),
    )
}

const VIEW: (&str, &str) = ("subjectReference", "ViewDefinition/v");

#[test]
fn a_url_holds_all_that_is_no_resource() {
    let asked = get(&[
        ("subjectCanonical", "http://x.org/v|2.0"),
        ("_format", "csv"),
        ("header", "false"),
        ("patient", "Patient/1"),
        ("patient", "2"),
        ("group", "Group/g"),
        ("_since", "2026-01-31T10:00:00+01:00"),
        ("_limit", "0"),
    ])
    .expect("good");
    let canonical = Canonical {
        url: "http://x.org/v".into(),
        version: Some("2.0".into()),
    };
    assert_eq!(asked.subject.named, Named::Canonical(canonical));
    assert_eq!(
        (asked.format, asked.header, asked.limit),
        (Some(Format::Csv), false, Some(0))
    );
    assert_eq!(
        (asked.patients, asked.groups),
        (vec!["1".to_owned(), "2".to_owned()], vec!["g".to_owned()])
    );
    // Later than, not at.
    assert_eq!(
        asked.since.map(|at| at.to_rfc3339()).as_deref(),
        Some("2026-01-31T09:00:00.000001+00:00")
    );
}

#[test]
fn a_body_holds_the_same_as_typed_values_and_resources() {
    let asked = post(
        r#"{"name":"subjectResource","resource":{"resourceType":"ViewDefinition","x":1.10}},
           {"name":"_format","valueCode":"json"},{"name":"header","valueBoolean":false},{"name":"_limit","valueInteger":7},
           {"name":"patient","valueReference":{"reference":"Patient/1"}},{"name":"_since","valueInstant":"2026-01-31T10:00:00Z"},
           {"name":"resource","resource":{"resourceType":"Patient","id":"a"}},
           {"name":"resource","resource":{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Patient","id":"b"}},{"fullUrl":"x"}]}}"#,
    )
    .expect("good");
    let Named::Resource(text) = asked.subject.named else {
        panic!("inline")
    };
    assert!(text.contains("1.10"), "every digit stays: {text}");
    assert_eq!(asked.resources.expect("given").len(), 2);
    assert_eq!(
        (asked.format, asked.header, asked.limit),
        (Some(Format::Json), false, Some(7))
    );
}

#[test]
fn exactly_one_subject_is_named() {
    let refused = get(&[("_format", "csv")]).expect_err("none");
    assert_eq!(first(&refused).1, "required");
    let refused = get(&[VIEW, ("subjectCanonical", "http://x")]).expect_err("two");
    assert_eq!(
        first(&refused),
        (400, "invalid", vec!["subjectCanonical", "subjectReference"])
    );
    let refused = RunRequest::read(
        Operation::ViewDefinitionRun,
        Some("v"),
        query(&[("viewReference", "x")]),
        None,
    );
    assert_eq!(
        first(&refused.expect_err("the path names it")).2,
        ["viewReference"]
    );
    let asked = RunRequest::read(Operation::ViewDefinitionRun, Some("v"), Vec::new(), None).expect("good");
    assert_eq!(asked.subject.named, Named::Reference("ViewDefinition/v".into()));
}

#[test]
fn each_parameter_is_refused_by_its_name_and_never_with_its_value() {
    for (name, value, code) in [
        ("subjectResource", "x", "invalid"),
        ("parameters", "x", "invalid"),
        ("context", "x", "invalid"),
        ("resource", "x", "invalid"),
        ("_format", "parquet", "not-supported"),
        ("_format", "s3cret", "not-supported"),
        ("header", "s3cret", "invalid"),
        ("patient", "s3cret/..", "invalid"),
        ("patient", "Group/1", "invalid"),
        ("group", "http://x/Group/1", "invalid"),
        ("_since", "s3cret", "invalid"),
        ("_since", "2026-01-31", "invalid"),
        ("_limit", "s3cret", "invalid"),
        ("_limit", "-1", "invalid"),
        ("source", "s3cret", "not-supported"),
        ("_count", "1", "not-supported"),
    ] {
        let refused = get(&[VIEW, (name, value)]).expect_err(name);
        assert_eq!(first(&refused), (400, code, vec![name]), "{name}={value}");
        assert!(!refused.to_string().contains("s3cret"), "{refused}");
    }
    let refused = get(&[VIEW, ("Doe, Jane", "x")]).expect_err("unknown");
    assert!(!refused.to_string().contains("Jane"), "{refused}");
    let refused = get(&[VIEW, ("_limit", "1"), ("_limit", "2")]).expect_err("twice");
    assert_eq!(first(&refused), (400, "invalid", vec!["_limit"]));
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let refused = get(&[("_limit", "x"), ("_format", "y"), ("z", "1")]).expect_err("four mistakes");
    assert_eq!(refused.issues.len(), 4, "{refused}");
}

#[test]
fn a_body_that_is_not_of_the_form_is_refused() {
    for body in [
        "",
        "[]",
        "{}",
        r#"{"resourceType":"Patient"}"#,
        r#"{"resourceType":"Parameters","parameter":{}}"#,
    ] {
        let refused = RunRequest::read(Operation::SqlRun, None, Vec::new(), Some(body)).expect_err(body);
        assert_eq!(refused.status, 400, "{body}");
    }
    for (parameter, name) in [
        (r#"{"name":"_limit","valueString":"1"}"#, "_limit"),
        (
            r#"{"name":"_limit","valueInteger":1,"valueString":"1"}"#,
            "_limit",
        ),
        (r#"{"name":"header","valueString":"true"}"#, "header"),
        (
            r#"{"name":"subjectReference","valueReference":{}}"#,
            "subjectReference",
        ),
        (r#"{"name":"subjectResource","part":[]}"#, "subjectResource"),
        (r#"{"name":"resource","resource":{"id":"x"}}"#, "resource"),
        (
            r#"{"name":"resource","resource":{"resourceType":"Bundle","entry":[{"resource":1}]}}"#,
            "resource",
        ),
    ] {
        let refused = post(parameter).expect_err(parameter);
        let named = refused
            .issues
            .iter()
            .any(|issue| issue.expression.iter().any(|e| e == name));
        assert!(named, "{parameter}: {refused}");
    }
}
