//! Times and spans of the contracts.

use chrono::{DateTime, TimeDelta, Utc};

use crate::InvalidField;

/// A time as protobuf has it.
pub fn timestamp(at: DateTime<Utc>) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: at.timestamp(),
        nanos: i32::try_from(at.timestamp_subsec_nanos()).unwrap_or(0),
    }
}

/// A time from protobuf.
pub fn datetime(field: &'static str, at: &prost_types::Timestamp) -> Result<DateTime<Utc>, InvalidField> {
    u32::try_from(at.nanos)
        .ok()
        .and_then(|nanos| DateTime::from_timestamp(at.seconds, nanos))
        .ok_or_else(|| InvalidField::new(field, "is not a time between the years 1 and 9999"))
}

/// A required time from protobuf.
pub fn required_datetime(
    field: &'static str,
    at: Option<&prost_types::Timestamp>,
) -> Result<DateTime<Utc>, InvalidField> {
    datetime(field, crate::required(field, at)?)
}

/// A span as protobuf has it.
pub fn duration(span: TimeDelta) -> prost_types::Duration {
    prost_types::Duration {
        seconds: span.num_seconds(),
        nanos: span.subsec_nanos(),
    }
}

/// A span from protobuf; negative ones are refused.
pub fn span(field: &'static str, span: &prost_types::Duration) -> Result<TimeDelta, InvalidField> {
    u32::try_from(span.nanos)
        .ok()
        .and_then(|nanos| TimeDelta::new(span.seconds, nanos))
        .filter(|span| *span >= TimeDelta::zero())
        .ok_or_else(|| InvalidField::new(field, "must be a span of time that is not negative"))
}
