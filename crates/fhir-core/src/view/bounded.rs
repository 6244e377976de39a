//! Whatever a view asks of whatever resource, all that takes time counts: with a small budget each of these ends by it.

use serde_json::{Value, json};

use super::{CompiledView, EvalError, eval};
use crate::{
    fhirpath::{error::Fault, eval::Resource},
    json::Tape,
    row::Rows,
};

/// What each of these may spend: none of them needs a tenth of it if what it does is not counted.
const STEPS: u64 = 400_000;

fn evaluate(select: &Value, resource: &str) -> Result<usize, EvalError> {
    let view =
        CompiledView::from_json(&json!({"resource": "Patient", "select": select}).to_string()).unwrap();
    let mut tape = Tape::default();
    let doc = view.reader.read(&mut tape, resource.as_bytes()).unwrap();
    let resource = Resource::with_steps(doc.root(), STEPS);
    eval::run(
        &view.compiled,
        view.reader.straights(0),
        &resource,
        &mut Rows::default(),
    )
}

/// The same of one path.
fn path(path: &str, resource: &str) -> Result<usize, EvalError> {
    evaluate(&json!([{"column": [{"name": "x", "path": path}]}]), resource)
}

/// A patient with these members.
fn patient(members: &str) -> String {
    format!(r#"{{"resourceType":"Patient",{members}}}"#)
}

/// A list of `count` times the value.
fn list(value: &str, count: usize) -> String {
    format!("[{}]", vec![value; count].join(","))
}

/// An object of as many members; `of` is the value of all but one.
fn object(count: usize, of: &str) -> String {
    let members: Vec<_> = (0..count).map(|i| format!(r#""m{i}":{of}"#)).collect();
    format!("{{{}}}", members.join(","))
}

fn steps(result: Result<usize, EvalError>) {
    let told = result.unwrap_err().to_string();
    assert!(told.contains("steps"), "{told}");
}

#[test]
fn items_that_are_passed_over_count() {
    let many = patient(&format!(
        r#""a":{},"b":{{"c":{},"d":{}}}"#,
        list("1", 3_000),
        list("\"x\"", 3_000),
        list("null", 3_000)
    ));
    for criterion in [
        "%resource.b.c.skip(2999) = 'y'",
        "%resource.b.d.exists()",
        "%resource.b.c.ofType(integer).exists()",
        "%resource.b.c[2999] = 'y'",
        "%resource.b.c.where($this = 'y').exists()",
    ] {
        steps(path(&format!("a.where({criterion}).count()"), &many));
    }
}

/// Straight paths are walked without operators in between; they count as well.
#[test]
fn items_of_straight_paths_count() {
    let names = patient(&format!(
        r#""contact":{},"name":[{{"given":{}}}]"#,
        list("{}", 3_000),
        list("\"x\"", 3_000)
    ));
    let outer = json!([{"forEach": "contact", "select": [{"forEach": "%resource.name", "select": [
        {"forEach": "where(given = 'y')", "column": [{"name": "x", "path": "id"}]}
    ]}]}]);
    steps(evaluate(&outer, &names));
}

#[test]
fn extensions_that_are_scanned_count() {
    let many = patient(&format!(
        r#""a":{},"extension":{}"#,
        list("1", 3_000),
        list(r#"{"url":"v"}"#, 3_000)
    ));
    steps(path("a.where(%resource.extension('u').exists()).count()", &many));
    steps(path(
        "a.where(%resource.extension('u' & 'v').exists()).count()",
        &many,
    ));
}

#[test]
fn members_that_are_looked_through_count() {
    let wide = patient(&format!(r#""a":{},"b":{}"#, list("1", 3_000), object(3_000, "1")));
    for criterion in [
        "%resource.b.nothing.exists()",
        "%resource.b.value.exists()",
        "%resource.b.value.ofType(string).exists()",
        "%resource.b is Patient",
        "%resource.b.children().where(false).exists()",
        "%resource.b.extension('u').exists()",
        "%resource.b.getReferenceKey().exists()",
    ] {
        // Only what is wanted is read: all of it, here.
        let whole = json!({"name": "all", "path": "%resource", "type": "Patient"});
        let column = json!({"name": "x", "path": format!("a.where({criterion}).count()")});
        let result = evaluate(&json!([{"column": [whole, column]}]), &wide);
        assert!(
            matches!(
                &result,
                Err(EvalError::Column {
                    fault: Fault::Steps(_),
                    ..
                })
            ),
            "{criterion}: {result:?}"
        );
    }
}

#[test]
fn long_texts_that_are_compared_count() {
    let long = |last: char| format!("\"{}{last}\"", "x".repeat(30_000));
    let texts = patient(&format!(
        r#""a":{},"b":{},"c":{}"#,
        list("1", 3_000),
        long('y'),
        long('z')
    ));
    for criterion in [
        "%resource.b = %resource.c",
        "%resource.b != %resource.c",
        "%resource.b ~ %resource.c",
        "%resource.b !~ %resource.c",
        "%resource.b < %resource.c",
        "%resource.b >= %resource.c",
        "%resource.b in %resource.c",
        "%resource.c contains %resource.b",
        "(%resource.b | %resource.c).exists($this = 'z')",
        "%resource.b.combine(%resource.c).isDistinct().not()",
        "%resource.b.startsWith('z' & %resource.c)",
        "'x'.indexOf(%resource.c) = 1",
        "%resource.c.replace('z', %resource.b).exists().not()",
        "%resource.b.matches('z$')",
        "'z'.matches(%resource.b)",
        "'z'.matches(%resource.b.substring(0, 9000) & 'z')",
        "'z'.replaceMatches('y', %resource.b).exists().not()",
        "(%resource.b & %resource.c).length() = 1",
        "(%resource.b + %resource.c).length() = 1",
        "(%resource.b | %resource.c).join('-').length() = 1",
        "%resource.b.upper().select($this & $this).exists().not()",
        "%resource.b.split('z').exists($this = 'z')",
    ] {
        let result = path(&format!("a.where({criterion}).count()"), &texts);
        assert!(result.is_err(), "{criterion}: {result:?}");
    }
}

#[test]
fn long_numbers_and_units_that_are_read_count() {
    let digits = "1".repeat(10_000);
    let unit = "g.".repeat(30);
    let numbers = patient(&format!(
        r#""a":{},"n":{digits}0,"m":{digits}1,"extension":[{{"url":"u","valueQuantity":{{"value":1,"code":"{unit}g"}}}},{{"url":"v","valueQuantity":{{"value":1,"code":"k{unit}g"}}}}]"#,
        list("1", 3_000)
    ));
    for criterion in [
        "%resource.n = %resource.m",
        "%resource.n ~ %resource.m",
        "%resource.n > %resource.m",
        "%resource.n.toString() = 'x'",
        "%resource.extension('u').value > %resource.extension('v').value",
        "%resource.extension('u').value ~ %resource.extension('v').value",
        "%resource.extension('u').value.comparable(%resource.extension('v').value).not()",
    ] {
        let result = path(&format!("a.where({criterion}).count()"), &numbers);
        assert!(result.is_err(), "{criterion}: {result:?}");
    }
}

#[test]
fn wide_objects_are_compared_in_the_time_of_their_length() {
    for of in ["1", "\"x\""] {
        let wide = patient(&format!(r#""a":[{0},{0}]"#, object(2_000, of)));
        for criterion in ["a[0] = a[1]", "a[0] ~ a[1]", "a.isDistinct().not()"] {
            assert_eq!(path(criterion, &wide), Ok(1), "{criterion}");
        }
    }
    let many = patient(&format!(
        r#""a":{},"b":[{1},{1}]"#,
        list("1", 3_000),
        object(1_000, "1")
    ));
    for criterion in [
        "%resource.b[0] = %resource.b[1]",
        "%resource.b[0] ~ %resource.b[1]",
    ] {
        steps(path(&format!("a.where({criterion}).count()"), &many));
    }
}

#[test]
fn patterns_that_are_big_for_long_texts_count() {
    let text = patient(&format!(
        r#""a":{},"b":"{}""#,
        list("1", 1_000),
        "a".repeat(20_000)
    ));
    for criterion in [
        r"%resource.b.matches('(?:a?){400}a{400}b')",
        r"%resource.b.matchesFull('(\\w|\\d)*b')",
        r"%resource.b.replaceMatches('(a)(b?)', '$2$2$2$2').exists().not()",
        r"'a'.matches('\\w{' & '2}' & %resource.b.substring(0, 1))",
    ] {
        steps(path(&format!("a.where({criterion}).count()"), &text));
    }
}

#[test]
fn functions_of_numbers_count() {
    let many = patient(&format!(r#""a":{}"#, list("1.7", 3_000)));
    for criterion in ["exp() = 1", "ln() = 1", "power(0.37) = 1", "log(3) = 1"] {
        steps(path(&format!("a.where({criterion}).count()"), &many));
    }
}
