//! What FHIR's table of types does for paths and columns: kinds of columns, warnings, elements that are not as the table has them.

use fhir_core::{
    column::ColumnKind,
    view::{CompiledView, Rule},
};
use serde_json::{Value, json};

use crate::run::{items, rows, try_view};

/// A view with one column, of any resource type.
fn view_of(resource: &str, column: &Value) -> CompiledView {
    try_view(&json!({"resource": resource, "select": [{"column": [column]}]})).unwrap()
}

fn kind(resource: &str, path: &str) -> ColumnKind {
    view_of(resource, &json!({"name": "x", "path": path})).columns()[0].kind
}

#[test]
fn kinds_come_from_the_definitions() {
    for (resource, path, expected) in [
        ("Patient", "active", ColumnKind::Boolean),
        ("Patient", "Patient.active", ColumnKind::Boolean),
        ("Patient", "telecom.rank", ColumnKind::Integer),
        ("Patient", "birthDate", ColumnKind::Text),
        ("Patient", "meta.lastUpdated", ColumnKind::TimestampTz),
        ("Patient", "multipleBirth", ColumnKind::Text),
        ("Patient", "multipleBirth.ofType(integer)", ColumnKind::Integer),
        ("Patient", "deceased.ofType(boolean)", ColumnKind::Boolean),
        ("Patient", "deceased as boolean", ColumnKind::Boolean),
        (
            "Patient",
            "contact.where(gender = 'male').telecom.first().rank",
            ColumnKind::Integer,
        ),
        ("Patient", "name", ColumnKind::Text),
        ("Patient", "nothing", ColumnKind::Text),
        ("Patient", "extension('urn:x').value", ColumnKind::Text),
        (
            "Patient",
            "extension('urn:x').value.ofType(decimal)",
            ColumnKind::Decimal,
        ),
        (
            "Patient",
            "extension('urn:x').value.ofType(integer64)",
            ColumnKind::BigInt,
        ),
        (
            "Patient",
            "contained.ofType(Observation).value.ofType(Quantity).value",
            ColumnKind::Decimal,
        ),
        ("Patient", "iif(active, 1, 2)", ColumnKind::Integer),
        ("Patient", "iif(active, 1, 'a')", ColumnKind::Text),
        ("Patient", "telecom.rank | 1", ColumnKind::Integer),
        ("Patient", "name.given.length()", ColumnKind::Integer),
        ("Patient", "telecom.rank.sum()", ColumnKind::Integer),
        ("Patient", "telecom.rank.avg()", ColumnKind::Decimal),
        ("Patient", "telecom.rank.first() / 2", ColumnKind::Decimal),
        ("Patient", "telecom.rank.first() + 2", ColumnKind::Integer),
        ("Patient", "1.lowBoundary()", ColumnKind::Decimal),
        ("Patient", "name.select(family.exists())", ColumnKind::Boolean),
        ("Patient", "children()", ColumnKind::Text),
        ("Patient", "telecom.select(rank)", ColumnKind::Integer),
        ("Observation", "value.ofType(Quantity).value", ColumnKind::Decimal),
        ("Observation", "issued", ColumnKind::TimestampTz),
        (
            "Observation",
            "component.value.ofType(Quantity).value",
            ColumnKind::Decimal,
        ),
        (
            "Observation",
            "component.referenceRange.low.value",
            ColumnKind::Decimal,
        ),
        (
            "Bundle",
            "entry.resource.ofType(Patient).active",
            ColumnKind::Boolean,
        ),
        ("Bundle", "entry.resource.active", ColumnKind::Text),
        (
            "Questionnaire",
            "item.item.item.item.required",
            ColumnKind::Boolean,
        ),
        ("Whatever", "active", ColumnKind::Text),
    ] {
        assert_eq!(kind(resource, path), expected, "{resource}: {path}");
    }
}

#[test]
fn kinds_follow_iterations() {
    let view = try_view(&json!({"resource": "QuestionnaireResponse", "select": [
        {"repeat": ["item", "answer.item"], "column": [
            {"name": "link", "path": "linkId"},
            {"name": "whole", "path": "answer.value.ofType(integer)"}
        ]},
        {"forEach": "item.answer", "column": [{"name": "flag", "path": "value.ofType(boolean)"}],
         "select": [{"forEachOrNull": "item", "column": [{"name": "place", "path": "%rowIndex"}, {"name": "status", "path": "%resource.authored"}]}]}
    ]}))
    .unwrap();
    let kinds: Vec<_> = view.columns().iter().map(|c| c.kind).collect();
    assert_eq!(
        kinds,
        [
            ColumnKind::Text,
            ColumnKind::Integer,
            ColumnKind::Boolean,
            ColumnKind::Integer,
            ColumnKind::Text
        ]
    );
}

