//! The layers show each other a token: what is written into HAPI becomes an answer; and a token that is no longer known is told as the operator's fault.

use std::time::Duration;

use api::proto::serving::{QueryRequest, serving_service_client::ServingServiceClient};
use e2e::{
    ask::rows_where,
    deadline::until,
    house::view_of,
    issuer::{Kind, SigningKey},
    process::write_private,
    tables,
};
use tonic::{Code, Status, transport::Channel};

use crate::whole::{OF_OPERATOR, Whole, with_token};

const PATIENCE: Duration = Duration::from_secs(30);

async fn rows(
    client: &ServingServiceClient<Channel>,
    query: QueryRequest,
    token: &str,
) -> Result<i64, Status> {
    use api::proto::serving::query_response::Part;
    let mut stream = client.clone().query(with_token(query, token)).await?.into_inner();
    while let Some(message) = stream.message().await? {
        if let Some(Part::Footer(footer)) = message.part {
            return Ok(footer.row_count);
        }
    }
    Err(Status::internal("no whole answer"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn live_rows_go_through_all_layers_and_a_token_can_be_changed() -> anyhow::Result<()> {
    let whole = Whole::start().await?;
    let client = ServingServiceClient::new(whole.channel("ServingService").await?);
    let token = whole.token("system/Patient.rs");
    let patient = |id: &str| rows_where(&view_of("Patient"), "id", id);
    until("the patient is shown", PATIENCE, || async {
        (rows(&client, patient("a"), &token).await.ok()? == 1).then_some(())
    })
    .await?;

    // The gateway's token is no longer one that the others know.
    write_private(&whole.layers_token, "a-token-that-nobody-knows")?;
    let base = whole.http()?;
    let inline = serde_json::json!({"resourceType": "Parameters", "parameter": [
        {"name": "subjectResource", "resource": crate::whole::views()[0]},
    ]});
    let http = e2e::fhir::http_client()?;
    let run = || async {
        let request = http.post(format!("{base}/$sql-run")).bearer_auth(&token);
        let answer = request
            .header("content-type", "application/fhir+json")
            .body(inline.to_string())
            .send()
            .await
            .ok()?;
        Some(answer.status().as_u16())
    };
    // Not 401: whoever asks has shown good credentials.
    until("the batch layer refuses the gateway", PATIENCE, || async {
        (run().await? == 503).then_some(())
    })
    .await?;
    // What lies in the views is still answered.
    assert_eq!(rows(&client, patient("a"), &token).await?, 1);
    write_private(&whole.layers_token, OF_OPERATOR)?;
    until(
        "the batch layer takes the gateway's new token",
        PATIENCE,
        || async { (run().await? == 200).then_some(()) },
    )
    .await?;
    tables::write_patient(&whole.house.hapi, "b", "male").await?;
    until("the next patient is shown", PATIENCE, || async {
        (rows(&client, patient("b"), &token).await.ok()? == 1).then_some(())
    })
    .await?;

    // The issuer is away: the keys that are held hold on, and are the only ones.
    whole.issuer.answers(500, "");
    let stranger = SigningKey::new(Kind::Ed, "another").token(&whole.claims("system/Patient.rs"));
    let refused = rows(&client, patient("a"), &stranger)
        .await
        .expect_err("no such key");
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert_eq!(
        rows(&client, patient("a"), &whole.token("system/Patient.rs")).await?,
        1
    );
    Ok(())
}
