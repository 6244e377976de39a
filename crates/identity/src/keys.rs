//! An issuer's public keys, from a JWK Set (RFC 7517): those that can check a signature of an algorithm that is taken here.

use jsonwebtoken::{
    DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::Value;

/// Keys of a set that are looked at: more are no set of one issuer.
const MAX_KEYS: usize = 100;

/// What a token may be signed with: what SMART Backend Services asks servers to take (RS384, ES384), and Ed25519.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
pub(crate) enum SignatureAlgorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-384; keys of 2,048 bits at least.
    #[serde(rename = "RS384")]
    Rs384,
    /// ECDSA over P-384 with SHA-384.
    #[serde(rename = "ES384")]
    Es384,
    /// Ed25519 (RFC 8037).
    #[serde(rename = "EdDSA")]
    EdDsa,
}

impl SignatureAlgorithm {
    /// By the name that a token's header has for it; `None` for every other one, `none` and those with shared secrets among them.
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "RS384" => Some(Self::Rs384),
            "ES384" => Some(Self::Es384),
            "EdDSA" => Some(Self::EdDsa),
            _ => None,
        }
    }

    pub(crate) fn of_library(self) -> jsonwebtoken::Algorithm {
        match self {
            Self::Rs384 => jsonwebtoken::Algorithm::RS384,
            Self::Es384 => jsonwebtoken::Algorithm::ES384,
            Self::EdDsa => jsonwebtoken::Algorithm::EdDSA,
        }
    }
}

/// A public key.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    /// As the set calls it.
    pub id: Option<String>,
    /// The one algorithm that it is used with: a key never decides that by what a token says.
    pub algorithm: SignatureAlgorithm,
    pub(crate) decoding: DecodingKey,
}

/// A text that is no set of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoKeys {
    /// Not JSON of the form `{"keys": [...]}`.
    #[error("is not a JWK Set: {{\"keys\": [...]}}")]
    NotASet,
    /// None of its keys is for signatures of `RS384`, `ES384` or `EdDSA` (Ed25519).
    #[error("has no public key for RS384, ES384 or EdDSA (Ed25519) with use \"sig\"")]
    NoneUsable,
    /// More than a hundred.
    #[error("has more than {MAX_KEYS} keys")]
    TooMany,
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Value>,
}

/// The usable keys of a set; others are left out, as a set may hold keys for other purposes.
pub(crate) fn usable(set: &[u8]) -> Result<Vec<Key>, NoKeys> {
    let set: Set = serde_json::from_slice(set).map_err(|_| NoKeys::NotASet)?;
    if set.keys.len() > MAX_KEYS {
        return Err(NoKeys::TooMany);
    }
    let keys: Vec<Key> = set.keys.into_iter().filter_map(usable_key).collect();
    if keys.is_empty() {
        return Err(NoKeys::NoneUsable);
    }
    Ok(keys)
}

/// The key that a token names, or the only one that fits where it names none.
pub(crate) fn choose<'a>(
    keys: &'a [Key],
    id: Option<&str>,
    algorithm: SignatureAlgorithm,
) -> Option<&'a Key> {
    let mut fit = keys
        .iter()
        .filter(|key| key.algorithm == algorithm)
        .filter(|key| id.is_none() || key.id.as_deref() == id);
    match (fit.next(), fit.next()) {
        (Some(key), None) => Some(key),
        // Two of one name, or no name at all: none is guessed.
        _ => None,
    }
}

