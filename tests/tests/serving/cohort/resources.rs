//! The resources of a cohort's patients: from HAPI's own tables, newest versions, of these patients and of nobody else.

use std::sync::atomic::{AtomicU64, Ordering};

use api::proto::serving::cohort_response::Part;
use api::proto::serving::{CohortRequest, CohortResource};
use batch_refresher::hapi::{Hapi, HapiSettings, Partition, Zone};
use batch_refresher::resources::{self, Reference};
use chrono::TimeDelta;
use e2e::deadline;
use e2e::postgres::Postgres;
use e2e::tables::{self, Version};
use fhir_core::resource::{Content, State};
use futures::TryStreamExt as _;
use serde_json::Value;
use sqlx::{Connection as _, PgConnection};
use tonic::Code;

use super::{in_view, request};
use crate::fakes::PATIENCE;
use crate::fixture::{CONDITION, Fixture, server, three};

/// HAPI's tables, and who writes into them.
struct Written {
    connection: PgConnection,
    hapi: Hapi,
}

impl Written {
    async fn on(server: &Postgres) -> anyhow::Result<Self> {
        let url = tables::create(server).await?;
        let hapi = Hapi::connect(HapiSettings {
            url: server.url_as("source", "", "hapi"),
            zone: Zone::UTC,
            margin: TimeDelta::seconds(90),
            partition: Partition::Only,
            max_connections: 4,
        })
        .await?;
        let connection = PgConnection::connect(&url).await?;
        Ok(Self { connection, hapi })
    }

    /// The next version, as HAPI writes it: with its index of references to patients.
    async fn write(&mut self, resource_type: &str, id: &str, stored: Option<&str>) -> anyhow::Result<()> {
        let (res_id, before) = tables::find(&mut self.connection, id).await?.unzip();
        let version = Version {
            resource_type,
            id,
            version: before.unwrap_or(0) + 1,
            updated: tables::now(&mut self.connection).await?,
            stored,
        };
        tables::write(&mut self.connection, res_id, &version).await?;
        let Some(stored) = stored else { return Ok(()) };
        sqlx::query("DELETE FROM hfj_res_link WHERE src_resource_id = (SELECT res_id FROM hfj_resource WHERE fhir_id = $1)")
            .bind(id)
            .execute(&mut self.connection)
            .await?;
        for (path, reference) in references(&serde_json::from_str(stored)?, resource_type) {
            let Some(target) = reference.strip_prefix("Patient/") else {
                continue;
            };
            sqlx::query(
                "INSERT INTO hfj_res_link (pid, src_path, src_resource_id, source_resource_type, target_resource_id, target_resource_type) \
                 SELECT coalesce((SELECT max(pid) FROM hfj_res_link), 0) + 1, $1, s.res_id, s.res_type, t.res_id, 'Patient' \
                 FROM hfj_resource s, hfj_resource t WHERE s.fhir_id = $2 AND t.fhir_id = $3 AND t.res_type = 'Patient'",
            )
            .bind(path)
            .bind(id)
            .bind(target)
            .execute(&mut self.connection)
            .await?;
        }
        Ok(())
    }

    /// What `ReadResources` says of these.
    async fn current(&self, resource_type: &str, ids: &[&str]) -> anyhow::Result<Vec<State>> {
        let references = ids.iter().map(|id| Reference {
            resource_type: resource_type.into(),
            id: (*id).into(),
            version: None,
        });
        let read: Vec<_> = resources::read(self.hapi.clone(), references.collect())
            .try_collect()
            .await?;
        Ok(read.into_iter().flatten().map(|typed| typed.state).collect())
    }
}

/// All references of a resource, with their paths.
fn references(value: &Value, path: &str) -> Vec<(String, String)> {
    match value {
        Value::Array(list) => list.iter().flat_map(|value| references(value, path)).collect(),
        Value::Object(members) => members
            .iter()
            .flat_map(|(name, value)| match (name.as_str(), value.as_str()) {
                ("reference", Some(reference)) => vec![(path.to_owned(), reference.to_owned())],
                _ => references(value, &format!("{path}.{name}")),
            })
            .collect(),
        _ => Vec::new(),
    }
}

fn condition(patient: &str, code: &str) -> String {
    format!(
        r#"{{"resourceType":"Condition","subject":{{"reference":"Patient/{patient}"}},"code":{{"coding":[{{"system":"urn:codes","code":"{code}"}}]}}}}"#
    )
}

const OBSERVATION_BY_MOTHER: &str = r#"{"resourceType":"Observation","status":"final","code":{"text":"temperature"},
    "subject":{"reference":"Patient/p-2"},"performer":[{"reference":"Patient/p-1"}]}"#;
const OBSERVATION: &str = r#"{"resourceType":"Observation","status":"final","code":{"text":"weight"},
    "subject":{"reference":"Patient/p-1"},"valueQuantity":{"value":70.50}}"#;

fn keys(resources: &[CohortResource]) -> Vec<(&str, &str, i64)> {
    let mut keys: Vec<_> = resources
        .iter()
        .map(|resource| {
            (
                resource.resource_type.as_str(),
                resource.id.as_str(),
                resource.version,
            )
        })
        .collect();
    keys.sort_unstable();
    keys
}

