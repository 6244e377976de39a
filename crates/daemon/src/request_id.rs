//! The id of a request, of HTTP and of gRPC alike: what a caller can find its request by in our logs, and we in its.

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::http::{HeaderMap, HeaderName, HeaderValue};

/// The header, or key of gRPC's metadata, of request and answer.
pub const HEADER: HeaderName = HeaderName::from_static("x-request-id");
/// The longest id that is taken over.
const MAX_ID: usize = 64;
/// Seeded by the operating system: ids of two daemons differ.
static SEED: LazyLock<RandomState> = LazyLock::new(RandomState::new);
static NEXT: AtomicU64 = AtomicU64::new(0);

/// The caller's id of the request if it is a plain word of letters, digits, `-`, `_` and `.`, else one of our own. It goes into log lines and into the answer,
/// and is believed in nothing.
pub fn of(headers: &HeaderMap) -> HeaderValue {
    let plain = |id: &&HeaderValue| {
        let word = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        (1..=MAX_ID).contains(&id.len()) && id.as_bytes().iter().all(word)
    };
    if let Some(id) = headers.get(HEADER).filter(plain) {
        return id.clone();
    }
    HeaderValue::from_str(&format!("{:016x}", random())).unwrap_or(HeaderValue::from_static("unknown"))
}

/// A number that nobody else has: for names, not for secrets.
pub(crate) fn random() -> u64 {
    SEED.hash_one(NEXT.fetch_add(1, Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_of_the_caller_is_taken_over_if_it_is_a_plain_word() {
        let with = |id: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(HEADER, HeaderValue::from_str(id).expect("a value"));
            of(&headers)
        };
        assert_eq!(with("a-1_B.c"), "a-1_B.c");
        assert_ne!(with("Doe, Jane"), "Doe, Jane");
        assert_ne!(with(&"x".repeat(65)), "x".repeat(65).as_str());
        assert_ne!(of(&HeaderMap::new()), of(&HeaderMap::new()));
    }
}
