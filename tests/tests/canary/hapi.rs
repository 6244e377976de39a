//! Resources in HAPI's tables: whole ones, one that cannot be evaluated, one that cannot be read.

use std::time::Duration;

use api::proto::batch::RefreshKind;
use e2e::{ask::rows_where, deadline, house::view_of, tables};
use serde_json::json;

use crate::{planted::Canary, world::World};

/// Writes them, and waits until they are shown, by the speed layer and by the batch.
pub(crate) async fn write(world: &World) -> anyhow::Result<()> {
    let patient = json!({"resourceType": "Patient", "gender": "female", "birthDate": "1971-01-01",
        "name": [{"family": Canary::Family.text()}], "address": [{"line": [Canary::Address.text()]}]});
    let id = Canary::PatientId.text();
    let condition = json!({"resourceType": "Condition", "subject": {"reference": format!("Patient/{id}")},
        "code": {"text": Canary::Unfit.text(), "coding": [{"code": Canary::Code.text()}]}});
    let broken = format!(
        r#"{{"resourceType":"Patient","name":[{}"#,
        json!(Canary::Broken.text())
    );
    let other = format!("broken-{}", Canary::OtherId.text());
    for (resource_type, id, stored) in [
        ("Patient", &id, patient.to_string()),
        ("Condition", &id, condition.to_string()),
        ("Patient", &other, broken),
    ] {
        tables::write_new(&world.house.hapi, resource_type, id, &stored).await?;
    }
    shown(world, &id).await?;
    let operator = world.house.operator().await?;
    operator.refresh(&[], RefreshKind::Incremental).await?;
    operator.refresh(&[], RefreshKind::Full).await?;
    shown(world, &id).await
}

async fn shown(world: &World, id: &str) -> anyhow::Result<()> {
    deadline::until("the patient to be shown", Duration::from_secs(30), || async {
        let rows = world.rows(rows_where(&view_of("Patient"), "id", id)).await.ok()?;
        rows.contains(id).then_some(())
    })
    .await
}
