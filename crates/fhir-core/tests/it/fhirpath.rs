//! Paths, literals, variables and logic of FHIRPath, and what is refused, over one patient.

use fhir_core::{
    fhirpath::error::{Fault, PathErrorKind},
    view::{EvalError, Rule},
};
use serde_json::{Value, json};

use crate::run::{check_items, items, try_view};

fn patient() -> Value {
    // A literal in the macro would be a float, without its last zero.
    let score: Value = serde_json::from_str("1.50").unwrap();
    json!({
        "resourceType": "Patient",
        "id": "p1",
        "active": true,
        "birthDate": "1970-06",
        "_birthDate": {"extension": [{"url": "urn:time", "valueDateTime": "1970-06-03T10:00:00Z"}]},
        "gender": "female",
        "multipleBirthInteger": 2,
        "name": [
            {"use": "official", "family": "Ash", "given": ["Ada", "Bo"], "_given": [null, {"id": "g2"}]},
            {"use": "usual", "given": ["Cy"]},
            {"use": "old", "family": "Oak"}
        ],
        "telecom": [{"system": "phone", "rank": 1}, {"system": "email", "rank": 2}, {"system": "phone", "rank": 3}],
        "contact": [{"telecom": [{"value": "c1"}, {"value": "c2"}]}, {"telecom": [{"value": "c3"}]}],
        "extension": [
            {"url": "urn:score", "valueDecimal": score},
            {"url": "urn:when", "valueDateTime": "2020-01-02T03:04:05+02:00"},
            {"url": "urn:code", "valueCode": "c"},
            {"url": "urn:nested", "extension": [{"url": "inner", "valueString": "deep"}]},
            {"url": "urn:quantity", "valueQuantity": {"value": 7, "unit": "mg"}}
        ],
        "generalPractitioner": [
            {"reference": "Practitioner/d1"},
            {"reference": "http://there.example/fhir/Organization/o1/_history/3"},
            {"reference": "#inside"},
            {"reference": "urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0"},
            {"display": "someone"},
            {"reference": "Practitioner?identifier=1"}
        ],
        "contained": [{"resourceType": "Practitioner", "id": "inside"}, {"resourceType": "Organization", "id": "other"}]
    })
}

fn check(cases: &[(&str, &str)]) {
    check_items(cases, &patient());
}

#[test]
fn paths() {
    check(&[
        ("id", "[p1]"),
        ("Patient.id", "[p1]"),
        ("Resource.id", "[p1]"),
        ("Observation.id", "[]"),
        ("name.given", "[Ada,Bo,Cy]"),
        ("name.nothing.at.all", "[]"),
        ("gender.nothing", "[]"),
        ("$this.gender", "[female]"),
        ("name.select(use.$this.family)", "[Ash,Oak]"),
        ("name.where(use.$index = 1).use", "[usual]"),
        ("(4 'mg').value", "[4]"),
        ("(4 'mg').unit", "[mg]"),
        ("4 days.unit", "[day]"),
        ("(4 'mg').value.ofType(Decimal)", "[4]"),
        ("(4 'mg').unit.ofType(String)", "[mg]"),
        ("(4 'mg').value.ofType(Quantity)", "[]"),
        ("'abc'.replaceMatches('b', '$$1')", "[a$1c]"),
        ("'abc'.replaceMatches('(b)', '$1$1')", "[abbc]"),
        ("(-2147483648).abs()", "[]"),
        ("(-2147483647).abs()", "[2147483647]"),
        ("'2020-01-01T00:00:00+12:99'.toDateTime()", "[]"),
        ("(4 'mg').code", "[]"),
        ("(4 'mg' + 1 'g').value + 1", "[1005]"),
        ("`gender`", "[female]"),
        ("name.select(given | family)", "[Ada,Bo,Ash,Cy,Oak]"),
        ("%resource.id", "[p1]"),
        ("name.where(%context.id = 'p1').family", "[Ash,Oak]"),
        (" /* a comment */ id // to the end", "[p1]"),
    ]);
}

