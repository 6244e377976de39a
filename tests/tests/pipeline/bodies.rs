//! What HAPI has and says of itself: bodies, and changes that it tells nobody of.

use std::time::Duration;

use api::proto::batch::{RefreshKind, VerifyRequest};
use e2e::{ask::rows_where, bodies::compare_all, fhir::Fhir, loading::load_patients, patients::Hospital};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};

use crate::stack::{Clients, shared};

fn patient(id: &str, birth_date: &str) -> Value {
    json!({"resourceType": "Patient", "id": id, "birthDate": birth_date})
}

/// Resources with all that HAPI keeps beside a body: tags that it gathers from version to version and by `$meta-add`, a source, tombstones, a long text.
async fn write_what_is_unusual(fhir: &Fhir) -> anyhow::Result<()> {
    let tag = |code: &str| json!({"system": "http://example.org/tags", "code": code, "display": code});
    let mut first = patient("body-meta", "1960-01-01");
    first["meta"] = json!({
        "source": "http://example.org/source#abc", "profile": ["http://example.org/a", "http://example.org/b"],
        "security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R"}],
        "tag": [tag("one"), tag("two")], "extension": [{"url": "http://example.org/e", "valueString": "kept"}],
    });
    fhir.put(&first).await?;
    let mut second = patient("body-meta", "1960-01-02");
    second["meta"] = json!({"tag": [tag("three")]});
    fhir.put(&second).await?;
    fhir.meta_add("Patient", "body-meta", &json!({"tag": [tag("added")]}))
        .await?;
    fhir.meta_delete("Patient", "body-meta", &json!({"tag": [tag("one")]}))
        .await?;
    fhir.put(&patient("body-again", "1960-01-01")).await?;
    fhir.delete("Patient", "body-again").await?;
    fhir.put(&patient("body-again", "1960-01-02")).await?;
    fhir.put(&patient("body-gone", "1960-01-01")).await?;
    fhir.delete("Patient", "body-gone").await?;
    let mut long = patient("body-long", "1960-01-01");
    long["name"] = json!([{"text": "Ä\u{1F9EA}\"\\\n".repeat(60_000)}]);
    long["multipleBirthInteger"] = json!(2);
    long["_birthDate"] = json!({"extension": [{"url": "http://example.org/e", "valueDecimal": 1.5}]});
    fhir.put(&long).await?;
    Ok(())
}

#[tokio::test]
async fn every_version_of_every_resource_reads_as_hapi_reads_it() -> anyhow::Result<()> {
    let stack = shared().await?;
    let clients = Clients::of(&stack).await?;
    load_patients(&clients.fhir, Hospital::new(11), 4).await?;
    write_what_is_unusual(&clients.fhir).await?;
    let mut hapi = PgConnection::connect(&stack.endpoints()?.hapi_db).await?;
    // Subscriptions stay out: HAPI itself writes versions of them while it starts them.
    let types: Vec<String> = sqlx::query_scalar(
        "SELECT DISTINCT res_type::text FROM hfj_resource WHERE res_type <> 'Subscription' ORDER BY 1",
    )
    .fetch_all(&mut hapi)
    .await?;
    let all = compare_all(&clients.fhir, &clients.operator.client, &types).await?;
    println!(
        "{} resources, {} versions of {} types read as HAPI reads them",
        all.resources,
        all.versions,
        types.len()
    );
    assert!(
        all.versions > all.resources && all.resources > 50,
        "{all:?} of {types:?}"
    );
    Ok(())
}

/// Patients with their tags, which `$meta-add` changes without a new version.
fn tags_view() -> Value {
    json!({"resourceType": "ViewDefinition", "name": "patient_tags", "status": "active", "resource": "Patient", "select": [
        {"column": [{"name": "id", "path": "getResourceKey()", "type": "id"}]},
        {"forEach": "meta.tag", "column": [{"name": "code", "path": "code", "type": "code"}]},
    ]})
}

#[tokio::test]
async fn what_hapi_tells_nobody_is_healed_by_a_reconciliation() -> anyhow::Result<()> {
    let stack = shared().await?;
    let clients = Clients::of(&stack).await?;
    let fhir = &clients.fhir;
    clients.operator.put_view(&tags_view()).await?;
    clients.operator.all_active(Duration::from_mins(1)).await?;
    for id in ["heal-expunged", "heal-again", "heal-earlier", "heal-tagged"] {
        fhir.put(&patient(id, "1970-01-01")).await?;
    }
    fhir.put(&patient("heal-earlier", "1970-01-02")).await?;
    clients.catch_up().await?;
    clients
        .operator
        .refresh(&["Patient"], RefreshKind::Incremental)
        .await?;

    // Before its outbox is drained, HAPI forgets that there was anything to tell.
    for id in ["heal-expunged", "heal-again"] {
        fhir.delete("Patient", id).await?;
        fhir.expunge("Patient", id).await?;
    }
    let again = fhir.put(&patient("heal-again", "1970-01-03")).await?;
    assert_eq!(again.version, Some(1), "HAPI begins anew");
    fhir.expunge("Patient", "heal-earlier").await?;
    fhir.meta_add(
        "Patient",
        "heal-tagged",
        &json!({"tag": [{"system": "http://example.org/tags", "code": "study"}]}),
    )
    .await?;

    let done = clients.operator.refresh(&["Patient"], RefreshKind::Full).await?;
    // As many as the tail did not see: a version's row that was touched within the margin is read again, whatever touched it.
    let differences = done.iter().filter_map(|run| run.differences).sum::<i64>();
    println!("{differences} of 3 resources were put right by the reconciliation, the others before");
    for (id, birth_dates) in [
        ("heal-expunged", &[][..]),
        ("heal-again", &["1970-01-03"]),
        ("heal-earlier", &["1970-01-02"]),
        ("heal-tagged", &["1970-01-01"]),
    ] {
        let answer = clients.asker.ask(rows_where("patient_simple", "id", id)).await?;
        let seen: Vec<String> = (0..answer.rows.len())
            .map(|row| answer.text(row, "birth_date"))
            .collect();
        assert_eq!(seen, birth_dates, "{id}");
    }
    let tags = clients
        .asker
        .ask(rows_where("patient_tags", "id", "heal-tagged"))
        .await?;
    assert_eq!(tags.text(0, "code"), "study");
    let request = VerifyRequest {
        views: vec!["patient_simple".into(), "patient_tags".into()],
        sample: 0.0,
    };
    let mut verified = clients
        .operator
        .client
        .clone()
        .verify(request)
        .await?
        .into_inner();
    let mut last = None;
    while let Some(message) = verified.message().await? {
        last = Some(message);
    }
    assert!(
        last.as_ref()
            .is_some_and(|last| last.done && last.differences_found == 0),
        "{last:?}"
    );
    clients.operator.drop_view("patient_tags").await?;
    Ok(())
}
