//! Answers of the webhook: FHIR resources, with the statuses of [`api::error`].

use api::{Code, ServiceError};
use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use daemon::fhir_answer::{fhir, outcome};
use serde_json::json;

/// 200 without a body.
pub fn empty() -> Response {
    StatusCode::OK.into_response()
}

/// 200 with what a sender of Bundles parses.
pub fn transaction_response() -> Response {
    fhir(
        StatusCode::OK,
        &json!({"resourceType": "Bundle", "type": "transaction-response"}),
    )
}

/// 200: a receiver is here.
pub fn here() -> Response {
    let text = "this is the webhook of ResearchFlow's speed layer: it takes PUT and DELETE of {type}/{id}, and Bundles by POST";
    let issue = json!([{"severity": "information", "code": "informational", "diagnostics": text}]);
    fhir(
        StatusCode::OK,
        &json!({"resourceType": "OperationOutcome", "issue": issue}),
    )
}

/// An error.
pub fn error(error: &ServiceError) -> Response {
    let mut response = outcome(&error.clone().into());
    if error.code == Code::Unauthenticated {
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        // A stranger gets one answer a connection.
        response
            .headers_mut()
            .insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// 404 for any other path.
pub async fn no_such_path() -> Response {
    error(&ServiceError::new(
        Code::NotFound,
        "no such path: PUT and DELETE go to fhir/{type}/{id}, Bundles are POSTed to fhir",
    ))
}

/// 405 for any other method.
pub async fn no_such_method() -> Response {
    error(&ServiceError::new(
        Code::NoSuchMethod,
        "no such method here: PUT and DELETE go to fhir/{type}/{id}, Bundles are POSTed to fhir",
    ))
}
