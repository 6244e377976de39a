//! Rows: the specification's processing algorithm, with the passages that runners get wrong.

use fhir_core::{column::ColumnKind, fhirpath::error::Fault, view::EvalError};
use serde_json::{Value, json};

use crate::run::{rows, try_rows, try_view, view};

fn patient() -> Value {
    json!({
        "resourceType": "Patient",
        "id": "p1",
        "name": [{"family": "Ash", "given": ["Ada", "Bo"]}, {"family": "Elm"}],
        "telecom": [{"value": "t1"}, {"value": "t2"}],
        "contact": [{"telecom": [{"value": "c1"}]}, {"gender": "male"}]
    })
}

#[test]
fn one_row_without_iteration_and_sibling_selects_side_by_side() {
    let view = view(&json!([
        {"column": [{"name": "id", "path": "id"}]},
        {"column": [{"name": "family", "path": "name.first().family"}, {"name": "none", "path": "photo.url"}]}
    ]));
    assert_eq!(rows(&view, &patient()), ["p1|Ash|-"]);
}

#[test]
fn for_each_multiplies_and_drops() {
    let id = json!({"column": [{"name": "id", "path": "id"}]});
    let names = json!({"forEach": "name", "column": [{"name": "family", "path": "family"}]});
    let phones = json!({"forEach": "telecom", "column": [{"name": "phone", "path": "value"}]});
    let photos = json!({"forEach": "photo", "column": [{"name": "url", "path": "url"}]});
    assert_eq!(rows(&view(&json!([id, names])), &patient()), ["p1|Ash", "p1|Elm"]);
    assert_eq!(
        rows(&view(&json!([id, names, phones])), &patient()),
        ["p1|Ash|t1", "p1|Ash|t2", "p1|Elm|t1", "p1|Elm|t2"]
    );
    assert!(rows(&view(&json!([id, names, photos])), &patient()).is_empty());
}

#[test]
fn for_each_over_primitives_and_the_flattened_index() {
    let given = view(&json!([{"forEach": "name.given", "column": [{"name": "given", "path": "$this"}]}]));
    assert_eq!(rows(&given, &patient()), ["Ada", "Bo"]);
    let first =
        view(&json!([{"forEach": "contact.telecom[0]", "column": [{"name": "value", "path": "value"}]}]));
    assert_eq!(rows(&first, &patient()), ["c1"]);
}

#[test]
fn the_null_row_has_null_in_every_column_of_the_subtree() {
    let view = view(&json!([
        {"column": [{"name": "id", "path": "id"}]},
        {
            "forEachOrNull": "photo",
            "column": [
                {"name": "url", "path": "url"},
                {"name": "literal", "path": "'x'"},
                {"name": "known", "path": "url.exists()"},
                {"name": "all", "path": "url", "collection": true},
                {"name": "place", "path": "%rowIndex"},
                {"name": "places", "path": "%rowIndex", "collection": true},
                {"name": "exact", "path": "%rowIndex", "tag": [{"name": "ansi/type", "value": "NUMERIC(5,2)"}]},
                {"name": "rough", "path": "%rowIndex", "tag": [{"name": "ansi/type", "value": "FLOAT"}]}
            ],
            "select": [{"forEach": "nested", "column": [{"name": "nested", "path": "value"}, {"name": "inner", "path": "%rowIndex"}]}],
            "unionAll": [
                {"column": [{"name": "united", "path": "'a'"}]},
                {"forEach": "other", "column": [{"name": "united", "path": "'b'"}]}
            ]
        }
    ]));
    assert_eq!(rows(&view, &patient()), ["p1|-|-|-|-|0|-|0|0|-|0|-"]);
}

#[test]
fn for_each_or_null_with_items_is_for_each() {
    let view = view(&json!([
        {"forEachOrNull": "name", "column": [{"name": "family", "path": "family"}],
         "select": [{"forEachOrNull": "given", "column": [{"name": "given", "path": "$this"}]}]}
    ]));
    assert_eq!(rows(&view, &patient()), ["Ash|Ada", "Ash|Bo", "Elm|-"]);
}

