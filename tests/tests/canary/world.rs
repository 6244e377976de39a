//! The three daemons, who say as much as an operator can make them say, between a collector and a HAPI that fails.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use api::proto::{
    batch::{GetStatusRequest as BatchStatus, ListViewsRequest as BatchViews},
    serving::{
        DescribeViewRequest, GetStatisticsRequest, ListViewsRequest, QueryRequest, query_response::Part,
        serving_service_client::ServingServiceClient,
    },
    speed::{GetStatusRequest as SpeedStatus, speed_service_client::SpeedServiceClient},
};
use axum::{Router, http::StatusCode};
use e2e::{
    ask::{channel, rows_of, text},
    collector::Collector,
    house::{House, versions_of, view_of},
    process::Daemon,
};
use serde_json::{Value, json};
use tonic::{Status, transport::Channel};

use crate::planted::Canary;

/// All of it, and what was said so far.
pub(crate) struct World {
    pub(crate) house: House,
    pub(crate) speed: Daemon,
    pub(crate) serving: Daemon,
    pub(crate) collector: Collector,
    pub(crate) redis: redis::aio::MultiplexedConnection,
    said: Vec<(String, Vec<u8>)>,
}

/// What is logged: another level to look for more, such as `trace`.
fn level() -> String {
    std::env::var("CANARY_LOG").unwrap_or_else(|_| "trace".to_owned())
}

fn views() -> Vec<Value> {
    let patient = [
        ("gender", "gender"),
        ("family", "name.first().family"),
        ("line", "address.first().line.first()"),
        ("birth_date", "birthDate"),
    ];
    let mut condition = versions_of("Condition", &[("patient_id", "subject.getReferenceKey(Patient)")]);
    // A text in a column of numbers: it cannot be evaluated.
    let number =
        json!({"name": "count", "path": "code.text", "tag": [{"name": "ansi/type", "value": "INTEGER"}]});
    let code = json!({"name": "code", "path": "code.coding.first().code"});
    if let Some(columns) = condition["select"][0]["column"].as_array_mut() {
        columns.extend([number, code]);
    }
    vec![versions_of("Patient", &patient), condition]
}

