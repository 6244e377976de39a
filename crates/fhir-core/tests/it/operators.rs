//! Operators: equivalence, quantities, dates with amounts, whole division, types; each with nothing, several items and what does not fit.

use fhir_core::fhirpath::error::Fault;
use serde_json::{Value, json};

use crate::run::{check_faults, check_items};

fn observation() -> Value {
    let quantity = |value: i64, unit: &str, code: &str| json!({"value": value, "unit": unit, "system": "http://unitsofmeasure.org", "code": code});
    json!({
        "resourceType": "Patient",
        "id": "p1",
        "gender": "female",
        "birthDate": "2020-02-29",
        "deceasedDateTime": "2021-03-01T10:00:00Z",
        "name": [{"family": "Ash Elm", "given": ["Ada", "Bo"]}, {"family": "ash elm", "given": ["bo", "ADA"]}],
        "extension": [
            {"url": "g", "valueQuantity": quantity(1, "gram", "g")},
            {"url": "mg", "valueQuantity": quantity(1000, "mg", "mg")},
            {"url": "age", "valueAge": quantity(30, "years", "a")},
            {"url": "less", "valueQuantity": {"value": 5, "comparator": "<", "unit": "mg"}},
            {"url": "code", "valueCode": "2020-02-29"},
            {"url": "code2", "valueCode": "2020-02-29T00:00:00Z"}
        ],
        "unknownDate": "2020-02-29T10:00:00Z",
        "unknownInstant": "2020-02-29T12:00:00+02:00"
    })
}

fn check(cases: &[(&str, &str)]) {
    check_items(cases, &observation());
}

