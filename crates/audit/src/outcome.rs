//! How an operation ended, in one set of words for gRPC and HTTP.

use api::transport;
use axum::http::{HeaderMap, StatusCode};
use tonic::{Code, Status};

/// Of the status that stands in headers or trailers of gRPC; `None` where none does.
pub(crate) fn of_headers(headers: &HeaderMap) -> Option<&'static str> {
    let status = Status::from_header_map(headers)?;
    // What the library says of a request that it could not read is said in other words further out.
    Some(match transport::refusal(&status) {
        Some(refusal) => of_code(refusal.code.grpc()),
        None => of_code(status.code()),
    })
}

pub(crate) fn of_code(code: Code) -> &'static str {
    match code {
        Code::Ok => "ok",
        Code::Cancelled => "cancelled",
        Code::InvalidArgument | Code::OutOfRange => "invalid_argument",
        Code::DeadlineExceeded => "deadline_exceeded",
        Code::NotFound => "not_found",
        Code::AlreadyExists | Code::FailedPrecondition | Code::Aborted => "failed_precondition",
        Code::PermissionDenied => "permission_denied",
        Code::ResourceExhausted => "resource_exhausted",
        Code::Unimplemented => "unimplemented",
        Code::Unavailable => "unavailable",
        Code::DataLoss => "data_loss",
        Code::Unauthenticated => "unauthenticated",
        Code::Internal | Code::Unknown => "internal",
    }
}

/// Of HTTP.
pub(crate) fn of_status(status: StatusCode) -> &'static str {
    match status.as_u16() {
        ..400 => "ok",
        401 => "unauthenticated",
        403 => "permission_denied",
        404 => "not_found",
        405 | 501 => "unimplemented",
        408 | 504 => "deadline_exceeded",
        409 => "failed_precondition",
        413 | 429 => "resource_exhausted",
        499 => "cancelled",
        503 => "unavailable",
        400..500 => "invalid_argument",
        500.. => "internal",
    }
}
