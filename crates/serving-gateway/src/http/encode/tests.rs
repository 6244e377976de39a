use api::proto::serving::{Value, ValueList, value::Kind};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;

use super::*;

fn column(name: &str, sql_type: &str) -> Column {
    Column {
        name: name.into(),
        sql_type: sql_type.into(),
        ..Column::default()
    }
}

fn row(kinds: Vec<Option<Kind>>) -> Row {
    let values = kinds.into_iter().map(|kind| Value { kind }).collect();
    Row { values }
}

#[expect(clippy::unnecessary_wraps, reason = "values of a row may be null")]
fn text(text: &str) -> Option<Kind> {
    Some(Kind::Text(text.into()))
}

fn written(format: Format, representation: Representation, columns: &[Column], rows: &[Row]) -> String {
    let mut encoder = Encoder::new(format, representation, true, columns).expect("columns that fit");
    let mut out = Vec::new();
    encoder.begin(&mut out);
    for row in rows {
        encoder.row(row, &mut out).expect("a row that fits");
    }
    encoder.end(&mut out);
    String::from_utf8(out).expect("UTF-8")
}

fn sample() -> (Vec<Column>, Vec<Row>) {
    let columns = [
        ("t", "text"),
        ("d", "numeric"),
        ("b", "bigint"),
        ("at", "timestamp with time zone"),
        ("yes", "boolean"),
    ];
    let at = prost_types::Timestamp {
        seconds: 1_769_853_600,
        nanos: 500_600_000,
    };
    let full = row(vec![
        text("a \"b\", c\nd"),
        Some(Kind::Decimal("1.50".into())),
        Some(Kind::Integer(9_007_199_254_740_993)),
        Some(Kind::Timestamp(at)),
        Some(Kind::Boolean(true)),
    ]);
    let columns = columns.map(|(name, sql_type)| column(name, sql_type)).to_vec();
    (
        columns,
        vec![
            full,
            row(vec![text(""), None, None, None, None]),
            row(vec![None; 5]),
        ],
    )
}

#[test]
fn lines_of_json_keep_every_digit_and_have_every_column() {
    let (columns, rows) = sample();
    let out = written(Format::Ndjson, Representation::Raw, &columns, &rows);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(
        lines[0],
        r#"{"t":"a \"b\", c\nd","d":1.50,"b":9007199254740993,"at":"2026-01-31T10:00:00.500600Z","yes":true}"#
    );
    assert_eq!(lines[2], r#"{"t":null,"d":null,"b":null,"at":null,"yes":null}"#);
    assert!(out.ends_with('\n'));
}

#[test]
fn an_array_of_json_is_whole_with_any_number_of_rows() {
    let (columns, rows) = sample();
    for count in 0..=rows.len() {
        let out = written(Format::Json, Representation::Raw, &columns, &rows[..count]);
        let parsed: Vec<serde_json::Value> = serde_json::from_str(&out).expect("JSON");
        assert_eq!(parsed.len(), count);
    }
}

#[test]
fn csv_quotes_what_it_must_and_tells_null_from_empty() {
    let (columns, rows) = sample();
    let out = written(Format::Csv, Representation::Raw, &columns, &rows);
    let expected = "t,d,b,at,yes\r\n\"a \"\"b\"\", c\nd\",1.50,9007199254740993,2026-01-31T10:00:00.500600Z,true\r\n\"\",,,,\r\n,,,,\r\n";
    assert_eq!(out, expected);
    for (plain, quoted) in [
        ("a,b", "\"a,b\""),
        ("a\nb", "\"a\nb\""),
        ("a\rb", "\"a\rb\""),
        ("\"", "\"\"\"\""),
        (" a ", " a "),
    ] {
        let out = written(
            Format::Csv,
            Representation::Raw,
            &[column("t", "text")],
            &[row(vec![text(plain)])],
        );
        assert_eq!(out, format!("t\r\n{quoted}\r\n"));
    }
    // An empty line would be no row for many.
    let alone = written(
        Format::Csv,
        Representation::Raw,
        &[column("t", "text")],
        &[row(vec![None])],
    );
    assert_eq!(alone, "t\r\n\"\"\r\n");
}

#[test]
fn collections_are_arrays() {
    let columns = [column("c", "text[]"), column("j", "jsonb")];
    let list = ValueList {
        values: vec![Value { kind: text("a") }, Value { kind: None }],
    };
    let rows = [row(vec![
        Some(Kind::List(list)),
        Some(Kind::Json("{\"x\":\n1.0}".into())),
    ])];
    let out = written(Format::Ndjson, Representation::Raw, &columns, &rows);
    assert_eq!(out, "{\"c\":[\"a\",null],\"j\":{\"x\": 1.0}}\n");
    let out = written(Format::Csv, Representation::Raw, &columns, &rows);
    assert_eq!(out, "c,j\r\n\"[\"\"a\"\",null]\",\"{\"\"x\"\": 1.0}\"\r\n");
}

#[test]
fn parameters_have_typed_values_and_no_part_for_null() {
    let (columns, rows) = sample();
    let out = written(Format::Fhir, Representation::Raw, &columns, &rows);
    let parsed: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    let first = &parsed["parameter"][0]["part"];
    assert_eq!(first[1]["valueDecimal"].to_string(), "1.50");
    assert_eq!(
        first[2],
        json!({"name": "b", "valueInteger64": "9007199254740993"})
    );
    // Rounded to the millisecond.
    assert_eq!(
        first[3],
        json!({"name": "at", "valueInstant": "2026-01-31T10:00:00.501Z"})
    );
    assert_eq!(parsed["parameter"][2], json!({"name": "row"}));
    let out = written(Format::Fhir, Representation::Raw, &columns, &[]);
    assert_eq!(out, r#"{"resourceType":"Parameters"}"#);
}

#[test]
fn what_fhir_has_no_value_for_is_refused() {
    for sql_type in ["text[]", "jsonb", "interval"] {
        let refused = Encoder::new(Format::Fhir, Representation::Raw, true, &[column("c", sql_type)]);
        assert_eq!(refused.map(|_| ()).expect_err(sql_type).status, 422);
    }
    let mut encoder = Encoder::new(
        Format::Fhir,
        Representation::Raw,
        true,
        &[column("d", "double precision")],
    )
    .expect("a number");
    assert!(
        encoder
            .row(&row(vec![Some(Kind::Decimal("NaN".into()))]), &mut Vec::new())
            .is_err()
    );
}

#[test]
fn an_envelope_holds_the_same_bytes() {
    let (columns, rows) = sample();
    for format in [Format::Csv, Format::Json, Format::Ndjson] {
        for count in 0..=rows.len() {
            let raw = written(format, Representation::Raw, &columns, &rows[..count]);
            let out = written(format, Representation::Binary, &columns, &rows[..count]);
            let binary: serde_json::Value = serde_json::from_str(&out).expect("JSON");
            assert_eq!(binary["resourceType"], "Binary");
            assert_eq!(binary["contentType"], format.media_type());
            let data = STANDARD
                .decode(binary["data"].as_str().expect("a text"))
                .expect("base64");
            assert_eq!(data, raw.as_bytes());
        }
    }
}