#[test]
fn contradictions_are_told_and_kin_are_not() {
    for (path, declared, told) in [
        ("active", "boolean", None),
        (
            "active",
            "string",
            Some(
                "select[0].column[0].type: column x is declared as string, and its path yields boolean; correct one of them",
            ),
        ),
        ("birthDate", "dateTime", None),
        ("birthDate", "instant", None),
        (
            "birthDate",
            "string",
            Some(
                "select[0].column[0].type: column x is declared as string, and its path yields date; correct one of them",
            ),
        ),
        ("gender", "string", None),
        ("gender", "uri", None),
        ("id", "string", None),
        ("gender", "http://hl7.org/fhir/StructureDefinition/code", None),
        ("telecom.rank", "integer", None),
        ("telecom.rank", "decimal", None),
        ("multipleBirth", "integer", None),
        (
            "multipleBirth",
            "date",
            Some(
                "select[0].column[0].type: column x is declared as date, and its path yields boolean or integer; correct one of them",
            ),
        ),
        (
            "name.count()",
            "string",
            Some(
                "select[0].column[0].type: column x is declared as string, and its path yields Integer; correct one of them",
            ),
        ),
        ("name", "HumanName", None),
        (
            "name",
            "Patient",
            Some(
                "select[0].column[0].type: column x is declared as Patient, and its path yields HumanName; correct one of them",
            ),
        ),
        ("contact", "Patient.contact", None),
        ("contact", "BackboneElement", None),
        ("nothing", "date", None),
        ("active", "urn:own", None),
        ("extension('x').value", "date", None),
    ] {
        let view = view_of("Patient", &json!({"name": "x", "path": path, "type": declared}));
        let found = view.warnings().first().map(ToString::to_string);
        assert_eq!(found.as_deref(), told, "{path} as {declared}");
    }
}

#[test]
fn branches_of_a_union_agree_in_what_they_yield() {
    let union = |a: &str, b: &str| {
        try_view(&json!({"resource": "Patient", "select": [{"unionAll": [
            {"column": [{"name": "x", "path": a}]},
            {"column": [{"name": "x", "path": b}]}
        ]}]}))
    };
    assert!(union("id", "gender").is_ok());
    assert!(union("active", "deceased.ofType(boolean)").is_ok());
    let open = union("nothing", "active").unwrap();
    assert_eq!(open.columns()[0].kind, ColumnKind::Boolean);
    let errors = union("active", "gender").unwrap_err();
    assert!(matches!(errors.0[0].rule, Rule::UnionType { .. }), "{errors}");
}

#[test]
fn another_versions_members_are_read_as_they_are() {
    let patient = json!({
        "resourceType": "Patient",
        "valueInteger64": "9007199254740993", "nothing2": "abc",
        "extension": [{"url": "a", "valueInteger64": "12"}, {"url": "c", "valueInteger64": 12}, {"url": "b", "valueCodeableReference": {"reference": {"reference": "Patient/1"}}}],
        "deceasedAvailability": {"x": 1},
        "contained": [{"resourceType": "FutureThing", "id": "f", "valueDate": "2020-01-01", "name": "n"}]
    });
    for (path, expected) in [
        ("value", "[9007199254740993]"),
        ("value.ofType(integer64) > 9007199254740992", "[true]"),
        ("extension('a').value", "[12]"),
        ("extension('a').value.ofType(integer64) + 1", "[13]"),
        (
            "(extension('a').value.ofType(integer64) + 1) * 1000000000",
            "[13000000000]",
        ),
        (
            "-extension('a').value.ofType(integer64) * 1000000000",
            "[-12000000000]",
        ),
        (
            "extension('a').value.ofType(integer64).abs().power(10)",
            "[61917364224]",
        ),
        ("extension('a').value.ofType(integer64).power(3)", "[1728]"),
        (
            "extension('c').value.ofType(integer64) * 1000000000",
            "[12000000000]",
        ),
        ("nothing2 is System.Long", "[false]"),
        (
            "extension('a').value.ofType(integer64).toInteger() * 1000000000",
            "[]",
        ),
        (
            "extension('b').value.ofType(CodeableReference).reference.getReferenceKey(Patient)",
            "[1]",
        ),
        ("deceased.x", "[1]"),
        ("contained.ofType(FutureThing).id", "[f]"),
        ("contained.where($this is FutureThing).value", "[2020-01-01]"),
        ("contained.value < @2021", "[true]"),
        ("contained.name", "[n]"),
        ("contained is Resource", "[true]"),
        ("nothing.at.all", "[]"),
    ] {
        assert_eq!(items(path, &patient).as_deref(), Ok(expected), "{path}");
    }
}

#[test]
fn elements_carry_their_type_where_the_path_does_not_tell() {
    let bundle = json!({"resourceType": "Bundle", "entry": [
        {"resource": {"resourceType": "Patient", "id": "p", "birthDate": "2020-02", "deceasedBoolean": true}},
        {"resource": {"resourceType": "Observation", "id": "o", "effectiveDateTime": "2020-02-01T10:00:00Z", "valueQuantity": {"value": 2.50, "unit": "mg", "code": "mg"}}},
        {"resource": {"resourceType": "Binary", "id": "b"}}
    ]});
    let of = |path: &str| {
        let view = view_of("Bundle", &json!({"name": "x", "path": path, "collection": true}));
        rows(&view, &bundle)[0].clone()
    };
    for (path, expected) in [
        ("entry.resource.id", "[p,o,b]"),
        ("entry.resource.where(birthDate < @2020-03).id", "[p]"),
        (
            "entry.resource.where(effective > @2020-02-01T09:00:00Z).id",
            "[o]",
        ),
        ("entry.resource.value.ofType(Quantity).value", "[2.5]"),
        ("entry.resource.value.value is decimal", "[true]"),
        ("entry.resource.deceased is boolean", "[true]"),
        ("entry.resource.where($this is DomainResource).id", "[p,o]"),
        ("entry.resource.ofType(Observation).value > 2 'mg'", "[true]"),
        (
            "entry.resource.descendants().ofType(dateTime)",
            "[2020-02-01T10:00:00Z]",
        ),
        ("entry.resource.children().where($this is date)", "[2020-02]"),
        ("descendants().ofType(Patient).birthDate", "[2020-02]"),
    ] {
        assert_eq!(of(path), expected, "{path}");
    }
}
