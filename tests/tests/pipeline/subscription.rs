//! Our Subscription in a real HAPI: whatever is done to it, it is right again within a check; its secret is changed under load without a refused delivery.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use api::proto::speed::{GetStatusRequest, TypeStatus, speed_service_client::SpeedServiceClient};
use e2e::{
    ask::{channel, count_of},
    deadline,
    fhir::Fhir,
    process::write_private,
    stack::Stack,
};
use serde_json::{Value, json};

use crate::stack::{Clients, shared};

/// How often the Subscription is looked at here.
const CHECK: &str = "2";
/// A check, HAPI's answer to it and its activation, which waits in HAPI's queue behind all that other tests have written.
const RIGHT_AGAIN: Duration = Duration::from_mins(3);
/// HAPI sends every 5 s, two at a time, in the order of that queue.
const DELIVERED: Duration = Duration::from_mins(3);
const ID: &str = "researchflow-default";

/// Counts of one type as the ingestor has them.
async fn patients(stack: &Stack) -> anyhow::Result<TypeStatus> {
    let mut status = SpeedServiceClient::new(channel(&stack.speed.address("grpc")?).await?);
    let types = status.get_status(GetStatusRequest {}).await?.into_inner().types;
    let found = types.into_iter().find(|one| one.resource_type == "Patient");
    found.context("no view needs patients")
}

/// Whether HAPI has the Subscription active, with this endpoint and secret.
async fn is_right(fhir: &Fhir, endpoint: &str, secret: &str) -> Option<()> {
    let header = json!([format!("Authorization: Bearer {secret}")]);
    let found = fhir.get("Subscription", ID).await.ok()??;
    let channel = &found["channel"];
    (found["status"] == "active" && channel["endpoint"] == endpoint && channel["header"] == header)
        .then_some(())
}

async fn right(fhir: &Fhir, endpoint: &str, secret: &str) -> anyhow::Result<()> {
    deadline::until("the Subscription to be right", RIGHT_AGAIN, || {
        is_right(fhir, endpoint, secret)
    })
    .await
}

/// Writes a patient, and waits until a webhook of it has come.
async fn is_delivered(stack: &Stack, fhir: &Fhir, id: &str) -> anyhow::Result<()> {
    let before = patients(stack).await?.webhooks;
    fhir.put(&json!({"resourceType": "Patient", "id": id, "gender": "female"}))
        .await?;
    deadline::until("a webhook", DELIVERED, || async {
        (patients(stack).await.ok()?.webhooks > before).then_some(())
    })
    .await
}

/// Webhooks that were refused for their secret or anything else, as the metrics say.
async fn refused(stack: &Stack) -> anyhow::Result<u64> {
    let metrics = stack.speed.metrics().await?;
    let lines = metrics
        .lines()
        .filter(|line| line.contains("webhook_events_total{") && line.contains("outcome=\"refused\""));
    let counts = lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok());
    Ok(counts.sum())
}

