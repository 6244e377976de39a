//! A gateway over a real PostgreSQL, between a speed layer and a batch layer that do as they are told.

use std::sync::Arc;

use anyhow::Context as _;
use api::proto::serving::query_response::Part;
use api::proto::serving::serving_service_client::ServingServiceClient;
use api::proto::serving::{
    Comparison, Filter, Operator, QueryFooter, QueryHeader, QueryRequest, SearchParameter, filter,
    value::Kind,
};
use chrono::{DateTime, SubsecRound as _, TimeDelta, Utc};
use daemon::admin::Readiness;
use daemon::announce::Announcement;
use daemon::grpc::GrpcServer;
use daemon::metrics::Metrics;
use daemon::{Clock as _, Context, Shutdown, SystemClock};
use e2e::deadline;
use e2e::postgres::Postgres;
use fhir_core::merge::{Mark, Position};
use fhir_core::resource::{Content, State};
use fhir_core::view::CompiledView;
use serving_gateway::{Config, DEFAULTS};
use tokio::net::TcpListener;
use tonic::transport::Channel;
use view_store::{RunKind, SliceOutcome, Staged, StoreSettings, ViewStore, evaluate};

use crate::fakes::{FakeBatch, FakeSpeed, PATIENCE};

pub const CONDITION: &str = "Condition";

pub const COLUMNS: &str = r#"
    {"name": "id", "path": "getResourceKey()"},
    {"name": "patient_id", "path": "subject.getReferenceKey(Patient)"},
    {"name": "system", "path": "code.coding.first().system"},
    {"name": "code", "path": "code.coding.first().code"},
    {"name": "label", "path": "code.text"},
    {"name": "onset", "path": "onset.ofType(dateTime)"},
    {"name": "severity", "path": "extension('urn:severity').value.ofType(decimal).first()", "type": "decimal"}"#;

/// A view over Condition.
pub fn definition(name: &str) -> String {
    format!(
        r#"{{"resourceType": "ViewDefinition", "name": "{name}", "resource": "Condition", "status": "active",
            "description": "conditions of the test", "select": [{{"column": [{COLUMNS}]}}]}}"#
    )
}

/// Now, as PostgreSQL has it: to the microsecond.
pub fn now() -> DateTime<Utc> {
    SystemClock.now().trunc_subsecs(6)
}

/// A condition of patient `p-<patient>`.
pub fn condition(id: &str, version: i64, patient: &str, code: &str, text: &str, severity: &str) -> State {
    let body = format!(
        r#"{{"resourceType":"Condition","id":"{id}","meta":{{"versionId":"{version}"}},"subject":{{"reference":"Patient/{patient}"}},
            "code":{{"coding":[{{"system":"urn:codes","code":"{code}"}}],"text":"{text}"}},"onsetDateTime":"2020-0{version}",
            "extension":[{{"url":"urn:severity","valueDecimal":{severity}}}]}}"#
    );
    State {
        id: id.into(),
        version,
        last_updated: now(),
        content: Content::Body(body.into_bytes()),
    }
}

/// A gateway that runs in this process.
pub struct Gateway {
    pub client: ServingServiceClient<Channel>,
    pub shutdown: Shutdown,
    pub metrics: Metrics,
}

pub struct Fixture {
    pub server: Postgres,
    pub url: String,
    pub owner: ViewStore,
    pub speed: FakeSpeed,
    pub batch: FakeBatch,
    pub gateway: Gateway,
    /// Where the fakes are.
    services: (String, String),
}

impl Fixture {
    /// With the view `conditions`, materialised over these states, and a gateway.
    pub async fn over(states: &[State]) -> anyhow::Result<Self> {
        Self::with_settings(states, |_| {}).await
    }

    pub async fn with_settings(states: &[State], settings: impl FnOnce(&mut Config)) -> anyhow::Result<Self> {
        let server = Postgres::start().await?;
        let url = server.create_database("views").await?;
        let owner = ViewStore::connect(StoreSettings {
            url: url.clone(),
            max_connections: 4,
            skew: TimeDelta::seconds(1),
        })
        .await?;
        owner.migrate().await?;
        put(&owner, "conditions").await?;
        join(&owner, 1, states).await?;
        let (speed, batch) = (FakeSpeed::new(), FakeBatch::default());
        let services = (
            format!("http://{}", speed.serve().await?),
            format!("http://{}", batch.serve().await?),
        );
        let gateway = gateway(&url, &services, settings).await?;
        Ok(Self {
            server,
            url,
            owner,
            speed,
            batch,
            gateway,
            services,
        })
    }

    /// A further gateway over the same database.
    pub async fn another(&self) -> anyhow::Result<Gateway> {
        gateway(&self.url, &self.services, |_| {}).await
    }

    pub async fn ask(&self, request: QueryRequest) -> Result<Answer, tonic::Status> {
        self.gateway.ask(request).await
    }

    /// Asks until the ids are these.
    pub async fn until_ids(&self, expected: &[&str]) -> anyhow::Result<Answer> {
        deadline::until("the rows are visible", PATIENCE, || async {
            let answer = self.ask(all()).await.ok()?;
            (answer.ids() == expected).then_some(answer)
        })
        .await
    }
}

