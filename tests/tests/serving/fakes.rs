//! A speed layer and a batch layer that say what a test wants them to say, over real gRPC.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::proto::batch::batch_service_server::{BatchService, BatchServiceServer};
use api::proto::speed::speed_service_server::{SpeedService, SpeedServiceServer};
use api::proto::{batch, speed};
use api::speed::{Changes, ChangesPart, Preview, Reading, TypeChanges, type_marks};
use api::{Code, ServiceError};
use batch_refresher::hapi::Hapi;
use batch_refresher::patient_resources::{self, OwnedType};
use chrono::{DateTime, Utc};
use fhir_core::merge::Mark;
use fhir_core::resource::{Content, State};
use fhir_core::row::{Cell, Rows};
use fhir_core::view::CompiledView;
use futures::{Stream, StreamExt as _, stream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

type Parts<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Small messages go at once, as the daemons send them.
fn without_delay(listener: TcpListener) -> impl Stream<Item = std::io::Result<TcpStream>> {
    TcpListenerStream::new(listener).map(|accepted| {
        let stream = accepted?;
        stream.set_nodelay(true)?;
        Ok(stream)
    })
}

/// What the speed layer holds, and what it takes in when it is asked to pull.
#[derive(Default)]
struct Held {
    types: HashMap<String, TypeChanges>,
    at_pull: Option<(String, Vec<State>, i64)>,
}

/// SpeedService.
#[derive(Clone)]
pub(crate) struct FakeSpeed {
    held: Arc<Mutex<Held>>,
    moved: watch::Sender<u64>,
    asked: Arc<AtomicU64>,
    without_redis: Arc<AtomicBool>,
}

impl FakeSpeed {
    pub(crate) fn new() -> Self {
        Self {
            held: Arc::default(),
            moved: watch::Sender::new(0),
            asked: Arc::default(),
            without_redis: Arc::default(),
        }
    }

    /// Whether it has its Redis; without, it refuses as the ingestor does.
    pub(crate) fn has_redis(&self, has: bool) {
        self.without_redis.store(!has, Ordering::Relaxed);
        self.with(|_| ());
    }

    fn check_redis(&self) -> Result<(), Status> {
        if self.without_redis.load(Ordering::Relaxed) {
            return Err(ServiceError::new(Code::Unavailable, "Redis cannot be reached").into());
        }
        Ok(())
    }

    /// How many answers were asked for.
    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    fn with<T>(&self, change: impl FnOnce(&mut Held) -> T) -> T {
        let result = change(&mut self.held.lock().unwrap_or_else(PoisonError::into_inner));
        self.moved.send_modify(|n| *n += 1);
        result
    }

    /// A tail round: readings, then the mark.
    pub(crate) fn round(&self, resource_type: &str, states: Vec<State>, mark: Mark) {
        let readings = states.into_iter().map(|state| Reading {
            state,
            n: mark.n,
            as_of: mark.as_of,
        });
        self.with(|held| {
            let of = held.types.entry(resource_type.into()).or_default();
            for reading in readings {
                of.readings.retain(|known| known.state.id != reading.state.id);
                of.readings.push(reading);
            }
            of.mark = Some(mark);
        });
    }

    /// Readings of a round that sets no mark.
    pub(crate) fn unmarked(&self, resource_type: &str, states: Vec<State>, mark: Mark) {
        self.round(resource_type, states, mark);
        self.with(|held| held.types.entry(resource_type.into()).or_default().mark = None);
    }

    /// A webhook.
    pub(crate) fn preview(&self, resource_type: &str, state: State, received: DateTime<Utc>) {
        self.with(|held| {
            held.types
                .entry(resource_type.into())
                .or_default()
                .previews
                .push(Preview {
                    state,
                    received,
                    trace: None,
                });
        });
    }

    /// What the next pull finds in HAPI.
    pub(crate) fn at_pull(&self, resource_type: &str, states: Vec<State>, n: i64) {
        self.with(|held| held.at_pull = Some((resource_type.into(), states, n)));
    }

    /// The answer, and whether it holds anything later than the cursors.
    fn answer(&self, request: &Changes) -> (Vec<ChangesPart>, bool) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut parts, mut marks, mut later) = (Vec::new(), Vec::new(), false);
        for (name, cursor) in &request.cursors {
            let of = held.types.entry(name.clone()).or_default();
            let readings: Vec<Reading> = of
                .readings
                .iter()
                .filter(|reading| reading.n > *cursor)
                .cloned()
                .collect();
            let previews = std::mem::take(&mut of.previews);
            later |=
                !readings.is_empty() || !previews.is_empty() || of.mark.is_some_and(|mark| mark.n > *cursor);
            marks.push((name.clone(), of.mark));
            if !readings.is_empty() {
                parts.push(ChangesPart::Readings(name.clone(), readings));
            }
            if !previews.is_empty() {
                parts.push(ChangesPart::Previews(name.clone(), previews));
            }
        }
        parts.push(ChangesPart::End(marks));
        (parts, later)
    }

    pub(crate) async fn serve(&self) -> anyhow::Result<SocketAddr> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let server = Server::builder().add_service(SpeedServiceServer::new(self.clone()));
        tokio::spawn(server.serve_with_incoming(without_delay(listener)));
        Ok(address)
    }
}

