//! Spans on their way to a collector: through a queue of bounded length, so that nobody ever waits for the collector, and what cannot be sent is counted.
//!
//! (The SDK's own processor tells nobody how many spans it has dropped, and `opentelemetry-otlp` reads settings from the environment besides ours.)

use std::time::Duration;

use axum::body::Bytes;
use opentelemetry::{
    Context, KeyValue, SpanId,
    trace::{SpanKind, TracerProvider as _},
};
use opentelemetry_proto::{
    tonic::collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse, trace_service_client::TraceServiceClient,
    },
    transform::{
        common::tonic::ResourceAttributesWithSchema, trace::tonic::group_spans_by_resource_and_scope,
    },
};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{Sampler, SdkTracer, SdkTracerProvider, Span, SpanData, SpanProcessor},
};
use prometheus_client::metrics::counter::Counter;
use prost::Message as _;
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::config::{Protocol, TracingConfig};
use crate::{About, ConfigError, grpc, metrics::Metrics, request_id, tls::TlsClient};

/// Spans that wait at most: some 10 MB.
const QUEUE: usize = 8_192;
/// Spans that are sent together at most.
const BATCH: usize = 512;
/// How long spans gather before they are sent.
const GATHER: Duration = Duration::from_millis(500);
/// How long a collector may take for a batch.
const PATIENCE: Duration = Duration::from_secs(5);
/// What the last spans get at a stop, whatever is left of its grace.
const LEAST_FLUSH: Duration = Duration::from_millis(200);
/// Fields of requests' spans that only logs need: attributes say the same by their names in OpenTelemetry.
const OF_LOGS: [&str; 3] = ["route", "rpc", "trace_id"];
/// How much of a collector's answer is read.
const ANSWER_BYTES: usize = 64 * 1024;

/// What became of spans.
#[derive(Debug, Clone, Default)]
pub(crate) struct SpanCounts {
    exported: Counter,
    dropped: Counter,
}

impl SpanCounts {
    pub(crate) fn register(&self, metrics: &Metrics) {
        metrics.register(|registry| {
            registry.register(
                "tracing_spans_exported",
                "Spans that the collector has taken",
                self.exported.clone(),
            );
            registry.register(
                "tracing_spans_dropped",
                "Spans that were lost: the collector was away, too slow, or refused them",
                self.dropped.clone(),
            );
        });
    }
}

/// Takes ended spans; never waits.
#[derive(Debug)]
struct Queue {
    spans: mpsc::Sender<SpanData>,
    counts: SpanCounts,
}

impl SpanProcessor for Queue {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, mut span: SpanData) {
        if !span.span_context.is_sampled() {
            return;
        }
        // A span that no other one of this process stands above is that of a request, unless it says otherwise.
        let topmost = span.parent_span_is_remote || span.parent_span_id == SpanId::INVALID;
        if topmost && span.span_kind == SpanKind::Internal {
            span.span_kind = SpanKind::Server;
        }
        span.attributes
            .retain(|attribute| !OF_LOGS.contains(&attribute.key.as_str()));
        if self.spans.try_send(span).is_err() {
            self.counts.dropped.inc();
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// Spans that nobody sends yet: the runtime is still to come.
pub(crate) struct Spans {
    ended: mpsc::Receiver<SpanData>,
    resource: Resource,
    config: TracingConfig,
    counts: SpanCounts,
}

/// A tracer, and the spans that it makes.
pub(super) fn tracer(about: About, config: &TracingConfig, counts: &SpanCounts) -> (SdkTracer, Spans) {
    let (spans, ended) = mpsc::channel(QUEUE);
    let instance = format!("{:016x}{:016x}", request_id::random(), request_id::random());
    let resource = Resource::builder_empty()
        .with_attributes([
            KeyValue::new("service.namespace", "researchflow"),
            KeyValue::new("service.name", about.name),
            KeyValue::new("service.version", about.version),
            KeyValue::new("service.instance.id", instance),
        ])
        .build();
    let provider = SdkTracerProvider::builder()
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(
            config.sample_ratio,
        ))))
        .with_resource(resource.clone())
        .with_span_processor(Queue {
            spans,
            counts: counts.clone(),
        })
        .build();
    let prepared = Spans {
        ended,
        resource,
        config: config.clone(),
        counts: counts.clone(),
    };
    (provider.tracer(about.name), prepared)
}

/// Spans are being sent.
pub(crate) struct Exporting {
    task: JoinHandle<()>,
    stop: CancellationToken,
}

impl Spans {
    /// Begins to send. Needs a tokio runtime.
    pub(crate) fn export(self) -> Result<Exporting, ConfigError> {
        let stop = CancellationToken::new();
        let exporter = Exporter {
            way: Way::to(&self.config)?,
            resource: ResourceAttributesWithSchema::from(&self.resource),
            counts: self.counts,
            is_away: false,
        };
        let task = tokio::spawn(exporter.run(self.ended, stop.clone()));
        Ok(Exporting { task, stop })
    }
}

