//! Functions of numbers, dates and quantities, their conversions and types: expression and items, with nothing, several items, and edges.

use fhir_core::fhirpath::error::Fault;

use crate::{
    functions::patient,
    run::{check_faults, check_items},
};

fn check(cases: &[(&str, &str)]) {
    check_items(cases, &patient());
}

fn faults(cases: &[(&str, Fault)]) {
    check_faults(cases, &patient());
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
        ("2.power(31)", "[]"),
        ("2.power(40)", "[]"),
        ("(-2).power(31)", "[-2147483648]"),
        ("2.0.power(40)", "[1099511627776]"),
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
    faults(&[
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
    faults(&[("name.given.toInteger()", Fault::Several("toInteger()"))]);
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
    faults(&[
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
