//! What cannot be evaluated.

use batch_refresher::schedule::Schedule;
use view_store::RunKind;

use crate::{
    played::{ANOTHER_VIEW, PATIENT_VIEW, Played, patient},
    replica::Replica,
};

#[tokio::test(flavor = "multi_thread")]
async fn law_7_what_cannot_be_evaluated_stops_no_refresh_is_recorded_counted_and_cleared()
-> anyhow::Result<()> {
    let played = Played::start().await?;
    played.put(PATIENT_VIEW).await?;
    played
        .put(&ANOTHER_VIEW.replace("\"path\": \"gender\"", "\"path\": \"name.family\""))
        .await?;
    let two = r#"{"resourceType":"Patient","name":[{"family":"Secret1"},{"family":"Secret2"}]}"#;
    played.write("two", Some(two)).await?;
    played.write("one", Some(&patient("One"))).await?;
    let replica = Replica::start(&played, Schedule::OnDemand, Schedule::OnDemand).await?;
    replica.run(RunKind::Incremental).await?;
    let failed = "researchflow_batch_resources_failed_total{type=\"Patient\"}";
    assert_eq!(replica.metric(failed)?.as_deref(), Some("1"));
    assert_eq!(played.shown("TABLE sqlonfhir.patient_gender").await?, ["(One)"]);
    assert_eq!(played.names().await?.len(), 3, "the other view has it");
    let errors =
        "SELECT view, resource_type, id, version, at > now() - interval '1 minute' FROM sqlonfhir.errors";
    assert_eq!(played.shown(errors).await?, ["(patient_gender,Patient,two,1,t)"]);
    let reasons = played.shown("SELECT reason FROM sqlonfhir.errors").await?;
    assert!(
        reasons[0].contains("column gender") && !reasons[0].contains("Secret"),
        "{reasons:?}"
    );
    let metric =
        |view: &str| format!("researchflow_batch_evaluation_errors{{view=\"{view}\",type=\"Patient\"}}");
    assert_eq!(replica.metric(&metric("patient_gender"))?.as_deref(), Some("1"));
    assert_eq!(replica.metric(&metric("patient_names"))?.as_deref(), Some("0"));

    // a text that cannot be read at all fails for each view; the next resource comes all the same
    played
        .write("torn", Some("{\"resourceType\":\"Patient\","))
        .await?;
    played.write("next", Some(&patient("Next"))).await?;
    replica.run(RunKind::Incremental).await?;
    assert_eq!(replica.metric(&metric("patient_gender"))?.as_deref(), Some("2"));
    assert_eq!(replica.metric(&metric("patient_names"))?.as_deref(), Some("1"));
    assert_eq!(played.names().await?.len(), 4);

    // a later version that works, and a delete, clear it
    played.write("two", Some(&patient("Two"))).await?;
    played.write("torn", None).await?;
    replica.run(RunKind::Incremental).await?;
    assert!(played.shown(errors).await?.is_empty());
    assert_eq!(replica.metric(&metric("patient_gender"))?.as_deref(), Some("0"));
    assert_eq!(
        played.shown("TABLE sqlonfhir.patient_gender ORDER BY 1").await?,
        ["(Next)", "(One)", "(Two)"]
    );
    replica.stop().await;
    Ok(())
}