fn usable_key(value: Value) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(value).ok()?;
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => SignatureAlgorithm::Rs384,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P384 => {
            SignatureAlgorithm::Es384
        }
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            SignatureAlgorithm::EdDsa
        }
        // Shared secrets among them: a set that holds one is no set of public keys.
        _ => return None,
    };
    let common = &jwk.common;
    let meant = match (common.key_algorithm, algorithm) {
        (None, _)
        | (Some(KeyAlgorithm::RS384), SignatureAlgorithm::Rs384)
        | (Some(KeyAlgorithm::ES384), SignatureAlgorithm::Es384)
        | (Some(KeyAlgorithm::EdDSA), SignatureAlgorithm::EdDsa) => true,
        (Some(_), _) => false,
    };
    let signs = common
        .public_key_use
        .as_ref()
        .is_none_or(|used| *used == PublicKeyUse::Signature);
    let verifies = common
        .key_operations
        .as_ref()
        .is_none_or(|operations| operations.contains(&KeyOperations::Verify));
    if !(meant && signs && verifies) {
        return None;
    }
    let decoding = DecodingKey::from_jwk(&jwk).ok()?;
    Some(Key {
        id: jwk.common.key_id,
        algorithm,
        decoding,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ed(id: &str) -> Value {
        json!({"kty": "OKP", "crv": "Ed25519", "kid": id, "use": "sig", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"})
    }

    fn set(keys: &[Value]) -> Vec<u8> {
        json!({"keys": keys, "further": 1.5}).to_string().into_bytes()
    }

    #[test]
    fn keys_for_signatures_are_taken_and_others_left_out() {
        let with = |name: &str, value: Value| {
            let mut key = ed("x");
            key[name] = value;
            key
        };
        for (left_out, what) in [
            (
                json!({"kty": "oct", "kid": "x", "k": "c2VjcmV0"}),
                "a shared secret",
            ),
            (with("use", json!("enc")), "for encryption"),
            (with("alg", json!("ES384")), "for another algorithm"),
            (with("alg", json!("HS256")), "for a shared secret"),
            (with("crv", json!("X25519")), "of another curve"),
            (with("key_ops", json!(["sign"])), "not to verify"),
            (with("x", json!("***")), "unreadable"),
            (
                json!({"kty": "EC", "crv": "P-256", "kid": "x", "x": "AA", "y": "AA"}),
                "P-256",
            ),
            (json!({"kty": "something new"}), "of another kind"),
            (json!("no key"), "no key"),
        ] {
            let keys = usable(&set(&[left_out.clone(), ed("good")])).expect("one is good");
            assert_eq!(keys.len(), 1, "{what}");
            assert_eq!(keys[0].id.as_deref(), Some("good"), "{what}");
            assert_eq!(
                usable(&set(&[left_out])).expect_err("none is"),
                NoKeys::NoneUsable,
                "{what}"
            );
        }
        let told = with("exp", json!(1_700_000_000));
        assert_eq!(
            usable(&set(&[told])).expect("numbers of others do no harm").len(),
            1
        );
    }

    #[test]
    fn what_is_no_set_is_refused() {
        for text in ["", "[]", "{}", "{\"keys\": 1}", "<html>"] {
            assert_eq!(usable(text.as_bytes()).expect_err(text), NoKeys::NotASet);
        }
        let many: Vec<Value> = (0..=MAX_KEYS).map(|number| ed(&number.to_string())).collect();
        assert_eq!(usable(&set(&many)).expect_err("too many"), NoKeys::TooMany);
    }

    #[test]
    fn a_key_is_chosen_by_its_name_and_never_guessed() {
        let keys = usable(&set(&[ed("a"), ed("b")])).expect("two");
        let of = |id| choose(&keys, id, SignatureAlgorithm::EdDsa).and_then(|key| key.id.as_deref());
        assert_eq!(of(Some("b")), Some("b"));
        assert_eq!(of(Some("c")), None);
        assert_eq!(of(None), None);
        assert!(choose(&keys, Some("a"), SignatureAlgorithm::Rs384).is_none());
        let one = usable(&set(&[ed("a")])).expect("one");
        assert!(choose(&one, None, SignatureAlgorithm::EdDsa).is_some());
        let twice = usable(&set(&[ed("a"), ed("a")])).expect("two");
        assert!(choose(&twice, Some("a"), SignatureAlgorithm::EdDsa).is_none());
    }
}