impl Gateway {
    pub async fn ask(&self, request: impl tonic::IntoRequest<QueryRequest>) -> Result<Answer, tonic::Status> {
        let mut stream = self.client.clone().query(request).await?.into_inner();
        let mut answer = Answer::default();
        while let Some(message) = stream.message().await? {
            match message.part {
                Some(Part::Header(header)) => answer.header = header,
                Some(Part::Rows(batch)) => answer.rows.extend(
                    batch
                        .rows
                        .into_iter()
                        .map(|row| row.values.into_iter().map(|value| value.kind).collect::<Vec<_>>()),
                ),
                Some(Part::Footer(footer)) => answer.footer = Some(footer),
                None => {}
            }
        }
        Ok(answer)
    }
}

/// A whole answer.
#[derive(Debug, Default)]
pub struct Answer {
    pub header: QueryHeader,
    pub rows: Vec<Vec<Option<Kind>>>,
    pub footer: Option<QueryFooter>,
}

impl Answer {
    /// The first column, sorted.
    pub fn ids(&self) -> Vec<String> {
        let mut ids: Vec<String> = self.in_order();
        ids.sort();
        ids
    }

    /// The first column as the answer has it.
    pub fn in_order(&self) -> Vec<String> {
        let text = |row: &Vec<Option<Kind>>| match row.first() {
            Some(Some(Kind::Text(text))) => text.clone(),
            other => format!("{other:?}"),
        };
        self.rows.iter().map(text).collect()
    }

    pub fn footer(&self) -> QueryFooter {
        self.footer.clone().expect("an answer ends with its footer")
    }

    pub fn freshness(&self) -> api::proto::serving::Freshness {
        self.header
            .freshness
            .clone()
            .expect("an answer begins with its freshness")
    }

    /// The reasons for which it is less than it could be.
    pub fn degradations(&self) -> Vec<api::proto::serving::DegradationReason> {
        self.freshness()
            .degradations
            .iter()
            .map(api::proto::serving::Degradation::reason)
            .collect()
    }
}

pub fn all() -> QueryRequest {
    QueryRequest {
        view: "conditions".into(),
        ..Default::default()
    }
}

pub fn compare(column: &str, operator: Operator, values: &[&str]) -> Filter {
    let values = values.iter().map(ToString::to_string).collect();
    let comparison = Comparison {
        column: column.into(),
        operator: operator.into(),
        values,
    };
    Filter {
        filter: Some(filter::Filter::Comparison(comparison)),
    }
}

pub fn search(name: &str, modifier: &str, values: &[&str]) -> SearchParameter {
    let values = values.iter().map(ToString::to_string).collect();
    SearchParameter {
        name: name.into(),
        modifier: modifier.into(),
        values,
    }
}

pub async fn put(owner: &ViewStore, name: &str) -> anyhow::Result<()> {
    let text = definition(name);
    owner
        .put_view(&CompiledView::from_json(&text)?, &text, false)
        .await?;
    Ok(())
}

/// Materialises what waits, at reading `n`.
pub async fn join(owner: &ViewStore, n: i64, states: &[State]) -> anyhow::Result<()> {
    let mut run = owner
        .begin_run(CONDITION, RunKind::Join)
        .await?
        .context("the type is free")?;
    let evaluated: Vec<_> = states.iter().map(|state| evaluate(run.views(), state)).collect();
    run.stage(&evaluated, Staged::Loaded).await?;
    run.lock_for_join().await?;
    run.stage_gone(now()).await?;
    anyhow::ensure!(
        run.join(&position(n)).await? == SliceOutcome::Finished,
        "the run joins"
    );
    Ok(run.end().await?)
}

/// A finished reading, some seconds ago.
fn position(n: i64) -> Position {
    let as_of = now() - TimeDelta::seconds(10);
    Position {
        n,
        as_of,
        bound: as_of,
        xmin: 700,
        timeline: "7001/1".into(),
    }
}

pub fn mark(n: i64) -> Mark {
    Mark { n, as_of: now() }
}

async fn gateway(
    url: &str,
    services: &(String, String),
    settings: impl FnOnce(&mut Config),
) -> anyhow::Result<Gateway> {
    let mut config: Config = daemon::config::load(DEFAULTS, None, "RF_SERVING_OF_A_TEST")?;
    config.views.url = daemon::Secret::new(url);
    (config.services.speed, config.services.batch) = services.clone();
    config.views.max_connections = 8;
    config.views.merge_connections = 2;
    settings(&mut config);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (shutdown, metrics, readiness) = (Shutdown::new(), Metrics::new(), Readiness::default());
    serving_gateway::run(Context {
        config,
        shutdown: shutdown.clone(),
        metrics: metrics.clone(),
        readiness: readiness.clone(),
        clock: Arc::new(SystemClock),
        grpc: GrpcServer {
            listener,
            reflection: true,
            readiness,
        },
        announcement: Announcement::new(None),
    })
    .await?;
    let client = ServingServiceClient::connect(format!("http://{address}")).await?;
    Ok(Gateway {
        client,
        shutdown,
        metrics,
    })
}