#[tonic::async_trait]
impl SpeedService for FakeSpeed {
    type ChangesStream = Parts<speed::ChangesResponse>;
    type ScanRecentResourcesStream = Parts<speed::ScanRecentResourcesResponse>;

    async fn changes(
        &self,
        request: Request<Streaming<speed::ChangesRequest>>,
    ) -> Result<Response<Self::ChangesStream>, Status> {
        let (sender, parts) = mpsc::channel(16);
        let (this, mut requests) = (self.clone(), request.into_inner());
        tokio::spawn(async move {
            while let Ok(Some(request)) = requests.message().await {
                let request = Changes::try_from(request).expect("the gateway asks rightly");
                this.asked.fetch_add(1, Ordering::Relaxed);
                let deadline = tokio::time::Instant::now() + request.wait.to_std().expect("a wait");
                let mut moved = this.moved.subscribe();
                let answer = loop {
                    if let Err(refused) = this.check_redis() {
                        let _gone = sender.send(Err(refused)).await;
                        return;
                    }
                    let (answer, later) = this.answer(&request);
                    if later {
                        break answer;
                    }
                    tokio::select! {
                        // Whoever asked is gone: what comes is for another.
                        () = sender.closed() => return,
                        waited = tokio::time::timeout_at(deadline, moved.changed()) => {
                            if waited.is_err() {
                                break answer;
                            }
                        }
                    }
                };
                for part in answer {
                    if sender.send(Ok(part.into())).await.is_err() {
                        return;
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(parts))))
    }

    async fn pull(&self, _: Request<speed::PullRequest>) -> Result<Response<speed::PullResponse>, Status> {
        self.check_redis()?;
        let Some((name, states, n)) = self.with(|held| held.at_pull.take()) else {
            return Err(ServiceError::new(Code::Unavailable, "no round").into());
        };
        let mark = crate::fixture::mark(n);
        self.round(&name, states, mark);
        Ok(Response::new(speed::PullResponse {
            marks: type_marks(vec![(name, Some(mark))]),
        }))
    }

    async fn scan_recent_resources(
        &self,
        _: Request<speed::ScanRecentResourcesRequest>,
    ) -> Result<Response<Self::ScanRecentResourcesStream>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn put_resource(
        &self,
        _: Request<speed::PutResourceRequest>,
    ) -> Result<Response<speed::PutResourceResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn flush(&self, _: Request<speed::FlushRequest>) -> Result<Response<speed::FlushResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn register_subscriptions(
        &self,
        _: Request<speed::RegisterSubscriptionsRequest>,
    ) -> Result<Response<speed::RegisterSubscriptionsResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn backup(
        &self,
        _: Request<speed::BackupRequest>,
    ) -> Result<Response<speed::BackupResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn list_backups(
        &self,
        _: Request<speed::ListBackupsRequest>,
    ) -> Result<Response<speed::ListBackupsResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn restore(
        &self,
        _: Request<speed::RestoreRequest>,
    ) -> Result<Response<speed::RestoreResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn get_status(
        &self,
        _: Request<speed::GetStatusRequest>,
    ) -> Result<Response<speed::GetStatusResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }
}

/// BatchService: runs views over the states that a test gives it, and reads patients' resources from HAPI's tables, if it has some.
#[derive(Clone, Default)]
pub(crate) struct FakeBatch {
    states: Arc<Mutex<(DateTime<Utc>, Vec<State>)>>,
    /// Further resources that are there, by reference: patients and Groups.
    others: Arc<Mutex<HashMap<String, String>>>,
    /// Views are run over some resources only.
    cut: Arc<AtomicBool>,
    hapi: Arc<Mutex<Option<Hapi>>>,
    read: Arc<AtomicU64>,
}

impl FakeBatch {
    /// What HAPI holds, as of a reading.
    pub(crate) fn hold(&self, as_of: DateTime<Utc>, states: Vec<State>) {
        *self.states.lock().unwrap_or_else(PoisonError::into_inner) = (as_of, states);
    }

