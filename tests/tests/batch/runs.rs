//! Full, incremental and joining runs.

use anyhow::Context as _;
use chrono::TimeDelta;
use daemon::{Clock as _, SystemClock};
use fhir_core::resource::{Content, State};
use view_store::{LastPage, ReceivedPreview, RunKind, ViewState, evaluate};

use crate::played::{ANOTHER_VIEW, PATIENT_VIEW, Played, patient};

#[tokio::test]
async fn law_4_no_gap_no_double_what_changed_is_published_and_nothing_else() -> anyhow::Result<()> {
    let played = Played::start().await?;
    let hapi = played.hapi().await?;
    played.put(PATIENT_VIEW).await?;
    for i in 0..700 {
        played
            .write(&format!("p{i:03}"), Some(&patient(&format!("Family{i}"))))
            .await?;
    }
    // a type without a materialised view joins whatever is asked for
    assert_eq!(played.refresh(&hapi, RunKind::Incremental).await?, RunKind::Join);
    let names = played.names().await?;
    assert_eq!(names.len(), 700);
    assert_eq!(names[7], "(p007,female,Family7)");

    played.write("p001", Some(&patient("Changed"))).await?;
    played.write("p002", None).await?;
    played
        .write("new", Some(r#"{"resourceType":"Patient","gender":"male"}"#))
        .await?;
    played.write("p003", None).await?;
    played.write("p003", Some(&patient("Again"))).await?;
    assert_eq!(
        played.refresh(&hapi, RunKind::Incremental).await?,
        RunKind::Incremental
    );
    let names = played.names().await?;
    assert_eq!(names.len(), 700);
    assert_eq!(
        &names[..4],
        [
            "(new,male,)",
            "(p000,female,Family0)",
            "(p001,female,Changed)",
            "(p003,female,Again)"
        ]
    );
    assert!(!names.iter().any(|n| n.contains("p002")));

    // expunged rows leave no trace but for a full run
    played.execute("DELETE FROM hfj_res_ver WHERE res_id IN (SELECT res_id FROM hfj_resource WHERE fhir_id = 'p004')").await?;
    played
        .execute("DELETE FROM hfj_resource WHERE fhir_id = 'p004'")
        .await?;
    played.refresh(&hapi, RunKind::Incremental).await?;
    assert_eq!(played.names().await?.len(), 700);
    assert_eq!(played.refresh(&hapi, RunKind::Full).await?, RunKind::Full);
    assert_eq!(played.names().await?.len(), 699);
    let before = played.names().await?;
    played.refresh(&hapi, RunKind::Full).await?;
    assert_eq!(
        played.names().await?,
        before,
        "a repeated full run changes nothing"
    );
    Ok(())
}

#[tokio::test]
async fn law_1_a_preview_that_hapi_does_not_have_leaves_with_the_next_refresh() -> anyhow::Result<()> {
    let played = Played::start().await?;
    let hapi = played.hapi().await?;
    played.put(PATIENT_VIEW).await?;
    for id in ["a", "b"] {
        played.write(id, Some(&patient(id))).await?;
    }
    played.refresh(&hapi, RunKind::Join).await?;
    // One that HAPI never had, and a version of another that it does not have; received long enough ago for the next reading to have seen them.
    let now = SystemClock.now();
    let forged = |id: &str| {
        let body = patient("Forged").replacen('{', &format!(r#"{{"id":"{id}","#), 1);
        State {
            id: id.into(),
            version: 99,
            last_updated: now + TimeDelta::seconds(5),
            content: Content::Body(body.into_bytes()),
        }
    };
    let views = played.store.type_views("Patient").await?;
    let previews = evaluate(&views, &[forged("b"), forged("ghost")])
        .into_iter()
        .map(|state| ReceivedPreview {
            state,
            received: now - TimeDelta::seconds(10),
        })
        .collect();
    let last = LastPage { previews, mark: None };
    let start = played.store.type_state("Patient").await?.speed;
    let page = played.store.apply_page(&views, start, &[], Some(&last)).await?;
    assert_eq!(page.context("the cursor has not moved")?.previews, 2);
    let forged = "(b,female,Forged)";
    assert_eq!(
        played.names().await?,
        ["(a,female,a)", forged, "(ghost,female,Forged)"]
    );
    let drawn = played
        .store
        .draw_number(&["Patient"], async || Ok::<_, view_store::StoreError>(()));
    assert_eq!(
        drawn.await?.0.shown_previews,
        [["b", "ghost"]],
        "a tail round asks for them"
    );
    assert_eq!(
        played.refresh(&hapi, RunKind::Incremental).await?,
        RunKind::Incremental
    );
    assert_eq!(played.names().await?, ["(a,female,a)", "(b,female,b)"]);
    Ok(())
}

#[tokio::test]
async fn a_new_view_joins_its_type_at_one_reading() -> anyhow::Result<()> {
    let played = Played::start().await?;
    let hapi = played.hapi().await?;
    played.put(PATIENT_VIEW).await?;
    played.write("a", Some(&patient("A"))).await?;
    played.refresh(&hapi, RunKind::Join).await?;
    played.put(ANOTHER_VIEW).await?;
    played.write("b", Some(&patient("B"))).await?;
    assert_eq!(played.refresh(&hapi, RunKind::Join).await?, RunKind::Join);
    assert_eq!(
        played.shown("SELECT * FROM sqlonfhir.patient_gender").await?,
        ["(female)", "(female)"]
    );
    assert_eq!(played.names().await?.len(), 2);
    assert!(
        played
            .store
            .views()
            .await?
            .iter()
            .all(|v| v.state == ViewState::Active)
    );
    // nothing waits any more: a join is an incremental run then
    assert_eq!(played.refresh(&hapi, RunKind::Join).await?, RunKind::Incremental);
    Ok(())
}

#[tokio::test]
async fn another_timeline_of_hapi_means_a_full_run() -> anyhow::Result<()> {
    let played = Played::start().await?;
    let hapi = played.hapi().await?;
    played.put(PATIENT_VIEW).await?;
    for id in ["a", "b", "c"] {
        played.write(id, Some(&patient(id))).await?;
    }
    played.refresh(&hapi, RunKind::Join).await?;
    let timeline = hapi.timeline().await?;
    // a dump is restored over the database: rows are older than the watermark, and c was never there
    played
        .execute(
            r#"CREATE TABLE restored AS TABLE hfj_res_ver; DROP TABLE hfj_res_ver CASCADE; ALTER TABLE restored RENAME TO hfj_res_ver;
             CREATE UNIQUE INDEX ON hfj_res_ver (res_id, res_ver); GRANT SELECT ON hfj_res_ver TO source;
             DELETE FROM hfj_res_ver WHERE res_id = (SELECT res_id FROM hfj_resource WHERE fhir_id = 'c');
             DELETE FROM hfj_resource WHERE fhir_id = 'c';
             UPDATE hfj_res_ver SET res_text_vc = replace(res_text_vc, '"a"', '"Earlier"'), res_updated = res_updated - interval '1 year';
             UPDATE hfj_resource SET res_updated = res_updated - interval '1 year'"#,
        )
        .await?;
    assert_ne!(hapi.timeline().await?, timeline);
    assert_eq!(played.refresh(&hapi, RunKind::Incremental).await?, RunKind::Full);
    assert_eq!(played.names().await?, ["(a,female,Earlier)", "(b,female,b)"]);
    assert_eq!(
        played.refresh(&hapi, RunKind::Incremental).await?,
        RunKind::Incremental
    );
    Ok(())
}
