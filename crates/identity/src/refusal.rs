//! Why a caller is not believed. No error holds anything of what was shown: it may be the secret itself.

use api::{Code, ServiceError};

/// Why a caller is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// Nothing was shown.
    #[error("credentials are needed: send authorization: Bearer <token>")]
    Missing,
    /// Something else than one bearer token was shown.
    #[error("authorization: must be given once, as Bearer <token>")]
    NotBearer,
    /// Longer than `auth.max_token_bytes`.
    #[error("the token is longer than this service takes (auth.max_token_bytes)")]
    TooLong,
    /// Neither a static token that is known nor a JWT.
    #[error("the token is not known here")]
    UnknownToken,
    /// Looks like a JWT and cannot be read as one (RFC 7519, RFC 7515).
    #[error("the token cannot be read: it must be a signed JWT in compact form")]
    Malformed,
    /// Of an algorithm that its issuer is not to use: `none` and those with shared secrets are always refused.
    #[error("the token's algorithm is not one that is taken from its issuer (auth.jwt.algorithms)")]
    Algorithm,
    /// No issuer of `auth.jwt` has this `iss`.
    #[error("the token's issuer is not one that is taken here (auth.jwt.issuer)")]
    Issuer,
    /// None of the issuer's keys has this `kid`, or fits.
    #[error("the token is signed by a key that its issuer does not publish")]
    Key,
    /// The issuer's keys are not there, or older than is allowed: not the caller's fault.
    #[error("the keys of the token's issuer cannot be fetched: try again")]
    KeysAway,
    /// The signature does not fit.
    #[error("the token's signature does not fit")]
    Signature,
    /// `aud` has none of `auth.jwt.audiences`.
    #[error("the token is meant for another audience (auth.jwt.audiences)")]
    Audience,
    /// `exp` has passed.
    #[error("the token has expired: get a new one")]
    Expired,
    /// `nbf` or `iat` is to come.
    #[error("the token is not valid yet: are the clocks right?")]
    NotYet,
    /// It says no `exp`, or one that is too far away.
    #[error("the token must say when it expires, and live no longer than auth.max_lifetime_seconds")]
    Lifetime,
    /// Neither `sub` nor `client_id` names who it is.
    #[error("the token must name its holder in sub or client_id, in at most 256 printable characters")]
    Subject,
}

impl Refusal {
    /// As the metric's label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::NotBearer => "not_bearer",
            Self::TooLong => "too_long",
            Self::UnknownToken => "unknown_token",
            Self::Malformed => "malformed",
            Self::Algorithm => "algorithm",
            Self::Issuer => "issuer",
            Self::Key => "key",
            Self::KeysAway => "keys_away",
            Self::Signature => "signature",
            Self::Audience => "audience",
            Self::Expired => "expired",
            Self::NotYet => "not_yet",
            Self::Lifetime => "lifetime",
            Self::Subject => "subject",
        }
    }

    /// The reason as programs know it (`ErrorInfo`): few, as what a program can do differs little.
    fn reason(self) -> &'static str {
        match self {
            Self::Missing | Self::NotBearer => "CREDENTIALS_MISSING",
            Self::Expired => "TOKEN_EXPIRED",
            Self::NotYet => "TOKEN_NOT_YET_VALID",
            Self::KeysAway => "ISSUER_UNREACHABLE",
            _ => "TOKEN_REFUSED",
        }
    }
}

impl From<Refusal> for ServiceError {
    fn from(refusal: Refusal) -> Self {
        let code = match refusal {
            Refusal::KeysAway => Code::Unavailable,
            _ => Code::Unauthenticated,
        };
        Self::new(code, refusal.to_string()).because(refusal.reason())
    }
}
