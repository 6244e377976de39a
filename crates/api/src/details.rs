//! An error as gRPC carries it: status, message, and in `grpc-status-details-bin` what a program needs to act on it, as `google.rpc` has it.
//!
//! | with | detail | holds |
//! | --- | --- | --- |
//! | every error | `ErrorInfo` | a stable reason, of the domain `researchflow` |
//! | a field that breaks a rule | `BadRequest` | its path, and the rule |
//! | `UNAVAILABLE` | `RetryInfo` | when to try again |
//!
//! All of it travels in the headers, of which many clients take 8 KiB: so long texts are cut.

use prost::Message;
use prost_types::Any;
use tonic_types::{
    BadRequest, ErrorInfo, RetryInfo,
    pb::{self, bad_request::FieldViolation},
};

use crate::{Code, ServiceError};

/// Whose reasons they are.
const DOMAIN: &str = "researchflow";
/// After this long whoever asks may try again, where something is not reached. The same as HTTP's `Retry-After`.
const TRY_AGAIN: prost_types::Duration = prost_types::Duration { seconds: 1, nanos: 0 };
/// Bytes of a message, and of each text in the details (which repeat it, in base64).
const MAX_MESSAGE: usize = 3_600;
const MAX_TEXT: usize = 900;

/// The status, with details.
pub(crate) fn status(error: ServiceError) -> tonic::Status {
    let code = error.code.grpc();
    let mut details = vec![any(
        ErrorInfo::TYPE_URL,
        &pb::ErrorInfo {
            reason: error.reason.unwrap_or_else(|| error.code.reason()).into(),
            domain: DOMAIN.into(),
            metadata: std::collections::HashMap::new(),
        },
    )];
    if let Some(field) = error.field {
        let rule = error
            .message
            .strip_prefix(&field)
            .and_then(|rest| rest.strip_prefix(": "))
            .unwrap_or(&error.message);
        let violation = FieldViolation {
            description: cut(rule, MAX_TEXT),
            field,
            ..FieldViolation::default()
        };
        details.push(any(
            BadRequest::TYPE_URL,
            &pb::BadRequest {
                field_violations: vec![violation],
            },
        ));
    }
    if error.code == Code::Unavailable {
        details.push(any(
            RetryInfo::TYPE_URL,
            &pb::RetryInfo {
                retry_delay: Some(TRY_AGAIN),
            },
        ));
    }
    let details = pb::Status {
        code: code.into(),
        message: cut(&error.message, MAX_TEXT),
        details,
    };
    tonic::Status::with_details(
        code,
        cut(&error.message, MAX_MESSAGE),
        details.encode_to_vec().into(),
    )
}

fn any(type_url: &str, message: &impl Message) -> Any {
    Any {
        type_url: type_url.into(),
        value: message.encode_to_vec(),
    }
}

/// The text, or as much of its beginning as there is room for. What is not of ASCII takes three times its bytes in a header.
fn cut(text: &str, room: usize) -> String {
    let mut taken = 0;
    let end = text.char_indices().find_map(|(at, letter)| {
        taken += if letter.is_ascii() {
            1
        } else {
            letter.len_utf8() * 3
        };
        (taken > room).then_some(at)
    });
    match end {
        None => text.to_owned(),
        Some(end) => format!("{} ... (cut)", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tonic_types::StatusExt as _;

    use super::*;

    #[test]
    fn a_field_that_breaks_a_rule_is_named_apart_from_the_rule() {
        let status = status(ServiceError::invalid("freshness.layers", "must be one of two"));
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        assert_eq!(status.message(), "freshness.layers: must be one of two");
        let details = status.get_error_details();
        let request = details.bad_request().expect("what is bad of the request");
        assert_eq!(request.field_violations[0].field, "freshness.layers");
        assert_eq!(request.field_violations[0].description, "must be one of two");
        let info = details.error_info().expect("a reason");
        assert_eq!(
            (info.reason.as_str(), info.domain.as_str()),
            ("INVALID_REQUEST", DOMAIN)
        );
        assert!(details.retry_info().is_none());
    }

    #[test]
    fn what_is_not_reached_may_be_tried_again_and_says_when() {
        let details = status(ServiceError::stopping()).get_error_details();
        assert_eq!(
            details.retry_info().and_then(|retry| retry.retry_delay),
            Some(Duration::from_secs(1))
        );
        assert_eq!(
            details.error_info().map(|info| info.reason.as_str()),
            Some("STOPPING")
        );
        assert!(details.bad_request().is_none());
    }

    #[test]
    fn long_texts_leave_room_in_the_headers() {
        for text in ["x".repeat(100_000), "\u{e4}".repeat(100_000)] {
            let mut headers = tonic::codegen::http::HeaderMap::new();
            status(ServiceError::invalid("definition_json", text))
                .add_header(&mut headers)
                .expect("texts of headers");
            let bytes: usize = headers
                .iter()
                .map(|(name, value)| name.as_str().len() + value.len() + 32)
                .sum();
            assert!(bytes < 8 * 1024, "{bytes}");
        }
    }

    #[test]
    fn reasons_differ() {
        let codes = [
            Code::Invalid,
            Code::NoSuchMethod,
            Code::Unauthenticated,
            Code::Forbidden,
            Code::NotFound,
            Code::Precondition,
            Code::UnsupportedMedia,
            Code::Unprocessable,
            Code::TooLarge,
            Code::Exhausted,
            Code::Unavailable,
            Code::DeadlineExceeded,
            Code::SlowRequest,
            Code::Unimplemented,
            Code::Cancelled,
            Code::DataLoss,
            Code::Internal,
        ];
        let reasons: std::collections::BTreeSet<&str> = codes.iter().map(|code| code.reason()).collect();
        assert_eq!(reasons.len(), codes.len());
    }
}