    /// Says from now on that there are more resources than were read.
    pub(crate) fn cut(&self) {
        self.cut.store(true, Ordering::Relaxed);
    }

    /// Adds a resource that `ReadResources` finds: `Type/id` and its JSON.
    pub(crate) fn put(&self, reference: &str, body: &str) {
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        others.insert(reference.into(), body.into());
    }

    /// Bytes of patients' resources that were read so far.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Where patients' resources are read from now on.
    pub(crate) fn read_from(&self, hapi: Hapi) {
        *self.hapi.lock().unwrap_or_else(PoisonError::into_inner) = Some(hapi);
    }

    pub(crate) async fn serve(&self) -> anyhow::Result<SocketAddr> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let server = Server::builder().add_service(BatchServiceServer::new(self.clone()));
        tokio::spawn(server.serve_with_incoming(without_delay(listener)));
        Ok(address)
    }
}

/// Whether a resource is about one of these patients.
fn refers_to(state: &State, patients: &[String]) -> bool {
    let Content::Body(body) = &state.content else {
        return false;
    };
    let subject = serde_json::from_slice::<serde_json::Value>(body)
        .ok()
        .and_then(|body| Some(body["subject"]["reference"].as_str()?.to_owned()));
    subject.is_some_and(|subject| patients.iter().any(|id| subject == format!("Patient/{id}")))
}

fn json(cells: &[Cell<'_>]) -> String {
    let value = |cell: &Cell<'_>| match cell {
        Cell::Null => "null".to_owned(),
        Cell::Boolean(value) => value.to_string(),
        Cell::Integer(value) => value.to_string(),
        Cell::Decimal(value) => value.to_string(),
        Cell::Text(value) => serde_json::Value::from(value.as_ref()).to_string(),
        Cell::List(members) => json(members),
        other => panic!("the test's views have no {other:?}"),
    };
    format!("[{}]", cells.iter().map(value).collect::<Vec<_>>().join(","))
}

#[tonic::async_trait]
impl BatchService for FakeBatch {
    type WatchViewsStream = Parts<batch::WatchViewsResponse>;
    type RefreshStream = Parts<batch::RefreshResponse>;
    type RunViewStream = Parts<batch::RunViewResponse>;
    type ReadChangesStream = Parts<batch::ReadChangesResponse>;
    type ReadResourcesStream = Parts<batch::ReadResourcesResponse>;
    type ReadPatientResourcesStream = Parts<batch::ReadPatientResourcesResponse>;
    type VerifyStream = Parts<batch::VerifyResponse>;

    async fn watch_views(
        &self,
        _: Request<batch::WatchViewsRequest>,
    ) -> Result<Response<Self::WatchViewsStream>, Status> {
        let first = stream::once(async { Ok(batch::WatchViewsResponse::default()) });
        Ok(Response::new(Box::pin(first.chain(stream::pending()))))
    }

