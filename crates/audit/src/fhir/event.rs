//! A record as an AuditEvent of FHIR R4, after the profiles of IHE's Basic Audit Log Patterns (BALP 1.1.4: Query, PatientQuery, Read, PatientRead, Update,
//! PatientUpdate). A profile is claimed only where all that it asks for is there.
//!
//! The patterns put the raw request into `entity.query`. Here that is the record's question: names and keyed hashes, no values. A patient is told by the hash of
//! its id, as an identifier whose system names the key.

use std::net::SocketAddr;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{
    operation::Action,
    purpose,
    record::{Asked, Kind, Record, Who},
};

const PROFILES: &str = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit";
const ENTITY_TYPES: &str = "https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType";
const DICOM: &str = "http://dicom.nema.org/resources/ontology/DCM";
const AUDIT_TYPE: &str = "http://terminology.hl7.org/CodeSystem/audit-event-type";
const INTERACTION: &str = "http://hl7.org/fhir/restful-interaction";
const ENTITY_TYPE: &str = "http://terminology.hl7.org/CodeSystem/audit-entity-type";
const ENTITY_ROLE: &str = "http://terminology.hl7.org/CodeSystem/object-role";
/// Systems of identifiers of ours.
const CALLER: &str = "urn:researchflow:caller";
const DAEMON: &str = "urn:researchflow:daemon";

/// The event; `machine`: the name of the machine that the daemon runs on.
pub(super) fn of(record: &Record, machine: &str) -> Value {
    let suffix = match record.kind {
        Kind::Begun => "-begun",
        Kind::Started | Kind::Stopped | Kind::Ended => "",
    };
    let mut event = json!({
        "resourceType": "AuditEvent",
        "id": format!("rf-{}{suffix}", record.id),
        "recorded": record.time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
        "outcome": outcome(record),
        "outcomeDesc": told(record),
        "source": {
            "observer": daemon(record),
            "type": [{"system": "http://terminology.hl7.org/CodeSystem/security-source-type", "code": "4", "display": "Application Server"}],
        },
    });
    match (record.kind, record.action, &record.who) {
        (Kind::Begun | Kind::Ended, Some(action), Some(who)) => {
            operation(&mut event, record, action, who, machine);
        }
        _ => application(&mut event, record, machine),
    }
    event
}

fn coding(system: &str, code: &str, display: &str) -> Value {
    json!({"system": system, "code": code, "display": display})
}

fn concept(system: &str, code: &str, display: &str) -> Value {
    json!({"coding": [coding(system, code, display)]})
}

fn daemon(record: &Record) -> Value {
    json!({"identifier": {"system": DAEMON, "value": record.daemon}, "display": record.daemon})
}

/// The daemon has started, or stops.
fn application(event: &mut Value, record: &Record, machine: &str) {
    let (code, display) = match record.kind {
        Kind::Stopped => ("110121", "Application Stop"),
        Kind::Started | Kind::Begun | Kind::Ended => ("110120", "Application Start"),
    };
    event["type"] = coding(DICOM, "110100", "Application Activity");
    event["subtype"] = json!([coding(DICOM, code, display)]);
    event["action"] = json!("E");
    event["agent"] = json!([{
        "type": concept(DICOM, "110150", "Application"),
        "who": daemon(record), "requestor": false, "network": {"address": machine, "type": "1"},
    }]);
}

fn operation(event: &mut Value, record: &Record, action: Action, who: &Who, machine: &str) {
    let asked = record.asked.clone().unwrap_or_default();
    let (code, interaction, display) = match action {
        Action::Query => ("E", "search-type", "search-type"),
        Action::Read => ("R", "read", "read"),
        Action::Update => ("U", "update", "update"),
        Action::Delete => ("D", "delete", "delete"),
        Action::Execute => ("E", "operation", "operation"),
    };
    event["type"] = json!({"system": AUDIT_TYPE, "code": "rest"});
    event["subtype"] = json!([
        coding(INTERACTION, interaction, display),
        coding(
            "urn:researchflow:operation",
            record.operation.as_deref().unwrap_or_default(),
            "operation"
        ),
    ]);
    event["action"] = json!(code);
    if let Some(purpose) = &record.purpose {
        event["purposeOfEvent"] = json!([{"coding": [{"system": purpose::SYSTEM, "code": purpose}]}]);
    }
    event["agent"] = agents(record, action, who, machine);
    event["entity"] = entities(record, action, &asked);
    if let Some(profile) = profile(record, action, who, &asked) {
        event["meta"] = json!({"profile": [format!("{PROFILES}.{profile}")]});
    }
}

