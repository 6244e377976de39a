//! The way to another service of ours: what came with a request goes on with each call that is made for it, and each such call is a span.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use api::{TraceContext, contract};
use axum::{
    body::Bytes,
    http::{HeaderMap, HeaderValue, Request, Response},
};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tonic::{
    body::Body,
    codegen::Service,
    transport::{Channel, Error},
};
use tracing::{Instrument as _, Span};

use crate::{
    Incoming,
    incoming::{TRACEPARENT, TRACESTATE},
    request_id,
    spans::{self, End},
};

/// A channel whose calls carry the request's id and trace. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Outgoing(Channel);

impl Outgoing {
    /// Calls go over this channel.
    pub fn over(channel: Channel) -> Self {
        Self(channel)
    }
}

impl Service<Request<Body>> for Outgoing {
    type Response = Response<Body>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let span = span_of(request.uri().path());
        span.in_scope(|| hand_on(request.headers_mut()));
        let answer = self.0.call(request);
        let watched = span.clone();
        let answer = async move {
            let response = answer.await.inspect_err(|_| spans::fail(&watched))?;
            if watched.is_disabled() {
                return Ok(response);
            }
            spans::grpc_status(&watched, End::Client, response.headers());
            Ok(response.map(|body| Body::new(Watched { body, span: watched })))
        };
        Box::pin(answer.instrument(span))
    }
}

/// The span of a call: within a trace only. What a daemon asks of itself, five times a second, is none of anybody's.
fn span_of(path: &str) -> Span {
    if spans::of(&Span::current()).is_none() {
        return Span::none();
    }
    let span = tracing::debug_span!("rpc", otel.kind = "client");
    spans::rpc(&span, contract::method(path));
    span
}

fn hand_on(headers: &mut HeaderMap) {
    let incoming = Incoming::current();
    if let Some(incoming) = &incoming {
        headers.insert(request_id::HEADER, incoming.request_id().clone());
    }
    let came = incoming.as_ref().and_then(Incoming::trace);
    let place = match (spans::of(&Span::current()).or(came), &incoming) {
        (Some(place), _) => place,
        // The service may begin a trace of its own.
        (None, Some(_)) => return,
        (None, None) => unrecorded(),
    };
    if let Ok(value) = HeaderValue::try_from(place.to_string()) {
        headers.insert(TRACEPARENT, value);
    }
    // It belongs to that trace and to no other.
    let state = incoming.as_ref().and_then(Incoming::state);
    if let Some(state) = state.filter(|_| came.is_some_and(|came| came.trace_id == place.trace_id)) {
        headers.insert(TRACESTATE, state.clone());
    }
}

/// A trace that nobody records: what a daemon does of itself (a round of the tail, a page of the merger) begins none in the service that it asks.
fn unrecorded() -> TraceContext {
    let mut trace_id = [0; 16];
    let (high, low) = trace_id.split_at_mut(8);
    high.copy_from_slice(&(request_id::random() | 1).to_be_bytes());
    low.copy_from_slice(&request_id::random().to_be_bytes());
    TraceContext {
        trace_id,
        span_id: (request_id::random() | 1).to_be_bytes(),
        sampled: false,
    }
}

/// The body of an answer: its call's span lasts as long.
struct Watched {
    body: Body,
    span: Span,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(trailers) = frame.trailers_ref() {
                    spans::grpc_status(&self.span, End::Client, trailers);
                }
            }
            Poll::Ready(Some(Err(_))) => spans::fail(&self.span),
            Poll::Ready(None) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn came(headers: &[(&'static str, &str)]) -> Incoming {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, HeaderValue::from_str(value).expect("a value"));
        }
        Incoming::of(&map)
    }

    fn handed_on() -> HeaderMap {
        let mut headers = HeaderMap::new();
        hand_on(&mut headers);
        headers
    }

    #[test]
    fn what_came_with_a_request_goes_on_also_where_no_spans_are_exported() {
        let whole = came(&[
            ("x-request-id", "mine-1"),
            ("traceparent", TRACE),
            ("tracestate", "vendor=1"),
        ]);
        let headers = whole.sync_scope(handed_on);
        assert_eq!(headers["x-request-id"], "mine-1");
        assert_eq!(headers["traceparent"], TRACE);
        assert_eq!(headers["tracestate"], "vendor=1");
        let headers = came(&[("x-request-id", "mine-2")]).sync_scope(handed_on);
        assert_eq!(headers["x-request-id"], "mine-2");
        assert_eq!(headers.len(), 1, "{headers:?}");
    }

    #[test]
    fn what_a_daemon_does_of_itself_is_in_a_trace_that_nobody_records() {
        let [one, other] = [handed_on(), handed_on()].map(|headers| {
            assert_eq!(headers.len(), 1, "{headers:?}");
            let text = headers["traceparent"].to_str().expect("ascii");
            TraceContext::parse(text).expect("it is well-formed")
        });
        assert!(!one.sampled && one.trace_id != other.trace_id);
    }
}
