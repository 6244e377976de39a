//! The caller's deadline: the header `grpc-timeout`, which says how long the caller will wait from now on.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName};

const HEADER: HeaderName = HeaderName::from_static("grpc-timeout");
/// gRPC's bound on the digits.
const MAX_DIGITS: usize = 8;

/// How long the caller waits; `None` where it has not said so. A text that is no timeout is an error: whoever sends it believes that there is a deadline.
pub fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, NoTimeout> {
    headers
        .get(HEADER)
        .map(|value| value.to_str().ok().and_then(read).ok_or(NoTimeout))
        .transpose()
}

/// The header cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 8 digits and one of H, M, S, m, u, n")]
pub struct NoTimeout;

fn read(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let right = (1..=MAX_DIGITS).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    let value: u64 = digits.parse().ok().filter(|_| right)?;
    Some(match unit {
        "H" => Duration::from_hours(value),
        "M" => Duration::from_mins(value),
        "S" => Duration::from_secs(value),
        "m" => Duration::from_millis(value),
        "u" => Duration::from_micros(value),
        "n" => Duration::from_nanos(value),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_are_read_as_grpc_writes_them() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(HEADER, text.parse().expect("ascii"));
            timeout(&headers)
        };
        assert_eq!(read("250m"), Ok(Some(Duration::from_millis(250))));
        assert_eq!(read("99999999H"), Ok(Some(Duration::from_hours(99_999_999))));
        assert_eq!(read("5S"), Ok(Some(Duration::from_secs(5))));
        for bad in ["123456789S", "S", "", "5 s", "+5S", "-5S", "5", "5s"] {
            assert_eq!(read(bad), Err(NoTimeout), "{bad}");
        }
        assert_eq!(timeout(&HeaderMap::new()), Ok(None));
    }
}