/// Of a read the data goes to the client; of all else the question, or the data, comes from it.
fn agents(record: &Record, action: Action, who: &Who, machine: &str) -> Value {
    let (source, destination) = (("110153", "Source Role ID"), ("110152", "Destination Role ID"));
    let (client, server) = if action == Action::Read {
        (destination, source)
    } else {
        (source, destination)
    };
    let mut asks = json!({"type": concept(DICOM, client.0, client.1), "requestor": true, "name": who.name});
    asks["who"] = if who.proof.is_some() {
        json!({"identifier": {"system": CALLER, "value": who.name}})
    } else {
        json!({"display": who.name})
    };
    if let Some(peer) = &who.peer {
        // Without the port.
        let address = peer
            .parse::<SocketAddr>()
            .map_or_else(|_| peer.clone(), |peer| peer.ip().to_string());
        asks["network"] = json!({"address": address, "type": "2"});
    }
    let answers = json!({
        "type": concept(DICOM, server.0, server.1), "who": daemon(record), "requestor": false,
        "network": {"address": machine, "type": "1"},
    });
    json!([asks, answers])
}

fn entities(record: &Record, action: Action, asked: &Asked) -> Value {
    let mut entities = Vec::new();
    if let Some(id) = &record.request_id {
        entities.push(json!({
            "type": {"system": ENTITY_TYPES, "code": "XrequestId"}, "what": {"identifier": {"value": id}},
        }));
    }
    let question = serde_json::to_string(asked).unwrap_or_default();
    if matches!(action, Action::Query | Action::Execute) {
        entities.push(json!({
            "type": coding(ENTITY_TYPE, "2", "System Object"), "role": coding(ENTITY_ROLE, "24", "Query"),
            "query": STANDARD.encode(&question),
        }));
    } else {
        let mut data = json!({
            "type": coding(ENTITY_TYPE, "2", "System Object"), "role": coding(ENTITY_ROLE, "4", "Domain Resource"),
            "detail": [{"type": "question", "valueBase64Binary": STANDARD.encode(&question)}],
        });
        // What is meant: the one resource that was named, else all that the operation is about.
        data["what"] = match asked.ids.as_slice() {
            [id] => json!({"identifier": hashed(record, id)}),
            _ => json!({"display": record.operation}),
        };
        entities.push(data);
    }
    for patient in &asked.patients {
        entities.push(json!({
            "type": coding(ENTITY_TYPE, "1", "Person"), "role": coding(ENTITY_ROLE, "1", "Patient"),
            "what": {"type": "Patient", "identifier": hashed(record, patient)},
        }));
    }
    json!(entities)
}

fn hashed(record: &Record, hash: &str) -> Value {
    json!({"system": format!("urn:researchflow:audit:hmac-sha256-128:{}", record.key), "value": hash})
}

/// Of what succeeded. Failures are recorded in the same form, and have no profile.
fn profile(record: &Record, action: Action, who: &Who, asked: &Asked) -> Option<&'static str> {
    if record.kind != Kind::Ended || record.outcome.as_deref() != Some("ok") || who.peer.is_none() {
        return None;
    }
    let of_one_patient = asked.patients.len() == 1;
    Some(match action {
        Action::Query if of_one_patient => "PatientQuery",
        Action::Query => "Query",
        Action::Read if of_one_patient => "PatientRead",
        Action::Read => "Read",
        Action::Update if of_one_patient => "PatientUpdate",
        Action::Update => "Update",
        Action::Delete | Action::Execute => return None,
    })
}

/// Of FHIR's audit-event-outcome: 4 is the caller's doing, 8 ours.
fn outcome(record: &Record) -> &'static str {
    match record.outcome.as_deref() {
        None | Some("ok") => "0",
        Some("internal" | "unavailable" | "data_loss" | "broken" | "unimplemented") => "8",
        Some(_) => "4",
    }
}

