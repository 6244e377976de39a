//! Whatever comes in: rows or a typed error, never a panic, never endless.

use std::sync::LazyLock;

use fhir_core::{
    json::{Projection, Tape},
    row::Rows,
    view::{CompiledView, EvalError},
};
use proptest::prelude::*;
use serde_json::json;

const PATIENT: &str = r#"{"resourceType":"Patient","id":"p1","active":true,"birthDate":"1970-06-01","_birthDate":{"extension":[{"url":"u","valueDateTime":"1970-06-01T10:00:00Z"}]},"name":[{"use":"official","family":"Ash","given":["Ada","Bo"],"_given":[null,{"id":"x"}]},{"use":"old"}],"extension":[{"url":"urn:score","valueDecimal":1.50},{"url":"urn:text","valueString":"a\u00e4\ud83d\ude00\\\n"}],"multipleBirthInteger":2,"contact":[{"telecom":[{"system":"phone","value":"1","rank":1}]}],"managingOrganization":{"reference":"Organization/o1"},"item":[{"linkId":"1","item":[{"linkId":"1.1"}]}]}"#;

/// Views that together use every operator.
static VIEWS: LazyLock<Vec<CompiledView>> = LazyLock::new(views);

fn views() -> Vec<CompiledView> {
    let paths = [
        "name.where(use = 'official').first().family.first()",
        "extension('urn:score').value.ofType(decimal) * 2 / 3 - 1 + 0.5",
        "birthDate.extension('u').value.ofType(dateTime).first() > @1970-06-01T09:00:00+02:00",
        "birthDate < @2000-01-01 and active or gender = 'x' xor multipleBirth > 1 implies name.exists(use.empty())",
        "name.given.join('-')",
        "managingOrganization.getReferenceKey(Organization)",
        "name.given.skip(1).take(3).last()",
        "(name.family | name.given | id).count()",
        "iif(name.all(family.exists()), name[0].family, getResourceKey())",
        "name.tail().select(use).single() in ('old' | 'new')",
        "active.hasValue().not()",
    ];
    let columns: Vec<_> = paths
        .iter()
        .enumerate()
        .map(|(i, p)| json!({"name": format!("c{i}"), "path": p}))
        .collect();
    let whole = json!([{"name": "e", "path": "extension", "type": "Extension", "collection": true}]);
    [
        json!({"resource": "Patient", "select": [{"column": columns}]}),
        json!({"resource": "Patient", "where": [{"path": "active"}], "select": [
            {"column": whole},
            {"forEachOrNull": "name", "column": [{"name": "n", "path": "given", "collection": true, "type": "string"}],
             "unionAll": [{"forEach": "given", "column": [{"name": "u", "path": "$this"}]}, {"repeat": ["extension"], "column": [{"name": "u", "path": "url"}]}]},
            {"repeat": ["item", "contact"], "column": [{"name": "r", "path": "%rowIndex"}]},
            {"column": [
                {"name": "i", "path": "multipleBirth", "type": "integer"},
                {"name": "d", "path": "extension.value.ofType(decimal)", "tag": [{"name": "ansi/type", "value": "NUMERIC(5,1)"}]},
                {"name": "b", "path": "birthDate", "tag": [{"name": "ansi/type", "value": "DATE"}]},
                {"name": "t", "path": "birthDate.extension.value", "type": "instant"}
            ]}
        ]}),
    ]
    .iter()
    .map(|definition| CompiledView::from_json(&definition.to_string()).unwrap())
    .collect()
}

fn evaluate(views: &[CompiledView], body: &[u8]) {
    for view in views {
        let mut rows = Rows::default();
        if view.evaluate(body, &mut rows).is_ok() {
            assert!(
                rows.0.iter().all(|row| row.len() == view.columns().len()),
                "every row has exactly the view's columns"
            );
        }
    }
}

/// Pieces that JSON is made of, odd ones among them.
const PIECES: [&str; 32] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    "null",
    "true",
    "-1",
    "1e400",
    "1E-99999999999",
    "\"\\ud800\"",
    "\"\\u0000\"",
    "\"name\":",
    "\"given\":",
    "{}",
    "[]",
    "\"resourceType\":\"Patient\"",
    "\"value\"",
    "0.0",
    "\"2020-13-40T99:99:99+99:99\"",
    "\"extension\":[",
    "\"url\":\"u\",",
    "\"valueDateTime\":",
    "\"_given\":[",
    "\u{0}",
    "ä",
    "😀",
    "\"reference\":\"/\"",
    "\"T\"",
];

