//! Each function of FHIRPath, family by family: expression and items. Of each its plain use, nothing as input, several items, and edges.

use fhir_core::{fhirpath::error::Fault, view::EvalError};
use serde_json::{Value, json};

use crate::run::items;

fn patient() -> Value {
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
    let patient = patient();
    let wrong: Vec<_> = cases
        .iter()
        .filter_map(|(path, expected)| {
            let found = items(path, &patient);
            (found.as_deref() != Ok(*expected)).then(|| format!("{path}: {found:?}, not {expected}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn check_faults(cases: &[(&str, Fault)]) {
    for (path, fault) in cases {
        let expected = EvalError::Column {
            column: "x".into(),
            fault: *fault,
        };
        assert_eq!(items(path, &patient()), Err(expected), "{path}");
    }
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
    check_faults(&[
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
    check_faults(&[("name.given.skip('a')", Fault::Argument("skip()"))]);
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
    check_faults(&[("name.iif(true, 'a')", Fault::Several("iif()"))]);
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
    check_faults(&[
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
    check_faults(&[
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
    check_faults(&[
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
fn numbers() {
    check(&[
        ("(-5).abs()", "[5]"),
        ("(-5.50).abs()", "[5.50]"),
        ("(-5 'mg').abs()", "[5 'mg']"),
        ("1.1.ceiling()", "[2]"),
        ("(-1.1).ceiling()", "[-1]"),
        ("1.ceiling()", "[1]"),
        ("(-1.1).floor()", "[-2]"),
        ("(-1.56).truncate()", "[-1]"),
        ("101.truncate()", "[101]"),
        ("3.14159.round(3)", "[3.142]"),
        ("2.5.round()", "[3]"),
        ("(-2.5).round()", "[-2]"),
        ("(-2.51).round()", "[-3]"),
        ("2.5.round(4)", "[2.5]"),
        ("81.sqrt()", "[9]"),
        ("(-1).sqrt()", "[]"),
        ("2.power(3)", "[8]"),
        ("2.power(-1)", "[0.5]"),
        ("2.5.power(2)", "[6.25]"),
        ("(-1).power(0.5)", "[]"),
        ("0.exp()", "[1]"),
        ("1.ln()", "[0]"),
        ("0.ln()", "[]"),
        ("16.log(2)", "[4]"),
        ("16.log(1)", "[]"),
        ("16.log({})", "[]"),
        ("photo.abs()", "[]"),
        ("photo.power(2)", "[]"),
        ("extension('urn:huge').value.abs()", "[]"),
        ("extension('urn:huge').value.floor()", "[]"),
        ("extension('urn:huge').value > 1", "[true]"),
        (
            "extension('urn:huge').value = extension('urn:huge').value",
            "[true]",
        ),
        ("extension('urn:score').value.round(1)", "[1.5]"),
    ]);
    check_faults(&[
        ("'a'.abs()", Fault::Argument("abs()")),
        ("telecom.rank.abs()", Fault::Several("abs()")),
        ("true.sqrt()", Fault::Argument("sqrt()")),
        ("1.5.round(-1)", Fault::Argument("round()")),
        ("gender.floor()", Fault::Argument("floor()")),
    ]);
}

#[test]
fn conversions() {
    check(&[
        (
            "'true'.toBoolean() and 'T'.toBoolean() and 'yes'.toBoolean() and '1.0'.toBoolean()",
            "[true]",
        ),
        ("'n'.toBoolean()", "[false]"),
        ("1.toBoolean()", "[true]"),
        ("2.toBoolean()", "[]"),
        ("0.0.toBoolean()", "[false]"),
        ("'x'.toBoolean()", "[]"),
        ("'x'.convertsToBoolean()", "[false]"),
        ("photo.convertsToBoolean()", "[]"),
        ("'+12'.toInteger()", "[12]"),
        ("'-12'.toInteger()", "[-12]"),
        ("'1.5'.toInteger()", "[]"),
        ("'1e3'.toInteger()", "[]"),
        ("1.5.toInteger()", "[]"),
        ("true.toInteger()", "[1]"),
        ("'99999999999999999999'.toInteger()", "[]"),
        ("'1.50'.toDecimal()", "[1.50]"),
        ("'.5'.toDecimal()", "[]"),
        ("'5.'.toDecimal()", "[]"),
        ("false.toDecimal()", "[0.0]"),
        ("3.toDecimal() / 2", "[1.5]"),
        ("'a'.convertsToDecimal()", "[false]"),
        ("1.50.toString()", "[1.50]"),
        ("true.toString()", "[true]"),
        ("birthDate.toString()", "[1970-06-30]"),
        ("4 days.toString()", "[4 days]"),
        ("(1.0 'mg').toString()", "[1.0 'mg']"),
        ("name.first().toString()", "[]"),
        ("name.first().convertsToString()", "[false]"),
        ("'2015-02-30'.toDate()", "[]"),
        ("'2015-02'.toDate()", "[2015-02]"),
        ("'2015-02-04T10:00:00Z'.toDate()", "[]"),
        ("@2015-02-04T10:00:00Z.toDate()", "[2015-02-04]"),
        ("@T10:00.toDate()", "[]"),
        ("birthDate.toDateTime()", "[1970-06-30]"),
        ("birthDate.toDateTime() is DateTime", "[true]"),
        (
            "'2015-02-04T14:34:28+09:00'.toDateTime()",
            "[2015-02-04T14:34:28+09:00]",
        ),
        ("'14:34'.toDateTime()", "[]"),
        ("'14:34:28.123'.toTime()", "[14:34:28.123]"),
        ("'T14:34'.toTime()", "[14:34]"),
        ("'25:00'.convertsToTime()", "[false]"),
        ("'1 day'.toQuantity()", "[1 day]"),
        ("'1 \\'wk\\''.toQuantity()", "[1 'wk']"),
        ("'1 wk'.toQuantity()", "[]"),
        ("5.toQuantity()", "[5 '1']"),
        ("'2 \\'h\\''.toQuantity('min')", "[120 'min']"),
        ("'2 \\'h\\''.toQuantity('g')", "[]"),
        ("'2 \\'h\\''.convertsToQuantity('g')", "[false]"),
        ("true.toQuantity()", "[1 '1']"),
        (
            "extension('urn:quantity').value.toQuantity().toString()",
            "[7 'mg']",
        ),
        ("photo.toInteger()", "[]"),
    ]);
    check_faults(&[("name.given.toInteger()", Fault::Several("toInteger()"))]);
}

#[test]
fn boundaries_and_precision() {
    check(&[
        ("1.587.lowBoundary()", "[1.58650000]"),
        ("1.587.highBoundary(2)", "[1.59]"),
        ("1.587.lowBoundary(-1)", "[]"),
        ("1.587.lowBoundary(32)", "[]"),
        ("1.lowBoundary(0)", "[0]"),
        ("1.lowBoundary({})", "[]"),
        ("extension('urn:score').value.lowBoundary()", "[1.49500000]"),
        ("extension('urn:huge').value.lowBoundary()", "[]"),
        ("@2016-02.highBoundary()", "[2016-02-29]"),
        ("@2015-02.highBoundary()", "[2015-02-28]"),
        ("@2014.lowBoundary(6)", "[2014-01]"),
        ("@2014.lowBoundary(10)", "[]"),
        ("birthDate.highBoundary(4)", "[1970]"),
        ("@2010-10-10T.lowBoundary()", "[2010-10-10T00:00:00.000+14:00]"),
        ("@2010-10-10T.highBoundary()", "[2010-10-10T23:59:59.999-12:00]"),
        (
            "extension('urn:when').value.highBoundary()",
            "[2020-02-29T10:11:12.500+02:00]",
        ),
        ("extension('urn:when').value.lowBoundary(8)", "[2020-02-29]"),
        ("@T12:34:00.highBoundary()", "[12:34:00.999]"),
        ("@T10:30.highBoundary()", "[10:30:59.999]"),
        ("(1.5 'mg').lowBoundary(2).toString()", "[1.45 'mg']"),
        ("photo.lowBoundary()", "[]"),
        ("contact.period.lowBoundary()", "[2001-01-01T00:00:00.000+14:00]"),
        ("contact.period.highBoundary()", "[]"),
        ("1.58700.precision()", "[5]"),
        ("5.precision()", "[0]"),
        ("@2014.precision()", "[4]"),
        ("@2014-01-05T10:30:00.000.precision()", "[17]"),
        ("@T10:30.precision()", "[4]"),
        ("@T10:30:00.000.precision()", "[9]"),
        ("photo.precision()", "[]"),
    ]);
    check_faults(&[
        ("gender.lowBoundary()", Fault::Argument("lowBoundary()")),
        ("telecom.rank.highBoundary()", Fault::Several("highBoundary()")),
        ("gender.precision()", Fault::Argument("precision()")),
    ]);
}

#[test]
fn types_and_values() {
    check(&[
        ("gender.type().name", "[code]"),
        ("gender.type().namespace", "[FHIR]"),
        ("'a'.type().name", "[String]"),
        ("1.type().namespace", "[System]"),
        ("name.first().type().name", "[HumanName]"),
        ("type().name", "[Patient]"),
        ("(gender.type() = gender.type())", "[true]"),
        ("gender.getValue()", "[female]"),
        ("birthDate.getValue() is Date", "[true]"),
        ("name.first().getValue()", "[]"),
        ("(1 'g').comparable(5 'mg')", "[true]"),
        ("(1 'g').comparable(5 'mL')", "[false]"),
        ("extension('urn:quantity').value.comparable(1 'kg')", "[true]"),
        ("photo.comparable(1 'g')", "[]"),
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
