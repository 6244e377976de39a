//! What the fuzz targets begin with: what is sound, and what has broken readers of JSON before.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::anything::PATIENT;

/// Target, name and content of each.
pub(crate) fn seeds() -> Vec<(&'static str, String, Vec<u8>)> {
    let core = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut seeds = vec![("resource", "patient".to_owned(), PATIENT.into())];
    for (place, body) in odd_resources().into_iter().enumerate() {
        seeds.push(("resource", format!("odd-{place}"), body));
    }
    for (name, body) in files(&core.join("oracle/resources")) {
        seeds.push(("resource", name, body));
    }
    for (name, body) in files(&core.join("../../deploy/views")) {
        seeds.push(("view", name, body));
    }
    for (place, view) in odd_views().into_iter().enumerate() {
        seeds.push(("view", format!("odd-{place}"), view.to_string().into()));
    }
    let expressions =
        fs::read_to_string(core.join("oracle/expressions.txt")).expect("the oracle's expressions");
    for (place, path) in expressions
        .lines()
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
        .enumerate()
    {
        seeds.push(("path", format!("oracle-{place}"), path.into()));
    }
    for (place, path) in odd_paths().into_iter().enumerate() {
        seeds.push(("path", format!("odd-{place}"), path.into()));
    }
    seeds
}

fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let files = fs::read_dir(folder).expect("a folder of seeds");
    files
        .map(|file| {
            let file = file.expect("a file of it").path();
            let name = file
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            (name, fs::read(&file).expect("its content"))
        })
        .collect()
}

