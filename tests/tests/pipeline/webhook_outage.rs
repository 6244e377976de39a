//! Law 6: complete without the webhook.

use std::time::{Duration, Instant};

use api::proto::speed::{GetStatusRequest, speed_service_client::SpeedServiceClient};
use e2e::ask::{channel, count_of};
use e2e::deadline;
use serde_json::json;

use crate::stack::{Clients, shared};

const MISSED: usize = 50;

/// So many HAPI may be trying to deliver in the moment of the return: then the webhook may tell of them before a reading does.
const DELIVERED_AFTER_ALL: usize = 10;

/// HAPI tries a webhook 21 times in 57 s and then drops it for ever.
const OUTAGE: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_6_what_hapi_gave_up_to_deliver_is_visible_soon_after_the_receivers_return() -> anyhow::Result<()>
{
    let mut stack = shared().await?;
    let clients = Clients::of(&stack).await?;
    clients.catch_up().await?;
    let before = clients.asker.count("patient_simple").await?;
    stack.speed.kill9();
    let down = Instant::now();
    for number in 0..MISSED {
        let patient = json!({"resourceType": "Patient", "id": format!("missed-{number}"), "gender": "other"});
        clients.fhir.put(&patient).await?;
    }
    let degraded = deadline::until(
        "answers to say that the speed layer is away",
        Duration::from_mins(1),
        || async {
            let answer = clients.asker.ask(count_of("patient_simple")).await.ok()?;
            (!answer.freshness.degradations.is_empty()).then_some(answer)
        },
    );
    let degraded = degraded.await?;
    assert_eq!(
        degraded.footer.row_count, before,
        "answers go on, from what is there"
    );
    let left = OUTAGE.saturating_sub(down.elapsed());
    // Not a wait for a condition: HAPI's patience is to run out.
    tokio::time::sleep(left).await;
    stack.speed.restart().await?;
    let back = Instant::now();
    let all = before + i64::try_from(MISSED)?;
    let seen = clients
        .asker
        // The budget of 2 s is printed, not judged: a busy machine is no fault.
        .until(&count_of("patient_simple"), Duration::from_secs(20), |answer| {
            answer.footer.row_count == all
        })
        .await?
        .1;
    println!(
        "{MISSED} missed webhooks visible {:.1?} after the receiver's return (budget 2 s)",
        seen - back
    );
    let status = SpeedServiceClient::new(channel(&stack.speed.address("grpc")?).await?);
    deadline::until(
        "the missed ones to be counted as healed",
        Duration::from_secs(90),
        || {
            let mut status = status.clone();
            async move {
                let types = status
                    .get_status(GetStatusRequest {})
                    .await
                    .ok()?
                    .into_inner()
                    .types;
                let healed: i64 = types.iter().map(|one| one.healed).sum();
                (healed >= i64::try_from(MISSED - DELIVERED_AFTER_ALL).ok()?).then_some(())
            }
        },
    )
    .await?;
    for number in 0..MISSED {
        clients
            .fhir
            .delete("Patient", &format!("missed-{number}"))
            .await?;
    }
    Ok(())
}