#[test]
fn an_index_counts_the_flattened_collection() {
    check(&[
        ("contact.telecom[0].value", "[c1]"),
        ("contact.telecom[2].value", "[c3]"),
        ("contact.telecom[3].value", "[]"),
        ("contact.telecom[-1].value", "[]"),
        ("contact.select(telecom[0]).value", "[c1,c3]"),
        ("name[1 - 1].family", "[Ash]"),
        ("name[{}]", "[]"),
    ]);
}

#[test]
fn subsetting() {
    check(&[
        ("name.given.first()", "[Ada]"),
        ("name.given.last()", "[Cy]"),
        ("name.given.tail()", "[Bo,Cy]"),
        ("name.given.skip(2)", "[Cy]"),
        ("name.given.skip(-2)", "[Ada,Bo,Cy]"),
        ("name.given.take(2)", "[Ada,Bo]"),
        ("name.given.take(0)", "[]"),
        ("name.nothing.first()", "[]"),
        ("name.take(1).given.first().single()", "[Ada]"),
    ]);
}

#[test]
fn filtering_and_existence() {
    check(&[
        ("name.where(use = 'official').family", "[Ash]"),
        ("name.where(family = 'Oak').use", "[old]"),
        ("name.where(family).use", "[official,old]"),
        ("name.where({}).use", "[]"),
        ("name.where(false)", "[]"),
        ("name.where($index = 1).use", "[usual]"),
        ("name.exists()", "[true]"),
        ("name.exists(use = 'none')", "[false]"),
        ("name.empty()", "[false]"),
        ("photo.empty()", "[true]"),
        ("photo.exists()", "[false]"),
        ("name.all(use.exists())", "[true]"),
        ("name.all(family.exists())", "[false]"),
        ("photo.all(false)", "[true]"),
        ("telecom.count()", "[3]"),
        ("exists(active)", "[true]"),
        ("where(active = true).id", "[p1]"),
        ("gender.hasValue()", "[true]"),
        ("name.first().hasValue()", "[false]"),
        ("name.given.hasValue()", "[false]"),
        ("iif(active, 'yes', 'no')", "[yes]"),
        ("iif(photo.exists(), 'yes')", "[]"),
    ]);
}

#[test]
fn equality() {
    check(&[
        ("gender = 'female'", "[true]"),
        ("gender != 'female'", "[false]"),
        ("gender = 'Female'", "[false]"),
        ("gender = 1", "[false]"),
        ("photo = 'x'", "[]"),
        ("photo != 'x'", "[]"),
        ("name.given = ('Ada' | 'Bo' | 'Cy')", "[true]"),
        ("name.given = 'Ada'", "[false]"),
        ("name.given != 'Ada'", "[true]"),
        ("1 = 1.0", "[true]"),
        ("telecom[0] = telecom[2]", "[false]"),
        ("name[0] = name[0]", "[true]"),
        ("'Bo' in name.given", "[true]"),
        ("name.given contains 'Zed'", "[false]"),
    ]);
}

#[test]
fn order() {
    check(&[
        ("telecom.where(rank >= 2).rank", "[2,3]"),
        ("telecom.where(rank < 2).rank", "[1]"),
        ("telecom.where(rank > 2.5).rank", "[3]"),
        ("'a' < 'b'", "[true]"),
        ("'a' <= 'a'", "[true]"),
        ("photo < 1", "[]"),
        ("-1 < 0", "[true]"),
    ]);
    let fault = items("gender < 1", &patient()).unwrap_err();
    assert_eq!(
        fault,
        EvalError::Column {
            column: "x".into(),
            fault: Fault::Operands("<")
        }
    );
    let fault = items("name.given < 'a'", &patient()).unwrap_err();
    assert_eq!(
        fault,
        EvalError::Column {
            column: "x".into(),
            fault: Fault::Several("<")
        }
    );
}

