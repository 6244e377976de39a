//! What is done around every request: its id, its place in logs and metrics, and the headers that every answer has.

use std::sync::Arc;

use api::Outcome;
use axum::{
    extract::{Request, State},
    http::{HeaderValue, Version, header},
    middleware::Next,
    response::Response,
};
use daemon::{Incoming, fhir_answer::outcome, request_id, spans};
use tracing::{Instrument as _, field::Empty};

use super::Http;

pub(super) async fn around(State(http): State<Arc<Http>>, request: Request, next: Next) -> Response {
    let route = route(request.uri().path());
    let incoming = Incoming::of(request.headers());
    // Of a level at which it is never filtered out: a warning within it is to have its id.
    let span = tracing::error_span!("http", route, request_id = incoming.id(), trace_id = Empty);
    incoming.place(&span);
    spans::http(&span, request.method(), request.extensions());
    // In HTTP/1.0 an answer ends where the connection does: one that breaks off would look whole.
    let mut response = if request.version() < Version::HTTP_11 {
        let why = "HTTP/1.1 is needed, in which an answer that breaks off does not look whole (nginx: proxy_http_version 1.1)";
        outcome(&Outcome::new(505, "not-supported", &[], why))
    } else {
        let answering = next.run(request).instrument(span.clone());
        incoming.clone().scope(answering).await
    };
    let status = response.status();
    http.metrics.request(route, status.as_u16());
    spans::http_status(&span, status);
    if status.is_server_error() {
        let _in = span.enter();
        tracing::warn!(status = status.as_u16(), "a request was not answered");
    }
    let headers = response.headers_mut();
    headers.insert(request_id::HEADER, incoming.request_id().clone());
    // Answers hold patients' data, and are true of one moment.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.append(header::VARY, HeaderValue::from_static("accept"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    response
}

/// The route of a path, as metrics and logs name it: never a part of the path itself.
fn route(path: &str) -> &'static str {
    let path = path.replacen("%24", "$", 1);
    if path == "/$sql-run" {
        "sql-run"
    } else if path.ends_with("/$viewdefinition-run") {
        "viewdefinition-run"
    } else if path == "/ViewDefinition" {
        "view-search"
    } else if path.starts_with("/ViewDefinition/") {
        "view-read"
    } else if path.starts_with("/OperationDefinition/") {
        "operation-read"
    } else if path == "/metadata" {
        "metadata"
    } else {
        "other"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_hold_nothing_of_a_path() {
        for (path, expected) in [
            ("/$sql-run", "sql-run"),
            ("/%24sql-run", "sql-run"),
            ("/ViewDefinition/secret/$viewdefinition-run", "viewdefinition-run"),
            ("/ViewDefinition/secret", "view-read"),
            ("/Patient/secret", "other"),
        ] {
            assert_eq!(route(path), expected);
        }
    }
}
