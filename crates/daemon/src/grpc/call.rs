//! What is done around every call: its id, its place in the logs, the caller's deadline, how long its request may take to come, and what is said of requests that
//! cannot be read.

use std::{
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use api::{Code, ServiceError, contract, transport};
use axum::{
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep};
use tonic::Status;
use tracing::{Instrument as _, Span, field::Empty};

use super::deadline;
use crate::{
    Incoming, request_id,
    spans::{self, End},
    tls::NotAllowed,
};

/// What is not of the contract, in logs: a path may hold anything.
const OTHER: &str = "other";

/// `request_time`: how long a request may take to come.
pub(super) async fn around(State(request_time): State<Duration>, request: Request, next: Next) -> Response {
    let incoming = Incoming::of(request.headers());
    let method = contract::method(request.uri().path());
    let rpc = method.map_or(OTHER, |method| method.name.as_str());
    // Of a level at which it is never filtered out: a warning within it is to have its id.
    let span = tracing::error_span!("call", rpc, request_id = incoming.id(), trace_id = Empty);
    incoming.place(&span);
    spans::rpc(&span, method);
    // One message, and no more: it comes at once. (Of what is not of the contract, reflection is asked by streams.)
    let request_time = method
        .filter(|method| !method.client_streaming)
        .map(|_| request_time);
    let call = Call {
        incoming: incoming.clone(),
        span: span.clone(),
    };
    let answered = answer(request, next, request_time, call).instrument(span.clone());
    let mut response = incoming.clone().scope(answered).await;
    spans::grpc_status(&span, End::Server, response.headers());
    let id = incoming.request_id().clone();
    response.headers_mut().insert(request_id::HEADER, id);
    response
}

/// What is made for a call is made within this.
struct Call {
    incoming: Incoming,
    span: Span,
}

async fn answer(request: Request, next: Next, request_time: Option<Duration>, call: Call) -> Response {
    if !is_grpc(request.headers()) {
        let why = "content-type: must be application/grpc or application/grpc+proto\n";
        return (StatusCode::UNSUPPORTED_MEDIA_TYPE, why).into_response();
    }
    if request.extensions().get::<NotAllowed>().is_some() {
        return refused(NotAllowed::error());
    }
    let timeout = match deadline::timeout(request.headers()) {
        Ok(timeout) => timeout,
        Err(rule) => return refused(ServiceError::invalid("grpc-timeout", rule)),
    };
    let request = match request_time {
        Some(limit) => request.map(|body| Body::new(Timely::new(body, limit))),
        None => request,
    };
    let mut until = timeout.map(|timeout| Box::pin(tokio::time::sleep(timeout)));
    let mut answer = pin!(next.run(request));
    let response = match &mut until {
        None => answer.await,
        Some(until) => tokio::select! {
            biased;
            response = answer.as_mut() => response,
            // The call is dropped, and with it what it has asked for elsewhere.
            () = until.as_mut() => return refused(too_late()),
        },
    };
    if let Some(refusal) = Status::from_header_map(response.headers()).and_then(|s| transport::refusal(&s)) {
        return refused(refusal);
    }
    response.map(|body| {
        Body::new(Answer {
            body: Some(body),
            until,
            call,
        })
    })
}

/// gRPC over protobuf; `application/grpc-web` is another protocol.
fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|kind| matches!(kind.trim_end(), "application/grpc" | "application/grpc+proto"))
}

fn refused(error: ServiceError) -> Response {
    Status::from(error).into_http()
}

fn too_late() -> ServiceError {
    ServiceError::new(
        Code::DeadlineExceeded,
        "the caller's deadline (grpc-timeout) has passed",
    )
}

/// The body of an answer: it is made within the call's span, and ends at the caller's deadline. What makes it is dropped then, so that a query which outlives
/// its caller's patience ends, in PostgreSQL too.
struct Answer {
    /// `None` once it has been cut.
    body: Option<Body>,
    until: Option<Pin<Box<Sleep>>>,
    call: Call,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        let _in = this.call.span.enter();
        let Some(body) = &mut this.body else {
            return Poll::Ready(None);
        };
        if let Some(until) = &mut this.until
            // The clock first: an answer that never waits uses up what a timer may do in one go, and would never see it end.
            && (Instant::now() >= until.deadline() || until.as_mut().poll(context).is_ready())
        {
            this.body = None;
            let mut trailers = HeaderMap::new();
            // It is made of texts of ours.
            let _always = Status::from(too_late()).add_header(&mut trailers);
            spans::grpc_status(&this.call.span, End::Server, &trailers);
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        let polled = this
            .call
            .incoming
            .sync_scope(|| Pin::new(body).poll_frame(context));
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(trailers) = frame.trailers_ref()
        {
            spans::grpc_status(&this.call.span, End::Server, trailers);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

/// The body of a request that must have come by a time: whoever sends half a message, or none, does not hold the call for ever.
struct Timely {
    body: Body,
    until: Pin<Box<Sleep>>,
}

impl Timely {
    fn new(body: Body, limit: Duration) -> Self {
        Self {
            body,
            until: Box::pin(tokio::time::sleep(limit)),
        }
    }
}

impl HttpBody for Timely {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let ready @ Poll::Ready(_) = Pin::new(&mut self.body).poll_frame(context) {
            return ready.map_err(|error| Status::from_error(Box::new(error)));
        }
        self.until.as_mut().poll(context).map(|()| {
            let slow = ServiceError::new(Code::SlowRequest, "the request did not come in time");
            Some(Err(slow.into()))
        })
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
    use std::{
        convert::Infallible,
        io::Write,
        sync::{Arc, Mutex},
    };

    use axum::{Router, routing::post};
    use futures::stream;
    use http_body_util::BodyExt as _;
    use tonic::codegen::Service as _;
    use tracing::instrument::WithSubscriber as _;

    use super::*;

    const QUERY: &str = "/researchflow.serving.v1.ServingService/Query";

    /// What a method that does this answers to these bytes.
    async fn answered<F: Future<Output = Response> + Send + 'static>(
        work: impl Fn(Request) -> F + Clone + Send + Sync + 'static,
        headers: &[(&'static str, &'static str)],
        body: Body,
    ) -> Response {
        let mut router = Router::new()
            .route(QUERY, post(work))
            .layer(axum::middleware::from_fn_with_state(
                Duration::from_millis(50),
                around,
            ));
        let mut request = Request::post(QUERY).body(body).expect("a request");
        request
            .headers_mut()
            .insert(header::CONTENT_TYPE, "application/grpc".parse().expect("ascii"));
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().expect("ascii"));
        }
        router
            .call(request)
            .await
            .unwrap_or_else(|never: Infallible| match never {})
    }

