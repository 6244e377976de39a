//! The shared secret that HAPI sends in a header of each delivery, compared in constant time.

use axum::http::{HeaderMap, HeaderName, header};
use daemon::Secret;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// What a delivery must show. Two values may be good at once, so that a secret can be changed without a refused delivery.
#[derive(Clone)]
pub struct SharedSecret {
    header: HeaderName,
    /// SHA-256 of the whole header values that are good: equally long, whatever the secret's length.
    accepted: Vec<[u8; 32]>,
    /// The value that our Subscription makes HAPI send.
    current: Secret,
}

impl SharedSecret {
    /// In `Authorization` the secret stands behind `Bearer `, in any other header alone.
    pub fn new(header: HeaderName, current: &Secret, previous: Option<&Secret>) -> Self {
        let value = |secret: &Secret| {
            if header == header::AUTHORIZATION {
                format!("Bearer {}", secret.expose())
            } else {
                secret.expose().to_owned()
            }
        };
        let accepted = [Some(current), previous]
            .into_iter()
            .flatten()
            .map(|secret| Sha256::digest(value(secret)).into())
            .collect();
        Self {
            current: Secret::new(value(current)),
            accepted,
            header,
        }
    }

    /// Whether these headers show a good secret.
    pub fn is_shown(&self, headers: &HeaderMap) -> bool {
        let Some(shown) = headers.get(&self.header) else {
            return false;
        };
        let shown: [u8; 32] = Sha256::digest(shown.as_bytes()).into();
        let good = self
            .accepted
            .iter()
            .fold(subtle::Choice::from(0), |good, accepted| {
                good | accepted.ct_eq(&shown)
            });
        good.into()
    }

    /// Name of the header.
    pub fn header(&self) -> &HeaderName {
        &self.header
    }

    /// The header line that HAPI is to send, `Name: value`.
    pub fn header_line(&self) -> Secret {
        let name = if self.header == header::AUTHORIZATION {
            "Authorization"
        } else {
            self.header.as_str()
        };
        Secret::new(format!("{name}: {}", self.current.expose()))
    }
}

impl std::fmt::Debug for SharedSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedSecret")
            .field("header", &self.header)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(HeaderName::from_static(name), value.parse().unwrap())])
    }

    #[test]
    fn the_present_and_the_previous_secret_are_good_and_no_other() {
        let secret = SharedSecret::new(
            header::AUTHORIZATION,
            &Secret::new("new"),
            Some(&Secret::new("old")),
        );
        assert!(secret.is_shown(&shown("authorization", "Bearer new")));
        assert!(secret.is_shown(&shown("authorization", "Bearer old")));
        for wrong in ["Bearer ne", "Bearer new ", "bearer new", "new", ""] {
            assert!(!secret.is_shown(&shown("authorization", wrong)), "{wrong:?}");
        }
        assert!(!secret.is_shown(&shown("x-secret", "Bearer new")));
        assert_eq!(secret.header_line().expose(), "Authorization: Bearer new");
    }

    #[test]
    fn a_header_of_its_own_holds_the_secret_alone() {
        let secret = SharedSecret::new(HeaderName::from_static("x-researchflow"), &Secret::new("s"), None);
        assert!(secret.is_shown(&shown("x-researchflow", "s")));
        assert_eq!(secret.header_line().expose(), "x-researchflow: s");
        assert!(!format!("{secret:?}").contains("Bearer"));
    }
}