#[test]
fn a_row_before_does_not_shine_through_a_null_row() {
    let view = view(&json!([
        {"forEach": "contact", "column": [{"name": "gender", "path": "gender"}],
         "select": [{"forEachOrNull": "telecom", "column": [{"name": "value", "path": "value"}]}]}
    ]));
    assert_eq!(rows(&view, &patient()), ["-|c1", "male|-"]);
}

#[test]
fn union_all_concatenates_and_keeps_duplicates() {
    let branch = |path: &str| json!({"forEach": path, "column": [{"name": "value", "path": "value"}]});
    let view_of =
        |branches: &[Value]| view(&json!([{"column": [{"name": "id", "path": "id"}], "unionAll": branches}]));
    let both = view_of(&[branch("telecom"), branch("contact.telecom"), branch("telecom")]);
    assert_eq!(
        rows(&both, &patient()),
        ["p1|t1", "p1|t2", "p1|c1", "p1|t1", "p1|t2"]
    );
    let none = view_of(&[branch("photo"), branch("nothing")]);
    assert!(rows(&none, &patient()).is_empty());
    let nested = view_of(&[
        json!({"unionAll": [branch("telecom"), branch("photo")]}),
        branch("contact.telecom"),
    ]);
    assert_eq!(rows(&nested, &patient()), ["p1|t1", "p1|t2", "p1|c1"]);
}

#[test]
fn columns_come_own_first_then_nested_then_united() {
    let view = view(&json!([
        {
            "unionAll": [{"column": [{"name": "f", "path": "'6'"}]}, {"column": [{"name": "f", "path": "'7'"}]}],
            "select": [
                {"unionAll": [{"column": [{"name": "d", "path": "'4'"}]}], "column": [{"name": "b", "path": "'2'"}],
                 "select": [{"column": [{"name": "c", "path": "'3'"}]}]},
                {"column": [{"name": "e", "path": "'5'"}]}
            ],
            "column": [{"name": "a", "path": "'1'"}]
        },
        {"column": [{"name": "g", "path": "'8'"}]}
    ]));
    let names: Vec<_> = view.columns().iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c", "d", "e", "f", "g"]);
    assert_eq!(rows(&view, &patient()), ["1|2|3|4|5|6|8", "1|2|3|4|5|7|8"]);
}

#[test]
fn a_collection_is_always_a_list() {
    let column = |path: &str| view(&json!([{"column": [{"name": "x", "path": path, "collection": true}]}]));
    assert_eq!(rows(&column("name.given"), &patient()), ["[Ada,Bo]"]);
    assert_eq!(rows(&column("id"), &patient()), ["[p1]"]);
    assert_eq!(rows(&column("photo.url"), &patient()), ["[]"]);
}

#[test]
fn several_values_without_collection_are_an_error() {
    let view = view(&json!([{"column": [{"name": "family", "path": "name.family"}]}]));
    let error = try_rows(&view, &patient()).unwrap_err();
    assert_eq!(
        error,
        EvalError::SeveralValues {
            column: "family".into()
        }
    );
    assert_eq!(
        error.to_string(),
        "column family: several values, and the column is no collection"
    );
}

#[test]
fn where_keeps_only_what_is_true_and_the_type_comes_first() {
    let view_of = |path: &str| {
        let select = json!([{"column": [{"name": "id", "path": "id"}]}]);
        try_view(
            &json!({"resource": "Patient", "where": [{"path": "true"}, {"path": path}], "select": select}),
        )
        .unwrap()
    };
    assert_eq!(rows(&view_of("name.exists()"), &patient()), ["p1"]);
    assert!(rows(&view_of("photo.exists()"), &patient()).is_empty());
    assert!(rows(&view_of("photo.url = 'x'"), &patient()).is_empty());
    let not_boolean = view_of("name.family");
    assert_eq!(
        try_rows(&not_boolean, &patient()),
        Err(EvalError::WhereNotBoolean { index: 1 })
    );
    let single = view_of("id");
    assert_eq!(
        try_rows(&single, &patient()),
        Err(EvalError::WhereNotBoolean { index: 1 })
    );
    // Another type has no rows, whatever its `where` would say.
    let other = json!({"resourceType": "Basic", "name": [{"family": "a"}, {"family": "b"}]});
    assert_eq!(try_rows(&not_boolean, &other), Ok(vec![]));
    let failing = view_of("name.family < 'a'");
    assert_eq!(
        try_rows(&failing, &patient()),
        Err(EvalError::Where {
            index: 1,
            fault: Fault::Several("<")
        })
    );
}

