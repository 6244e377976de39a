//! Columns: types, tags, paths, and values that do not fit.

use fhir_core::{
    column::ColumnKind,
    row::Rows,
    view::{CompiledView, EvalError},
};
use serde_json::{Value, json};

use crate::run::{rows, text, try_rows, view};

/// The cell of a column with these members over `value`, or the error.
fn cell(mut column: Value, value: &Value) -> Result<String, EvalError> {
    column["name"] = "x".into();
    if column.get("path").is_none() {
        column["path"] = "v".into();
    }
    let view = view(&json!([{"column": [column]}]));
    let rows = try_rows(&view, &json!({"resourceType": "Patient", "v": value}))?;
    Ok(text(&rows[0][0]))
}

fn of_type(fhir_type: &str) -> Value {
    json!({"type": fhir_type})
}

fn tagged(ansi: &str) -> Value {
    json!({"tag": [{"name": "ansi/type", "value": ansi}]})
}

#[test]
fn values_in_their_columns() {
    for (column, value, expected) in [
        (of_type("boolean"), json!(true), "true"),
        (of_type("integer"), json!(-5), "-5"),
        (of_type("integer64"), json!("9000000000"), "9000000000"),
        (of_type("decimal"), json!(1.5), "1.5"),
        (
            of_type("instant"),
            json!("2020-01-01T00:00:00.1234567+02:00"),
            "2019-12-31T22:00:00.123456+00:00",
        ),
        (of_type("date"), json!("2020-01"), "2020-01"),
        (
            of_type("dateTime"),
            json!("2020-01-01T00:00:00+02:00"),
            "2020-01-01T00:00:00+02:00",
        ),
        (of_type("Quantity"), json!({"value": 1}), r#"{"value":1}"#),
        (of_type("string"), json!(5), "5"),
        (json!({}), json!(1.5), "1.5"),
        (json!({}), json!(true), "true"),
        (tagged("DATE"), json!("2020-01-31"), "2020-01-31"),
        (tagged("DATE"), json!("2020-01-31T10:00:00Z"), "2020-01-31"),
        (tagged("TIME"), json!("10:30:00.5"), "10:30:00.500"),
        (
            tagged("TIMESTAMP"),
            json!("2020-01-31T10:00:00"),
            "2020-01-31 10:00:00",
        ),
        (tagged("TIMESTAMP"), json!("2020-01-31"), "2020-01-31 00:00:00"),
        (
            tagged("TIMESTAMP WITH TIME ZONE"),
            json!("2020-01-31T23:59:60Z"),
            "2020-02-01T00:00:00+00:00",
        ),
        (tagged("NUMERIC(5,2)"), json!(123.456), "123.46"),
        (tagged("DOUBLE PRECISION"), json!(1.5), "1.5"),
        (tagged("INTEGER"), json!(7), "7"),
        (tagged("VARCHAR(10)"), json!("text"), "text"),
    ] {
        assert_eq!(
            cell(column.clone(), &value).as_deref(),
            Ok(expected),
            "{column} {value}"
        );
    }
}

#[test]
fn values_that_do_not_fit_are_errors_that_say_no_value() {
    for (column, value) in [
        (of_type("boolean"), json!("true")),
        (of_type("integer"), json!(1.5)),
        (of_type("integer"), json!(3_000_000_000_u32)),
        (of_type("integer"), json!("secret")),
        (of_type("integer64"), json!(true)),
        (of_type("decimal"), json!("secret")),
        (of_type("instant"), json!("2020-01-01")),
        (of_type("instant"), json!("2020-01-01T00:00:00")),
        (tagged("DATE"), json!("2020-01")),
        (tagged("TIME"), json!("secret")),
        (tagged("NUMERIC(3,2)"), json!(10)),
        (tagged("TIMESTAMP"), json!("2020")),
    ] {
        let error = cell(column.clone(), &value).unwrap_err();
        assert!(
            matches!(&error, EvalError::Type { column, .. } if column == "x"),
            "{column} {value}: {error}"
        );
        assert!(!error.to_string().contains("secret"));
    }
    let no_type = cell(json!({}), &json!({"a": "secret"})).unwrap_err();
    assert_eq!(no_type, EvalError::NotPrimitive { column: "x".into() });
    let declared = cell(of_type("string"), &json!({"a": "secret"})).unwrap_err();
    assert!(matches!(declared, EvalError::Type { .. }));
    assert_eq!(
        cell(of_type("string"), &json!("a\0b")),
        Err(EvalError::Nul { column: "x".into() })
    );
    assert!(cell(of_type("Quantity"), &json!({"unit": "a\0b"})).is_err());
}

/// Evaluates one column over a body that is given as text.
fn of_text(column: &str, body: &str) -> Result<String, EvalError> {
    let view = CompiledView::from_json(&format!(
        r#"{{"resource":"Patient","select":[{{"column":[{column}]}}]}}"#
    ))
    .unwrap();
    let mut rows = Rows::default();
    view.evaluate(body.as_bytes(), &mut rows)?;
    Ok(text(&rows.0[0][0]))
}

#[test]
fn numbers_keep_their_lexical_form() {
    let decimal = r#"{"name":"x","path":"v","type":"decimal"}"#;
    let long = "9".repeat(200);
    for number in [
        "1.0",
        "1.00",
        "-0.0",
        "1E-7",
        "12345678901234567890.123",
        long.as_str(),
        "1e400",
    ] {
        let body = format!(r#"{{"resourceType":"Patient","v":{number}}}"#);
        assert_eq!(of_text(decimal, &body).as_deref(), Ok(number));
    }
    for number in ["1e999999999999999999999", "1e200000", "1e-20000"] {
        let body = format!(r#"{{"resourceType":"Patient","v":{number}}}"#);
        assert!(
            matches!(of_text(decimal, &body), Err(EvalError::Type { .. })),
            "{number}"
        );
        let body = format!(r#"{{"resourceType":"Patient","v":{{"a":{number}}}}}"#);
        assert!(
            of_text(r#"{"name":"x","path":"v","type":"Quantity"}"#, &body).is_err(),
            "{number}"
        );
    }
    let compare = r#"{"name":"x","path":"v > 1e3"}"#;
    assert!(
        CompiledView::from_json(&format!(
            r#"{{"resource":"Patient","select":[{{"column":[{compare}]}}]}}"#
        ))
        .is_err()
    );
    let compare = r#"{"name":"x","path":"v > 1000.5"}"#;
    assert_eq!(
        of_text(compare, r#"{"resourceType":"Patient","v":1e400}"#).as_deref(),
        Ok("true")
    );
}

#[test]
fn duplicate_keys_and_odd_strings() {
    let column = r#"{"name":"x","path":"v","type":"string"}"#;
    assert_eq!(
        of_text(column, r#"{"resourceType":"Patient","v":"a","v":"b"}"#).as_deref(),
        Ok("b")
    );
    assert_eq!(
        of_text(column, r#"{"resourceType":"Patient","v":"\ud83d\ude00\n\u0041"}"#).as_deref(),
        Ok("😀\nA")
    );
    assert_eq!(
        of_text(column, r#"{"resourceType":"Patient","v":"a\ud800b"}"#).as_deref(),
        Ok("a\u{fffd}b")
    );
    assert_eq!(
        of_text(column, r#"{"resourceType":"Patient","v":"\udc00\ud800\u0041"}"#).as_deref(),
        Ok("\u{fffd}\u{fffd}A")
    );
    let json = r#"{"name":"x","path":"v","type":"Quantity"}"#;
    let body = r#"{"resourceType":"Patient","v":{"a":"\ud800\"\\\u0007","b":[1,null,{}],"c":true}}"#;
    let expected = "{\"a\":\"\u{fffd}\\\"\\\\\\u0007\",\"b\":[1,null,{}],\"c\":true}";
    assert_eq!(
        of_text(json, body).as_deref(),
        Ok(expected),
        "jsonb refuses half a surrogate pair"
    );
    assert!(matches!(
        of_text(column, "{\"resourceType\":\"Patient\",\"v\":\"\u{1}\"}"),
        Err(EvalError::Json(_))
    ));
}

#[test]
fn kinds_without_a_type_come_from_the_expression() {
    for (path, kind) in [
        ("name.exists()", ColumnKind::Boolean),
        ("name.empty()", ColumnKind::Boolean),
        ("active.not()", ColumnKind::Boolean),
        ("gender = 'x'", ColumnKind::Boolean),
        ("a and b", ColumnKind::Boolean),
        ("name.count()", ColumnKind::Integer),
        ("%rowIndex", ColumnKind::Integer),
        ("1 + 2", ColumnKind::Integer),
        ("1 / 2", ColumnKind::Decimal),
        ("1 + 2.0", ColumnKind::Decimal),
        ("1 + n", ColumnKind::Text),
        ("'x'", ColumnKind::Text),
        ("gender", ColumnKind::Text),
        ("getResourceKey()", ColumnKind::Text),
    ] {
        let view = view(&json!([{"column": [{"name": "x", "path": path}]}]));
        assert_eq!(view.columns()[0].kind, kind, "{path}");
        assert!(
            rows(&view, &json!({"resourceType": "Patient", "id": "a", "n": 1})).len() == 1,
            "{path}"
        );
    }
}

#[test]
fn columns_say_what_search_parameters_bind_to() {
    let view = view(&json!([
        {"column": [{"name": "id", "path": "getResourceKey()"}]},
        {"forEach": "code.coding", "column": [{"name": "code", "path": "code"}],
         "select": [{"forEachOrNull": "extension", "column": [{"name": "url", "path": "url"}]}]},
        {"forEach": "name.given", "column": [{"name": "given", "path": "$this"}, {"name": "id2", "path": "$this.id"}]},
        {"unionAll": [{"forEach": "telecom", "column": [{"name": "phone", "path": "value", "tags": [{"name": "search-param", "value": "phone"}]}]}]},
        {"repeat": ["item", "answer.item"], "column": [{"name": "link", "path": "linkId"}]}
    ]));
    let paths: Vec<_> = view.columns().iter().map(|c| c.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "getResourceKey()",
            "code.coding.code",
            "code.coding.extension.url",
            "name.given",
            "name.given.id",
            "telecom.value",
            "repeat(item | answer.item).linkId"
        ]
    );
    assert_eq!(
        view.columns()[5].tags,
        [("search-param".to_owned(), "phone".to_owned())]
    );
}

#[test]
fn a_compiled_view_is_shared_between_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<CompiledView>();
}
