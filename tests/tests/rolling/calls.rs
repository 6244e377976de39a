//! Callers of all kinds, who ask without a pause to speak of and count what fails. A call of gRPC that was never sent is made again, as docs/grpc.md has it.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use api::proto::{
    batch::{GetStatusRequest, RunViewRequest, run_view_request::View},
    serving::SqlRequest,
    speed::{ScanRecentResourcesRequest, speed_service_client::SpeedServiceClient},
};
use daemon::grpc::sent;
use e2e::{
    ask::{Asker, channel, count_of, rows_where},
    fhir::http_client,
    house::versions_of,
    operate::Operator,
};
use serde_json::json;
use tokio::task::JoinSet;
use tonic::Status;

use crate::layer::Layer;

/// The view that is asked for.
pub(crate) const VIEW: &str = "patient_versions";
/// Between two calls of one caller.
const PAUSE: Duration = Duration::from_millis(4);
/// Over the same connection now and then, so that it is idle in between: when it is closed, nobody is told.
const THOUGHT: Duration = Duration::from_millis(37);

/// What callers have met with.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    made: BTreeMap<&'static str, u64>,
    pub(crate) failures: Vec<String>,
}

impl Calls {
    /// Of the kind of calls that was made least often, how many.
    pub(crate) fn least(&self) -> u64 {
        self.made.values().copied().min().unwrap_or_default()
    }
}

impl fmt::Display for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "calls {:?}, {} failed", self.made, self.failures.len())
    }
}

/// Whoever asks.
pub(crate) struct Callers {
    stop: Arc<AtomicBool>,
    calls: Arc<Mutex<Calls>>,
    tasks: JoinSet<()>,
}

impl Callers {
    pub(crate) async fn start(serving: &Layer, batch: &str, speed: &str) -> anyhow::Result<Self> {
        let mut this = Self {
            stop: Arc::default(),
            calls: Arc::default(),
            tasks: JoinSet::new(),
        };
        let (grpc, http) = (serving.address("grpc")?, serving.address("http")?);
        this.ask_by_grpc(&grpc).await?;
        this.ask_by_http(&http)?;
        this.ask_other_layers(batch, speed).await?;
        Ok(this)
    }

