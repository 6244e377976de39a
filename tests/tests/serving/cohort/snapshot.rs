//! Law 3: all criteria and the freshness of a cohort are of one snapshot.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use api::proto::serving::{CohortRequest, CriterionTree};
use e2e::deadline;
use sqlx::{Connection as _, PgConnection};

use super::{all_of, any_of, in_view, not, patient, people, request, state};
use crate::fakes::PATIENCE;
use crate::fixture::{Fixture, join_type};

const PATIENTS: i64 = 40;

/// One patient's condition becomes an encounter, and the encounters' watermark moves on by a second: at once. `$1` is the patient.
const MOVE: &str = "WITH gone AS (DELETE FROM sqlonfhir_base.conditions WHERE patient_id = $1 RETURNING _rid, _version, _updated, _row, patient_id), \
                    moved AS (UPDATE sqlonfhir_meta.resource_type SET published_as_of = published_as_of + interval '1 second' WHERE type = 'Encounter') \
                    INSERT INTO sqlonfhir_base.visits (_rid, _version, _updated, _row, patient_id) SELECT * FROM gone";
/// And back.
const MOVE_BACK: &str = "WITH gone AS (DELETE FROM sqlonfhir_base.visits WHERE patient_id = $1 RETURNING _rid, _version, _updated, _row, patient_id), \
                    moved AS (UPDATE sqlonfhir_meta.resource_type SET published_as_of = published_as_of - interval '1 second' WHERE type = 'Encounter') \
                    INSERT INTO sqlonfhir_base.conditions (_rid, _version, _updated, _row, patient_id) SELECT * FROM gone";

#[tokio::test]
async fn law_3_a_cohort_and_its_freshness_are_of_one_snapshot() -> anyhow::Result<()> {
    let conditions: Vec<_> = (0..PATIENTS)
        .map(|i| {
            state(
                &format!("c-{i}"),
                1,
                format!(r#"{{"resourceType":"Condition","subject":{{"reference":"Patient/p-{i}"}}}}"#),
            )
        })
        .collect();
    let fixture = Fixture::over(&conditions).await?;
    let visits =
        r#""select": [{"column": [{"name": "patient_id", "path": "subject.getReferenceKey(Patient)"}]}]"#;
    super::register(&fixture.owner, "visits", "Encounter", visits).await?;
    join_type(&fixture.owner, "Encounter", 3, &[]).await?;
    let all: Vec<_> = (0..PATIENTS)
        .map(|i| patient(&format!("p-{i}"), "other"))
        .collect();
    people(&fixture, &all).await?;
    let visited = || in_view("visits");
    let start = deadline::until("the views are known", PATIENCE, || async {
        fixture.gateway.cohort(request(visited())).await.ok()
    })
    .await?;
    let batch_seconds = |found: &super::Found| {
        let freshness = found.header.freshness.clone().unwrap_or_default();
        freshness.batch_as_of.map(|at| at.seconds)
    };
    let first = batch_seconds(&start).expect("published");

    let stop = Arc::new(AtomicBool::new(false));
    let (url, stopping) = (fixture.owner_url.clone(), stop.clone());
    let writer = tokio::spawn(async move {
        let mut owner = PgConnection::connect(&url).await?;
        let mut moves = 0_u64;
        while !stopping.load(Ordering::Relaxed) {
            for statement in [MOVE, MOVE_BACK] {
                for i in 0..PATIENTS {
                    let done = sqlx::query(statement)
                        .bind(format!("p-{i}"))
                        .execute(&mut owner)
                        .await?;
                    assert_eq!(done.rows_affected(), 1);
                    moves += 1;
                }
            }
        }
        anyhow::Ok(moves)
    });
    let count = |criteria: CriterionTree| CohortRequest {
        count_only: true,
        ..request(criteria)
    };
    let (a, b) = (|| in_view("conditions"), visited);
    let mut changed = 0;
    let mut last = 0;
    for _ in 0..150 {
        // Each patient is in one of the two, always.
        for (criteria, expected) in [
            (all_of(vec![a(), b()]), 0),
            (any_of(vec![a(), b()]), PATIENTS),
            (not(any_of(vec![a(), b()])), 0),
            (
                any_of(vec![all_of(vec![a(), not(b())]), all_of(vec![b(), not(a())])]),
                PATIENTS,
            ),
        ] {
            let found = fixture.gateway.cohort(count(criteria.clone())).await?;
            assert_eq!(found.header.patient_count, expected, "{criteria:?}");
        }
        // So many have moved, and the watermark has with each of them.
        let found = fixture.gateway.cohort(request(b())).await?;
        assert_eq!(batch_seconds(&found), Some(first + found.header.patient_count));
        assert_eq!(found.header.patient_count, i64::try_from(found.ids.len())?);
        changed += i32::from(found.header.patient_count != last);
        last = found.header.patient_count;
    }
    stop.store(true, Ordering::Relaxed);
    let moves = writer.await??;
    assert!(changed > 20 && moves > 100, "{changed} changes seen of {moves}");
    Ok(())
}