proptest! {
    // `PROPTEST_CASES` makes it longer.
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(1_000), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_as_resource(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        evaluate(&VIEWS, &body);
    }

    #[test]
    fn mutated_resources(edits in proptest::collection::vec((any::<prop::sample::Index>(), 0..3_u8, 0..PIECES.len(), 0..20_usize), 1..8)) {
        let mut body = PATIENT.as_bytes().to_vec();
        for (place, kind, piece, length) in edits {
            let at = place.index(body.len() + 1);
            let end = (at + length).min(body.len());
            match kind {
                0 => drop(body.splice(at..at, PIECES[piece].bytes())),
                1 => drop(body.drain(at..end)),
                _ => drop(body.splice(at..end, PIECES[piece].bytes())),
            }
        }
        evaluate(&VIEWS, &body);
    }

    #[test]
    fn the_parser_takes_what_serde_json_takes(pieces in proptest::collection::vec(0..PIECES.len(), 0..12)) {
        let text: String = pieces.iter().map(|&i| PIECES[i]).collect();
        let ours = Tape::default().read(text.as_bytes(), &Projection::whole()).is_ok();
        // Half a surrogate pair is replaced here and refused there.
        if !text.contains("ud800") {
            prop_assert_eq!(ours, serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{}", text);
        }
    }

    #[test]
    fn any_text_as_path(path in "[a-c$%@.()\\[\\]'`\"=<>!~|&+*/, 0-9TZ:{}-]{0,40}|\\PC{0,20}") {
        let definition = json!({"resource": "Patient", "select": [{"forEach": path, "column": [{"name": "x", "path": path}]}]});
        if let Ok(view) = CompiledView::from_json(&definition.to_string()) {
            evaluate(&[view], PATIENT.as_bytes());
        }
    }

    #[test]
    fn any_json_as_view(pieces in proptest::collection::vec(0..PIECES.len(), 0..12)) {
        let text: String = pieces.iter().map(|&i| PIECES[i]).collect();
        drop(CompiledView::from_json(&text));
        drop(CompiledView::from_json(&format!(r#"{{"resource":"Patient","select":{text}}}"#)));
        drop(CompiledView::from_json(&format!(r#"{{"resource":"Patient","constant":[{{"name":"c","valueDecimal":{text}}}],"select":[{{"column":[{{"name":"x","path":"%c"}}]}}]}}"#)));
    }
}

#[test]
fn deep_json_is_refused_where_it_is_read_and_passed_over_elsewhere() {
    let views = &VIEWS;
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let nested = |member: &str, depth| {
            let (open, close) = (open.repeat(depth), close.repeat(depth));
            format!(r#"{{"resourceType":"Patient","{member}":{open}1{close}}}"#)
        };
        let elsewhere = nested("nobody_asks", 100_000);
        assert!(
            views[0]
                .evaluate(elsewhere.as_bytes(), &mut Rows::default())
                .is_ok()
        );
        let deep = nested("item", 500);
        let error = views[1]
            .evaluate(deep.as_bytes(), &mut Rows::default())
            .unwrap_err();
        assert_eq!(error.to_string(), "the body is JSON nested deeper than 200");
        let fine = nested("item", 199);
        let fine = views[1].evaluate(fine.as_bytes(), &mut Rows::default());
        assert!(!matches!(fine, Err(EvalError::Json(_))), "{fine:?}");
    }
    let endless = "[".repeat(10_000_000);
    assert!(
        views[0]
            .evaluate(endless.as_bytes(), &mut Rows::default())
            .is_err()
    );
}

#[test]
fn the_deepest_view_runs_in_the_stack_of_a_worker_thread() {
    // The most that the limits let through: expressions of full depth, in as many nested iterations as a view may have.
    let path = format!("{}true{}", "where(".repeat(62), ")".repeat(62));
    let mut select = json!({"column": [{"name": "x", "path": format!("{path}.id")}]});
    for _ in 0..30 {
        select = json!({"forEach": path, "select": [select]});
    }
    let siblings: Vec<_> = (0..65)
        .map(|i| json!({"forEach": "$this", "column": [{"name": format!("s{i}"), "path": "id"}]}))
        .collect();
    let mut selects = vec![select];
    selects.extend(siblings);
    let view =
        CompiledView::from_json(&json!({"resource": "Patient", "select": selects}).to_string()).unwrap();
    let run = move || view.evaluate(br#"{"resourceType":"Patient","id":"a"}"#, &mut Rows::default());
    let thread = std::thread::Builder::new()
        .stack_size(1024 * 1024)
        .spawn(run)
        .unwrap();
    assert_eq!(thread.join().unwrap(), Ok(1));
}