#[test]
fn dates_compare_by_what_is_known() {
    check(&[
        ("birthDate = @1970-06", "[true]"),
        ("birthDate < @1971-01-01", "[true]"),
        ("birthDate < @1970-06-15", "[]"),
        ("birthDate > @1970", "[]"),
        ("extension('urn:when').value < @2020-01-02T02:00:00Z", "[true]"),
        (
            "extension('urn:when').value = @2020-01-02T01:04:05.000Z",
            "[true]",
        ),
        (
            "extension('urn:when').value.ofType(dateTime) = @2020-01-02T01:04:06Z",
            "[false]",
        ),
        ("@T10:00 < @T10:30", "[true]"),
        ("gender = @2020", "[false]"),
        ("gender < @2020", "[]"),
        ("@2020-01-01", "[2020-01-01]"),
    ]);
}

#[test]
fn logic_has_three_values() {
    let (t, f, e) = ("true", "false", "{}");
    for (a, b, and, or, xor, implies) in [
        (t, t, "[true]", "[true]", "[false]", "[true]"),
        (t, f, "[false]", "[true]", "[true]", "[false]"),
        (t, e, "[]", "[true]", "[]", "[]"),
        (f, t, "[false]", "[true]", "[true]", "[true]"),
        (f, f, "[false]", "[false]", "[false]", "[true]"),
        (f, e, "[false]", "[]", "[]", "[true]"),
        (e, t, "[]", "[true]", "[]", "[true]"),
        (e, f, "[false]", "[]", "[]", "[]"),
        (e, e, "[]", "[]", "[]", "[]"),
    ] {
        for (op, expected) in [("and", and), ("or", or), ("xor", xor), ("implies", implies)] {
            let path = format!("{a} {op} {b}");
            assert_eq!(items(&path, &patient()).as_deref(), Ok(expected), "{path}");
        }
    }
    check(&[
        ("true.not()", "[false]"),
        ("{}.not()", "[]"),
        ("(gender = 'male').not()", "[true]"),
    ]);
}

#[test]
fn precedence() {
    check(&[
        ("1 + 2 * 3", "[7]"),
        ("(1 + 2) * 3", "[9]"),
        ("8 - 2 - 1", "[5]"),
        ("-2 + 3", "[1]"),
        ("true or true and false", "[true]"),
        ("1 = 1 and 2 > 1", "[true]"),
        ("1 | 2 = 1", "[false]"),
        ("false implies false or true", "[true]"),
    ]);
}

#[test]
fn arithmetic_keeps_digits() {
    check(&[
        ("0.1 + 0.2", "[0.3]"),
        ("1.50 + 1", "[2.50]"),
        ("extension('urn:score').value * 2", "[3.00]"),
        ("3 / 2", "[1.5]"),
        ("1 / 0", "[]"),
        ("1 / 3", "[0.333333333333333333]"),
        ("9223372036854775807 + 1", "[]"),
        ("2147483647 + 1", "[]"),
        ("2147483647 + 0", "[2147483647]"),
        ("-2147483647 - 2", "[]"),
        ("65536 * 32768", "[]"),
        ("-(0 - 2147483647 - 1)", "[]"),
        ("(3000000000 + 1).toString()", "[3000000001]"),
        ("2147483647.0 + 1", "[2147483648.0]"),
        ("3000000000.5.floor()", "[]"),
        ("3000000000.5 div 1", "[]"),
        ("'3000000000'.toInteger()", "[]"),
        ("(2147483647 | 1).sum()", "[]"),
        ("photo + 1", "[]"),
        ("'a' + 'b'", "[ab]"),
        ("multipleBirth - 3", "[-1]"),
        ("-multipleBirth", "[-2]"),
    ]);
    assert!(items("gender + 1", &patient()).is_err());
    assert!(items("'a' - 'b'", &patient()).is_err());
    assert!(items("name.given + 'x'", &patient()).is_err());
}

