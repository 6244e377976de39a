//! A JWT as an access token (RFC 7519; RFC 9068 for its claims): what it says, once everything about it holds. Pure: keys and time are given.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Validation, errors::ErrorKind};
use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    Grants, Refusal, crypto,
    keys::{Key, SignatureAlgorithm},
};

/// Bytes of a name at most: it stands in the audit.
const MAX_NAME: usize = 256;

/// What is demanded of an issuer's tokens.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    /// `iss`, letter by letter.
    pub issuer: String,
    /// `aud` must hold one of them.
    pub audiences: Vec<String>,
    /// What they may be signed with.
    pub algorithms: Vec<SignatureAlgorithm>,
    /// How far its clock and ours may be apart, in seconds.
    pub leeway: f64,
    /// From `iat` (else from now) to `exp` at most, in seconds.
    pub max_lifetime: f64,
}

/// What a token says of itself, before anything of it is believed: which issuer's key is to be looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claimed {
    /// `iss`
    pub issuer: String,
    /// `alg`
    pub algorithm: SignatureAlgorithm,
    /// `kid`
    pub key: Option<String>,
}

/// A token that holds.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    /// `sub`, else `client_id`.
    pub name: Arc<str>,
    /// By its scopes.
    pub grants: Grants,
    /// `exp` and the leeway, in seconds since 1970: from then on it no longer holds.
    pub until: f64,
}

#[derive(Deserialize)]
struct Head {
    alg: String,
    kid: Option<String>,
}

#[derive(Deserialize)]
struct Issuer {
    iss: Option<String>,
}

/// One text, or several.
#[derive(Debug, Default, Deserialize)]
#[serde(untagged)]
enum Texts {
    #[default]
    None,
    One(String),
    Several(Vec<String>),
}

impl Texts {
    fn iter(&self) -> impl Iterator<Item = &str> {
        let texts = match self {
            Self::None => &[],
            Self::One(text) => std::slice::from_ref(text),
            Self::Several(texts) => texts.as_slice(),
        };
        texts.iter().map(String::as_str)
    }
}

/// Times are seconds since 1970, and may have a fraction (RFC 7519, `NumericDate`).
#[derive(Deserialize)]
struct Claims {
    iss: Option<String>,
    sub: Option<String>,
    client_id: Option<String>,
    #[serde(default)]
    aud: Texts,
    exp: Option<f64>,
    nbf: Option<f64>,
    iat: Option<f64>,
    /// RFC 8693: with blanks between them. Some servers send a list.
    #[serde(default)]
    scope: Texts,
    /// What some servers call it.
    #[serde(default)]
    scp: Texts,
}

/// Whether a token has a JWT's form: three parts.
pub(crate) fn looks_like_one(token: &str) -> bool {
    token.bytes().filter(|byte| *byte == b'.').count() == 2
}

/// Reads what a token says of itself.
pub(crate) fn claimed(token: &str) -> Result<Claimed, Refusal> {
    let mut parts = token.split('.');
    let (Some(head), Some(claims), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Refusal::Malformed);
    };
    let head: Head = part(head)?;
    let algorithm = SignatureAlgorithm::named(&head.alg).ok_or(Refusal::Algorithm)?;
    let issuer: Issuer = part(claims)?;
    Ok(Claimed {
        issuer: issuer.iss.ok_or(Refusal::Issuer)?,
        algorithm,
        key: head.kid,
    })
}

fn part<T: DeserializeOwned>(text: &str) -> Result<T, Refusal> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| Refusal::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| Refusal::Malformed)
}

/// Checks a token by a key of its issuer, `now` in seconds since 1970: signature first, then what it claims.
pub(crate) fn check(token: &str, key: &Key, rules: &Rules, now: f64) -> Result<Held, Refusal> {
    if !rules.algorithms.contains(&key.algorithm) {
        return Err(Refusal::Algorithm);
    }
    crypto::install();
    let mut only_the_signature = Validation::new(key.algorithm.of_library());
    // Claims are checked below: by a clock that a test can set, and with a refusal for each.
    only_the_signature.required_spec_claims.clear();
    only_the_signature.validate_exp = false;
    only_the_signature.validate_aud = false;
    let decoded = jsonwebtoken::decode::<Claims>(token, &key.decoding, &only_the_signature);
    let claims = decoded.map_err(|error| refusal(error.kind()))?.claims;
    if claims.iss.as_deref() != Some(&rules.issuer) {
        return Err(Refusal::Issuer);
    }
    let meant = |audience: &str| rules.audiences.iter().any(|ours| ours == audience);
    if !claims.aud.iter().any(meant) {
        return Err(Refusal::Audience);
    }
    let until = in_time(&claims, rules, now)?;
    let name = [&claims.sub, &claims.client_id]
        .into_iter()
        .flatten()
        .find(|name| !name.is_empty())
        .ok_or(Refusal::Subject)?;
    if name.len() > MAX_NAME || name.chars().any(char::is_control) {
        return Err(Refusal::Subject);
    }
    let scopes = claims.scope.iter().chain(claims.scp.iter());
    Ok(Held {
        name: name.as_str().into(),
        grants: Grants::of(
            scopes
                .flat_map(|scopes| scopes.split(' '))
                .filter(|scope| !scope.is_empty()),
        ),
        until,
    })
}

/// Until when it holds.
fn in_time(claims: &Claims, rules: &Rules, now: f64) -> Result<f64, Refusal> {
    let expires = claims.exp.ok_or(Refusal::Lifetime)?;
    let until = expires + rules.leeway;
    if now >= until {
        return Err(Refusal::Expired);
    }
    for begins in [claims.nbf, claims.iat].into_iter().flatten() {
        if begins > now + rules.leeway {
            return Err(Refusal::NotYet);
        }
    }
    let lifetime = expires - claims.iat.unwrap_or(now - rules.leeway);
    if lifetime > rules.max_lifetime {
        return Err(Refusal::Lifetime);
    }
    Ok(until)
}

fn refusal(kind: &ErrorKind) -> Refusal {
    match kind {
        ErrorKind::InvalidSignature => Refusal::Signature,
        // A key that fits no signature, such as an RSA key that is too short, fits this one neither.
        ErrorKind::InvalidKeyFormat | ErrorKind::InvalidRsaKey(_) | ErrorKind::InvalidEcdsaKey => {
            Refusal::Signature
        }
        ErrorKind::InvalidAlgorithm | ErrorKind::UnsupportedAlgorithm => Refusal::Algorithm,
        _ => Refusal::Malformed,
    }
}
