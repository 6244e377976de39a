//! Resources that come by `PutResource`: shown at once, and gone again where HAPI does not have them.

use std::time::Duration;

use api::{
    proto::speed::{PutOutcome, PutResourceRequest},
    speed::speed_service_client::SpeedServiceClient,
};
use daemon::{Clock, SystemClock};
use serde_json::json;

use crate::stack::{Clients, shared};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_1_what_a_forwarder_puts_is_shown_and_leaves_again_as_hapi_does_not_have_it() -> anyhow::Result<()>
{
    let stack = shared().await?;
    let mut clients = Clients::of(&stack).await?;
    clients.catch_up().await?;
    clients.settled().await?;
    let updated = SystemClock.now().to_rfc3339();
    let patient = json!({
        "resourceType": "Patient", "id": "forwarded", "meta": {"versionId": "1", "lastUpdated": updated}, "gender": "other",
    });
    let mut speed = SpeedServiceClient::connect(format!("http://{}", stack.endpoints()?.speed_grpc)).await?;
    let request = PutResourceRequest {
        body: patient.to_string().into_bytes(),
        time_to_live: None,
    };
    // The tail is woken by it: a reading is under way at once, so a reader who only looks now and then need not see it.
    let mut reader = e2e::ask::Reader::connect(&stack.endpoints()?.views_db).await?;
    let seen = "SELECT count(*) FROM sqlonfhir.patient_simple WHERE id = 'forwarded'";
    let looking = tokio::spawn(async move {
        let shown = reader
            .until(seen, Duration::from_secs(10), |count| count == Some("1"))
            .await;
        shown.map(|_| reader)
    });
    let answer = speed.put_resource(request).await?.into_inner();
    assert_eq!(answer.outcome(), PutOutcome::Taken);
    let mut reader = looking.await??;
    reader
        .until(seen, Duration::from_secs(20), |count| count == Some("0"))
        .await?;
    Ok(())
}