fn told(record: &Record) -> String {
    match (&record.outcome, &record.given) {
        (Some(outcome), Some(given)) => {
            let layers = given
                .layers
                .as_deref()
                .map(|layers| format!(", {layers}"))
                .unwrap_or_default();
            let as_of = given
                .as_of
                .map(|at| format!(", as of {}", at.to_rfc3339()))
                .unwrap_or_default();
            format!(
                "{outcome}: {} rows, {} resources, {} bytes{layers}{as_of}",
                given.rows, given.resources, given.bytes
            )
        }
        _ if record.kind == Kind::Begun => "begun: what came of it is told when it has ended".to_owned(),
        _ => "ok".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Given;

    fn record(action: Action, patients: &[&str]) -> Record {
        let now = "2026-11-29T10:00:00.123456Z".parse().expect("a time");
        Record {
            operation: Some("researchflow.serving.v1.ServingService/Query".into()),
            action: Some(action),
            who: Some(Who {
                name: "agent-7".into(),
                proof: Some("jwt".into()),
                peer: Some("10.0.0.7:5000".into()),
            }),
            purpose: Some("HRESCH".into()),
            request_id: Some("r-1".into()),
            asked: Some(Asked {
                views: vec!["patients".into()],
                patients: patients.iter().map(|&hash| hash.to_owned()).collect(),
                ..Asked::default()
            }),
            outcome: Some("ok".into()),
            given: Some(Given {
                rows: 3,
                ..Given::default()
            }),
            seconds: Some(0.1),
            ..Record::new(Kind::Ended, "00ff".into(), now, "serving-gateway", "k1")
        }
    }

    /// What R4 asks of every AuditEvent.
    fn check(event: &Value) {
        assert_eq!(event["resourceType"], "AuditEvent");
        assert!(
            event["type"]["code"].is_string() && event["recorded"].is_string(),
            "{event}"
        );
        assert!(event["source"]["observer"].is_object(), "{event}");
        let agents = event["agent"].as_array().expect("agents");
        assert!(
            agents.iter().all(|agent| agent["requestor"].is_boolean()),
            "{event}"
        );
        let id = event["id"].as_str().expect("an id");
        assert!(
            id.len() <= 64 && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'),
            "{id}"
        );
    }

    #[test]
    fn a_query_has_what_the_profiles_of_queries_ask_for() {
        for (patients, profile) in [
            (&[][..], "Query"),
            (&["aa"], "PatientQuery"),
            (&["aa", "bb"], "Query"),
        ] {
            let event = of(&record(Action::Query, patients), "pod-1");
            check(&event);
            assert_eq!(event["meta"]["profile"], json!([format!("{PROFILES}.{profile}")]));
            assert_eq!((&event["action"], &event["outcome"]), (&json!("E"), &json!("0")));
            assert_eq!(
                event["subtype"][0],
                coding(INTERACTION, "search-type", "search-type")
            );
            let [client, server] = event["agent"].as_array().expect("agents").as_slice() else {
                panic!("{event}")
            };
            for (agent, code) in [(client, "110153"), (server, "110152")] {
                assert_eq!(agent["type"]["coding"][0]["code"], code);
                assert!(
                    agent["who"].is_object() && agent["network"]["address"].is_string(),
                    "{event}"
                );
            }
            let entities = event["entity"].as_array().expect("entities");
            let of_type = |code: &str| {
                entities
                    .iter()
                    .filter(|e| e["type"]["code"] == code)
                    .collect::<Vec<_>>()
            };
            assert_eq!(of_type("XrequestId")[0]["what"]["identifier"]["value"], "r-1");
            let [query] = of_type("2")[..] else {
                panic!("{event}")
            };
            assert_eq!(query["role"]["code"], "24");
            assert!(query["what"].is_null() && query["detail"].is_null() && query["query"].is_string());
            assert_eq!(of_type("1").len(), patients.len());
            assert_eq!(event["purposeOfEvent"][0]["coding"][0]["code"], "HRESCH");
            assert_eq!(event["recorded"], "2026-11-29T10:00:00.123Z");
        }
    }

    #[test]
    fn a_read_and_an_update_have_what_theirs_ask_for() {
        for (action, profile, client, code) in [
            (Action::Read, "PatientRead", "110152", "R"),
            (Action::Update, "PatientUpdate", "110153", "U"),
        ] {
            let event = of(&record(action, &["aa"]), "pod-1");
            check(&event);
            assert_eq!(event["meta"]["profile"], json!([format!("{PROFILES}.{profile}")]));
            assert_eq!(event["action"], code);
            assert_eq!(event["agent"][0]["type"]["coding"][0]["code"], client);
            let data = &event["entity"][1];
            assert_eq!(
                (&data["type"]["code"], &data["role"]["code"]),
                (&json!("2"), &json!("4"))
            );
            assert!(data["what"].is_object(), "{event}");
        }
    }

    #[test]
    fn what_failed_or_only_began_claims_no_profile() {
        let mut failed = record(Action::Query, &["aa"]);
        failed.outcome = Some("permission_denied".into());
        let event = of(&failed, "pod-1");
        check(&event);
        assert!(event["meta"].is_null());
        assert_eq!(event["outcome"], "4");
        failed.outcome = Some("internal".into());
        assert_eq!(of(&failed, "pod-1")["outcome"], "8");
        let begun = Record {
            kind: Kind::Begun,
            outcome: None,
            given: None,
            ..record(Action::Query, &[])
        };
        let event = of(&begun, "pod-1");
        check(&event);
        assert!(
            event["meta"].is_null() && event["id"] == "rf-00ff-begun",
            "{event}"
        );
        let started = Record {
            action: None,
            who: None,
            outcome: None,
            ..record(Action::Query, &[])
        };
        let event = of(
            &Record {
                kind: Kind::Started,
                ..started
            },
            "pod-1",
        );
        check(&event);
        assert_eq!(event["subtype"][0]["code"], "110120");
    }
}
