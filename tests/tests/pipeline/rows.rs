//! Law 2: same view, same rows. Law 4: no gap, no double, at hand-over.

use api::proto::batch::RefreshKind;
use e2e::loading::load_patients;
use e2e::patients::Hospital;
use e2e::patients::changes::Change;

use crate::stack::{Clients, shared};

#[tokio::test]
async fn law_2_speed_rows_equal_batch_rows_for_every_generated_resource_and_view() -> anyhow::Result<()> {
    let stack = shared().await?;
    let clients = Clients::of(&stack).await?;
    clients.operator.refresh(&[], RefreshKind::Incremental).await?;
    let hospital = Hospital::new(2);
    load_patients(&clients.fhir, hospital, 12).await?;
    for change in hospital.changes(12).take(60) {
        match change {
            Change::Put(resource) => clients.fhir.put(&resource).await?,
            Change::Delete { resource_type, id } => clients.fhir.delete(&resource_type, &id).await?,
        };
    }
    // The batch has not run since the load: these rows came through the tail and the webhooks.
    let live = clients.nothing_missing_nothing_doubled().await?;
    assert!(live > 100, "only {live} rows were live");
    Ok(())
}

#[tokio::test]
async fn law_4_a_hand_over_changes_no_answer() -> anyhow::Result<()> {
    let stack = shared().await?;
    let clients = Clients::of(&stack).await?;
    load_patients(&clients.fhir, Hospital::new(4), 3).await?;
    clients.catch_up().await?;
    let before = clients.answers().await?;
    assert!(before.iter().any(|(_, answer)| answer.footer.speed_rows > 0));
    clients.operator.refresh(&[], RefreshKind::Incremental).await?;
    let after = clients.answers().await?;
    for ((view, before), (_, after)) in before.iter().zip(&after) {
        assert_eq!(before.sorted(), after.sorted(), "{view} changed by a hand-over");
        assert_eq!(after.footer.speed_rows, 0, "{view}: all was handed over");
    }
    Ok(())
}
