//! What comes with a request beside what it asks for: its id and its place in a trace, of HTTP and of gRPC alike. It is at hand wherever the request is worked on, so
//! that calls of other services can hand it on ([`Outgoing`](crate::grpc::Outgoing)) and log lines can name it.

use std::{future::Future, sync::Arc};

use api::TraceContext;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use tracing::Span;

use crate::{request_id, spans};

/// Where a request is in its trace: W3C's Trace Context.
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// What tracing systems have added to that.
pub(crate) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// The longest `tracestate` that is handed on: what the specification asks for at least.
const MAX_STATE: usize = 512;

tokio::task_local! {
    /// That of the request which is worked on.
    static CURRENT: Option<Incoming>;
}

/// What has come with a request. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Incoming(Arc<Came>);

#[derive(Debug)]
struct Came {
    request_id: HeaderValue,
    trace: Option<TraceContext>,
    state: Option<HeaderValue>,
}

impl Incoming {
    /// Read from the headers of a request, or the metadata of a call. What is malformed is as if it had not come.
    pub fn of(headers: &HeaderMap) -> Self {
        let trace = only(headers, &TRACEPARENT)
            .and_then(|value| value.to_str().ok())
            .and_then(TraceContext::parse);
        // It means nothing without the other.
        let state = only(headers, &TRACESTATE).filter(|value| trace.is_some() && value.len() <= MAX_STATE);
        Self(Arc::new(Came {
            request_id: request_id::of(headers),
            trace,
            state: state.cloned(),
        }))
    }

    /// That of the request which is worked on; `None` where a daemon does something of itself.
    pub fn current() -> Option<Self> {
        CURRENT.try_with(Clone::clone).ok().flatten()
    }

    /// The id, which the answer has too.
    pub fn request_id(&self) -> &HeaderValue {
        &self.0.request_id
    }

    /// The id as logs have it.
    pub fn id(&self) -> &str {
        self.0.request_id.to_str().unwrap_or_default()
    }

    /// Where the caller is in a trace.
    pub fn trace(&self) -> Option<TraceContext> {
        self.0.trace
    }

    /// What tracing systems have added to it. It goes on to the services that are called, and nowhere else: it may hold anything.
    pub(crate) fn state(&self) -> Option<&HeaderValue> {
        self.0.state.as_ref()
    }

    /// Puts the request's span into the caller's trace, and the trace's id into the span's field `trace_id`: if the trace is recorded, or the caller has one. To be
    /// done before the span is entered.
    pub fn place(&self, span: &Span) {
        if let Some(trace) = &self.0.trace {
            spans::set_parent(span, trace);
        }
        if let Some(trace) = spans::recorded(span).or(self.0.trace) {
            span.record("trace_id", tracing::field::display(trace.trace()));
        }
    }

    /// Does this work for the request.
    pub async fn scope<F: Future>(self, work: F) -> F::Output {
        CURRENT.scope(Some(self), work).await
    }

    /// The same of work that waits for nothing.
    pub fn sync_scope<T>(&self, work: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(Some(self.clone()), work)
    }

    /// A task that goes on for the request which is worked on when this is called, if one is.
    pub(crate) fn carried<F: Future>(work: F) -> impl Future<Output = F::Output> {
        CURRENT.scope(Self::current(), work)
    }
}

/// The value of a header that came once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn came(headers: &[(&HeaderName, &str)]) -> Incoming {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).expect("a value"));
        }
        Incoming::of(&map)
    }

    #[test]
    fn a_trace_is_taken_with_its_state_and_a_state_alone_is_not() {
        let both = came(&[(&TRACEPARENT, TRACE), (&TRACESTATE, "vendor=1")]);
        assert_eq!(
            both.trace().map(|trace| trace.to_string()).as_deref(),
            Some(TRACE)
        );
        assert_eq!(both.state().expect("it came"), "vendor=1");
        for bad in [
            came(&[(&TRACESTATE, "vendor=1")]),
            came(&[(&TRACEPARENT, "malformed"), (&TRACESTATE, "vendor=1")]),
            // Which of the two it was nobody knows.
            came(&[
                (&TRACEPARENT, TRACE),
                (&TRACEPARENT, TRACE),
                (&TRACESTATE, "vendor=1"),
            ]),
        ] {
            assert!(bad.trace().is_none() && bad.state().is_none(), "{bad:?}");
        }
        let long = came(&[(&TRACEPARENT, TRACE), (&TRACESTATE, &"x".repeat(513))]);
        assert!(long.trace().is_some() && long.state().is_none());
    }

    #[tokio::test]
    async fn it_is_at_hand_in_tasks_that_the_request_has_started_and_nowhere_else() {
        let id = || Incoming::current().map(|incoming| incoming.id().to_owned());
        let shutdown = crate::Shutdown::new();
        let (told, mut heard) = tokio::sync::mpsc::channel(1);
        let request = came(&[(&request_id::HEADER, "mine")]);
        let work = async {
            assert_eq!(id().as_deref(), Some("mine"));
            shutdown.spawn(async move { told.send(id()).await.expect("somebody listens") });
        };
        request.clone().scope(work).await;
        assert_eq!(heard.recv().await, Some(Some("mine".to_owned())));
        assert_eq!(id(), None);
        assert_eq!(request.sync_scope(id).as_deref(), Some("mine"));
    }
}
