//! A collector of OTLP: takes spans from daemons over gRPC or HTTP, and keeps them.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{Router, body::Bytes, extract::State, http::StatusCode, routing::post};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{AnyValue, KeyValue, any_value::Value},
    trace::v1::{Span, span::SpanKind, status::StatusCode as SpanStatus},
};
use prost::Message as _;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use crate::deadline;

/// How long spans may take from their end to the collector.
const LIMIT: Duration = Duration::from_secs(20);

/// A span, and the daemon that made it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// `service.name`
    pub service: String,
    /// As it came.
    pub span: Span,
}

impl Seen {
    /// Its trace's id in hexadecimal digits.
    pub fn trace(&self) -> String {
        hex(&self.span.trace_id)
    }

    /// Its own id.
    pub fn id(&self) -> String {
        hex(&self.span.span_id)
    }

    /// That of the span above it; empty if there is none.
    pub fn parent(&self) -> String {
        hex(&self.span.parent_span_id)
    }

    /// Whether it failed.
    pub fn has_failed(&self) -> bool {
        let status = self.span.status.as_ref();
        status.is_some_and(|status| status.code == i32::from(SpanStatus::Error))
    }

    /// An attribute as text; empty if there is none.
    pub fn attribute(&self, name: &str) -> String {
        text_of(&self.span.attributes, name)
    }
}

fn text_of(attributes: &[KeyValue], name: &str) -> String {
    let found = attributes.iter().find(|attribute| attribute.key == name);
    match found.and_then(|attribute| attribute.value.as_ref()) {
        Some(AnyValue {
            value: Some(Value::StringValue(text)),
        }) => text.clone(),
        Some(AnyValue {
            value: Some(Value::IntValue(number)),
        }) => number.to_string(),
        Some(other) => format!("{other:?}"),
        None => String::new(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// A running collector. Cheap to clone; it ends with this program.
#[derive(Debug, Clone)]
pub struct Collector {
    address: String,
    requests: Requests,
}

#[derive(Debug, Clone, Default)]
struct Requests(Arc<Mutex<Vec<ExportTraceServiceRequest>>>);

impl Requests {
    fn add(&self, request: ExportTraceServiceRequest) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(request);
    }
}

#[tonic::async_trait]
impl TraceService for Requests {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.add(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

async fn take(State(requests): State<Requests>, body: Bytes) -> Result<Vec<u8>, StatusCode> {
    let request = ExportTraceServiceRequest::decode(body).map_err(|_| StatusCode::BAD_REQUEST)?;
    requests.add(request);
    Ok(ExportTraceServiceResponse::default().encode_to_vec())
}

impl Collector {
    /// One that is spoken to by gRPC.
    pub async fn start() -> anyhow::Result<Self> {
        let (listener, this) = Self::bind().await?;
        let serving = tonic::transport::Server::builder()
            .add_service(TraceServiceServer::new(this.requests.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(serving);
        Ok(this)
    }

    /// One that is spoken to by HTTP.
    pub async fn start_http() -> anyhow::Result<Self> {
        let (listener, this) = Self::bind().await?;
        let router = Router::new()
            .route("/v1/traces", post(take))
            .with_state(this.requests.clone());
        tokio::spawn(axum::serve(listener, router).into_future());
        Ok(this)
    }

    async fn bind() -> anyhow::Result<(TcpListener, Self)> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let this = Self {
            address: listener.local_addr()?.to_string(),
            requests: Requests::default(),
        };
        Ok((listener, this))
    }

    /// What daemons are told in `daemon.tracing.otlp_endpoint`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All spans so far.
    pub fn seen(&self) -> Vec<Seen> {
        let requests = self.requests.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of = requests.iter().flat_map(|request| &request.resource_spans);
        of.flat_map(|of| {
            let attributes = of
                .resource
                .as_ref()
                .map(|resource| resource.attributes.as_slice());
            let service = text_of(attributes.unwrap_or_default(), "service.name");
            let spans = of.scope_spans.iter().flat_map(|scope| scope.spans.clone());
            spans.map(move |span| Seen {
                service: service.clone(),
                span,
            })
        })
        .collect()
    }

    /// The bytes of everything that has come.
    pub fn bytes(&self) -> Vec<u8> {
        let requests = self.requests.0.lock().unwrap_or_else(PoisonError::into_inner);
        requests
            .iter()
            .flat_map(ExportTraceServiceRequest::encode_to_vec)
            .collect()
    }

    /// Waits for a span of a daemon by its name, in this trace (any for `""`).
    pub async fn span(&self, trace: &str, service: &str, name: &str) -> anyhow::Result<Seen> {
        let what = format!("a span {name} of {service} in the trace {trace}");
        let found = deadline::until(&what, LIMIT, || async {
            self.seen().into_iter().find(|seen| {
                (trace.is_empty() || seen.trace() == trace)
                    && seen.service == service
                    && seen.span.name == name
            })
        });
        found.await.map_err(|late| {
            let came: Vec<String> = self
                .seen()
                .iter()
                .map(|seen| format!("{} {}: {}", seen.trace(), seen.service, seen.span.name))
                .collect();
            late.context(came.join("\n"))
        })
    }
}

/// Kinds of spans, as texts.
pub fn kind(seen: &Seen) -> &'static str {
    SpanKind::try_from(seen.span.kind).map_or("none", |kind| kind.as_str_name())
}

/// A collector that takes connections and says nothing; its endpoint. It ends with this program.
pub async fn silent() -> anyhow::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((connection, _)) = listener.accept().await {
            held.push(connection);
        }
    });
    Ok(format!("http://{address}"))
}
