//! The three daemons over HAPI's tables, with a collector.

use std::sync::atomic::{AtomicU64, Ordering};

use api::proto::serving::{SqlRequest, query_response::Part, serving_service_client::ServingServiceClient};
use e2e::{
    ask::{all_of, channel},
    fhir::http_client,
    house::{House, SECRET, versions_of, view_of},
    process::Daemon,
    tables,
};
use serde_json::json;
use tonic::{Request, Status, transport::Channel};

/// All three, and what they stand on.
pub(crate) struct World {
    pub(crate) house: House,
    pub(crate) speed: Daemon,
    pub(crate) serving: Daemon,
}

/// The daemons' prefixes of variables.
const PREFIXES: [&str; 3] = ["RF_BATCH", "RF_SPEED", "RF_SERVING"];

/// A caller's place in a trace, that is like no other.
pub(crate) struct Caller {
    pub(crate) trace: String,
    pub(crate) span: String,
    sampled: bool,
}

impl Caller {
    pub(crate) fn new(sampled: bool) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self {
            trace: format!("4bf92f3577b34da6{number:016x}"),
            span: format!("00f067aa{number:08x}"),
            sampled,
        }
    }

    pub(crate) fn header(&self) -> String {
        format!("00-{}-{}-0{}", self.trace, self.span, u8::from(self.sampled))
    }
}

impl World {
    /// With two views over an empty HAPI; these settings (`DAEMON__TRACING__…`, without the prefix) are of each daemon.
    pub(crate) async fn start(settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        let views = [
            versions_of("Patient", &[("gender", "gender")]),
            versions_of("Condition", &[]),
        ];
        let house = House::start(&views, "").await?;
        tables::write_patient(&house.hapi, "a", "female").await?;
        let speed = house.speed("").await?;
        let serving = house.serving(&speed).await?;
        let mut this = Self {
            house,
            speed,
            serving,
        };
        this.set(settings).await?;
        Ok(this)
    }

    /// Starts all of them again with other settings.
    pub(crate) async fn set(&mut self, settings: &[(&str, &str)]) -> anyhow::Result<()> {
        let daemons = [&mut self.house.batch, &mut self.speed, &mut self.serving];
        for (daemon, prefix) in daemons.into_iter().zip(PREFIXES) {
            set(daemon, prefix, settings).await?;
        }
        Ok(())
    }

    /// The gateway alone.
    pub(crate) async fn set_gateway(&mut self, settings: &[(&str, &str)]) -> anyhow::Result<()> {
        set(&mut self.serving, PREFIXES[2], settings).await
    }

    pub(crate) async fn client(&self) -> anyhow::Result<ServingServiceClient<Channel>> {
        let channel = channel(&self.serving.address("grpc")?).await?;
        Ok(ServingServiceClient::new(channel))
    }

    /// A question over a view, to its end.
    pub(crate) async fn query(&self, caller: Option<&Caller>) -> anyhow::Result<()> {
        let request = with_trace(all_of(&view_of("Patient")), caller)?;
        let mut answer = self.client().await?.query(request).await?.into_inner();
        let mut last = None;
        while let Some(message) = answer.message().await? {
            last = message.part;
        }
        anyhow::ensure!(
            matches!(last, Some(Part::Footer(_))),
            "an answer ends with its footer"
        );
        Ok(())
    }

    /// A statement, to its end.
    pub(crate) async fn sql(&self, caller: &Caller, statement: &str) -> Result<(), Status> {
        let request = SqlRequest {
            statement: statement.into(),
            ..SqlRequest::default()
        };
        let request =
            with_trace(request, Some(caller)).map_err(|error| Status::internal(error.to_string()))?;
        let client = self.client().await;
        let mut client = client.map_err(|error| Status::internal(error.to_string()))?;
        let mut answer = client.sql(request).await?.into_inner();
        while answer.message().await?.is_some() {}
        Ok(())
    }

    /// A request that the gateway can answer from HAPI's tables alone: the view has no patients.
    pub(crate) fn run_over_hapi(&self, caller: &Caller) -> anyhow::Result<reqwest::RequestBuilder> {
        let url = format!(
            "http://{}/ViewDefinition/{}/$viewdefinition-run?patient=Patient/a&_format=ndjson",
            self.serving.address("http")?,
            view_of("Condition").replace('_', "-")
        );
        Ok(http_client()?.get(url).header("traceparent", caller.header()))
    }

    /// A webhook that brings a version of a patient, which is answered with 200.
    pub(crate) async fn webhook(
        &self,
        id: &str,
        version: i64,
        caller: Option<&Caller>,
    ) -> anyhow::Result<String> {
        let body = json!({"resourceType": "Patient", "id": id, "gender": "female",
            "meta": {"versionId": version.to_string(), "lastUpdated": "2090-01-01T00:00:00.000+00:00"}});
        let mut request = http_client()?
            .put(format!(
                "http://{}/fhir/Patient/{id}",
                self.speed.address("http")?
            ))
            .header("authorization", format!("Bearer {SECRET}"))
            .header("content-type", "application/fhir+json")
            .body(body.to_string());
        if let Some(caller) = caller {
            request = request.header("traceparent", caller.header());
        }
        let answer = request.send().await?.error_for_status()?;
        let id = answer.headers().get("x-request-id");
        Ok(id.and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned())
    }
}

async fn set(daemon: &mut Daemon, prefix: &str, settings: &[(&str, &str)]) -> anyhow::Result<()> {
    let variables: Vec<(String, &str)> = settings
        .iter()
        .map(|(key, value)| (format!("{prefix}__{key}"), *value))
        .collect();
    let variables: Vec<(&str, &str)> = variables
        .iter()
        .map(|(name, value)| (name.as_str(), *value))
        .collect();
    daemon.restart_with(&variables).await
}

/// A request with a caller's trace, and an id.
pub(crate) fn with_trace<T>(message: T, caller: Option<&Caller>) -> anyhow::Result<Request<T>> {
    let mut request = Request::new(message);
    if let Some(caller) = caller {
        request
            .metadata_mut()
            .insert("traceparent", caller.header().parse()?);
        let id = format!("id-{}", caller.span);
        request.metadata_mut().insert("x-request-id", id.parse()?);
    }
    Ok(request)
}

/// The settings with which spans go to a collector.
pub(crate) fn exported_to(endpoint: &str) -> [(&'static str, &str); 1] {
    [("DAEMON__TRACING__OTLP_ENDPOINT", endpoint)]
}
