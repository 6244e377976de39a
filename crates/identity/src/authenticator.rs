//! From what a request shows to who sent it.

use std::sync::Arc;

use axum::http::{Extensions, HeaderMap, header};
use daemon::{Clock, ConfigError, Principal, Proof, Shutdown, metrics::Metrics, mounted};
use sha2::{Digest as _, Sha256};

use crate::{
    AuthConfig, Grants, Refusal,
    certificates::Certificates,
    config::TOKENS_FILE,
    issuer::Issuer,
    jwt,
    measures::Measures,
    remembered::{Checked, Remembered},
    tokens::Tokens,
};

/// A caller who has proved who it is.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Who.
    pub principal: Principal,
    /// What it may do.
    pub grants: Grants,
}

/// Believes callers, or refuses them.
pub struct Authenticator {
    tokens: Tokens,
    certificates: Certificates,
    issuers: Vec<Arc<Issuer>>,
    remembered: Remembered,
    max_token_bytes: usize,
    clock: Arc<dyn Clock>,
    pub(crate) measures: Measures,
}

impl Authenticator {
    /// As configured; keys are fetched, and files followed, until the stop. Needs a tokio runtime.
    pub fn start(
        config: &AuthConfig,
        clock: Arc<dyn Clock>,
        metrics: &Metrics,
        shutdown: &Shutdown,
    ) -> Result<Self, ConfigError> {
        let unusable = |wrong: String| ConfigError::Invalid(vec![wrong]);
        let measures = Measures::register(metrics);
        let tokens = Tokens::new(config.tokens().map_err(unusable)?);
        if let Some(file) = config.tokens_file() {
            let read = tokens
                .read(&file)
                .map_err(|error| unusable(format!("{TOKENS_FILE}: {error}")))?;
            let kept = tokens.clone();
            let take = move |bytes: &[u8]| kept.take(bytes);
            shutdown.spawn(mounted::follow(TOKENS_FILE, file, read, take, shutdown.clone()));
        }
        let mut issuers = Vec::new();
        for (rules, source) in config.issuers().map_err(unusable)? {
            let issuer = Issuer::new(rules, source, config.times(), measures.clone())
                .map_err(|_| unusable("auth.jwt: no client of HTTP can be made".into()))?;
            let issuer = Arc::new(issuer);
            shutdown.spawn(issuer.clone().keep(shutdown.clone()));
            issuers.push(issuer);
        }
        Ok(Self {
            tokens,
            certificates: config.certificates().map_err(unusable)?,
            issuers,
            remembered: Remembered::default(),
            max_token_bytes: config.max_token_bytes(),
            clock,
            measures,
        })
    }

    /// Who sent a request: by its token; where it shows none, by the certificate of its connection.
    pub async fn identify(&self, headers: &HeaderMap, extensions: &Extensions) -> Result<Identity, Refusal> {
        match bearer(headers)? {
            Some(token) => self.holder(token).await,
            None => self.certificates.holder(extensions).ok_or(Refusal::Missing),
        }
    }

    async fn holder(&self, token: &str) -> Result<Identity, Refusal> {
        if token.len() > self.max_token_bytes {
            return Err(Refusal::TooLong);
        }
        let digest: [u8; 32] = Sha256::digest(token).into();
        if let Some(identity) = self.tokens.holder(&digest) {
            return Ok(identity);
        }
        if self.issuers.is_empty() || !jwt::looks_like_one(token) {
            return Err(Refusal::UnknownToken);
        }
        let keys = |issuer: usize| self.issuers.get(issuer).and_then(|issuer| issuer.generation());
        if let Some(identity) = self.remembered.holder(&digest, self.now(), keys) {
            return Ok(identity);
        }
        let claimed = jwt::claimed(token)?;
        let (number, issuer) = self
            .issuers
            .iter()
            .enumerate()
            .find(|(_, issuer)| issuer.rules().issuer == claimed.issuer)
            .ok_or(Refusal::Issuer)?;
        if !issuer.rules().algorithms.contains(&claimed.algorithm) {
            return Err(Refusal::Algorithm);
        }
        let (key, generation) = issuer.key(claimed.key.as_deref(), claimed.algorithm).await?;
        let held = jwt::check(token, &key, issuer.rules(), self.now())?;
        let identity = Identity {
            principal: Principal {
                name: held.name,
                proof: Proof::Jwt,
            },
            grants: held.grants,
        };
        self.remembered.remember(
            digest,
            Checked {
                identity: identity.clone(),
                until: held.until,
                issuer: number,
                keys: generation,
            },
        );
        Ok(identity)
    }

    /// Seconds since 1970.
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of this millennium fit")]
    fn now(&self) -> f64 {
        self.clock.now().timestamp_millis() as f64 / 1_000.0
    }
}

/// The one bearer token that is shown (RFC 6750), if `Authorization` is there at all.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = match (values.next(), values.next()) {
        (None, _) => return Ok(None),
        (Some(value), None) => value.to_str().map_err(|_| Refusal::NotBearer)?,
        (Some(_), Some(_)) => return Err(Refusal::NotBearer),
    };
    let (scheme, token) = value.split_once(' ').ok_or(Refusal::NotBearer)?;
    let token = token.trim_matches(' ');
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() || token.contains(' ') {
        return Err(Refusal::NotBearer);
    }
    Ok(Some(token))
}