fn with(types: &[&str], limit: i64) -> CohortRequest {
    CohortRequest {
        resource_types: types.iter().map(|name| (*name).to_owned()).collect(),
        limit,
        ..request(in_view("conditions"))
    }
}

/// Three patients with conditions; the first is the second's mother, and has taken her temperature.
async fn family(server: &Postgres) -> anyhow::Result<Written> {
    let mut written = Written::on(server).await?;
    for id in ["p-1", "p-2", "p-3"] {
        written
            .write(
                "Patient",
                id,
                Some(r#"{"resourceType":"Patient","gender":"female"}"#),
            )
            .await?;
    }
    for (id, patient, code) in [
        ("c-1", "p-1", "100"),
        ("c-2", "p-1", "200"),
        ("c-3", "p-2", "100"),
    ] {
        written
            .write(CONDITION, id, Some(&condition(patient, code)))
            .await?;
    }
    written
        .write(CONDITION, "c-4", Some(&condition("p-3", "100")))
        .await?;
    written.write("Observation", "o-1", Some(OBSERVATION)).await?;
    written
        .write("Observation", "o-2", Some(OBSERVATION_BY_MOTHER))
        .await?;
    Ok(written)
}

#[tokio::test]
async fn resources_are_hapis_newest_and_of_these_patients_alone() -> anyhow::Result<()> {
    let server = server().await?;
    let mut written = family(&server).await?;
    let seen = written.current(CONDITION, &["c-1", "c-2", "c-3"]).await?;
    let fixture = Fixture::on(&server, &seen, |_| {}).await?;
    fixture.batch.read_from(written.hapi.clone());
    // Since the views have read it: one changes, one goes, one is another patient's now, one is new.
    written
        .write(CONDITION, "c-1", Some(&condition("p-1", "101")))
        .await?;
    written.write(CONDITION, "c-2", None).await?;
    written
        .write(CONDITION, "c-3", Some(&condition("p-3", "100")))
        .await?;
    written
        .write(CONDITION, "c-5", Some(&condition("p-2", "500")))
        .await?;

    let found = fixture
        .gateway
        .cohort(with(&["Patient", CONDITION, "Observation"], 0))
        .await?;
    assert_eq!(found.ids, ["p-1", "p-2"], "the criteria are of the snapshot");
    assert_eq!(
        keys(&found.resources),
        [
            (CONDITION, "c-1", 2),
            (CONDITION, "c-5", 1),
            ("Observation", "o-1", 1),
            ("Observation", "o-2", 1),
            ("Patient", "p-1", 1),
            ("Patient", "p-2", 1),
        ]
    );
    assert_eq!(found.footer.resources_unreadable, 0);
    // To the byte what HAPI's tables hold, as ReadResources puts it together.
    for (resource_type, ids) in [
        (CONDITION, &["c-1", "c-5"][..]),
        ("Observation", &["o-1", "o-2"]),
        ("Patient", &["p-1", "p-2"]),
    ] {
        for state in written.current(resource_type, ids).await? {
            let given = found
                .resources
                .iter()
                .find(|r| r.resource_type == resource_type && r.id == state.id);
            let given = given.expect("it is in the answer");
            assert_eq!(
                Content::Body(given.body.clone()),
                state.content,
                "{resource_type}/{}",
                state.id
            );
        }
    }
    let weight = found
        .resources
        .iter()
        .find(|resource| resource.id == "o-1")
        .expect("weight");
    let text = std::str::from_utf8(&weight.body)?;
    assert!(
        text.contains("70.50") && text.contains(r#""versionId":"1""#),
        "{text}"
    );

    // Of the first patient alone: what she measured on her child is not hers.
    let first = fixture
        .gateway
        .cohort(with(&["Observation", "Patient"], 1))
        .await?;
    assert_eq!(
        keys(&first.resources),
        [("Observation", "o-1", 1), ("Patient", "p-1", 1)]
    );
    assert!(first.footer.truncated);

    // Held where nobody can read it.
    sqlx::raw_sql(
        "UPDATE hfj_res_ver SET res_encoding = 'ESR', res_text_vc = NULL WHERE res_type = 'Observation'",
    )
    .execute(&mut written.connection)
    .await?;
    let found = fixture.gateway.cohort(with(&["Observation"], 0)).await?;
    assert_eq!((found.resources.len(), found.footer.resources_unreadable), (0, 2));
    Ok(())
}

#[tokio::test]
async fn resources_are_given_of_so_many_patients_and_not_without_hapi() -> anyhow::Result<()> {
    let fixture = Fixture::with_settings(&three(), |config| config.cohort.max_resource_patients = 1).await?;
    let refused = fixture
        .gateway
        .cohort(with(&["Patient"], 0))
        .await
        .expect_err("too many");
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    assert!(
        refused.message().contains("cohort.max_resource_patients"),
        "{refused}"
    );
    // Ids alone are given of any number; of the first patient resources are, too: but there is no HAPI.
    assert_eq!(
        fixture.gateway.cohort(request(in_view("conditions"))).await?.ids,
        ["p-1", "p-2"]
    );
    let broken = fixture
        .gateway
        .cohort(with(&["Patient"], 1))
        .await
        .expect_err("no HAPI");
    assert_eq!(broken.code(), Code::Unavailable, "{broken}");
    assert!(broken.message().contains("patients' resources"), "{broken}");
    Ok(())
}

#[tokio::test]
async fn many_resources_come_as_they_are_read() -> anyhow::Result<()> {
    let server = server().await?;
    let mut written = Written::on(&server).await?;
    // More patients than one call reads of, each with two observations.
    let count = 1_200;
    sqlx::raw_sql(
        "INSERT INTO hfj_resource (res_id, fhir_id, res_type, res_ver, res_published, res_updated, res_version, has_tags, sp_has_links, sp_coords_present, \
            sp_date_present, sp_number_present, sp_quantity_nrml_present, sp_quantity_present, sp_string_present, sp_token_present, sp_uri_present) \
         SELECT 1000000 + i, CASE i % 3 WHEN 0 THEN 'p-' || i / 3 ELSE 'o-' || i END, CASE i % 3 WHEN 0 THEN 'Patient' ELSE 'Observation' END, 1, n, n, 'R4', \
            false, false, false, false, false, false, false, false, false, false \
         FROM generate_series(0, 3599) i, (SELECT clock_timestamp() AT TIME ZONE 'UTC' n) now; \
         INSERT INTO hfj_res_ver (pid, res_id, res_type, res_ver, res_published, res_updated, res_version, has_tags, res_encoding, res_text_vc) \
         SELECT res_id, res_id, res_type, 1, res_published, res_updated, 'R4', false, 'JSON', CASE res_type WHEN 'Patient' THEN '{\"resourceType\":\"Patient\"}' \
            ELSE '{\"resourceType\":\"Observation\",\"subject\":{\"reference\":\"Patient/p-' || (res_id - 1000000) / 3 || '\"}}' END FROM hfj_resource; \
         INSERT INTO hfj_res_link (pid, src_path, src_resource_id, source_resource_type, target_resource_id, target_resource_type) \
         SELECT res_id, 'Observation.subject', res_id, 'Observation', res_id - (res_id - 1000000) % 3, 'Patient' FROM hfj_resource WHERE res_type = 'Observation'",
    )
    .execute(&mut written.connection)
    .await?;
    let conditions: Vec<State> = (0..count)
        .map(|i| super::state(&format!("c-{i}"), 1, condition(&format!("p-{i}"), "100")))
        .collect();
    let fixture = Fixture::on(&server, &conditions, |_| {}).await?;
    fixture.batch.read_from(written.hapi.clone());
    let found = fixture.gateway.cohort(with(&["Observation"], 0)).await?;
    assert_eq!(found.ids.len(), count);
    let mut ids: Vec<&str> = found
        .resources
        .iter()
        .map(|resource| resource.id.as_str())
        .collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((found.resources.len(), ids.len()), (2 * count, 2 * count));
    Ok(())
}

#[tokio::test]
async fn a_slow_reader_slows_the_reading_down() -> anyhow::Result<()> {
    let server = server().await?;
    let mut written = Written::on(&server).await?;
    written
        .write("Patient", "p-1", Some(r#"{"resourceType":"Patient"}"#))
        .await?;
    let (count, size) = (300_u64, 200_000);
    let long = "x".repeat(size);
    for i in 0..count {
        let body = format!(
            r#"{{"resourceType":"Observation","subject":{{"reference":"Patient/p-1"}},"code":{{"text":"{long}"}}}}"#
        );
        written
            .write("Observation", &format!("o-{i}"), Some(&body))
            .await?;
    }
    let seen = [super::state("c-1", 1, condition("p-1", "100"))];
    let fixture = Fixture::on(&server, &seen, |_| {}).await?;
    fixture.batch.read_from(written.hapi.clone());
    let mut client = fixture.gateway.client.clone();
    let mut stream = client.cohort(with(&["Observation"], 0)).await?.into_inner();
    let mut got = 0;
    while got == 0 {
        let part = stream.message().await?.and_then(|message| message.part);
        got += u64::from(matches!(part, Some(Part::Resource(_))));
    }
    // Nobody reads on: the reading comes to a stand, far from its end.
    let (last, same) = (AtomicU64::new(0), AtomicU64::new(0));
    deadline::until("the reading to stand still", PATIENCE, || async {
        let now = fixture.batch.bytes_read();
        let still = last.swap(now, Ordering::Relaxed) == now;
        let before = same.fetch_add(1, Ordering::Relaxed);
        if !still {
            same.store(0, Ordering::Relaxed);
        }
        (still && before >= 25).then_some(())
    })
    .await?;
    let all = count * size as u64;
    assert!(
        fixture.batch.bytes_read() < all / 2,
        "{} of {all} bytes",
        fixture.batch.bytes_read()
    );
    while let Some(message) = stream.message().await? {
        got += u64::from(matches!(message.part, Some(Part::Resource(_))));
    }
    assert!(got == count && fixture.batch.bytes_read() >= all);
    Ok(())
}
