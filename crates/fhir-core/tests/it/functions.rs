//! Each function of FHIRPath, family by family: expression and items. Of each its plain use, nothing as input, several items, and edges.

use fhir_core::{fhirpath::error::Fault, view::EvalError};
use serde_json::{Value, json};

use crate::run::{check_faults, check_items, items};

/// A patient in whom every function finds something.
pub(crate) fn patient() -> Value {
    let score: Value = serde_json::from_str("1.50").unwrap();
    let huge: Value = serde_json::from_str(&"9".repeat(200)).unwrap();
    json!({
        "resourceType": "Patient",
        "id": "p1",
        "active": true,
        "birthDate": "1970-06-30",
        "gender": "female",
        "name": [
            {"use": "official", "family": "Ash", "given": ["Ada", "Bo", "Ada"]},
            {"use": "old", "family": "Oak"}
        ],
        "contact": [{"period": {"start": "2001"}}],
        "telecom": [{"system": "phone", "rank": 1}, {"system": "email", "rank": 3}, {"system": "sms", "rank": 2}],
        "communication": [{"preferred": true}, {"preferred": false}, {"language": {"text": "x"}}],
        "extension": [
            {"url": "urn:score", "valueDecimal": score},
            {"url": "urn:huge", "valueDecimal": huge},
            {"url": "urn:when", "valueDateTime": "2020-02-29T10:11:12.5+02:00"},
            {"url": "urn:quantity", "valueQuantity": {"value": 7, "unit": "mg", "system": "http://unitsofmeasure.org", "code": "mg"}},
            {"url": "urn:text", "valueString": " Ä <b> & 'c' \"d\" "}
        ]
    })
}

fn check(cases: &[(&str, &str)]) {
    check_items(cases, &patient());
}

fn faults(cases: &[(&str, Fault)]) {
    check_faults(cases, &patient());
}

#[test]
fn existence() {
    check(&[
        ("communication.preferred.allTrue()", "[false]"),
        ("communication.preferred.anyTrue()", "[true]"),
        ("communication.preferred.allFalse()", "[false]"),
        ("communication.preferred.anyFalse()", "[true]"),
        ("active.allTrue()", "[true]"),
        ("active.anyFalse()", "[false]"),
        ("photo.allTrue()", "[true]"),
        ("photo.anyTrue()", "[false]"),
        ("photo.allFalse()", "[true]"),
        ("photo.anyFalse()", "[false]"),
        ("name.given.distinct()", "[Ada,Bo]"),
        ("name.given.isDistinct()", "[false]"),
        ("name.family.isDistinct()", "[true]"),
        ("photo.distinct()", "[]"),
        ("photo.isDistinct()", "[true]"),
        ("name.given.distinct().count()", "[2]"),
        ("('Ada' | 'Bo').subsetOf(name.given)", "[true]"),
        ("('Ada' | 'Cy').subsetOf(name.given)", "[false]"),
        ("photo.subsetOf(name.given)", "[true]"),
        ("name.given.subsetOf(photo)", "[false]"),
        ("name.given.supersetOf('Bo')", "[true]"),
        ("name.given.supersetOf(photo)", "[true]"),
        ("photo.supersetOf(name.given)", "[false]"),
        ("name[0].subsetOf(name)", "[true]"),
        ("(1 | 2.0).subsetOf(1.0 | 2 | 3)", "[true]"),
    ]);
    faults(&[
        ("name.given.allTrue()", Fault::Argument("allTrue()")),
        ("name.anyTrue()", Fault::Argument("anyTrue()")),
    ]);
}

