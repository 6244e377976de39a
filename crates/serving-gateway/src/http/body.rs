//! The body of a POST, read within bounds: its kind, its bytes, its time, and the memory of all bodies together.

use api::{Code, Outcome, ServiceError};
use axum::{
    body::Body,
    http::{HeaderMap, header},
};
use daemon::connections::discard;
use http_body_util::BodyExt as _;
use tokio::sync::OwnedSemaphorePermit;

use super::Http;

/// The unit in which memory is reckoned: a number of bytes would not always fit where permits are counted.
pub(crate) const UNIT_BYTES: usize = 1024;

/// A body, and what it holds of the common memory until it is dropped.
pub(super) struct Received {
    pub(super) text: String,
    _memory: OwnedSemaphorePermit,
}

/// Reads a body to its end. One that is refused is read on and thrown away, for whoever is still sending does not read the answer.
pub(super) async fn read(http: &Http, headers: &HeaderMap, mut body: Body) -> Result<Received, Outcome> {
    let result = read_within(http, headers, &mut body).await;
    if result.is_err() {
        discard(body).await;
    }
    result.map_err(Outcome::from)
}

async fn read_within(http: &Http, headers: &HeaderMap, body: &mut Body) -> Result<Received, ServiceError> {
    check_kind(headers)?;
    let most = http.config.max_body_bytes;
    let declared: Option<u64> = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse().ok());
    let expected = declared.map_or(most, |length| usize::try_from(length).unwrap_or(usize::MAX));
    if expected > most {
        return Err(too_large(most));
    }
    let units = u32::try_from(expected.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX);
    let memory = http.memory.clone().try_acquire_many_owned(units);
    let memory = memory.map_err(|_| {
        ServiceError::new(
            Code::Unavailable,
            "too many requests with bodies at once: try again",
        )
    })?;
    let reading = async {
        let mut bytes = Vec::with_capacity(declared.map_or(0, |_| expected));
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| {
                ServiceError::new(
                    Code::Invalid,
                    "the body cannot be read: cut off, or not in its Content-Encoding",
                )
            })?;
            let Some(part) = frame.data_ref() else { continue };
            if bytes.len() + part.len() > most {
                return Err(too_large(most));
            }
            bytes.extend_from_slice(part);
        }
        String::from_utf8(bytes).map_err(|_| ServiceError::new(Code::Invalid, "the body is not UTF-8"))
    };
    let text = tokio::time::timeout(http.config.body_timeout_seconds, reading).await;
    let text = text.map_err(|_| ServiceError::new(Code::SlowRequest, "the body did not come in time"))??;
    Ok(Received {
        text,
        _memory: memory,
    })
}

fn check_kind(headers: &HeaderMap) -> Result<(), ServiceError> {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    let kind = kind
        .and_then(|kind| kind.split(';').next())
        .unwrap_or_default()
        .trim();
    let is_json = ["application/fhir+json", "application/json"]
        .iter()
        .any(|known| kind.eq_ignore_ascii_case(known));
    if !is_json {
        let rule = "Content-Type must be application/fhir+json: a Parameters resource";
        return Err(ServiceError::new(Code::UnsupportedMedia, rule));
    }
    // What the decompression in front could open has lost this header.
    if headers
        .get(header::CONTENT_ENCODING)
        .is_some_and(|encoding| encoding != "identity")
    {
        let rule = "Content-Encoding must be gzip, deflate or none";
        return Err(ServiceError::new(Code::UnsupportedMedia, rule));
    }
    Ok(())
}

fn too_large(most: usize) -> ServiceError {
    let rule = format!("the body is larger than {most} bytes (http.max_body_bytes)");
    ServiceError::new(Code::TooLarge, rule)
}