/// Patients whose text is at the edge of JSON, or past it.
fn odd_resources() -> Vec<Vec<u8>> {
    let digits = "1234567890".repeat(20);
    let members = [
        // Keys that come twice, of the same and of different JSON types.
        r#""active":true,"active":false"#.to_owned(),
        r#""name":[{"family":"A"}],"name":{"family":"B"},"name":null"#.to_owned(),
        r#""birthDate":"1970","_birthDate":{"extension":[{"url":"u"}]},"birthDate":"1971","_birthDate":[null]"#.to_owned(),
        r#""na\u006de":[{"family":"A"}],"name":[{"family":"B"}]"#.to_owned(),
        // Halves of surrogate pairs, NUL, the last of Unicode.
        r#""id":"\ud800","name":[{"family":"\udc00\ud83d","given":["\ud83d\ude00","\udbff\udfff"]}]"#.to_owned(),
        r#""id":"a\u0000b","extension":[{"url":"u","valueString":"\u0000"}]"#.to_owned(),
        "\"id\":\"\u{10ffff}\u{feff}\u{2028}\"".to_owned(),
        // Numbers out of every range.
        r#""extension":[{"url":"urn:score","valueDecimal":1e400},{"url":"urn:score","valueDecimal":-1E-99999999999}]"#.to_owned(),
        format!(r#""extension":[{{"url":"urn:score","valueDecimal":{digits}.{digits}}}]"#),
        format!(r#""multipleBirthInteger":{digits},"contact":[{{"telecom":[{{"rank":-{digits}e{digits}}}]}}]"#),
        r#""multipleBirthInteger":9223372036854775808,"extension":[{"url":"urn:score","valueDecimal":-0.0e-0}]"#.to_owned(),
        // A list where one is expected, and the reverse; values beside nothing.
        r#""name":{"given":"Ada","_given":{"id":"x"}},"managingOrganization":[{"reference":7}]"#.to_owned(),
        r#""name":[null,[[{"family":"A"}]],{"given":[null,null],"_given":[null]}]"#.to_owned(),
        r#""birthDate":"0000-00-00","extension":[{"url":"u","valueDateTime":"9999-12-31T24:00:60+99:99"}]"#.to_owned(),
        // Deep, in what is read and in what is not.
        format!(r#""item":{}{}"#, r#"[{"item":"#.repeat(90), "1".to_owned() + &"}]".repeat(90)),
        format!(r#""unknown":{}{}"#, "[".repeat(3_000), "]".repeat(3_000)),
        format!(r#""extension":{}{}"#, "[".repeat(150), "]".repeat(150)),
        // Spaces, and keys that look like others.
        " \t\r\n\"active\" \n:\t true ,\r\"nam\":1,\"names\":2,\"_name\":3,\"\":4".to_owned(),
        r#""value":1,"value ":2,"valueX":3,"valueString":"a","valueQuantity":{"value":1}"#.to_owned(),
    ];
    let mut odd: Vec<Vec<u8>> = members
        .iter()
        .map(|members| format!(r#"{{"resourceType":"Patient",{members}}}"#).into())
        .collect();
    // Not JSON at all, or not quite.
    for text in [
        "",
        "{",
        "null",
        "[]",
        "\"Patient\"",
        "{\"resourceType\":null}",
        "\u{feff}{\"resourceType\":\"Patient\"}",
    ] {
        odd.push(text.into());
    }
    odd.push(b"{\"resourceType\":\"Patient\",\"id\":\"\xff\xc0\x80\"}".into());
    odd.push(b"{\"resourceType\":\"Patient\",\"id\":\"a\x00\x1f\"}".into());
    odd.push(b"{\"resourceType\":\"Patient\",\"id\":\"cut".into());
    odd
}

fn odd_views() -> Vec<Value> {
    let column = json!([{"name": "c", "path": "id"}]);
    let mut nested = json!({"column": column});
    for _ in 0..60 {
        nested = json!({"forEach": "$this", "select": [nested]});
    }
    vec![
        json!({}),
        json!({"resourceType": "https://sql-on-fhir.org/ig/StructureDefinition/ViewDefinition", "resource": "Patient", "select": [{"column": column}]}),
        json!({"resource": "Patient", "identifier": [{"value": "x"}], "select": [nested]}),
        json!({"resource": "Patient", "constant": [{"name": "d", "valueDecimal": 1.50}, {"name": "t", "valueInstant": "2020-01-01T00:00:00Z"}],
               "where": [{"path": "name.exists()"}],
               "select": [{"column": [{"name": "a", "path": "%d + 1", "type": "decimal", "tag": [{"name": "ansi/type", "value": "NUMERIC(5,2)"}]}]},
                          {"unionAll": [{"forEach": "name", "column": [{"name": "b", "path": "given", "collection": true}]},
                                        {"forEachOrNull": "contact.telecom", "column": [{"name": "b", "path": "value", "collection": true}]}]},
                          {"repeat": ["extension"], "column": [{"name": "i", "path": "%rowIndex"}, {"name": "e", "path": "$this", "type": "Extension"}]}]}),
        json!({"resource": "Patient", "constant": [{"name": "c", "valueInteger64": "-9223372036854775808"}], "select": [{"column": [{"name": "c", "path": "-%c", "type": "integer64"}]}]}),
        json!({"resource": "Patient", "select": [{"repeat": ["$this"], "column": column}]}),
        json!({"resource": "Patient", "select": [{"forEach": "name", "forEachOrNull": "name", "repeat": "name", "column": [{"name": "1", "path": 1}, {"name": "c", "path": "@@"}]}]}),
        json!({"resource": 1, "select": {}, "where": "x", "constant": [null, {"name": "rowIndex"}]}),
        json!({"resource": "Patient", "select": [{"forEach": "name", "select": vec![json!({"forEach": "given", "column": []}); 20]}]}),
    ]
}

fn odd_paths() -> Vec<String> {
    let deep = |open: &str, close: &str, times| format!("{}1{}", open.repeat(times), close.repeat(times));
    let mut paths = vec![
        deep("(", ")", 30),
        deep("(", ")", 1_000),
        deep("-", "", 1_000),
        deep("where(", ")", 200),
        deep("iif(true,", ")", 60),
        deep("descendants().select(", ")", 8),
        deep("repeat($this|children()|", ")", 2),
        format!("name{}", ".where(true)".repeat(500)),
        format!("1{}", " + 1".repeat(500)),
        format!("'{}'", "a".repeat(10_000)),
        format!("{}.{}", "9".repeat(200), "9".repeat(200)),
        format!("{} * {}", "9".repeat(30), "9".repeat(30)),
        "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!'.matches('^(a+)+$')".to_owned(),
        "'a'.replaceMatches('', 'aaaaaaaaaa')".to_owned(),
        "'x'.matches('(?:a{0,1000}){0,1000}')".to_owned(),
        "(1|2|3).aggregate($total & $this.toString() & $total, 'x')".to_owned(),
        "descendants().combine(descendants()).combine(descendants()).distinct()".to_owned(),
        "@9999-12-31T23:59:59.999+14:00 + 999999999999 years".to_owned(),
        "@0001-01-01T00:00:00-14:00 - 1 millisecond".to_owned(),
        "9223372036854775807 + 1".to_owned(),
        "-9223372036854775808.abs()".to_owned(),
        "(-2147483648) div (-1)".to_owned(),
        "0.1.power(-1000)".to_owned(),
        "10.power(10000)".to_owned(),
        "1000000000.exp()".to_owned(),
        "1.round(2147483647)".to_owned(),
        "1.5.lowBoundary(2147483647)".to_owned(),
        "'\\ud800\\u0000\\u{1}'".to_owned(),
        "'ä😀'.substring(1, -1) & 'ä😀'.toChars().last()".to_owned(),
        "%`a`.`b\\`c` /* unclosed".to_owned(),
        "1 'kg' * 1 'm' / 1 's2' + 1 '{x}' - 1 '[in_i]'".to_owned(),
        "1 '10*400' + 1 'm99999999999'".to_owned(),
    ];
    let short: Vec<_> = paths.iter().filter(|path| path.len() < 200).cloned().collect();
    paths.push(short.join(" | "));
    paths
}