fn check_operands(cases: &[(&str, &'static str)]) {
    let cases: Vec<_> = cases
        .iter()
        .map(|(path, operator)| (*path, Fault::Operands(operator)))
        .collect();
    check_faults(&cases, &observation());
}

#[test]
fn equivalence() {
    check(&[
        ("'Abc' ~ 'aBC'", "[true]"),
        ("'a b' ~ 'A\\tb'", "[true]"),
        ("'a  b' ~ 'a b'", "[false]"),
        ("'ab' ~ 'a b'", "[false]"),
        ("name[0].family ~ name[1].family", "[true]"),
        ("name[0].given ~ name[1].given", "[true]"),
        ("name[0] ~ name[1]", "[true]"),
        ("name[0] = name[1]", "[false]"),
        ("name[0] !~ name[1]", "[false]"),
        ("name.given ~ name[0].given", "[false]"),
        ("{} ~ {}", "[true]"),
        ("{} ~ 'a'", "[false]"),
        ("photo !~ 'a'", "[true]"),
        ("1.2 ~ 1.25", "[false]"),
        ("1.3 ~ 1.25", "[true]"),
        ("1.0 ~ 1", "[true]"),
        ("1 ~ '1'", "[false]"),
        ("true ~ true", "[true]"),
        ("@2020 ~ @2020-02", "[false]"),
        ("@2020-02-29 ~ birthDate", "[true]"),
        ("@2012-01-01T10:00:00Z ~ @2012-01-01T12:00:00+02:00", "[true]"),
        ("1 year ~ 1 'a'", "[true]"),
        ("1 'g' ~ 1000 'mg'", "[true]"),
        ("1 'g' ~ 1 'mL'", "[false]"),
        ("(1 | 2) ~ (2 | 1)", "[true]"),
        ("(1 | 2) = (2 | 1)", "[false]"),
    ]);
}

#[test]
fn quantities() {
    check(&[
        ("1 'g' = 1000 'mg'", "[true]"),
        ("1 'g' != 1 'mg'", "[true]"),
        ("1 'g' = 1 'mL'", "[]"),
        ("1 'g' > 1 'mL'", "[]"),
        ("1 second = 1 's'", "[true]"),
        ("1 second = 1000 milliseconds", "[true]"),
        ("1 year = 1 'a'", "[]"),
        ("1 year > 11 months", "[true]"),
        ("7 days = 1 week", "[true]"),
        ("4 = 4 '1'", "[true]"),
        ("extension('g').value = extension('mg').value", "[true]"),
        ("extension('g').value = 1 'g'", "[true]"),
        ("extension('g').value > 999 'mg'", "[true]"),
        ("extension('g').value ~ 1000 'mg'", "[true]"),
        ("extension('age').value > 20 years", "[true]"),
        ("extension('age').value = 30 'a'", "[true]"),
        ("extension('age').value.ofType(Age) >= 31 years", "[false]"),
        ("extension('less').value > 1 'mg'", "[]"),
        ("(extension('g').value + 500 'mg').toString()", "[1500 'mg']"),
        ("(1 'g' - 1 'mg').toString()", "[999 'mg']"),
        ("1 'g' + 1 'mL'", "[]"),
        ("(2 'cm' * 3).toString()", "[6 'cm']"),
        ("(6 'g' / 2 'L').toString()", "[3 'g/L']"),
        ("(-(1 'g')).toString()", "[-1 'g']"),
        ("1 'g' / 0 'g'", "[]"),
        ("1 'g' in (2 'g' | 1000 'mg')", "[true]"),
        ("photo + 1 'g'", "[]"),
    ]);
    check_operands(&[
        ("1 'g' div 2", "div"),
        ("1 'g' > 'a'", ">"),
        ("1 'g' + 'a'", "+"),
        ("name[0] > 1", ">"),
    ]);
}

#[test]
fn dates_with_amounts() {
    check(&[
        ("birthDate + 1 year", "[2021-02-28]"),
        ("birthDate + 4 years", "[2024-02-29]"),
        ("birthDate + 1 month", "[2020-03-29]"),
        ("birthDate - 1 month", "[2020-01-29]"),
        ("@2020-01-31 + 1 month", "[2020-02-29]"),
        ("@2019-03-31 - 1 month", "[2019-02-28]"),
        ("birthDate + 1 day", "[2020-03-01]"),
        ("birthDate + 25 hours", "[2020-03-01]"),
        ("birthDate + 1.9 days", "[2020-03-01]"),
        ("@2019 + 18 months", "[2020]"),
        ("@2019-12 + 1 month", "[2020-01]"),
        ("@2019-12-31T23:59:59Z + 1 second", "[2020-01-01T00:00:00Z]"),
        ("@2019-12-31T23:59:59Z + 1 's'", "[2020-01-01T00:00:00Z]"),
        ("@2019-12-31T23:59:59Z + 1 'ms'", "[2019-12-31T23:59:59.001Z]"),
        ("@T23:30 + 1 hour", "[00:30]"),
        ("@T00:30 - 1 hour", "[23:30]"),
        ("deceased.ofType(dateTime) - 1 week", "[2021-02-22T10:00:00Z]"),
        ("birthDate + 1 year < deceased", "[true]"),
        ("birthDate + extension('age').value", "[2050-02-28]"),
        ("@9999-12-31 + 1 day", "[]"),
        ("birthDate + 99999999999 years", "[]"),
        ("photo + 1 year", "[]"),
        ("birthDate + {}", "[]"),
        ("unknownDate + 1 day", "[2020-03-01T10:00:00Z]"),
    ]);
    check_operands(&[
        ("birthDate + 1 'a'", "+"),
        ("birthDate + 1 'mg'", "+"),
        ("birthDate + 1", "+"),
        ("birthDate * 2 days", "*"),
        ("gender + 1 day", "+"),
    ]);
}

#[test]
fn whole_division() {
    check(&[
        ("5 div 2", "[2]"),
        ("-5 div 2", "[-2]"),
        ("5.5 div 0.7", "[7]"),
        ("5 div 0", "[]"),
        ("5 mod 2", "[1]"),
        ("-5 mod 2", "[-1]"),
        ("5.5 mod 0.7", "[0.6]"),
        ("5 mod 0", "[]"),
        ("photo div 2", "[]"),
        ("2 + 7 div 2 * 2", "[8]"),
    ]);
    check_operands(&[("'a' div 2", "div"), ("gender mod 2", "mod")]);
}

#[test]
fn types_are_known() {
    check(&[
        ("gender is code", "[true]"),
        ("gender is string", "[true]"),
        ("gender is uri", "[false]"),
        ("gender is String", "[false]"),
        ("gender is System.String", "[false]"),
        ("'a' is String", "[true]"),
        ("'a' is string", "[false]"),
        (
            "1 is Integer and 1.0 is System.Decimal and true is Boolean",
            "[true]",
        ),
        ("@2020 is Date and @2020T is DateTime and @T10 is Time", "[true]"),
        ("1 'g' is System.Quantity and 1 'g' is Quantity", "[true]"),
        ("1 'g' is FHIR.Quantity", "[false]"),
        ("birthDate is date", "[true]"),
        ("birthDate is dateTime", "[false]"),
        ("deceased is dateTime", "[true]"),
        ("deceased is boolean", "[false]"),
        ("extension('age').value is Quantity", "[true]"),
        ("extension('age').value is Age", "[true]"),
        ("extension('g').value is Age", "[false]"),
        ("extension('age').value is Element", "[true]"),
        ("$this is Patient", "[true]"),
        ("$this is DomainResource and $this is Resource", "[true]"),
        ("$this is Observation", "[false]"),
        ("DomainResource.id", "[p1]"),
        ("name.first() is FHIR.HumanName", "[true]"),
        ("photo is Attachment", "[]"),
        ("name.given.first() is string", "[true]"),
        ("id is id", "[true]"),
        ("extension[4].value.ofType(string)", "[2020-02-29]"),
        ("deceased.ofType(boolean)", "[]"),
        ("deceased as dateTime", "[2021-03-01T10:00:00Z]"),
        ("deceased.as(boolean)", "[]"),
    ]);
}

#[test]
fn only_what_may_be_a_date_is_compared_as_one() {
    check(&[
        // Codes are strings, whatever they look like.
        ("extension('code').value = extension('code2').value", "[false]"),
        ("extension('code').value < extension('code2').value", "[true]"),
        // Elements that the table does not have may be dates.
        ("unknownDate = unknownInstant", "[true]"),
        ("unknownDate < birthDate", "[]"),
        ("birthDate = '2020-02-29'", "[true]"),
        ("birthDate < deceased", "[true]"),
        ("birthDate = @2020-02-29T10:00:00Z", "[]"),
        ("@T10:00 = @2020", "[false]"),
    ]);
}
