//! A gateway over a real PostgreSQL, between a speed layer and a batch layer that do as they are told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

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
use daemon::tls::{Acceptor, Tls};
use daemon::{Clock as _, Context, Shutdown, SystemClock};
use e2e::ask::rows_of;
use e2e::deadline;
use e2e::postgres::{Postgres, Settings};
use e2e::staged::load;
use fhir_core::merge::{Mark, Position};
use fhir_core::resource::{Content, State};
use fhir_core::view::CompiledView;
use serving_gateway::{Config, DEFAULTS};
use tokio::net::TcpListener;
use tokio::sync::OnceCell;
use tonic::transport::Channel;
use view_store::{RunKind, SliceOutcome, StoreSettings, ViewStore};

use crate::fakes::{FakeBatch, FakeSpeed, PATIENCE};

pub(crate) const CONDITION: &str = "Condition";

pub(crate) const COLUMNS: &str = r#"
    {"name": "id", "path": "getResourceKey()"},
    {"name": "patient_id", "path": "subject.getReferenceKey(Patient)"},
    {"name": "system", "path": "code.coding.first().system"},
    {"name": "code", "path": "code.coding.first().code"},
    {"name": "label", "path": "code.text"},
    {"name": "onset", "path": "onset.ofType(dateTime)"},
    {"name": "severity", "path": "extension('urn:severity').value.ofType(decimal).first()", "type": "decimal"}"#;

/// A view over Condition.
pub(crate) fn definition(name: &str) -> String {
    format!(
        r#"{{"resourceType": "ViewDefinition", "name": "{name}", "resource": "Condition", "status": "active",
            "description": "conditions of the test", "select": [{{"column": [{COLUMNS}]}}]}}"#
    )
}

/// Now, as PostgreSQL has it: to the microsecond.
pub(crate) fn now() -> DateTime<Utc> {
    SystemClock.now().trunc_subsecs(6)
}

/// A condition of patient `p-<patient>`.
pub(crate) fn condition(
    id: &str,
    version: i64,
    patient: &str,
    code: &str,
    text: &str,
    severity: &str,
) -> State {
    let body = format!(
        r#"{{"resourceType":"Condition","id":"{id}","meta":{{"versionId":"{version}"}},"subject":{{"reference":"Patient/{patient}"}},
            "code":{{"coding":[{{"system":"urn:codes","code":"{code}"}}],"text":"{text}"}},"onsetDateTime":"2020-0{version}",
            "extension":[{{"url":"urn:severity","valueDecimal":{severity}}}]}}"#
    );
    State {
        id: id.into(),
        version,
        // Two that are made within a microsecond are in the order of their versions, too.
        last_updated: now() + TimeDelta::microseconds(version * 10),
        content: Content::Body(body.into_bytes()),
    }
}

pub(crate) fn three() -> Vec<State> {
    vec![
        condition("c-1", 1, "p-1", "100", "Diabetes mellitus", "1.50"),
        condition("c-2", 2, "p-1", "200", "Asthma", "10"),
        condition("c-3", 3, "p-2", "100", "Gestational diabetes", "2.0"),
    ]
}

/// A gateway that runs in this process.
pub(crate) struct Gateway {
    pub(crate) client: ServingServiceClient<Channel>,
    pub(crate) shutdown: Shutdown,
    pub(crate) metrics: Metrics,
    pub(crate) readiness: Readiness,
    /// Base URL of its HTTP.
    pub(crate) http: String,
    /// Of its gRPC.
    pub(crate) address: String,
}

/// One PostgreSQL for all tests that do not harm it: a database for each.
static SHARED: OnceCell<Postgres> = OnceCell::const_new();
static DATABASES: AtomicU32 = AtomicU32::new(0);

pub(crate) struct Fixture {
    /// As the gateway.
    pub(crate) url: String,
    /// As the owner.
    pub(crate) owner_url: String,
    pub(crate) owner: ViewStore,
    pub(crate) speed: FakeSpeed,
    pub(crate) batch: FakeBatch,
    pub(crate) gateway: Gateway,
    /// Where the fakes are.
    pub(crate) services: (String, String),
}

/// A PostgreSQL on which the gateway has its least rights.
pub(crate) async fn server() -> anyhow::Result<Postgres> {
    server_with(Settings::default()).await
}

pub(crate) async fn server_with(settings: Settings) -> anyhow::Result<Postgres> {
    let server = Postgres::start_with(settings).await?;
    let roles = "CREATE ROLE researchflow_merger NOLOGIN; CREATE ROLE researchflow_reader NOLOGIN; \
                 CREATE ROLE gateway LOGIN IN ROLE researchflow_merger";
    server.execute("postgres", roles).await?;
    Ok(server)
}

impl Fixture {
    /// With the view `conditions`, materialised over these states, and a gateway.
    pub(crate) async fn over(states: &[State]) -> anyhow::Result<Self> {
        Self::with_settings(states, |_| {}).await
    }

    pub(crate) async fn with_settings(
        states: &[State],
        settings: impl FnOnce(&mut Config),
    ) -> anyhow::Result<Self> {
        let server = SHARED.get_or_try_init(server).await?;
        Box::pin(Self::on(server, states, settings)).await
    }

    /// On a server of the test's own.
    pub(crate) async fn on(
        server: &Postgres,
        states: &[State],
        settings: impl FnOnce(&mut Config),
    ) -> anyhow::Result<Self> {
        let name = format!("views_{}", DATABASES.fetch_add(1, Ordering::Relaxed));
        let owner_url = server.create_database(&name).await?;
        Box::pin(Self::on_database(server, &name, &owner_url, states, settings)).await
    }

