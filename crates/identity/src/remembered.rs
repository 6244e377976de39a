//! Tokens whose signature has been checked already: checking one takes up to a millisecond (ES384), and an agent sends the same one with every call.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use crate::authenticator::Identity;

/// Tokens that are remembered at most; beyond that, all are forgotten.
const MOST: usize = 4_096;

/// By the SHA-256 of the token.
#[derive(Debug, Default)]
pub(crate) struct Remembered(Mutex<HashMap<[u8; 32], Checked>>);

#[derive(Debug, Clone)]
pub(crate) struct Checked {
    pub(crate) identity: Identity,
    /// Seconds since 1970.
    pub(crate) until: f64,
    /// Which issuer, and its keys by which it was checked: with others it must be checked again.
    pub(crate) issuer: usize,
    pub(crate) keys: u64,
}

impl Remembered {
    /// Whose token it is, unless its time is over or the keys of its issuer are other ones by now (`keys`: those of an issuer, `None` if they must not be used).
    pub(crate) fn holder(
        &self,
        digest: &[u8; 32],
        now: f64,
        keys: impl Fn(usize) -> Option<u64>,
    ) -> Option<Identity> {
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let checked = tokens.get(digest)?;
        if now < checked.until && keys(checked.issuer) == Some(checked.keys) {
            return Some(checked.identity.clone());
        }
        tokens.remove(digest);
        None
    }

    pub(crate) fn remember(&self, digest: [u8; 32], checked: Checked) {
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.len() >= MOST {
            tokens.clear();
        }
        tokens.insert(digest, checked);
    }
}

#[cfg(test)]
mod tests {
    use daemon::{Principal, Proof};

    use super::*;
    use crate::Grants;

    #[test]
    fn a_token_is_forgotten_with_its_time_and_with_its_issuers_keys() {
        let remembered = Remembered::default();
        let principal = Principal {
            name: "a".into(),
            proof: Proof::Jwt,
        };
        let identity = Identity {
            principal,
            grants: Grants::of([]),
        };
        let put = || {
            remembered.remember(
                [1; 32],
                Checked {
                    identity: identity.clone(),
                    until: 100.0,
                    issuer: 0,
                    keys: 7,
                },
            );
        };
        let is_known = |now: f64, keys: Option<u64>| remembered.holder(&[1; 32], now, |_| keys).is_some();
        put();
        assert!(is_known(99.9, Some(7)));
        assert!(
            !is_known(100.0, Some(7)) && !is_known(1.0, Some(7)),
            "its time is over for good"
        );
        put();
        assert!(!is_known(1.0, Some(8)));
        put();
        assert!(!is_known(1.0, None));
        for number in 0..=MOST {
            let mut digest = [0; 32];
            digest[..8].copy_from_slice(&number.to_be_bytes());
            remembered.remember(
                digest,
                Checked {
                    identity: identity.clone(),
                    until: 100.0,
                    issuer: 0,
                    keys: 7,
                },
            );
        }
        assert!(remembered.0.lock().expect("no panic").len() <= MOST);
    }
}