/// A HAPI that answers with errors, with what is no Subscription and with what is no JSON, in turn, and says what nobody should repeat.
async fn failing_hapi() -> anyhow::Result<String> {
    let asked = Arc::new(AtomicUsize::new(0));
    let answer = move || {
        let turn = asked.fetch_add(1, Ordering::Relaxed);
        async move {
            let planted = Canary::Hapi.text();
            let outcome = json!({"resourceType": "OperationOutcome", "issue": [{"code": planted, "diagnostics": planted}]});
            let subscription = json!({"resourceType": "Subscription", "status": planted, "error": planted});
            let (status, body) = match turn % 4 {
                0 => (StatusCode::INTERNAL_SERVER_ERROR, outcome.to_string()),
                1 => (StatusCode::OK, subscription.to_string()),
                2 => (StatusCode::BAD_REQUEST, outcome.to_string()),
                _ => (StatusCode::OK, planted),
            };
            (status, [("x-planted", Canary::Header.text())], body)
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(axum::serve(listener, Router::new().fallback(answer)).into_future());
    Ok(format!("http://{address}/fhir"))
}

/// A URL with the secret as its password.
fn with_password(url: &str) -> String {
    let secret = Canary::Secret.text();
    match url.split_once('@') {
        Some((user, rest)) => format!("{user}:{secret}@{rest}"),
        None => url.replacen("redis://", &format!("redis://:{secret}@"), 1),
    }
}

impl World {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let collector = Collector::start().await?;
        let house = House::start(&views(), "").await?;
        let hapi = failing_hapi().await?;
        let speed = format!(
            "[hapi]\nurl = \"{hapi}\"\nauthorization = \"Bearer {}\"\ncheck_seconds = 1\n",
            Canary::Secret.text()
        );
        let speed = house.speed(&speed).await?;
        let serving = house.serving(&speed).await?;
        let plain = house.redis.url();
        let redis = redis::Client::open(plain.as_str())?
            .get_multiplexed_async_connection()
            .await?;
        let mut this = Self {
            house,
            speed,
            serving,
            collector,
            redis,
            said: Vec::new(),
        };
        this.ask_redis(&["CONFIG", "SET", "requirepass", &Canary::Secret.text()])
            .await?;
        this.set_all(&with_password(&plain)).await?;
        Ok(this)
    }

    /// Starts the daemons again: with passwords, spans, and all that can be logged.
    async fn set_all(&mut self, redis: &str) -> anyhow::Result<()> {
        let (endpoint, level) = (self.collector.endpoint(), level());
        let views = with_password(&self.house.views_url);
        let daemons = [
            ("RF_BATCH", &mut self.house.batch),
            ("RF_SPEED", &mut self.speed),
            ("RF_SERVING", &mut self.serving),
        ];
        for (prefix, daemon) in daemons {
            let name = |key: &str| format!("{prefix}__{key}");
            let mut variables = HashMap::from([
                (name("DAEMON__TRACING__OTLP_ENDPOINT"), endpoint.as_str()),
                (name("DAEMON__LOG"), level.as_str()),
            ]);
            match prefix {
                "RF_SPEED" => {
                    variables.insert(name("REDIS__URL"), redis);
                    variables.insert(name("DAEMON__LOG_FORMAT"), "json");
                    // Small, so that a body can be too large.
                    variables.insert(name("WEBHOOK__MAX_BODY_BYTES"), "65536");
                }
                _ => {
                    variables.insert(name("VIEWS__URL"), &views);
                }
            }
            let variables: Vec<(&str, &str)> = variables
                .iter()
                .map(|(name, value)| (name.as_str(), *value))
                .collect();
            daemon.restart_with(&variables).await?;
        }
        Ok(())
    }

    /// A command of Redis.
    pub(crate) async fn ask_redis(&mut self, command: &[&str]) -> anyhow::Result<redis::Value> {
        let mut asked = redis::cmd(command[0]);
        for argument in &command[1..] {
            asked.arg(*argument);
        }
        Ok(asked.query_async(&mut self.redis).await?)
    }

    pub(crate) async fn serving(&self) -> anyhow::Result<ServingServiceClient<Channel>> {
        Ok(ServingServiceClient::new(
            channel(&self.serving.address("grpc")?).await?,
        ))
    }

    pub(crate) async fn speed(&self) -> anyhow::Result<SpeedServiceClient<Channel>> {
        Ok(SpeedServiceClient::new(
            channel(&self.speed.address("grpc")?).await?,
        ))
    }

    /// Keeps what was said, to be searched.
    pub(crate) fn keep(&mut self, what: impl Into<String>, text: impl Into<Vec<u8>>) {
        self.said.push((what.into(), text.into()));
    }

    /// Keeps an error of gRPC, if it is one, with its details and its metadata.
    pub(crate) fn keep_status<T>(&mut self, what: &str, result: Result<T, Status>) {
        if let Err(status) = result {
            let mut text = format!("{status:?} {}", status.message()).into_bytes();
            text.extend_from_slice(status.details());
            self.keep(format!("error of {what}"), text);
        }
    }

    /// Keeps an answer over HTTP: its head, and its body where it is an error.
    pub(crate) async fn keep_answer(
        &mut self,
        what: &str,
        request: reqwest::RequestBuilder,
    ) -> anyhow::Result<u16> {
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) if error.is_builder() => return Err(error.into()),
            // Closed in the middle: nothing was said.
            Err(_) => return Ok(0),
        };
        let (status, head) = (answer.status(), format!("{:?}", answer.headers()));
        let body = answer.text().await.unwrap_or_default();
        let body = if status.is_success() { String::new() } else { body };
        let kind = if status.is_success() { "answer" } else { "error" };
        self.keep(format!("{kind} {status} of {what}"), format!("{head}\n{body}"));
        Ok(status.as_u16())
    }

    /// The rows of an answer as text.
    pub(crate) async fn rows(&self, request: QueryRequest) -> anyhow::Result<String> {
        let mut answer = self.serving().await?.query(request).await?.into_inner();
        let mut rows = String::new();
        while let Some(message) = answer.message().await? {
            if let Some(Part::Rows(batch)) = message.part {
                for row in rows_of(&batch)? {
                    rows.extend(row.values.iter().map(|value| text(value) + "\t"));
                }
            }
        }
        Ok(rows)
    }

    /// All that was said beside answers.
    pub(crate) async fn said(&mut self) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
        let batch = self.house.operator().await?.client;
        let mut serving = self.serving().await?;
        let mut status = vec![
            format!("{:?}", batch.clone().get_status(BatchStatus {}).await?),
            format!("{:?}", batch.clone().list_views(BatchViews {}).await?),
            format!("{:?}", self.speed().await?.get_status(SpeedStatus {}).await?),
            format!("{:?}", serving.get_statistics(GetStatisticsRequest {}).await?),
            format!("{:?}", serving.list_views(ListViewsRequest {}).await?),
        ];
        for view in ["Patient", "Condition"].map(view_of) {
            status.push(format!(
                "{:?}",
                serving.describe_view(DescribeViewRequest { view }).await?
            ));
        }
        for text in status {
            self.keep("status", text);
        }
        let letters = self.ask_redis(&["XRANGE", "fhir:dead", "-", "+"]).await?;
        self.keep("dead letters", format!("{letters:?}"));
        let spans = self.collector.bytes();
        self.keep("spans", spans);
        let mut logs = Vec::new();
        for (name, daemon) in [
            ("batch-refresher", &self.house.batch),
            ("speed-ingestor", &self.speed),
            ("serving-gateway", &self.serving),
        ] {
            logs.push((format!("log of {name}"), daemon.log()));
            logs.push((format!("metrics of {name}"), daemon.metrics().await?));
        }
        for (what, text) in logs {
            self.keep(what, text);
        }
        Ok(std::mem::take(&mut self.said))
    }
}