#[test]
fn choices_and_types() {
    check(&[
        ("multipleBirth", "[2]"),
        ("multipleBirth.ofType(integer)", "[2]"),
        ("multipleBirth.ofType(boolean)", "[]"),
        ("extension('urn:score').value", "[1.50]"),
        ("extension('urn:quantity').value.ofType(Quantity).unit", "[mg]"),
        (
            "extension('urn:quantity').value.ofType(FHIR.Quantity).value",
            "[7]",
        ),
        ("extension('urn:quantity').value.ofType(Range)", "[]"),
        ("(extension('urn:quantity').value as Quantity).unit", "[mg]"),
        ("extension('urn:quantity').value is Quantity", "[true]"),
        ("extension('urn:quantity').value is string", "[false]"),
        ("extension.value.ofType(string)", "[c]"),
        ("extension.value.ofType(code)", "[c]"),
        ("extension.value.ofType(decimal)", "[1.50]"),
        ("contained.ofType(Practitioner).id", "[inside]"),
        ("contained.ofType(Resource).id", "[inside,other]"),
        ("gender.ofType(string)", "[female]"),
        ("gender.ofType(integer)", "[]"),
        ("name.ofType(HumanName).family", "[Ash,Oak]"),
        ("'a'.ofType(String)", "[a]"),
        ("1.ofType(String)", "[]"),
    ]);
}

#[test]
fn extensions() {
    check(&[
        ("extension('urn:code').value.ofType(code)", "[c]"),
        ("extension('urn:nested').extension('inner').value", "[deep]"),
        ("extension('urn:none').value", "[]"),
        (
            "birthDate.extension('urn:time').value.ofType(dateTime)",
            "[1970-06-03T10:00:00Z]",
        ),
        ("birthDate", "[1970-06]"),
        ("name.given.where(id = 'g2')", "[Bo]"),
    ]);
}

#[test]
fn a_primitive_with_only_extensions_exists_and_has_no_value() {
    let patient = json!({"resourceType": "Patient", "_birthDate": {"extension": [{"url": "u", "valueCode": "unknown"}]}});
    for (path, expected) in [
        ("birthDate.exists()", "[true]"),
        ("birthDate.hasValue()", "[false]"),
        ("birthDate", "[]"),
        ("birthDate = @2020", "[]"),
        ("birthDate < @2020", "[]"),
        ("birthDate.extension('u').value", "[unknown]"),
        ("birthDate.join(',')", "[]"),
    ] {
        assert_eq!(items(path, &patient).as_deref(), Ok(expected), "{path}");
    }
}

#[test]
fn keys() {
    check(&[
        ("getResourceKey()", "[p1]"),
        ("name.getResourceKey()", "[]"),
        ("contained.getResourceKey()", "[inside,other]"),
        ("generalPractitioner.getReferenceKey()", "[d1,o1]"),
        ("generalPractitioner.getReferenceKey(Practitioner)", "[d1]"),
        ("generalPractitioner.getReferenceKey(Patient)", "[]"),
        (
            "generalPractitioner.first().getReferenceKey(Practitioner) = 'd1'",
            "[true]",
        ),
        (
            "getResourceKey() = generalPractitioner.getReferenceKey(Patient)",
            "[]",
        ),
    ]);
}

#[test]
fn join() {
    check(&[
        ("name.given.join(',')", "[Ada,Bo,Cy]"),
        ("name.given.join()", "[AdaBoCy]"),
        ("name.given.join('')", "[AdaBoCy]"),
        ("name.nothing.join(',')", "[]"),
    ]);
    assert!(items("telecom.rank.join(',')", &patient()).is_err());
}

#[test]
fn literals() {
    check(&[
        (r"'it\'s \u0041\t.'", "[it's A\t.]"),
        ("'A' | 'B'", "[A,B]"),
        ("1.0", "[1.0]"),
        ("true", "[true]"),
        ("%loinc", "[http://loinc.org]"),
        ("(1 | 1.0 | 2).count()", "[2]"),
    ]);
}