#[test]
fn constants_of_every_type() {
    let patient = json!({"resourceType": "Patient", "a": "x", "u": "urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0", "b64": "aGk=", "n": 3, "d": 1.0, "b": true, "at": "2020-01-01T00:00:00Z", "t": "10:30:00", "day": "2020-01-01"});
    for (value, json, path) in [
        ("valueString", json!("x"), "a = %c"),
        ("valueCode", json!("x"), "a = %c"),
        ("valueUri", json!("x"), "a = %c"),
        (
            "valueUuid",
            json!("urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0"),
            "u = %c",
        ),
        ("valueBase64Binary", json!("aGk="), "b64 = %c"),
        ("valueCanonical", json!("x"), "a = %c"),
        ("valueInteger", json!(3), "n = %c"),
        ("valueInteger64", json!("3"), "n = %c"),
        ("valuePositiveInt", json!(3), "n = %c"),
        ("valueDecimal", json!(1), "d = %c"),
        ("valueBoolean", json!(true), "b = %c"),
        ("valueInstant", json!("2020-01-01T01:00:00+01:00"), "at = %c"),
        ("valueDateTime", json!("2020-01-01T00:00:00.000Z"), "at = %c"),
        ("valueDate", json!("2020-01-01"), "day = %c"),
        ("valueTime", json!("10:30:00.0"), "t = %c"),
    ] {
        let definition = json!({
            "resource": "Patient", "constant": [{"name": "c", value: json}], "where": [{"path": path}],
            "select": [{"column": [{"name": "c", "path": "%c"}]}]
        });
        assert_eq!(
            rows(&try_view(&definition).unwrap(), &patient).len(),
            1,
            "{value}"
        );
    }
}

#[test]
fn an_integer64_stays_one() {
    for (path, kind, expected) in [
        ("%c", ColumnKind::BigInt, "5"),
        ("%big", ColumnKind::BigInt, "9000000000"),
        ("-%big", ColumnKind::BigInt, "-9000000000"),
        ("-%c * 1000000000", ColumnKind::BigInt, "-5000000000"),
        ("%big.floor()", ColumnKind::BigInt, "9000000000"),
        ("%big div 1.0", ColumnKind::BigInt, "9000000000"),
        ("%c.lowBoundary()", ColumnKind::Decimal, "4.50000000"),
        ("iif(active.exists(), 1, %c)", ColumnKind::BigInt, "5"),
        (
            "%small.combine(%c).sum() * 1000000000",
            ColumnKind::BigInt,
            "10000000000",
        ),
        ("(2147483647).combine(1).avg()", ColumnKind::Decimal, "1073741824"),
        ("%least mod -1", ColumnKind::BigInt, "0"),
        ("%c.power(10) div 2", ColumnKind::Integer, "4882812"),
        ("%c * 1000000000", ColumnKind::BigInt, "5000000000"),
        ("%c * %c - 4000000000", ColumnKind::BigInt, "-3999999975"),
        ("%big div 2", ColumnKind::BigInt, "4500000000"),
        ("%big / 2", ColumnKind::Decimal, "4500000000"),
        ("%c + 0.5", ColumnKind::Decimal, "5.5"),
        ("%small * 1000000000", ColumnKind::Integer, "-"),
        ("3000000000 - 1", ColumnKind::BigInt, "2999999999"),
        ("-2147483648", ColumnKind::Integer, "-2147483648"),
    ] {
        let view = try_view(&json!({
            "resource": "Patient",
            "constant": [
                {"name": "c", "valueInteger64": "5"},
                {"name": "big", "valueInteger64": "9000000000"},
                {"name": "small", "valueInteger": 5},
                {"name": "least", "valueInteger64": "-9223372036854775808"},
            ],
            "select": [{"column": [{"name": "c", "path": path}]}]
        }))
        .unwrap();
        assert_eq!(view.columns()[0].kind, kind, "{path}");
        assert_eq!(rows(&view, &patient()), [expected], "{path}");
    }
}

