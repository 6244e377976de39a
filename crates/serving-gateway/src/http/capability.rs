//! What this gateway says of itself: a CapabilityStatement, and an OperationDefinition for what of an operation it serves.
//!
//! A server that serves a part of an operation's parameters publishes its own definition, with the guide's as `base` (3.0.0-ballot).

use api::Outcome;
use axum::{
    http::{StatusCode, request::Parts},
    response::Response,
};
use chrono::SecondsFormat;
use daemon::fhir_answer::fhir;
use serde_json::{Value, json};

use super::{Http, definitions::json_only};

const GUIDE: &str = "http://hl7.org/fhir/uv/sql-on-fhir";

/// A parameter of an operation: name, type, how often at most, what of it is served.
type Parameter = (&'static str, &'static str, &'static str, &'static str);

const SUBJECT: [Parameter; 4] = [
    (
        "subjectCanonical",
        "canonical",
        "1",
        "A registered view by its url, with |version where one is meant.",
    ),
    (
        "subjectReference",
        "Reference",
        "1",
        "A registered view: ViewDefinition/<id>.",
    ),
    (
        "subjectResource",
        "CanonicalResource",
        "1",
        "A ViewDefinition, run over HAPI's tables, or over the resources that are given; or an SQLQuery or SQLView over registered views.",
    ),
    (
        "parameters",
        "Parameters",
        "1",
        "Values for the parameters that an SQLQuery declares.",
    ),
];
const VIEW: [Parameter; 3] = [
    (
        "viewCanonical",
        "canonical",
        "1",
        "A registered view by its url, with |version where one is meant.",
    ),
    (
        "viewReference",
        "Reference",
        "1",
        "A registered view: ViewDefinition/<id>, or its url.",
    ),
    (
        "viewResource",
        "CanonicalResource",
        "1",
        "A ViewDefinition, run over HAPI's tables, or over the resources that are given.",
    ),
];
const COMMON: [Parameter; 7] = [
    (
        "resource",
        "Resource",
        "*",
        "Evaluated in place of the server's; a Bundle is taken apart.",
    ),
    ("_format", "code", "1", "ndjson (the default), json, csv or fhir."),
    (
        "header",
        "boolean",
        "1",
        "Whether csv begins with a line of names; true if left out.",
    ),
    ("patient", "Reference", "*", "Rows of these patients alone."),
    (
        "group",
        "Reference",
        "*",
        "Rows of the active members of these Groups alone; members must be Patients.",
    ),
    (
        "_since",
        "instant",
        "1",
        "Rows of resources whose lastUpdated is later than this.",
    ),
    ("_limit", "integer", "1", "At most so many rows; applied last."),
];

/// The operations: id, which is the code; name in the guide; the parameters that not both have.
const OPERATIONS: [(&str, &str, &[Parameter]); 2] = [
    ("sql-run", "SQLRun", &SUBJECT),
    ("viewdefinition-run", "ViewDefinitionRun", &VIEW),
];

/// `GET metadata`
pub(super) fn metadata(http: &Http, head: &Parts) -> Result<Response, Outcome> {
    check(head)?;
    let base = http.base(&head.headers);
    let operation =
        |code: &str| json!({"name": code, "definition": format!("{base}/OperationDefinition/{code}")});
    let date = http.started.to_rfc3339_opts(SecondsFormat::Secs, true);
    let search = [
        ("_id", "token"),
        ("name", "string"),
        ("url", "uri"),
        ("status", "token"),
        ("resource", "token"),
    ]
    .map(|(name, kind)| json!({"name": name, "type": kind}));
    let statement = json!({
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": date,
        "kind": "instance",
        "software": {"name": "ResearchFlow serving-gateway", "version": env!("CARGO_PKG_VERSION")},
        "implementation": {"description": "Live, flat views over a FHIR server", "url": base},
        "fhirVersion": "4.0.1",
        "format": ["application/fhir+json", "json"],
        "implementationGuide": [GUIDE],
        "rest": [{
            "mode": "server",
            "documentation": "Rows are served as application/x-ndjson, application/json, text/csv and, as Parameters, application/fhir+json; each of the first three also \
                in a Binary (Accept: application/fhir+json). How fresh an answer is stands in its headers X-ResearchFlow-*.",
            "resource": [{
                "type": "ViewDefinition",
                "interaction": [{"code": "read"}, {"code": "search-type"}],
                "searchParam": search,
                "operation": [operation("viewdefinition-run")],
            }, {
                "type": "OperationDefinition",
                "interaction": [{"code": "read"}],
            }],
            "operation": [operation("sql-run"), operation("viewdefinition-run")],
        }],
    });
    Ok(fhir(StatusCode::OK, &statement))
}

/// `GET OperationDefinition/{id}`
pub(super) fn operation(http: &Http, id: &str, head: &Parts) -> Result<Response, Outcome> {
    check(head)?;
    let base = http.base(&head.headers);
    let found = OPERATIONS.iter().find(|(known, ..)| *known == id);
    let (id, name, own) = found.ok_or_else(|| {
        let there = "no operation has this id; there are: sql-run, viewdefinition-run";
        Outcome::new(404, "not-found", &[], there)
    })?;
    let view_level = *id == "viewdefinition-run";
    let mut parameters: Vec<Value> = own
        .iter()
        .chain(&COMMON)
        .map(|(name, kind, max, documentation)| {
            json!({"name": name, "use": "in", "min": 0, "max": max, "type": kind, "documentation": documentation})
        })
        .collect();
    parameters.push(
        json!({"name": "return", "use": "out", "min": 1, "max": "1", "type": "Binary",
        "documentation": "The rows as raw bytes of the format's media type; Parameters for _format=fhir."}),
    );
    let definition = json!({
        "resourceType": "OperationDefinition",
        "id": id,
        "url": format!("{base}/OperationDefinition/{id}"),
        "version": env!("CARGO_PKG_VERSION"),
        "name": name,
        "status": "active",
        "kind": "operation",
        "affectsState": false,
        "code": id,
        "base": format!("{GUIDE}/OperationDefinition/{name}"),
        "resource": if view_level { json!(["ViewDefinition"]) } else { Value::Null },
        "system": true,
        "type": view_level,
        "instance": view_level,
        "parameter": parameters,
    });
    Ok(fhir(StatusCode::OK, &without_nulls(definition)))
}

fn check(head: &Parts) -> Result<(), Outcome> {
    let query = head.uri.query().unwrap_or_default();
    let pairs: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    json_only(&head.headers, &pairs, &[])
}

/// FHIR's JSON has no nulls.
fn without_nulls(mut resource: Value) -> Value {
    if let Some(members) = resource.as_object_mut() {
        members.retain(|_, value| !value.is_null());
    }
    resource
}
