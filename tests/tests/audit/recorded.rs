//! Each operation that reads or changes leaves exactly one record, with what was given out and how it ended; and nothing of what was asked or given is in it.

use std::{collections::BTreeSet, time::Duration};

use api::proto::serving;
use audit::operation::{HTTP_SQL_RUN, HTTP_VIEW_RUN, Row, TABLE, row_of_http};
use e2e::{
    ask::equals,
    fhir::http_client,
    house::{asker, view_of},
    rpc::{Call, framed},
};
use prost::Message as _;
use reqwest::Method;
use serde_json::{Value, json};
use tonic::Code;

use crate::{
    cases,
    file::{ended, hash, records, until_ended, verify},
    whole::{PATIENTS, Whole},
};

/// A value that nobody would write into a record by chance.
const PLANTED: &str = "Zq9Planted";

#[test]
fn every_operation_that_is_recorded_is_tried_here() {
    let tried: BTreeSet<&str> = cases::all()
        .iter()
        .map(|case| case.operation)
        .chain([HTTP_SQL_RUN, HTTP_VIEW_RUN])
        .collect();
    let recorded: BTreeSet<&str> = TABLE
        .iter()
        .filter(|(_, row)| matches!(row, Row::Recorded(_)))
        .map(|(name, _)| *name)
        .collect();
    let forgotten: Vec<_> = recorded.difference(&tried).collect();
    assert!(
        forgotten.is_empty(),
        "say in cases.rs what the record of these is: {forgotten:?}"
    );
    for path in serving_gateway::http_paths() {
        assert!(
            row_of_http(&path).is_some(),
            "say in operation.rs whether {path} is recorded"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_operation_leaves_one_record_of_who_what_and_how_much() -> anyhow::Result<()> {
    let whole = Whole::start(&[]).await?;
    let mut faults = Vec::new();
    for (number, case) in cases::all().into_iter().enumerate() {
        let path = format!("/{}", case.operation);
        let id = format!("case-{number}");
        let headers = [
            ("x-request-id", id.as_str()),
            ("x-purpose-of-use", "HRESCH"),
            (
                "traceparent",
                "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            ),
        ];
        let call = Call {
            headers: &headers,
            ..Call::to(&path)
        };
        call.send(&whole.channel(&path).await?, framed(&case.request))
            .await?;
        let file = whole.file(whole.daemon(&path).1);
        let record = until_ended(&file, &id).await?;
        let given = &record["given"];
        let said = (&record["outcome"], &given["rows"], &given["resources"]);
        if said != (&json!(case.outcome), &json!(case.rows), &json!(case.resources)) {
            faults.push(format!("{}: {record}", case.operation));
        }
        assert_eq!(record["operation"], case.operation);
        assert_eq!(
            (&record["who"]["name"], &record["purpose"]),
            (&json!("anonymous"), &json!("HRESCH"))
        );
        assert_eq!(record["trace_id"], "0af7651916cd43dd8448eb211c80319c");
        let peer = record["who"]["peer"].as_str().unwrap_or_default();
        assert!(peer.starts_with("127.0.0.1:"), "{record}");
        let bytes = given["bytes"].as_u64().unwrap_or(0);
        assert_eq!(bytes > 0, case.outcome == "ok", "{record}");
        assert!(
            record["seconds"].as_f64().is_some_and(|seconds| seconds > 0.0),
            "{record}"
        );
    }
    http(&whole, &mut faults).await?;
    assert!(faults.is_empty(), "{}", faults.join("\n"));

    // The gateway's own look for a Group, or whatever the layers ask each other, has records of its own: by their ids each request has one.
    for of in ["serving", "batch", "speed"] {
        let file = whole.file(of);
        let ids: BTreeSet<String> = records(&file)
            .iter()
            .filter_map(|record| record["request_id"].as_str().map(str::to_owned))
            .filter(|id| id.starts_with("case-") || id.starts_with("http-"))
            .collect();
        for id in ids {
            assert_eq!(ended(&file, &id).len(), 1, "{id} in {of}");
        }
        verify(&[&file])?;
    }
    let fields = &ended(&whole.file("serving"), "case-0")[0];
    assert_eq!(fields["asked"]["views"], json!([view_of("Patient")]));
    assert_eq!(
        fields["asked"]["columns"],
        json!(["id", "version", "gender", "active"])
    );
    assert_eq!(fields["asked"]["filters"][0]["of"], "active");
    assert_eq!(fields["asked"]["filters"][0]["operator"], "equal");
    assert_eq!(
        fields["asked"]["filters"][0]["values"],
        json!([hash(&whole.keys, "true")?])
    );
    assert_eq!(
        (&fields["given"]["layers"], &fields["given"]["speed_rows"]),
        (&json!("merged"), &json!(PATIENTS))
    );
    assert!(fields["given"]["as_of"].is_string(), "{fields}");
    let sql = &ended(&whole.file("serving"), "case-1")[0]["asked"];
    assert_eq!(sql["views"], json!([view_of("Patient")]));
    assert_eq!(
        (&sql["literals"], &sql["parameters"]),
        (
            &json!([hash(&whole.keys, "p7")?, hash(&whole.keys, "1")?]),
            &json!([hash(&whole.keys, "p8")?])
        )
    );
    Ok(())
}

/// Both operations, by each path and method.
async fn http(whole: &Whole, faults: &mut Vec<String>) -> anyhow::Result<()> {
    let base = format!("http://{}", whole.serving.address("http")?);
    let client = http_client()?;
    // An id of FHIR has no underscores.
    let view = view_of("Patient").replace('_', "-");
    let mut number = 0;
    for path in serving_gateway::http_paths() {
        let Some(Row::Recorded(operation)) = row_of_http(&path) else {
            continue;
        };
        for method in [Method::GET, Method::POST] {
            number += 1;
            let id = format!("http-{number}");
            let url = format!("{base}{}", path.replace("{id}", &view));
            let name = if operation.name == HTTP_SQL_RUN {
                "subjectReference"
            } else {
                "viewReference"
            };
            let reference = format!("ViewDefinition/{view}");
            let named = !path.contains("{id}");
            let request = if method == Method::GET {
                let query = if named {
                    format!("{name}={reference}&_limit=5")
                } else {
                    "_limit=5".to_owned()
                };
                client.get(format!("{url}?{query}"))
            } else {
                let mut parameters = vec![json!({"name": "_limit", "valueInteger": 5})];
                if named {
                    parameters.push(json!({"name": name, "valueReference": {"reference": reference}}));
                }
                let body = json!({"resourceType": "Parameters", "parameter": parameters});
                client
                    .post(&url)
                    .header("content-type", "application/fhir+json")
                    .body(body.to_string())
            };
            let answer = request.header("x-request-id", &id).send().await?;
            let status = answer.status();
            answer.bytes().await?;
            let record = until_ended(&whole.file("serving"), &id).await?;
            let asked = &record["asked"];
            let right = record["operation"] == operation.name
                && (&record["outcome"], &record["given"]["rows"]) == (&json!("ok"), &json!(5))
                && asked["views"] == json!([view_of("Patient")])
                && asked["limit"] == 5;
            if !right {
                faults.push(format!("{method} {path} ({status}): {record}"));
            }
        }
    }
    anyhow::ensure!(number >= 10, "{number} routes were tried");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_planted_in_questions_and_answers_is_in_no_record() -> anyhow::Result<()> {
    let whole = Whole::start(&[]).await?;
    let planted = |suffix: &str| format!("{PLANTED}{suffix}");
    let query = |change: &dyn Fn(&mut serving::QueryRequest)| {
        let mut request = serving::QueryRequest {
            view: view_of("Patient"),
            ..Default::default()
        };
        change(&mut request);
        request.encode_to_vec()
    };
    let search = |name: &str, modifier: &str| serving::SearchParameter {
        name: name.into(),
        modifier: modifier.into(),
        values: vec![planted("-value")],
    };
    let sql = |statement: String| {
        serving::SqlRequest {
            statement,
            ..Default::default()
        }
        .encode_to_vec()
    };
    let patient = view_of("Patient");
    let service = "/researchflow.serving.v1.ServingService";
    let requests: Vec<(String, Vec<u8>, bool)> = vec![
        (format!("{service}/Query"), query(&|r| r.filters = vec![equals("id", PLANTED)]), true),
        (format!("{service}/Query"), query(&|r| r.view = planted("")), false),
        (format!("{service}/Query"), query(&|r| r.columns = vec![planted("")]), false),
        (format!("{service}/Query"), query(&|r| r.filters = vec![equals(PLANTED, PLANTED)]), false),
        (format!("{service}/Query"), query(&|r| r.search = vec![search(PLANTED, "")]), false),
        (format!("{service}/Query"), query(&|r| r.search = vec![search("gender", PLANTED)]), false),
        (format!("{service}/Sql"), sql(format!("SELECT id AS \"{PLANTED}\" FROM {patient} WHERE id = '{PLANTED}'")), true),
        (format!("{service}/Sql"), sql(format!("SELECT * FROM {PLANTED}")), false),
        (format!("{service}/Query"), PLANTED.as_bytes().to_vec(), false),
        (
            "/researchflow.speed.v1.SpeedService/PutResource".to_owned(),
            api::proto::speed::PutResourceRequest {
                body: format!(
                    r#"{{"resourceType":"Patient","id":"{PLANTED}","meta":{{"versionId":"1","lastUpdated":"2026-01-01T00:00:00Z"}},"name":[{{"family":"{PLANTED}"}}]}}"#
                )
                .into(),
                time_to_live: None,
            }
            .encode_to_vec(),
            true,
        ),
    ];
    for (number, (path, request, answered)) in requests.into_iter().enumerate() {
        let id = format!("planted-{number}");
        // What is no code of a purpose is refused, and not written.
        let headers = [("x-request-id", id.as_str())];
        let said = Call {
            headers: &headers,
            ..Call::to(&path)
        }
        .send(&whole.channel(&path).await?, framed(&request))
        .await?;
        assert_eq!(said.code() == Code::Ok, answered, "{path} {number}: {said:?}");
        let record = until_ended(&whole.file(whole.daemon(&path).1), &id).await?;
        assert_eq!(record["outcome"] == "ok", answered, "{record}");
    }
    let headers = [("x-request-id", "purpose"), ("x-purpose-of-use", PLANTED)];
    let path = format!("{service}/Query");
    let call = Call {
        headers: &headers,
        ..Call::to(&path)
    };
    let said = call
        .send(&whole.channel(&path).await?, framed(&query(&|_| {})))
        .await?;
    assert_eq!(
        (said.code(), said.field().as_deref()),
        (Code::InvalidArgument, Some("x-purpose-of-use"))
    );
    assert!(!said.answered);
    let refused = until_ended(&whole.file("serving"), "purpose").await?;
    assert_eq!(
        (&refused["outcome"], &refused["purpose"]),
        (&json!("invalid_argument"), &Value::Null)
    );

    plant_over_http(&whole).await?;
    for of in ["serving", "batch", "speed"] {
        let text = std::fs::read_to_string(whole.file(of))?;
        let line = text.lines().find(|line| line.contains(PLANTED));
        assert_eq!(line, None, "in the file of {of}");
    }
    // And whoever holds the key finds who looked.
    let wanted = hash(&whole.keys, PLANTED)?;
    let found = records(&whole.file("serving"))
        .into_iter()
        .filter(|record| record.to_string().contains(&wanted))
        .count();
    assert!(found >= 6, "{found}");
    Ok(())
}

/// The same over HTTP.
async fn plant_over_http(whole: &Whole) -> anyhow::Result<()> {
    let base = format!("http://{}", whole.serving.address("http")?);
    let library = json!({"resourceType": "Library", "status": "active", "type": {"text": PLANTED}});
    let view = json!({"resourceType": "ViewDefinition", "name": PLANTED, "status": "active", "resource": "Patient",
        "select": [{"column": [{"name": PLANTED, "path": "id"}]}]});
    let resource = json!({"resourceType": "Patient", "id": PLANTED});
    let given = json!({"resourceType": "Parameters", "parameter": [
        {"name": "subjectResource", "resource": view}, {"name": "resource", "resource": resource}]});
    let bad = json!({"resourceType": "Parameters", "parameter": [{"name": "subjectResource", "resource": library}]});
    let client = http_client()?;
    let post = |body: &Value| {
        client
            .post(format!("{base}/$sql-run"))
            .header("content-type", "application/fhir+json")
            .body(body.to_string())
    };
    for (id, answered, request) in [
        ("given", true, post(&given)),
        ("library", false, post(&bad)),
        (
            "canonical",
            false,
            client.get(format!("{base}/$sql-run?subjectCanonical=http://x/{PLANTED}")),
        ),
        (
            "path",
            false,
            client.get(format!("{base}/ViewDefinition/{PLANTED}/$viewdefinition-run")),
        ),
    ] {
        let answer = request.header("x-request-id", id).send().await?;
        let status = answer.status();
        let said = answer.text().await?;
        assert_eq!(status.is_success(), answered, "{id}: {status} {said}");
        let record = until_ended(&whole.file("serving"), id).await?;
        assert_eq!(record["outcome"] == "ok", answered, "{record}");
    }
    assert_eq!(
        ended(&whole.file("serving"), "given")[0]["given"]["layers"],
        "given"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_left_in_the_middle_is_recorded_with_what_was_sent() -> anyhow::Result<()> {
    let whole = Whole::start(&[]).await?;
    let view = view_of("Patient");
    // A million rows.
    let request = serving::SqlRequest {
        statement: format!("SELECT a.id, b.id, c.id FROM {view} a, {view} b, {view} c"),
        ..Default::default()
    };
    let mut client = asker(&whole.serving).await?.client;
    let mut asked = tonic::Request::new(request.clone());
    asked.metadata_mut().insert("x-request-id", "left".parse()?);
    let mut stream = client.sql(asked).await?.into_inner();
    for _ in 0..3 {
        stream.message().await?;
    }
    drop(stream);
    let record = until_ended(&whole.file("serving"), "left").await?;
    let rows = record["given"]["rows"].as_u64().unwrap_or(0);
    assert_eq!(record["outcome"], "cut", "{record}");
    assert!(rows > 0 && rows < 1_000_000, "{record}");

    // One whose caller's deadline comes first.
    let mut asked = tonic::Request::new(request);
    asked.metadata_mut().insert("x-request-id", "late".parse()?);
    asked.set_timeout(Duration::from_millis(200));
    if let Ok(answer) = client.sql(asked).await {
        let mut stream = answer.into_inner();
        while let Ok(Some(_)) = stream.message().await {
            // One that reads slower than rows come: so the deadline is there before the end.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    let record = until_ended(&whole.file("serving"), "late").await?;
    assert_eq!(record["outcome"], "cut", "{record}");

    // Over HTTP, to its end.
    let base = format!("http://{}", whole.serving.address("http")?);
    let answer = http_client()?
        .get(format!(
            "{base}/$sql-run?subjectReference=ViewDefinition/{}",
            view.replace('_', "-")
        ))
        .header("x-request-id", "whole")
        .send()
        .await?;
    answer.bytes().await?;
    let record = until_ended(&whole.file("serving"), "whole").await?;
    assert_eq!(
        (&record["outcome"], &record["given"]["rows"]),
        (&json!("ok"), &json!(PATIENTS))
    );
    Ok(())
}