impl Exporting {
    /// Sends what has ended so far, within this time.
    pub(crate) async fn finish(self, within: Duration) {
        self.stop.cancel();
        let abort = self.task.abort_handle();
        if timeout(within.max(LEAST_FLUSH), self.task).await.is_err() {
            abort.abort();
        }
    }
}

struct Exporter {
    way: Way,
    resource: ResourceAttributesWithSchema,
    counts: SpanCounts,
    /// The last batch could not be sent: it was said once.
    is_away: bool,
}

impl Exporter {
    async fn run(mut self, mut ended: mpsc::Receiver<SpanData>, stop: CancellationToken) {
        let mut batch = Vec::new();
        loop {
            // Nothing to do while nothing ends; and a full batch goes at once, or the queue would be full before its time.
            let gathering = async {
                let has_ended = ended.recv_many(&mut batch, BATCH).await == 0;
                let rest = async {
                    while batch.len() < BATCH {
                        let left = BATCH - batch.len();
                        if ended.recv_many(&mut batch, left).await == 0 {
                            break;
                        }
                    }
                };
                let _in_time = timeout(GATHER, rest).await;
                has_ended
            };
            // Nobody is left who could end a span: as good as a stop.
            let stopped = stop.run_until_cancelled(gathering).await.unwrap_or(true);
            loop {
                if !batch.is_empty() {
                    self.send(std::mem::take(&mut batch)).await;
                }
                if !stopped || ended.is_empty() {
                    break;
                }
                ended.recv_many(&mut batch, BATCH).await;
            }
            if stopped {
                return;
            }
        }
    }

    async fn send(&mut self, spans: Vec<SpanData>) {
        let count = u64::try_from(spans.len()).unwrap_or(u64::MAX);
        let request = ExportTraceServiceRequest {
            resource_spans: group_spans_by_resource_and_scope(spans, &self.resource),
        };
        let sent = timeout(PATIENCE, self.way.send(request))
            .await
            .unwrap_or_else(|_| Err("it does not answer in time".into()));
        match sent {
            Ok(refused) => {
                let refused = refused.min(count);
                self.counts.exported.inc_by(count - refused);
                self.counts.dropped.inc_by(refused);
                if std::mem::take(&mut self.is_away) {
                    tracing::info!("the collector takes spans again");
                }
            }
            Err(reason) => {
                self.counts.dropped.inc_by(count);
                if !std::mem::replace(&mut self.is_away, true) {
                    tracing::warn!(
                        reason,
                        "the collector does not take spans: they are dropped until it does"
                    );
                }
            }
        }
    }
}

/// The way to the collector.
enum Way {
    Grpc(TraceServiceClient<Channel>),
    Http { client: reqwest::Client, url: String },
}

impl Way {
    fn to(config: &TracingConfig) -> Result<Self, ConfigError> {
        let endpoint = config.otlp_endpoint.trim_end_matches('/');
        match config.protocol {
            Protocol::Grpc => {
                let channel = grpc::channel(grpc::Way {
                    key: "daemon.tracing.otlp_endpoint",
                    url: endpoint,
                    server_name: "",
                    tls: &TlsClient::by_the_system(),
                })?;
                Ok(Self::Grpc(TraceServiceClient::new(channel)))
            }
            Protocol::Http => {
                let client = reqwest::Client::builder()
                    .redirect(reqwest::redirect::Policy::none())
                    .no_proxy()
                    .build()
                    .map_err(|_| ConfigError::Unusable("a client of HTTP cannot be made".into()))?;
                let url = format!("{endpoint}/v1/traces");
                Ok(Self::Http { client, url })
            }
        }
    }

    /// How many of the spans the collector has refused; or why it has none of them, in our words: its own may quote them.
    async fn send(&mut self, request: ExportTraceServiceRequest) -> Result<u64, String> {
        let response = match self {
            Self::Grpc(client) => client
                .export(request)
                .await
                .map_err(|status| format!("it answers {:?}", status.code()))?
                .into_inner(),
            Self::Http { client, url } => {
                let sending = client
                    .post(url.as_str())
                    .header("content-type", "application/x-protobuf")
                    .body(request.encode_to_vec());
                let mut answer = sending
                    .send()
                    .await
                    .map_err(|_| "it cannot be reached".to_owned())?;
                if !answer.status().is_success() {
                    return Err(format!("it answers {}", answer.status().as_u16()));
                }
                let mut body = Vec::new();
                let broken = |_| "its answer breaks off".to_owned();
                while let Some(part) = answer.chunk().await.map_err(broken)? {
                    body.extend_from_slice(&part);
                    if body.len() > ANSWER_BYTES {
                        break;
                    }
                }
                // One that says nothing which can be read has taken all.
                ExportTraceServiceResponse::decode(Bytes::from(body)).unwrap_or_default()
            }
        };
        let refused = response
            .partial_success
            .map_or(0, |partial| partial.rejected_spans);
        Ok(u64::try_from(refused).unwrap_or_default())
    }
}