#[test]
fn subsetting_and_combining() {
    check(&[
        ("name.given.intersect('Ada' | 'Cy')", "[Ada]"),
        ("name.given.intersect(photo)", "[]"),
        ("name.given.exclude('Bo')", "[Ada,Ada]"),
        ("name.given.exclude(photo)", "[Ada,Bo,Ada]"),
        ("photo.exclude('Bo')", "[]"),
        ("name.family.union('Ash' | 'Elm')", "[Ash,Oak,Elm]"),
        ("name.given.union({})", "[Ada,Bo]"),
        ("name.family.combine('Ash')", "[Ash,Oak,Ash]"),
        ("{}.combine(name.family)", "[Ash,Oak]"),
        ("name.family.combine(name.given).first()", "[Ash]"),
        ("name.select(given.combine(family))", "[Ada,Bo,Ada,Ash,Oak]"),
        (
            "name.select($this.family.combine($this.use)).join('-')",
            "[Ash-official-Oak-old]",
        ),
        ("telecom.rank.skip(1).take(1)", "[3]"),
    ]);
    faults(&[("name.given.skip('a')", Fault::Argument("skip()"))]);
}

#[test]
fn filtering() {
    check(&[
        ("name.trace('names').family", "[Ash,Oak]"),
        ("name.trace('names', given.count()).family", "[Ash,Oak]"),
        ("telecom.rank.select($this * 10)", "[10,30,20]"),
        ("telecom.select($index)", "[0,1,2]"),
        ("name.all($this is HumanName)", "[true]"),
        ("iif({}, 'a', 'b')", "[b]"),
        ("iif(true, 'a', 1 / 0)", "[a]"),
        (
            "name.select(iif(family = 'Ash', given, family))",
            "[Ada,Bo,Ada,Oak]",
        ),
        ("name.first().iif(family = 'Ash', use, family)", "[official]"),
        ("photo.iif(exists(), 'some', 'none')", "[none]"),
        (
            "photo.iif($this.empty() and url.empty() and Patient.empty(), 'none')",
            "[none]",
        ),
        ("telecom.where(rank > 1).where(system = 'sms').rank", "[2]"),
        ("name.where($this.given.exists()).family", "[Ash]"),
    ]);
    faults(&[("name.iif(true, 'a')", Fault::Several("iif()"))]);
}

#[test]
fn tree() {
    check(&[
        ("name[1].children()", "[old,Oak]"),
        ("name.children().count()", "[7]"),
        ("photo.children()", "[]"),
        ("'a'.children()", "[]"),
        ("name.descendants().count()", "[7]"),
        (
            "descendants().where($this is code).distinct()",
            "[female,official,old,phone,email,sms,mg]",
        ),
        ("descendants().where($this is Quantity).unit", "[mg]"),
        ("descendants().ofType(HumanName).family", "[Ash,Oak]"),
        ("children().ofType(boolean)", "[true]"),
        ("children().resourceType", "[]"),
        ("extension.repeat(value).count()", "[6]"),
        ("repeat(name | given).count()", "[4]"),
        ("repeat(name).family", "[Ash,Oak]"),
        ("repeat(name | given).ofType(string)", "[Ada,Bo]"),
        ("name.repeat($this).count()", "[2]"),
    ]);
}

#[test]
fn a_questionnaire_is_walked_to_its_end() {
    let response = json!({"resourceType": "Patient", "item": [
        {"linkId": "1", "item": [{"linkId": "1.1"}, {"linkId": "1.2", "answer": [{"valueString": "x", "item": [{"linkId": "1.2.1"}]}]}]},
        {"linkId": "2"}
    ]});
    for (path, expected) in [
        ("repeat(item).linkId", "[1,2,1.1,1.2]"),
        ("repeat(item | answer).linkId", "[1,2,1.1,1.2,1.2.1]"),
        ("item.repeat(item).linkId", "[1.1,1.2]"),
        ("descendants().where(linkId.exists()).linkId.count()", "[5]"),
    ] {
        assert_eq!(items(path, &response).as_deref(), Ok(expected), "{path}");
    }
}