    fn status(headers: &HeaderMap) -> Option<tonic::Code> {
        Status::from_header_map(headers).map(|status| status.code())
    }

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("no panic").write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn what_a_call_logs_has_its_id_and_its_method() {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter("warn")
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .finish();
        let work = async |_: Request| {
            tracing::warn!("within");
            let later = stream::once(async {
                tracing::warn!("while it is sent");
                Ok::<_, Infallible>(Bytes::new())
            });
            Response::new(Body::from_stream(later))
        };
        let said = async {
            let response = answered(work, &[("x-request-id", "mine-1")], Body::empty()).await;
            let id = response.headers()[&request_id::HEADER].clone();
            response.into_body().collect().await.expect("a whole answer");
            id
        };
        assert_eq!(said.with_subscriber(subscriber).await, "mine-1");
        let logged = String::from_utf8(lines.0.lock().expect("no panic").clone()).expect("text");
        let line = |text: &str| {
            logged
                .lines()
                .find(|line| line.contains(text))
                .unwrap_or_default()
                .to_owned()
        };
        for text in ["within", "while it is sent"] {
            let line = line(text);
            assert!(
                line.contains("request_id=\"mine-1\"") && line.contains("ServingService/Query"),
                "{text}: {logged}"
            );
        }
    }

    /// Tells when it is dropped.
    struct Dropped(Arc<Mutex<bool>>);

    impl Drop for Dropped {
        fn drop(&mut self) {
            *self.0.lock().expect("no panic") = true;
        }
    }

    #[tokio::test]
    async fn a_call_ends_at_its_callers_deadline_before_its_answer_begins() {
        let dropped = Arc::new(Mutex::new(false));
        let told = dropped.clone();
        let work = move |_: Request| {
            let told = Dropped(told.clone());
            async move {
                let _told = told;
                std::future::pending::<Response>().await
            }
        };
        let response = answered(work, &[("grpc-timeout", "20m")], Body::empty()).await;
        assert_eq!(status(response.headers()), Some(tonic::Code::DeadlineExceeded));
        assert!(*dropped.lock().expect("no panic"), "what was asked for goes on");
    }

    #[tokio::test]
    async fn an_answer_ends_at_its_callers_deadline() {
        let dropped = Arc::new(Mutex::new(false));
        let told = dropped.clone();
        let work = move |_: Request| {
            let told = Dropped(told.clone());
            // It never waits, either.
            let endless = stream::repeat_with(move || {
                let _until_dropped = &told;
                Ok::<_, Infallible>(Bytes::from_static(b"more"))
            });
            async move { Response::new(Body::from_stream(endless)) }
        };
        let response = answered(work, &[("grpc-timeout", "50m")], Body::empty()).await;
        assert_eq!(response.status(), StatusCode::OK);
        let whole = response.into_body().collect().await.expect("a proper end");
        assert_eq!(
            whole.trailers().and_then(status),
            Some(tonic::Code::DeadlineExceeded)
        );
        assert!(
            *dropped.lock().expect("no panic"),
            "what makes the answer goes on"
        );
    }

    #[tokio::test]
    async fn a_request_that_does_not_come_is_given_up() {
        let work = async |request: Request| match request.into_body().collect().await {
            Ok(_) => Response::new(Body::empty()),
            Err(error) => Status::from_error(error.into()).into_http(),
        };
        let begun = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
        let response = answered(work, &[], begun).await;
        assert_eq!(status(response.headers()), Some(tonic::Code::DeadlineExceeded));
        assert!(
            response.headers().contains_key("grpc-status-details-bin"),
            "the reason is lost"
        );
        let response = answered(work, &[], Body::from("whole")).await;
        assert_eq!(status(response.headers()), None);
    }

    #[test]
    fn grpc_over_protobuf_is_what_is_taken() {
        let taken = |kind: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, kind.parse().expect("ascii"));
            is_grpc(&headers)
        };
        assert!(
            taken("application/grpc") && taken("application/grpc+proto") && taken("application/grpc; x=1")
        );
        for other in [
            "application/grpc-web",
            "application/grpc+json",
            "application/json",
            "",
        ] {
            assert!(!taken(other), "{other}");
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }
}
