//! From an accepted webhook, and from HAPI's commit, until the change is visible to whoever asks, beside twenty clients.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use api::proto::serving::{
    Comparison, Filter, Layers, Operator, QueryRequest, filter, serving_service_client::ServingServiceClient,
};
use sqlx::Row as _;
use tokio::sync::Mutex;
use tonic::transport::Channel;

use crate::{
    Arguments,
    hapi::Hapi,
    point,
    report::Times,
    servers::{SECRET, Servers},
};

/// Changes a second, and what clients ask together.
const CHANGES: u32 = 200;
const CLIENTS: u32 = 20;
const QUERIES: u32 = 100;

/// Between two looks at what is visible, so that looking takes little of the cores: times are told too long by half of it.
const PAUSE: Duration = Duration::from_millis(4);

/// When a patient's date of birth was committed, and when a webhook of it was accepted.
type Waiting = Arc<Mutex<BTreeMap<(String, String), Sent>>>;

struct Sent {
    committed: Instant,
    accepted: Option<Instant>,
}

pub(crate) async fn measure(servers: &Servers, arguments: &Arguments) -> anyhow::Result<()> {
    for with_webhooks in [true, false] {
        let waiting = Waiting::default();
        let asking: Vec<_> = (0..CLIENTS)
            .map(|number| {
                Ok(tokio::spawn(ask(
                    servers_client(servers)?,
                    arguments.patients,
                    number,
                )))
            })
            .collect::<anyhow::Result<_>>()?;
        let looking = tokio::spawn(look(servers.postgres.url("views"), waiting.clone()));
        let time = Duration::from_secs(arguments.seconds);
        change(servers, arguments, &waiting, with_webhooks, time).await?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let (from_commit, from_webhook) = {
            looking.abort();
            match looking.await {
                Err(stopped) if stopped.is_cancelled() => std::mem::take(&mut *SEEN.lock().await),
                Err(panicked) => return Err(panicked.into()),
                Ok(ended) => {
                    ended?;
                    anyhow::bail!("the reader has ended")
                }
            }
        };
        for client in &asking {
            client.abort();
        }
        let missed = waiting.lock().await.len();
        let (what, times) = if with_webhooks {
            ("webhook accepted -> visible", Times::of(from_webhook))
        } else {
            (
                "HAPI's commit -> visible, without webhooks",
                Times::of(from_commit),
            )
        };
        println!(
            "-- {what}, {CHANGES} changes/s beside {CLIENTS} clients with {QUERIES} queries/s: p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms of {}; {missed} not seen",
            times.percentile(50),
            times.percentile(99),
            times.percentile(100),
            times.count()
        );
    }
    Ok(())
}

/// From commits and from webhooks.
static SEEN: Mutex<(Vec<Duration>, Vec<Duration>)> = Mutex::const_new((Vec::new(), Vec::new()));

fn servers_client(servers: &Servers) -> anyhow::Result<ServingServiceClient<Channel>> {
    let address = format!("http://{}", servers.gateway.address("grpc")?);
    Ok(ServingServiceClient::new(
        Channel::from_shared(address)?.connect_lazy(),
    ))
}

/// Half point queries, a third pages of fifty, the rest counts by gender.
async fn ask(mut client: ServingServiceClient<Channel>, patients: i64, number: u32) -> anyhow::Result<()> {
    // One after the other, not all at once.
    let begin = tokio::time::Instant::now() + Duration::from_secs(1) * number / QUERIES;
    let mut every = tokio::time::interval_at(begin, Duration::from_secs(1) * CLIENTS / QUERIES);
    let gender = || Filter {
        filter: Some(filter::Filter::Comparison(Comparison {
            column: "gender".into(),
            operator: Operator::Equal.into(),
            values: vec!["female".into()],
        })),
    };
    for turn in 0_i64.. {
        every.tick().await;
        let id = format!("p{}", (i64::from(number) * 104_729 + turn * 7_919) % patients + 1);
        let request = match turn % 6 {
            0 | 2 | 4 => point::request(&id, Layers::Merged),
            1 | 3 => QueryRequest {
                view: "patient_simple".into(),
                page_size: 50,
                ..Default::default()
            },
            _ => QueryRequest {
                view: "patient_simple".into(),
                filters: vec![gender()],
                count_only: true,
                ..Default::default()
            },
        };
        let mut parts = client.query(request).await?.into_inner();
        while parts.message().await?.is_some() {}
    }
    Ok(())
}

/// Commits a change to HAPI's tables, and delivers its webhook, so many times a second.
async fn change(
    servers: &Servers,
    arguments: &Arguments,
    waiting: &Waiting,
    with_webhooks: bool,
    time: Duration,
) -> anyhow::Result<()> {
    let mut hapi = Hapi::connect(&servers.hapi_url).await?;
    let webhook = format!("http://{}/fhir/Patient", servers.speed.address("http")?);
    let client = e2e::fhir::http_client()?;
    let mut every = tokio::time::interval(Duration::from_secs(1) / CHANGES);
    let changes = i64::try_from(time.as_secs())? * i64::from(CHANGES);
    for number in 0..changes {
        every.tick().await;
        let offset = if with_webhooks { 3 } else { 4 };
        let birth_date = format!("20{:02}-01-01", number % 100);
        let written = hapi
            .patient(number * 97 % arguments.patients + offset, &birth_date)
            .await?;
        let key = (written.id.clone(), birth_date);
        let sent = Sent {
            committed: Instant::now(),
            accepted: None,
        };
        waiting.lock().await.insert(key.clone(), sent);
        if with_webhooks {
            let answer = client
                .put(format!("{webhook}/{}", written.id))
                .header("authorization", format!("Bearer {SECRET}"))
                .header("content-type", "application/fhir+json")
                .body(written.body.to_string())
                .send()
                .await?;
            anyhow::ensure!(answer.status().is_success(), "a webhook got {}", answer.status());
            let accepted = Instant::now();
            if let Some(sent) = waiting.lock().await.get_mut(&key) {
                sent.accepted = Some(accepted);
            }
        }
    }
    Ok(())
}

/// Looks for what is waited for, all the time.
async fn look(url: String, waiting: Waiting) -> anyhow::Result<()> {
    use sqlx::Connection as _;
    let mut reader = sqlx::PgConnection::connect(&url).await?;
    loop {
        let ids: Vec<String> = waiting.lock().await.keys().map(|(id, _)| id.clone()).collect();
        if !ids.is_empty() {
            let rows = sqlx::query("SELECT id, birth_date FROM sqlonfhir.patient_simple WHERE id = ANY ($1)")
                .bind(&ids)
                .fetch_all(&mut reader)
                .await?;
            let now = Instant::now();
            let (mut waiting, mut seen) = (waiting.lock().await, SEEN.lock().await);
            for row in rows {
                if let Some(sent) = waiting.remove(&(row.try_get(0)?, row.try_get(1)?)) {
                    seen.0.push(now - sent.committed);
                    // Seen before its webhook was answered: by its reading.
                    seen.1.push(
                        sent.accepted
                            .map_or(Duration::ZERO, |accepted| now.saturating_duration_since(accepted)),
                    );
                }
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}