/// The errors of one path, as a column's.
fn refused(path: &str) -> Vec<PathErrorKind> {
    let select = json!([{"column": [{"name": "x", "path": path}]}]);
    let errors = try_view(&json!({"resource": "Patient", "select": select}))
        .unwrap_err()
        .0;
    errors
        .into_iter()
        .map(|error| {
            assert_eq!(error.at, "select[0].column[0].path");
            match error.rule {
                Rule::Path(error) => error.kind,
                other => panic!("{path}: {other}"),
            }
        })
        .collect()
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    for (path, part) in [
        ("now()", "now() is not for views: the stored row would be wrong"),
        ("today() > birthDate", "today() is not for views"),
        ("timeOfDay()", "timeOfDay() is not for views"),
        (
            "name.resolve()",
            "resolve() is not for views: it needs more than the one resource",
        ),
        (
            "code.memberOf('urn:x')",
            "memberOf() is not for views: it needs a terminology server",
        ),
        ("code.subsumes(code)", "subsumes() is not for views"),
        ("code.subsumedBy(code)", "subsumedBy() is not for views"),
        (
            "conformsTo('urn:x')",
            "conformsTo() is not for views: it needs a validator",
        ),
        (
            "name.frist()",
            "unknown function frist(); supported are abs, aggregate, all, allFalse",
        ),
        ("name.where()", "where() takes one argument"),
        ("name.first(1)", "first() takes no argument"),
        (
            "gender.substring()",
            "substring() takes a start and at most a length",
        ),
        ("gender.length(1)", "length() takes no argument"),
        (
            "gender.matches('(')",
            "the regular expression cannot be used: its syntax",
        ),
        ("gender.matches('(?<=a)b')", "look-around"),
        ("gender.matches('(a{1000}){1000}')", "it is too big"),
        ("%nothing", "undefined constant %nothing"),
        ("value.ofType(quantity)", "unknown type quantity"),
        ("value.ofType('x')", "the name of a type is expected"),
    ] {
        let errors = refused(path);
        assert!(
            errors.len() == 1 && errors[0].to_string().contains(part),
            "{path}: {errors:?}"
        );
    }
}

#[test]
fn what_is_no_expression_is_refused_with_its_place() {
    for (path, at, part) in [
        ("@@", 0, "malformed date or time"),
        ("name..given", 5, "'.' where an element or function is expected"),
        ("name.", 5, "the end where an element or function is expected"),
        ("name[0", 6, "the end where ']' is expected"),
        ("(1", 2, "the end where ')' is expected"),
        ("'abc", 0, "a string is not closed"),
        (r"'a\q'", 2, "unknown escape"),
        ("a = ", 4, "the end where an expression is expected"),
        ("a b", 2, "'b' where an operator or the end is expected"),
        ("é", 0, "unexpected character"),
        ("a = #", 4, "unexpected character '#'"),
        ("@2020-13-01", 0, "malformed date or time"),
        ("99999999999999999999", 0, "malformed number"),
        ("/* open", 0, "a comment is not closed"),
        ("\"x\"", 0, "double-quoted"),
    ] {
        let select = json!([{"column": [{"name": "x", "path": path}]}]);
        let errors = try_view(&json!({"resource": "Patient", "select": select}))
            .unwrap_err()
            .0;
        let Rule::Path(error) = &errors[0].rule else {
            panic!("{path}: {errors:?}")
        };
        assert!(
            error.at == at && error.kind.to_string().contains(part),
            "{path}: {error}"
        );
    }
}

#[test]
fn depth_and_length_are_bounded() {
    for path in [
        format!("{}1{}", "(".repeat(10_000), ")".repeat(10_000)),
        format!("{}1", "-(".repeat(10_000)),
        vec!["a"; 10_000].join("."),
        vec!["1"; 10_000].join(" + "),
        format!("a{}", "[0]".repeat(10_000)),
        format!("{}a{}", "where(".repeat(10_000), ")".repeat(10_000)),
        format!("'{}'", "x".repeat(100_000)),
    ] {
        assert!(
            matches!(refused(&path)[..], [PathErrorKind::TooBig(_)]),
            "{}",
            &path[..20]
        );
    }
    // Value sets are written out as long chains; those are not deep.
    let long = vec!["gender = 'female'"; 1_000].join(" or ");
    assert_eq!(items(&long, &patient()).as_deref(), Ok("[true]"));
}
