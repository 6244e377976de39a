//! What is made of one resource is bounded in bytes, and what is usual is far from every limit.

use fhir_core::{row::Rows, view::EvalError};
use serde_json::{Value, json};

use crate::run::view;

fn evaluate(select: &Value, resource: &str) -> Result<usize, EvalError> {
    view(select).evaluate(resource.as_bytes(), &mut Rows::default())
}

fn patient(members: &str) -> String {
    format!(r#"{{"resourceType":"Patient",{members}}}"#)
}

fn list(value: &str, count: usize) -> String {
    format!("[{}]", vec![value; count].join(","))
}

/// What is made of a resource, in cells or on the way to them, is bounded: a typed error comes before the memory is gone.
#[test]
fn what_is_built_of_one_resource_is_bounded() {
    let text = patient(&format!(
        r#""a":{},"b":"{}""#,
        list("{}", 10_000),
        "x".repeat(100_000)
    ));
    let rows = json!([{"forEach": "a", "column": [{"name": "x", "path": "%resource.b", "type": "string"}]}]);
    assert!(matches!(evaluate(&rows, &text), Err(EvalError::TooLarge { .. })));
    let built = json!([{"forEach": "a", "column": [{"name": "x", "path": "%resource.b & %resource.b"}]}]);
    assert!(evaluate(&built, &text).is_err());
    let list =
        json!([{"column": [{"name": "x", "path": "a.select(%resource.b & 'y')", "collection": true}]}]);
    let told = evaluate(&list, &text).unwrap_err().to_string();
    assert!(told.contains("bytes of text"), "{told}");
    let json = json!([{"forEach": "a", "column": [{"name": "x", "path": "%resource", "type": "Patient"}]}]);
    assert!(evaluate(&json, &text).is_err());
}

/// One row alone may be too long.
#[test]
fn a_wide_row_of_a_long_text_is_bounded() {
    let text = patient(&format!(r#""gender":"{}""#, "x".repeat(1 << 20)));
    let columns: Vec<_> = (0..300)
        .map(|n| json!({"name": format!("c{n}"), "path": "gender"}))
        .collect();
    assert!(matches!(
        evaluate(&json!([{"column": columns}]), &text),
        Err(EvalError::TooLarge { .. })
    ));
}

/// What stands in the view, or was built once, and comes again in each row is as many bytes each time.
#[test]
fn what_comes_again_in_each_row_counts_each_time() {
    let text = patient(&format!(r#""a":{}"#, list("{}", 3_000)));
    let long = "x".repeat(1 << 20);
    let constant = json!({"resourceType": "ViewDefinition", "name": "v", "status": "active", "resource": "Patient",
        "constant": [{"name": "c", "valueString": long}],
        "select": [{"forEach": "a", "column": [{"name": "x", "path": "%c", "type": "string"}]}]});
    let view = fhir_core::view::CompiledView::from_json(&constant.to_string()).unwrap();
    let evaluated = view.evaluate(text.as_bytes(), &mut Rows::default());
    assert!(
        matches!(evaluated, Err(EvalError::TooLarge { .. })),
        "{evaluated:?}"
    );
    let doubled = "'0123456789abcdef'".to_owned() + &".select($this & $this)".repeat(16);
    let built = json!([{"column": [{"name": "x", "path": doubled}]}, {"forEach": "a", "column": [{"name": "y", "path": "id"}]}]);
    assert!(matches!(evaluate(&built, &text), Err(EvalError::TooLarge { .. })));
}

/// A quantity's unit is copied with it: a long one is none.
#[test]
fn long_units_are_none() {
    let text = patient(&format!(r#""b":"1 '{}'""#, "x".repeat(300)));
    let units = json!([{"column": [{"name": "x", "path": "b.toQuantity().exists()", "type": "boolean"}]}]);
    let mut rows = Rows::default();
    view(&units).evaluate(text.as_bytes(), &mut rows).unwrap();
    assert!(format!("{rows:?}").contains("false"), "{rows:?}");
}

/// A rich view of a long resource stays far below the limits.
#[test]
fn what_is_usual_is_far_from_the_limits() {
    let observation = |i: usize| {
        json!({"fullUrl": format!("urn:uuid:{i}"), "resource": {"resourceType": "Observation", "id": format!("o{i}"), "status": "final",
            "code": {"coding": [{"system": "http://loinc.org", "code": format!("{i}-1"), "display": "a name of some length"}]},
            "subject": {"reference": "Patient/p1"}, "effectiveDateTime": "2020-02-03T04:05:06Z",
            "valueQuantity": {"value": 1.5, "unit": "mg", "system": "http://unitsofmeasure.org", "code": "mg"}}})
    };
    let entries: Vec<_> = (0..1_000).map(observation).collect();
    let patient =
        json!({"resourceType": "Patient", "entry": entries, "text": {"div": "word ".repeat(20_000)}});
    let select = json!([
        {"column": [{"name": "words", "path": "text.div.matches('\\\\w+@\\\\w+')"}, {"name": "n", "path": "descendants().count()"}]},
        {"forEach": "entry.resource", "column": [
            {"name": "code", "path": "code.coding.where(system = 'http://loinc.org').code.replaceMatches('^(\\\\d+)-', '$1/')"},
            {"name": "of", "path": "value.ofType(Quantity) > 1 'g'"},
            {"name": "first", "path": "%resource.entry[0].resource.id"},
            {"name": "day", "path": "effective.ofType(dateTime).toString().substring(0, 10)"}
        ]}
    ]);
    assert_eq!(evaluate(&select, &patient.to_string()), Ok(1_000));
}