    /// In a database that is there and empty.
    pub(crate) async fn on_database(
        server: &Postgres,
        name: &str,
        owner_url: &str,
        states: &[State],
        settings: impl FnOnce(&mut Config),
    ) -> anyhow::Result<Self> {
        let owner_url = owner_url.to_owned();
        let owner = ViewStore::connect(StoreSettings {
            url: owner_url.clone(),
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
        let url = server.url_as("gateway", "", name);
        let gateway = gateway(&url, &services, settings).await?;
        Ok(Self {
            url,
            owner_url,
            owner,
            speed,
            batch,
            gateway,
            services,
        })
    }

    /// A further gateway over the same database.
    pub(crate) async fn another(&self) -> anyhow::Result<Gateway> {
        self.another_with(|_| {}).await
    }

    pub(crate) async fn another_with(&self, settings: impl FnOnce(&mut Config)) -> anyhow::Result<Gateway> {
        Box::pin(gateway(&self.url, &self.services, settings)).await
    }

    pub(crate) async fn ask(&self, request: QueryRequest) -> Result<Answer, tonic::Status> {
        self.gateway.ask(request).await
    }

    /// Asks until the ids are these.
    pub(crate) async fn until_ids(&self, expected: &[&str]) -> anyhow::Result<Answer> {
        deadline::until("the rows are visible", PATIENCE, || async {
            let answer = self.ask(all()).await.ok()?;
            (answer.ids() == expected).then_some(answer)
        })
        .await
    }
}

impl Gateway {
    pub(crate) async fn ask(
        &self,
        request: impl tonic::IntoRequest<QueryRequest>,
    ) -> Result<Answer, tonic::Status> {
        let mut stream = self.client.clone().query(request).await?.into_inner();
        let mut answer = Answer::default();
        while let Some(message) = stream.message().await? {
            match message.part {
                Some(Part::Header(header)) => answer.header = header,
                Some(Part::Rows(batch)) => answer.rows.extend(
                    rows_of(&batch)?
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
pub(crate) struct Answer {
    pub(crate) header: QueryHeader,
    pub(crate) rows: Vec<Vec<Option<Kind>>>,
    pub(crate) footer: Option<QueryFooter>,
}

impl Answer {
    /// The first column, sorted.
    pub(crate) fn ids(&self) -> Vec<String> {
        let mut ids: Vec<String> = self.in_order();
        ids.sort();
        ids
    }

    /// The first column as the answer has it.
    pub(crate) fn in_order(&self) -> Vec<String> {
        let text = |row: &Vec<Option<Kind>>| match row.first() {
            Some(Some(Kind::Text(text))) => text.clone(),
            other => format!("{other:?}"),
        };
        self.rows.iter().map(text).collect()
    }

    pub(crate) fn footer(&self) -> QueryFooter {
        self.footer.clone().expect("an answer ends with its footer")
    }

    pub(crate) fn freshness(&self) -> api::proto::serving::Freshness {
        self.header
            .freshness
            .clone()
            .expect("an answer begins with its freshness")
    }

    /// The reasons for which it is less than it could be.
    pub(crate) fn degradations(&self) -> Vec<api::proto::serving::DegradationReason> {
        self.freshness()
            .degradations
            .iter()
            .map(api::proto::serving::Degradation::reason)
            .collect()
    }
}

pub(crate) fn all() -> QueryRequest {
    QueryRequest {
        view: "conditions".into(),
        ..Default::default()
    }
}

pub(crate) fn compare(column: &str, operator: Operator, values: &[&str]) -> Filter {
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

pub(crate) fn search(name: &str, modifier: &str, values: &[&str]) -> SearchParameter {
    let values = values.iter().map(ToString::to_string).collect();
    SearchParameter {
        name: name.into(),
        modifier: modifier.into(),
        values,
    }
}

pub(crate) async fn put(owner: &ViewStore, name: &str) -> anyhow::Result<()> {
    let text = definition(name);
    owner
        .put_view(&CompiledView::from_json(&text)?, &text, false)
        .await?;
    Ok(())
}

/// Materialises what waits, at reading `n`.
pub(crate) async fn join(owner: &ViewStore, n: i64, states: &[State]) -> anyhow::Result<()> {
    join_type(owner, CONDITION, n, states).await
}

pub(crate) async fn join_type(
    owner: &ViewStore,
    resource_type: &str,
    n: i64,
    states: &[State],
) -> anyhow::Result<()> {
    let mut run = owner
        .begin_run(resource_type, RunKind::Join, false)
        .await?
        .context("the type is free")?;
    load(&mut run, states).await?;
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

pub(crate) fn mark(n: i64) -> Mark {
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
    config.http.listen = "127.0.0.1:0".parse()?;
    settings(&mut config);
    let manners = config.daemon.grpc.clone();
    let announced = tempfile::NamedTempFile::new()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (shutdown, metrics, readiness) = (Shutdown::new(), Metrics::new(), Readiness::default());
    Box::pin(serving_gateway::run(Context {
        config,
        shutdown: shutdown.clone(),
        metrics: metrics.clone(),
        readiness: readiness.clone(),
        clock: Arc::new(SystemClock),
        grpc: GrpcServer {
            listener,
            tls: Acceptor::plain(),
            reflection: true,
            readiness: readiness.clone(),
            manners,
            around: Vec::new(),
        },
        tls: Tls::new(PATIENCE, &metrics, &shutdown),
        announcement: Announcement::new(Some(announced.path())),
    }))
    .await?;
    let bound: serde_json::Value = serde_json::from_slice(&std::fs::read(announced.path())?)?;
    let http = bound["http"].as_str().context("HTTP is announced")?;
    let client = ServingServiceClient::connect(format!("http://{address}")).await?;
    Ok(Gateway {
        client,
        shutdown,
        metrics,
        readiness,
        http: format!("http://{http}"),
        address: address.to_string(),
    })
}