    /// Goes on for a while, and stops.
    pub(crate) async fn stop_after(mut self, span: Duration) -> Calls {
        tokio::time::sleep(span).await;
        self.stop.store(true, Ordering::Relaxed);
        while self.tasks.join_next().await.is_some() {}
        std::mem::take(&mut *self.calls.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// One call after the other, each answered or a failure.
    fn repeat<F, Fut, E>(&mut self, what: &'static str, pause: Duration, mut call: F)
    where
        F: FnMut() -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), E>> + Send,
        E: fmt::Display + Send,
    {
        let (stop, calls) = (self.stop.clone(), self.calls.clone());
        self.tasks.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let failed = call().await.err().map(|error| format!("{what}: {error:#}"));
                {
                    let mut calls = calls.lock().unwrap_or_else(PoisonError::into_inner);
                    *calls.made.entry(what).or_default() += 1;
                    calls.failures.extend(failed);
                }
                tokio::time::sleep(pause).await;
            }
        });
    }

    async fn ask_by_grpc(&mut self, address: &str) -> anyhow::Result<()> {
        for _ in 0..2 {
            let asker = Asker::connect(address).await?;
            self.repeat("Query", PAUSE, move || {
                let asker = asker.clone();
                async move { sent(|| asker.ask(rows_where(VIEW, "id", "w0-1"))).await.map(drop) }
            });
        }
        let asker = Asker::connect(address).await?;
        self.repeat("Query that counts", THOUGHT, move || {
            let asker = asker.clone();
            async move { sent(|| asker.ask(count_of(VIEW))).await.map(drop) }
        });
        // It takes some time until its first row is there: a stop finds it under way.
        let asker = Asker::connect(address).await?;
        self.repeat("Sql", PAUSE, move || {
            let client = asker.client.clone();
            async move {
                let statement = format!("SELECT count(*) FROM {VIEW} a, {VIEW} b, {VIEW} c");
                let request = SqlRequest {
                    statement,
                    ..SqlRequest::default()
                };
                let mut answer = sent(|| {
                    let (mut client, request) = (client.clone(), request.clone());
                    async move { client.sql(request).await }
                })
                .await?
                .into_inner();
                while answer.message().await?.is_some() {}
                Ok::<_, Status>(())
            }
        });
        // A connection for each call.
        let address = address.to_owned();
        self.repeat("Query over a new connection", PAUSE, move || {
            let address = address.clone();
            async move {
                let asker = Asker::connect(&address).await?;
                asker.ask(rows_where(VIEW, "id", "w1-1")).await?;
                anyhow::Ok(())
            }
        });
        Ok(())
    }

    fn ask_by_http(&mut self, address: &str) -> anyhow::Result<()> {
        let rows =
            format!("http://{address}/$sql-run?subjectReference=ViewDefinition/patient-versions&_limit=5");
        for (what, pause) in [("$sql-run", PAUSE), ("$sql-run after a thought", THOUGHT)] {
            let (client, rows) = (http_client()?, rows.clone());
            self.repeat(what, pause, move || {
                let asked = client.get(&rows);
                async move {
                    let answer = asked.send().await?.error_for_status()?;
                    answer.bytes().await?;
                    anyhow::Ok(())
                }
            });
        }
        // Not materialised: through the gateway from the batch layer.
        let client = http_client()?;
        let given = json!({"resourceType": "Parameters", "parameter": [{"name": "subjectResource", "resource": versions_of("Patient", &[("active", "active")])}]});
        let (url, given) = (format!("http://{address}/$sql-run"), given.to_string());
        self.repeat("$sql-run of a definition", PAUSE, move || {
            let asked = client
                .post(&url)
                .header("content-type", "application/fhir+json")
                .body(given.clone());
            async move {
                let answer = asked.send().await?;
                let status = answer.status();
                let text = answer.text().await?;
                anyhow::ensure!(status.is_success(), "{status} {text}");
                anyhow::Ok(())
            }
        });
        Ok(())
    }

    async fn ask_other_layers(&mut self, batch: &str, speed: &str) -> anyhow::Result<()> {
        let client = Operator::connect(batch).await?.client;
        let views = client.clone();
        self.repeat("BatchService/GetStatus", PAUSE, move || {
            let client = views.clone();
            async move {
                sent(|| {
                    let (mut client, asked) = (client.clone(), GetStatusRequest {});
                    async move { client.get_status(asked).await }
                })
                .await
                .map(drop)
            }
        });
        self.repeat("BatchService/RunView", PAUSE, move || {
            let client = client.clone();
            async move {
                let asked = RunViewRequest {
                    view: Some(View::Name(VIEW.to_owned())),
                    ..RunViewRequest::default()
                };
                let mut rows = sent(|| {
                    let (mut client, asked) = (client.clone(), asked.clone());
                    async move { client.run_view(asked).await }
                })
                .await?
                .into_inner();
                while rows.message().await?.is_some() {}
                Ok::<_, Status>(())
            }
        });
        let client = SpeedServiceClient::new(channel(speed).await?);
        self.repeat("SpeedService/ScanRecentResources", PAUSE, move || {
            let client = client.clone();
            async move {
                let asked = ScanRecentResourcesRequest {
                    resource_type: "Patient".to_owned(),
                    ..ScanRecentResourcesRequest::default()
                };
                let mut found = sent(|| {
                    let (mut client, asked) = (client.clone(), asked.clone());
                    async move { client.scan_recent_resources(asked).await }
                })
                .await?
                .into_inner();
                while found.message().await?.is_some() {}
                Ok::<_, Status>(())
            }
        });
        Ok(())
    }
}