#[test]
fn repeat_goes_down_in_pre_order() {
    let item = |id: &str, below: Value| json!({"linkId": id, "item": below});
    let questionnaire = json!({"resourceType": "Patient", "item": [
        item("1", json!([item("1.1", json!([{"linkId": "1.1.1"}])), item("1.2", json!([]))])),
        {"linkId": "2", "answer": [{"item": [{"linkId": "2.a"}]}]}
    ]});
    let columns = json!([{"name": "id", "path": "linkId"}, {"name": "n", "path": "%rowIndex"}]);
    let one = view(&json!([{"repeat": ["item"], "column": columns}]));
    assert_eq!(
        rows(&one, &questionnaire),
        ["1|0", "1.1|1", "1.1.1|2", "1.2|3", "2|4"]
    );
    let two = view(&json!([{"repeat": ["item", "answer.item"], "column": columns}]));
    assert_eq!(
        rows(&two, &questionnaire),
        ["1|0", "1.1|1", "1.1.1|2", "1.2|3", "2|4", "2.a|5"]
    );
    assert!(rows(&two, &patient()).is_empty());
}

#[test]
fn repeat_ends() {
    let endless = view(&json!([{"repeat": ["$this"], "column": [{"name": "x", "path": "id"}]}]));
    let error = try_rows(&endless, &patient()).unwrap_err();
    assert_eq!(
        error,
        EvalError::RepeatDepth {
            at: "select[0].repeat[0]".into(),
            limit: 64
        }
    );
    let growing = view(&json!([{"repeat": ["$this", "$this"], "column": [{"name": "x", "path": "id"}]}]));
    assert!(try_rows(&growing, &patient()).is_err());
}

#[test]
fn rows_of_one_resource_are_bounded() {
    let many: Vec<Value> = (0..400).map(|i| json!({"value": i})).collect();
    let patient = json!({"resourceType": "Patient", "a": many});
    let each = |name: &str| json!({"forEach": "a", "column": [{"name": name, "path": "value"}]});
    let view = view(&json!([each("x"), each("y")]));
    assert_eq!(
        try_rows(&view, &patient),
        Err(EvalError::TooManyRows { limit: 100_000 })
    );
    // Also where the product is empty in the end.
    let empty = json!({"forEach": "photo", "column": [{"name": "p", "path": "url"}]});
    let view = crate::run::view(&json!([each("x"), each("y"), each("z"), empty]));
    assert_eq!(
        try_rows(&view, &patient),
        Err(EvalError::TooManyNodes { limit: 1_000_000 })
    );
}

#[test]
fn row_index_counts_the_nearest_iteration() {
    let index = |name: &str| json!([{"name": name, "path": "%rowIndex"}]);
    let view = view(&json!([
        {"column": index("top")},
        {"forEach": "telecom", "column": index("outer"),
         "select": [
            {"column": index("inherited")},
            {"forEach": "%resource.name", "column": index("inner")}
         ],
         "unionAll": [{"column": index("united")}]}
    ]));
    assert_eq!(
        rows(&view, &patient()),
        ["0|0|0|0|0", "0|0|0|1|0", "0|1|1|0|1", "0|1|1|1|1"]
    );
}

#[test]
fn contained_resources_have_no_rows() {
    let view = view(&json!([{"column": [{"name": "id", "path": "id"}]}]));
    let holder = json!({"resourceType": "Group", "id": "g", "contained": [{"resourceType": "Patient", "id": "inner"}]});
    assert!(rows(&view, &holder).is_empty());
}

#[test]
fn a_body_that_is_no_resource_is_an_error() {
    let view = view(&json!([{"column": [{"name": "id", "path": "id"}]}]));
    for body in ["[]", "{}", "null", "\"x\"", r#"{"resourceType": 1}"#] {
        let mut sink = fhir_core::row::Rows::default();
        assert_eq!(
            view.evaluate(body.as_bytes(), &mut sink),
            Err(EvalError::NotAResource),
            "{body}"
        );
    }
    for body in [
        "",
        "{",
        "{\"a\" 1}",
        "{\"a\":1,}",
        "[1 2]",
        "tru",
        "01",
        "1.",
        "\"\u{1}\"",
        "{} {}",
        "\"\\x\"",
        "\"\\ud8",
    ] {
        let mut sink = fhir_core::row::Rows::default();
        let error = view.evaluate(body.as_bytes(), &mut sink).unwrap_err();
        assert!(matches!(error, EvalError::Json(_)), "{body}: {error}");
    }
}
