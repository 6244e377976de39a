//! What is done around every request of the webhook: its id and its place in the logs and in a trace.

use axum::{extract::Request, middleware::Next, response::Response};
use daemon::{Incoming, request_id, spans};
use tracing::{Instrument as _, field::Empty};

/// Does it. The answer has the id too.
pub(crate) async fn around(request: Request, next: Next) -> Response {
    let incoming = Incoming::of(request.headers());
    // Of a level at which it is never filtered out: a warning within it is to have its id.
    let span = tracing::error_span!("webhook", request_id = incoming.id(), trace_id = Empty);
    incoming.place(&span);
    spans::http(&span, request.method(), request.extensions());
    let answering = next.run(request).instrument(span.clone());
    let mut response = incoming.clone().scope(answering).await;
    spans::http_status(&span, response.status());
    let id = incoming.request_id().clone();
    response.headers_mut().insert(request_id::HEADER, id);
    response
}