async fn changed(fhir: &Fhir, change: impl FnOnce(&mut Value)) -> anyhow::Result<()> {
    let mut found = fhir.get("Subscription", ID).await?.context("no Subscription")?;
    change(&mut found);
    fhir.put(&found).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_6_whatever_is_done_to_the_subscription_it_is_right_again_and_nothing_is_lost()
-> anyhow::Result<()> {
    let mut stack = shared().await?;
    stack
        .speed
        .restart_with(&[("RF_SPEED__HAPI__CHECK_SECONDS", CHECK)])
        .await?;
    let clients = Clients::of(&stack).await?;
    let endpoints = stack.endpoints()?;
    let (endpoint, secret) = (endpoints.webhook.as_str(), endpoints.webhook_secret.as_str());
    clients.catch_up().await?;
    let before = clients.asker.count("patient_simple").await?;
    // A Subscription of somebody else stays as it is.
    let foreign = json!({
        "resourceType": "Subscription", "id": "somebody-else", "status": "off", "reason": "other", "criteria": "Patient?",
        "channel": {"type": "rest-hook", "endpoint": "http://127.0.0.1:9/fhir", "payload": "application/fhir+json"},
    });
    clients.fhir.put(&foreign).await?;
    right(&clients.fhir, endpoint, secret).await?;
    is_delivered(&stack, &clients.fhir, "hooked-0").await?;

    for (number, fault) in ["deleted", "off", "elsewhere", "hapi down at our start"]
        .into_iter()
        .enumerate()
    {
        let start = Instant::now();
        match fault {
            "deleted" => {
                clients.fhir.delete("Subscription", ID).await?;
            }
            "off" => changed(&clients.fhir, |found| found["status"] = json!("off")).await?,
            "elsewhere" => {
                changed(&clients.fhir, |found| {
                    found["channel"]["endpoint"] = json!("http://127.0.0.1:9/fhir");
                })
                .await?;
            }
            _ => {
                stack.servers.hapi.kill9();
                stack.speed.restart().await?;
                stack.servers.hapi.restart().await?;
            }
        }
        // What is written meanwhile is seen by the tail, if by nobody else.
        let id = format!("unhooked-{number}");
        clients
            .fhir
            .put(&json!({"resourceType": "Patient", "id": id, "gender": "male"}))
            .await?;
        right(&clients.fhir, endpoint, secret).await?;
        println!("{fault}: right again after {:.1?}", start.elapsed());
        is_delivered(&stack, &clients.fhir, &format!("hooked-{}", number + 1)).await?;
    }
    let all = before + 9;
    clients
        .asker
        .until(&count_of("patient_simple"), Duration::from_secs(10), |answer| {
            answer.footer.row_count == all
        })
        .await?;
    let kept = clients.fhir.get("Subscription", "somebody-else").await?;
    assert_eq!(
        kept.context("it is gone")?["channel"]["endpoint"],
        "http://127.0.0.1:9/fhir"
    );
    clients.fhir.delete("Subscription", "somebody-else").await?;
    for number in 0..5 {
        clients
            .fhir
            .delete("Patient", &format!("hooked-{number}"))
            .await?;
    }
    for number in 0..4 {
        clients
            .fhir
            .delete("Patient", &format!("unhooked-{number}"))
            .await?;
    }
    Ok(())
}

const ROTATING: usize = 20;

/// Patients that are written again and again, with the version of each.
struct Written {
    fhir: Fhir,
    redis: String,
    versions: [i64; ROTATING],
    count: usize,
}

impl Written {
    async fn write(&mut self, count: usize) -> anyhow::Result<()> {
        for number in self.count..self.count + count {
            let patient = number % ROTATING;
            let body = json!({"resourceType": "Patient", "id": format!("rotating-{patient}"), "multipleBirthInteger": number});
            let version = self.fhir.put(&body).await?.version;
            self.versions[patient] = version.context("an answer without a version")?;
        }
        self.count += count;
        Ok(())
    }

    /// Waits until a webhook of the last version of each has been accepted.
    async fn all_delivered(&self) -> anyhow::Result<()> {
        let client = redis::Client::open(self.redis.as_str())?;
        let ids: Vec<String> = (0..ROTATING)
            .map(|patient| format!("rotating-{patient}"))
            .collect();
        deadline::until("all deliveries", DELIVERED, || async {
            let mut connection = client.get_multiplexed_async_connection().await.ok()?;
            let keys: Vec<String> = redis::cmd("KEYS")
                .arg("fhir:told:Patient:*")
                .query_async(&mut connection)
                .await
                .ok()?;
            let mut seen = vec![None::<i64>; ROTATING];
            for key in keys {
                let told: Vec<Option<i64>> = redis::cmd("HMGET")
                    .arg(key)
                    .arg(&ids)
                    .query_async(&mut connection)
                    .await
                    .ok()?;
                for (seen, told) in seen.iter_mut().zip(told) {
                    *seen = (*seen).max(told);
                }
            }
            let all = seen
                .iter()
                .zip(self.versions)
                .all(|(seen, version)| seen.is_some_and(|seen| seen >= version));
            all.then_some(())
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_secret_is_changed_under_load_without_a_refused_delivery() -> anyhow::Result<()> {
    let mut stack = shared().await?;
    let endpoints = stack.endpoints()?;
    let (endpoint, old) = (endpoints.webhook.as_str(), endpoints.webhook_secret.as_str());
    let file = stack.folder.join("webhook-secrets");
    write_private(&file, old)?;
    let path = file.display().to_string();
    let from_file = [
        ("RF_SPEED__WEBHOOK__SECRET", ""),
        ("RF_SPEED__WEBHOOK__SECRET_FILE", path.as_str()),
        ("RF_SPEED__HAPI__CHECK_SECONDS", CHECK),
    ];
    stack.speed.restart_with(&from_file).await?;
    let fhir = stack.servers.hapi.fhir()?;
    right(&fhir, endpoint, old).await?;

    let mut written = Written {
        fhir: stack.servers.hapi.fhir()?,
        redis: endpoints.redis.clone(),
        versions: [0; ROTATING],
        count: 0,
    };
    written.write(40).await?;
    write_private(&file, &format!("another\n{old}\n"))?;
    // Under load until HAPI has gone over, and a while longer.
    let start = Instant::now();
    while is_right(&fhir, endpoint, "another").await.is_none() {
        ensure!(start.elapsed() < RIGHT_AGAIN, "the secret is not changed");
        written.write(5).await?;
    }
    written.write(40).await?;
    written.all_delivered().await?;
    // What was sent with the old one has come.
    write_private(&file, "another\n")?;
    written.write(40).await?;
    written.all_delivered().await?;
    println!("{} deliveries, {} refused", written.count, refused(&stack).await?);
    assert_eq!(refused(&stack).await?, 0);
    // Others go on with the one that they know.
    let back = [
        ("RF_SPEED__WEBHOOK__SECRET", old),
        ("RF_SPEED__WEBHOOK__SECRET_FILE", ""),
    ];
    stack.speed.restart_with(&back).await?;
    right(&fhir, endpoint, old).await?;
    for number in 0..ROTATING {
        fhir.delete("Patient", &format!("rotating-{number}")).await?;
    }
    Ok(())
}
