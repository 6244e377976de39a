//! Comparing everything: what left no trace in HAPI's history is put right, and counted.

use batch_refresher::{reconciliation::Differences, schedule::Schedule};
use chrono::TimeDelta;
use view_store::RunKind;

use crate::{
    played::{PATIENT_VIEW, Played, now, patient, write},
    replica::Replica,
};

/// What a person sees of a resource whose tags count.
const TAG_VIEW: &str = r#"{
    "resourceType": "ViewDefinition", "name": "patient_tags", "status": "active", "resource": "Patient",
    "select": [{"column": [{"name": "id", "path": "getResourceKey()"}, {"name": "tag", "path": "meta.tag.code.first()", "type": "code"}]}]}"#;

/// As HAPI's `$expunge` with everything: no row is left.
async fn expunge(played: &Played, id: &str) -> anyhow::Result<()> {
    played
        .execute(&format!(
            "DELETE FROM hfj_res_ver WHERE res_id IN (SELECT res_id FROM hfj_resource WHERE fhir_id = '{id}'); DELETE FROM hfj_resource WHERE fhir_id = '{id}'"
        ))
        .await
}

/// As HAPI's `$meta-add`: no version is written.
async fn tag(played: &Played, id: &str) -> anyhow::Result<()> {
    played
        .execute(&format!(
            "INSERT INTO hfj_tag_def (tag_id, tag_type, tag_system, tag_code) VALUES (1, 0, 'http://t', 'vip');
             INSERT INTO hfj_res_tag (pid, tag_id, res_id, res_type) SELECT 1, 1, res_id, 'Patient' FROM hfj_resource WHERE fhir_id = '{id}';
             UPDATE hfj_resource SET has_tags = true WHERE fhir_id = '{id}'"
        ))
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_leaves_no_trace_is_put_right_and_counted_and_what_leaves_one_is_not_counted()
-> anyhow::Result<()> {
    let played = Played::start().await?;
    played.put(PATIENT_VIEW).await?;
    played.put(TAG_VIEW).await?;
    for id in [
        "changed",
        "deleted",
        "expunged",
        "recreated",
        "spoilt",
        "still",
        "tagged",
    ] {
        played.write(id, Some(&patient(id))).await?;
    }
    played.write("recreated", Some(&patient("recreated"))).await?;
    let replica = Replica::start(&played, Schedule::OnDemand, Schedule::OnDemand).await?;
    replica.run(RunKind::Incremental).await?;
    assert_eq!(played.names().await?.len(), 7);
    assert_eq!(
        played.store.schedule_state("Patient").await?.differences,
        None,
        "the first run has nothing to compare with"
    );

    expunge(&played, "expunged").await?;
    tag(&played, "tagged").await?;
    played
        .server
        .execute(
            "views",
            "UPDATE sqlonfhir_base.patient_names SET family = 'Spoilt' WHERE _rid = 'spoilt'",
        )
        .await?;
    // No version tells of these three. An expunged one that is created anew begins at version 1, which does.
    expunge(&played, "recreated").await?;
    assert_eq!(played.write("recreated", Some(&patient("recreated"))).await?, 1);
    replica.run(RunKind::Incremental).await?;
    let versions = "SELECT DISTINCT _rid, _version FROM sqlonfhir_base.patient_names WHERE _rid IN ('expunged', 'recreated') ORDER BY 1";
    assert_eq!(played.shown(versions).await?, ["(expunged,1)", "(recreated,1)"]);
    let tagged = "SELECT tag FROM sqlonfhir.patient_tags WHERE id = 'tagged'";
    assert_eq!(played.shown(tagged).await?, ["()"]);
    // Nor is what has changed since the last run a surprise.
    played.write("changed", Some(&patient("Changed"))).await?;
    played.write("deleted", None).await?;
    played.write("new", Some(&patient("New"))).await?;

    let reconciled = replica.run(RunKind::Full).await?;
    assert_eq!(
        reconciled.differences,
        Some(Differences { gone: 1, changed: 2 }),
        "{reconciled:?}"
    );
    assert_eq!(
        played.names().await?,
        [
            "(changed,female,Changed)",
            "(new,female,New)",
            "(recreated,female,recreated)",
            "(spoilt,female,spoilt)",
            "(still,female,still)",
            "(tagged,female,tagged)"
        ]
    );
    assert_eq!(played.shown(tagged).await?, ["(vip)"]);
    let metric = "researchflow_batch_reconciled_differences_total{type=\"Patient\"}";
    assert_eq!(replica.metric(metric)?.as_deref(), Some("3"));
    assert_eq!(played.store.schedule_state("Patient").await?.differences, Some(3));

    let again = replica.run(RunKind::Full).await?;
    assert_eq!(again.differences, Some(Differences::default()));
    assert_eq!(replica.metric(metric)?.as_deref(), Some("3"));
    assert_eq!(played.store.schedule_state("Patient").await?.differences, Some(0));
    replica.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_a_refresh_could_not_find_is_counted() -> anyhow::Result<()> {
    let played = Played::start().await?;
    played.put(PATIENT_VIEW).await?;
    played.write("a", Some(&patient("A"))).await?;
    let replica = Replica::start(&played, Schedule::OnDemand, Schedule::OnDemand).await?;
    replica.run(RunKind::Incremental).await?;
    // A clock that is far behind: older than the margin of 90 s.
    let mut connection = played.writer.acquire().await?;
    let late = now(&mut connection).await? - TimeDelta::minutes(10);
    write(&mut connection, "late", late, Some(&patient("Late"))).await?;
    // So many came after it that it is not among the newest versions, whose dates are looked at.
    played
        .execute(
            "INSERT INTO hfj_res_ver (pid, res_id, res_type, res_ver, res_published, res_updated, res_version, has_tags, res_encoding, res_text_vc) \
             SELECT 1000000 + g, res_id, res_type, 1000 + g, at, at, 'R4', false, 'JSON', '{}' FROM generate_series(1, 1000) g, hfj_resource, \
             LATERAL (SELECT clock_timestamp() AT TIME ZONE 'UTC' AS at) clock WHERE fhir_id = 'a'",
        )
        .await?;
    replica.run(RunKind::Incremental).await?;
    assert_eq!(played.names().await?.len(), 1);
    let reconciled = replica.run(RunKind::Full).await?;
    assert_eq!(reconciled.differences, Some(Differences { gone: 0, changed: 1 }));
    assert_eq!(played.names().await?.len(), 2);
    replica.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_of_the_margin_is_the_least_since_it_was_last_asked_for() -> anyhow::Result<()> {
    let played = Played::start().await?;
    played.put(PATIENT_VIEW).await?;
    let replica = Replica::start(&played, Schedule::OnDemand, Schedule::OnDemand).await?;
    replica.run(RunKind::Incremental).await?;
    let count = "researchflow_batch_watermark_margin_left_seconds_count";
    assert_eq!(
        replica.metric(count)?.as_deref(),
        Some("0"),
        "nothing was found yet"
    );

    let hapi = played.hapi().await?;
    let since = played.store.type_state("Patient").await?.published.unwrap();
    let mut connection = played.writer.acquire().await?;
    let mut since = since;
    for behind in [80, 20] {
        let dated = since.as_of.naive_utc() - TimeDelta::seconds(behind);
        write(&mut connection, &format!("p{behind}"), dated, Some(&patient("P"))).await?;
        let mut snapshot = hapi.snapshot().await?;
        assert!(
            !snapshot
                .changed_since("Patient", &since, None, None)
                .await?
                .is_empty()
        );
        // The next one finds only what is written from here on.
        since.xmin = snapshot.xmax;
    }
    let left = hapi.take_margin_left().map(|left| left.num_seconds());
    assert_eq!(left, Some(10), "of 90 s; the later reading does not hide it");
    assert_eq!(hapi.take_margin_left(), None);
    // a reading that broke off at its limit may have left out what is older
    let mut snapshot = hapi.snapshot().await?;
    snapshot.changed_since("Patient", &since, None, Some(1)).await?;
    assert_eq!(hapi.take_margin_left(), None);

    replica.run(RunKind::Incremental).await?;
    let bucket = |le: &str| format!("researchflow_batch_watermark_margin_left_seconds_bucket{{le=\"{le}\"}}");
    assert_eq!(replica.metric(count)?.as_deref(), Some("1"));
    assert_eq!(replica.metric(&bucket("5.0"))?.as_deref(), Some("0"));
    assert_eq!(replica.metric(&bucket("20.0"))?.as_deref(), Some("1"));
    replica.stop().await;
    Ok(())
}