#[test]
fn aggregates() {
    check(&[
        ("telecom.rank.aggregate($this + $total, 0)", "[6]"),
        (
            "telecom.rank.aggregate(iif($total.empty(), $this, $this + $total))",
            "[6]",
        ),
        (
            "telecom.rank.aggregate(iif($total.empty() or $this < $total, $this, $total))",
            "[1]",
        ),
        ("photo.aggregate($total + 1, 5)", "[5]"),
        ("photo.aggregate($total + 1)", "[]"),
        ("name.given.aggregate($total | $this, {})", "[Ada,Bo]"),
        ("telecom.rank.aggregate($total & $index.toString(), '')", "[012]"),
        (
            "telecom.rank.select(telecom.rank.aggregate($this + $total, 0))",
            "[0,0,0]",
        ),
        (
            "telecom.select(%resource.telecom.rank.aggregate($this + $total, 0))",
            "[6,6,6]",
        ),
        ("$total", "[]"),
        ("telecom.rank.sum()", "[6]"),
        ("telecom.rank.min()", "[1]"),
        ("telecom.rank.max()", "[3]"),
        ("telecom.rank.avg()", "[2]"),
        ("photo.sum()", "[]"),
        ("photo.avg()", "[]"),
        ("(1 | 2).avg()", "[1.5]"),
        ("(0.1 | 0.2).sum()", "[0.3]"),
        ("name.family.min()", "[Ash]"),
        ("(@2020 | @2019-05).max()", "[2020]"),
        ("(@2020 | @2020-05).max()", "[]"),
        ("(1 'g' | 1 'mg').sum()", "[1001 'mg']"),
    ]);
    faults(&[
        ("name.sum()", Fault::Argument("sum()")),
        ("(1 | 'a').sum()", Fault::Operands("+")),
    ]);
}

#[test]
fn strings() {
    check(&[
        ("'abcdefg'.indexOf('bc')", "[1]"),
        ("'abcdefg'.indexOf('x')", "[-1]"),
        ("'abcdefg'.indexOf('')", "[0]"),
        ("'äbä'.indexOf('b')", "[1]"),
        ("'abcb'.lastIndexOf('b')", "[3]"),
        ("'äbäb'.lastIndexOf('ä')", "[2]"),
        ("'ab'.lastIndexOf('x')", "[-1]"),
        ("'abcdefg'.substring(3)", "[defg]"),
        ("'abcdefg'.substring(1, 2)", "[bc]"),
        ("'abcdefg'.substring(6, 2)", "[g]"),
        ("'abcdefg'.substring(7)", "[]"),
        ("'abcdefg'.substring(-1)", "[]"),
        ("'abcdefg'.substring(1, 0)", "[]"),
        ("'abcdefg'.substring(1, {})", "[bcdefg]"),
        ("'😀äb'.substring(1, 1)", "[ä]"),
        ("'abc'.startsWith('ab')", "[true]"),
        ("'abc'.startsWith('')", "[true]"),
        ("'abc'.endsWith('ab')", "[false]"),
        ("'abc'.contains('b')", "[true]"),
        ("'abc'.contains({})", "[]"),
        ("gender.contains('male')", "[true]"),
        ("'Straße'.upper()", "[STRASSE]"),
        ("'ÄB'.lower()", "[äb]"),
        ("'abcdefg'.replace('cde', '123')", "[ab123fg]"),
        ("'abc'.replace('', 'x')", "[xaxbxcx]"),
        ("'abc'.replace('b', '')", "[ac]"),
        ("'abc'.replace({}, 'x')", "[]"),
        ("'äb'.length()", "[2]"),
        ("''.length()", "[0]"),
        ("'äb'.toChars()", "[ä,b]"),
        ("''.toChars()", "[]"),
        ("'a,b,,c'.split(',')", "[a,b,,c]"),
        ("'abc'.split('')", "[a,b,c]"),
        ("'abc'.split(',')", "[abc]"),
        ("'  a b '.trim()", "[a b]"),
        ("'a,b'.split(',').join('-')", "[a-b]"),
        ("photo.length()", "[]"),
        ("photo.upper()", "[]"),
        ("photo.split(',')", "[]"),
        ("'a' & {} & 'b'", "[ab]"),
        ("{} & {}", "[]"),
        ("name.family.first() & ', ' & name.given.first()", "[Ash, Ada]"),
        ("birthDate.substring(0, 4)", "[1970]"),
    ]);
    faults(&[
        ("name.given.upper()", Fault::Several("upper()")),
        ("1.upper()", Fault::Argument("upper()")),
        ("name.first().length()", Fault::Argument("length()")),
        ("'a'.contains(1)", Fault::Argument("contains()")),
        ("'a' & 1", Fault::Operands("&")),
        ("'abc'.substring('a')", Fault::Argument("substring()")),
    ]);
}

