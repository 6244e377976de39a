//! A key that comes twice in a JSON object: the last one counts, as in `jsonb`, whoever looks.

use fhir_core::row::Rows;
use serde_json::json;

use crate::run::{text, view};

fn items(path: &str, resource: &str) -> String {
    let view = view(&json!([{"column": [{"name": "x", "path": path, "collection": true}]}]));
    let mut rows = Rows::default();
    view.evaluate(resource.as_bytes(), &mut rows).unwrap();
    text(&rows.0[0][0])
}

#[test]
fn the_last_of_a_name_counts() {
    let resource = r#"{"resourceType":"Patient","gender":"a","_gender":{"id":"1"},"gender":"b","_gender":{"id":"2"},"id":"p",
        "multipleBirthInteger":1,"multipleBirthInteger":2,"value":"v","valueString":"s","valueString":"t",
        "extension":[{"url":"u","url":"v","valueString":"x","valueString":"y"}],"contact":[{"x":1,"x":2,"y":3},{"y":3,"x":2},{"x":1,"y":3}]}"#;
    for (path, expected) in [
        ("gender", "[b]"),
        ("gender.id", "[2]"),
        ("nothing | gender", "[b]"),
        ("multipleBirth", "[2]"),
        ("multipleBirth.ofType(integer)", "[2]"),
        ("valueString", "[t]"),
        ("value.ofType(string)", "[t]"),
        ("extension('u').value", "[]"),
        ("extension('v').value", "[y]"),
        ("extension.value.ofType(string)", "[y]"),
        ("children().where($this = 'a' or $this = 'b')", "[b]"),
        ("children().where($this = 'b').id", "[2]"),
        ("contact.first().children()", "[2,3]"),
        ("contact.first().descendants().count()", "[2]"),
        ("contact[0] = contact[1]", "[true]"),
        ("contact[0] ~ contact[1]", "[true]"),
        ("contact[1] ~ contact[0]", "[true]"),
        ("contact[0] = contact[2]", "[false]"),
        ("contact[2] ~ contact[0]", "[false]"),
        ("contact.distinct().count()", "[2]"),
        ("getResourceKey()", "[p]"),
    ] {
        assert_eq!(items(path, resource), expected, "{path}");
    }
}

/// Objects of many members are compared by another way.
#[test]
fn in_wide_objects_too() {
    let members = |last: u32| {
        let members: Vec<_> = (0..40).map(|i| format!(r#""m{i}":{i}"#)).collect();
        format!(r#"{{"m7":0,{},"m9":{last}}}"#, members.join(","))
    };
    let once = members(9)
        .replacen("\"m7\":0,", "", 1)
        .replacen("\"m9\":9,", "", 1);
    let resource = format!(
        r#"{{"resourceType":"Patient","contact":[{},{once},{}]}}"#,
        members(9),
        members(8)
    );
    for (path, expected) in [
        ("contact[0] = contact[1]", "[true]"),
        ("contact[1] ~ contact[0]", "[true]"),
        ("contact[0] = contact[2]", "[false]"),
        ("contact[1] ~ contact[2]", "[false]"),
        ("contact[0].children().count()", "[40]"),
        ("contact[2].children().where($this = 9).count()", "[0]"),
    ] {
        assert_eq!(items(path, &resource), expected, "{path}");
    }
}