    async fn run_view(
        &self,
        request: Request<batch::RunViewRequest>,
    ) -> Result<Response<Self::RunViewStream>, Status> {
        use batch::run_view_response::Part;
        let request = request.into_inner();
        let Some(batch::run_view_request::View::DefinitionJson(definition)) = request.view else {
            return Err(ServiceError::new(Code::Invalid, "a definition is needed").into());
        };
        let view = CompiledView::from_json(&definition)
            .map_err(|e| ServiceError::new(Code::Invalid, e.to_string()))?;
        let (as_of, states) = self.states.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let header = batch::RunViewHeader {
            columns: view.columns().iter().map(batch::Column::from).collect(),
            as_of: Some(api::time::timestamp(as_of)),
        };
        let mut rows = Vec::new();
        for state in states
            .iter()
            .filter(|state| request.ids.is_empty() || request.ids.contains(&state.id))
            .filter(|state| request.patient_ids.is_empty() || refers_to(state, &request.patient_ids))
        {
            let Content::Body(body) = &state.content else {
                continue;
            };
            let mut cells = Rows::default();
            view.evaluate(body, &mut cells)
                .map_err(|e| Status::internal(e.to_string()))?;
            rows.extend(cells.0.iter().map(|cells| batch::ViewRow {
                resource_id: state.id.clone(),
                version: state.version,
                last_updated: Some(api::time::timestamp(state.last_updated)),
                values_json: json(cells),
            }));
        }
        let parts = [
            Part::Header(header),
            Part::Rows(batch::RunViewRows { rows }),
            Part::Footer(batch::RunViewFooter {
                resources_read: 1,
                resources_failed: 0,
                truncated: self.cut.load(Ordering::Relaxed),
            }),
        ];
        Ok(Response::new(Box::pin(stream::iter(
            parts.map(|part| Ok(batch::RunViewResponse { part: Some(part) })),
        ))))
    }

    async fn list_views(
        &self,
        _: Request<batch::ListViewsRequest>,
    ) -> Result<Response<batch::ListViewsResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn put_view(
        &self,
        _: Request<batch::PutViewRequest>,
    ) -> Result<Response<batch::PutViewResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn drop_view(
        &self,
        _: Request<batch::DropViewRequest>,
    ) -> Result<Response<batch::DropViewResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn refresh(
        &self,
        _: Request<batch::RefreshRequest>,
    ) -> Result<Response<Self::RefreshStream>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn cancel_refresh(
        &self,
        _: Request<batch::CancelRefreshRequest>,
    ) -> Result<Response<batch::CancelRefreshResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn read_changes(
        &self,
        _: Request<batch::ReadChangesRequest>,
    ) -> Result<Response<Self::ReadChangesStream>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn read_resources(
        &self,
        request: Request<batch::ReadResourcesRequest>,
    ) -> Result<Response<Self::ReadResourcesStream>, Status> {
        let others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        let state = |reference: batch::read_resources_request::Reference| {
            let body = others.get(&format!("{}/{}", reference.resource_type, reference.id));
            batch::ResourceState {
                resource_type: reference.resource_type,
                id: reference.id,
                version: i64::from(body.is_some()),
                body: body.cloned().unwrap_or_default().into_bytes(),
                ..Default::default()
            }
        };
        let states = request.into_inner().references.into_iter().map(state).collect();
        let message = batch::ReadResourcesResponse { states };
        Ok(Response::new(Box::pin(stream::iter([Ok(message)]))))
    }

    async fn read_patient_resources(
        &self,
        request: Request<batch::ReadPatientResourcesRequest>,
    ) -> Result<Response<Self::ReadPatientResourcesStream>, Status> {
        let hapi = self.hapi.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let hapi = hapi.ok_or_else(|| ServiceError::new(Code::Unavailable, "no HAPI"))?;
        let request = request.into_inner();
        let types = request.resource_types.iter().map(|name| OwnedType::of(name));
        let types = types
            .collect::<Result<_, _>>()
            .map_err(|rule| ServiceError::new(Code::Invalid, rule))?;
        let read = self.read.clone();
        let states = patient_resources::read(hapi, types, request.patient_ids).map(move |states| {
            let states = states.map_err(|error| ServiceError::new(Code::Unavailable, error.to_string()))?;
            let states: Vec<batch::ResourceState> = states.into_iter().map(Into::into).collect();
            let bytes = states.iter().map(|state| state.body.len() as u64).sum();
            read.fetch_add(bytes, Ordering::Relaxed);
            Ok(batch::ReadPatientResourcesResponse { states })
        });
        Ok(Response::new(Box::pin(states)))
    }

    async fn verify(&self, _: Request<batch::VerifyRequest>) -> Result<Response<Self::VerifyStream>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn get_status(
        &self,
        _: Request<batch::GetStatusRequest>,
    ) -> Result<Response<batch::GetStatusResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }
}

/// Long enough for a loaded machine; conditions that hold are seen at once.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
