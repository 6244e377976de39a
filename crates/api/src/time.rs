//! Times and spans of the contracts.

use chrono::{DateTime, Datelike as _, TimeDelta, Utc};

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
        .filter(|at| (1..=9999).contains(&at.year()))
        .ok_or_else(|| InvalidField::new(field, "must be a time from the year 1 to the year 9999"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_of_the_years_that_protobuf_has() {
        let at = |seconds| datetime("since", &prost_types::Timestamp { seconds, nanos: 0 });
        let (first, last) = (-62_135_596_800, 253_402_300_799);
        assert!(at(first).is_ok() && at(last).is_ok());
        for outside in [first - 1, last + 1, i64::MIN, i64::MAX] {
            assert_eq!(at(outside).expect_err("outside").field, "since");
        }
    }
}
