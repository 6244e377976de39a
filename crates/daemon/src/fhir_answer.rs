//! Answers over HTTP that are FHIR resources: errors among them, with their status.

use api::Outcome;
use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::Value;

/// After how many seconds whoever asks may try again, where something is not reached.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// A resource.
pub fn fhir(status: StatusCode, resource: &Value) -> Response {
    let content_type = (
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/fhir+json;charset=utf-8"),
    );
    (status, [content_type], resource.to_string()).into_response()
}

/// An error.
pub fn outcome(outcome: &Outcome) -> Response {
    let status = StatusCode::from_u16(outcome.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = fhir(status, &outcome.resource());
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
    }
    response
}