#[test]
fn patterns() {
    check(&[
        ("'http://fhir.org/ValueSet/x'.matches('ValueSet')", "[true]"),
        ("'abc'.matches('^b')", "[false]"),
        ("'a\\nb'.matches('a.b')", "[true]"),
        ("'abc'.matchesFull('b')", "[false]"),
        ("'abc'.matchesFull('.b|abc')", "[true]"),
        ("'abc'.matches('')", "[true]"),
        ("photo.matches('a')", "[]"),
        ("'abc'.matches({})", "[]"),
        ("name.where(family.matches('^A')).use", "[official]"),
        ("'abc'.matches(gender)", "[false]"),
        ("'a female'.matches(gender)", "[true]"),
        (
            "'11/30/1972'.replaceMatches('(?P<m>\\\\d+)/(?P<d>\\\\d+)/(?P<y>\\\\d+)', '${y}-${m}-${d}')",
            "[1972-11-30]",
        ),
        ("'abc'.replaceMatches('(b)', '[$1x]')", "[a[bx]c]"),
        ("'abc'.replaceMatches('b', '')", "[ac]"),
        ("'abc'.replaceMatches('x', 'y')", "[abc]"),
        ("'abc'.replaceMatches('b', {})", "[]"),
    ]);
    faults(&[
        ("'a'.matches('(' & gender)", Fault::Pattern("matches()")),
        (
            "'a'.matchesFull(gender & ')|(b')",
            Fault::Pattern("matchesFull()"),
        ),
        ("1.matches('a')", Fault::Argument("matches()")),
        ("name.given.matches('a')", Fault::Several("matches()")),
    ]);
}

#[test]
fn coding_and_escaping() {
    check(&[
        ("'test'.encode('base64')", "[dGVzdA==]"),
        ("'test'.encode('hex')", "[74657374]"),
        ("'subjects?_d'.encode('urlbase64')", "[c3ViamVjdHM_X2Q=]"),
        ("'dGVzdA=='.decode('base64')", "[test]"),
        ("'74657374'.decode('hex')", "[test]"),
        ("'7'.decode('hex')", "[]"),
        ("'zz'.decode('hex')", "[]"),
        ("'/w=='.decode('base64')", "[]"),
        ("'test'.encode('rot13')", "[]"),
        ("'\"1<2\"'.escape('html')", "[&quot;1&lt;2&quot;]"),
        ("'&quot;1&lt;2 &x;'.unescape('html')", "[\"1<2 &x;]"),
        ("'a\"b'.escape('json')", "[a\\\"b]"),
        ("'a\\\\\"b'.unescape('json')", "[a\"b]"),
        ("photo.encode('hex')", "[]"),
        (
            "extension('urn:text').value.escape('html').unescape('html') = extension('urn:text').value",
            "[true]",
        ),
    ]);
}

#[test]
fn what_is_built_is_bounded() {
    let long = json!({"resourceType": "Patient", "name": [{"family": "x".repeat(20_000)}]});
    for path in [
        "name.family.replace('x', name.family).length()",
        "name.family.replaceMatches('x', name.family).length()",
        "name.family.replaceMatches('x*', '$0$0$0').replaceMatches('x', '$0' & name.family).length()",
        "name.family.toChars().aggregate($total & %resource.name.family, '').length()",
        "name.family.toChars().select(%resource.name.family).join().length()",
        "name.family.toChars().aggregate($total + $total, 'x').length()",
    ] {
        let result = items(path, &long);
        // What is built again and again runs out of steps first.
        assert!(
            matches!(
                result,
                Err(EvalError::Column {
                    fault: Fault::TooLong(_) | Fault::TooMuch(_) | Fault::Steps(_),
                    ..
                })
            ),
            "{path}: {result:?}"
        );
    }
}
