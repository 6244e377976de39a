//! The section `[auth]`, the same for all daemons: who may call. Explained in `deploy/config/*.toml` and `docs/identity.md`.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, time::Duration};

use daemon::config::{Demands, seconds};
use reqwest::Url;
use serde::Deserialize;

use crate::{
    certificates::Certificates,
    issuer::{Source, Times},
    jwt::Rules,
    keys::SignatureAlgorithm,
    tokens::{self, StaticToken, Tokens},
};

/// The setting that names the file of tokens.
pub(crate) const TOKENS_FILE: &str = "auth.static_tokens_file";

/// `[auth]`. While it names nobody, everybody may do everything.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthConfig {
    static_tokens: Vec<StaticTokenConfig>,
    static_tokens_file: PathBuf,
    certificates: BTreeMap<String, Vec<String>>,
    jwt: Vec<JwtConfig>,
    #[serde(with = "seconds")]
    leeway_seconds: Duration,
    #[serde(with = "seconds")]
    max_lifetime_seconds: Duration,
    max_token_bytes: usize,
    #[serde(with = "seconds")]
    jwks_refresh_seconds: Duration,
    #[serde(with = "seconds")]
    jwks_retry_seconds: Duration,
    #[serde(with = "seconds")]
    jwks_stale_seconds: Duration,
    allow_insecure_jwks: bool,
}

/// `[[auth.static_tokens]]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct StaticTokenConfig {
    name: String,
    sha256: String,
    scopes: Vec<String>,
}

/// `[[auth.jwt]]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct JwtConfig {
    issuer: String,
    #[serde(default)]
    jwks_url: String,
    #[serde(default)]
    jwks_file: PathBuf,
    audiences: Vec<String>,
    #[serde(default = "all_algorithms")]
    algorithms: Vec<SignatureAlgorithm>,
}

fn all_algorithms() -> Vec<SignatureAlgorithm> {
    vec![
        SignatureAlgorithm::Rs384,
        SignatureAlgorithm::Es384,
        SignatureAlgorithm::EdDsa,
    ]
}

impl AuthConfig {
    /// Whether callers must prove who they are: as soon as anybody is named. A file of tokens counts, whatever it holds: an empty one lets nobody in.
    pub fn is_on(&self) -> bool {
        !(self.static_tokens.is_empty()
            && self.static_tokens_file.as_os_str().is_empty()
            && self.certificates.is_empty()
            && self.jwt.is_empty())
    }

    /// All that is wrong, each with the key and what to do; never a value.
    pub fn check(&self, demands: &mut Demands) {
        match (self.tokens(), self.tokens_file()) {
            (Err(wrong), _) => demands.demand(false, wrong),
            (Ok(tokens), Some(file)) => {
                if let Err(error) = Tokens::new(tokens).read(&file) {
                    demands.demand(false, format!("{TOKENS_FILE}: {error}"));
                }
            }
            (Ok(_), None) => {}
        }
        if let Err(wrong) = self.certificates() {
            demands.demand(false, wrong);
        }
        for (number, jwt) in self.jwt.iter().enumerate() {
            for wrong in self.wrong_with(jwt) {
                demands.demand(false, format!("auth.jwt: issuer {}: {wrong}", number + 1));
            }
        }
        let mut issuers: Vec<&str> = self.jwt.iter().map(|jwt| jwt.issuer.as_str()).collect();
        issuers.sort_unstable();
        demands.demand(
            issuers.windows(2).all(|pair| pair[0] != pair[1]),
            "auth.jwt: two sections have the same issuer: put their audiences into one",
        );
        for (key, holds, rule) in [
            (
                "leeway_seconds",
                self.leeway_seconds <= Duration::from_mins(10),
                "must be at most 600: set the machines' clocks",
            ),
            (
                "max_lifetime_seconds",
                !self.max_lifetime_seconds.is_zero(),
                "must be above 0",
            ),
            (
                "max_token_bytes",
                (256..=65_536).contains(&self.max_token_bytes),
                "must be 256 to 65536",
            ),
            (
                "jwks_refresh_seconds",
                self.jwks_refresh_seconds >= Duration::from_millis(100),
                "must be at least 0.1",
            ),
            (
                "jwks_retry_seconds",
                self.jwks_retry_seconds >= Duration::from_millis(100),
                "must be at least 0.1: anybody can name a key that is not there",
            ),
            (
                "jwks_stale_seconds",
                self.jwks_stale_seconds > self.jwks_refresh_seconds,
                "must be above auth.jwks_refresh_seconds",
            ),
        ] {
            demands.demand(holds, format!("auth.{key}: {rule}"));
        }
    }

    fn wrong_with<'a>(&'a self, jwt: &'a JwtConfig) -> impl Iterator<Item = String> + 'a {
        let mut wrong = Vec::new();
        if jwt.issuer.is_empty() {
            wrong.push("issuer: must be set, letter by letter as iss of its tokens has it".to_owned());
        }
        if jwt.audiences.is_empty() || jwt.audiences.iter().any(String::is_empty) {
            wrong.push("audiences: must name at least one, as aud of tokens for this service has it".into());
        }
        if jwt.algorithms.is_empty() {
            wrong.push("algorithms: must hold at least one of RS384, ES384, EdDSA".into());
        }
        if let Err(rule) = self.source(jwt) {
            wrong.push(rule);
        }
        wrong.into_iter()
    }

    fn source(&self, jwt: &JwtConfig) -> Result<Source, String> {
        let file = !jwt.jwks_file.as_os_str().is_empty();
        match (jwt.jwks_url.is_empty(), file) {
            (true, true) => return Ok(Source::File(jwt.jwks_file.clone())),
            (false, false) => {}
            _ => return Err("jwks_url, jwks_file: one of them must be set".into()),
        }
        let url = Url::parse(&jwt.jwks_url)
            .ok()
            .filter(|url| url.has_host() && url.password().is_none() && url.username().is_empty())
            .ok_or(
                "jwks_url: must be a URL such as https://issuer.example.org/jwks.json, without a password",
            )?;
        match url.scheme() {
            "https" => Ok(Source::Url(url)),
            "http" if self.allow_insecure_jwks || is_loopback(&url) => Ok(Source::Url(url)),
            _ => Err(
                "jwks_url: must be https, as whoever can change what comes can sign tokens (auth.allow_insecure_jwks allows http)"
                    .into(),
            ),
        }
    }

    pub(crate) fn tokens(&self) -> Result<Vec<StaticToken>, String> {
        let mut all = Vec::new();
        for (number, token) in self.static_tokens.iter().enumerate() {
            let scopes = token.scopes.iter().map(String::as_str);
            let made = StaticToken::new(&token.name, &token.sha256, scopes).and_then(|token| {
                all.push(token);
                tokens::distinct(&all)
            });
            made.map_err(|error| format!("auth.static_tokens: token {}: {error}", number + 1))?;
        }
        Ok(all)
    }

    pub(crate) fn tokens_file(&self) -> Option<PathBuf> {
        Some(self.static_tokens_file.clone()).filter(|path| !path.as_os_str().is_empty())
    }

    pub(crate) fn certificates(&self) -> Result<Certificates, String> {
        let mut known = BTreeMap::new();
        for (number, (name, scopes)) in self.certificates.iter().enumerate() {
            let granted = tokens::granted(scopes.iter().map(String::as_str));
            let granted =
                granted.map_err(|error| format!("auth.certificates: entry {}: {error}", number + 1))?;
            known.insert(name.clone(), granted);
        }
        Ok(Certificates(known))
    }

    /// Each issuer's rules, and where its keys are.
    pub(crate) fn issuers(&self) -> Result<Vec<(Rules, Source)>, String> {
        self.jwt
            .iter()
            .map(|jwt| {
                let rules = Rules {
                    issuer: jwt.issuer.clone(),
                    audiences: jwt.audiences.clone(),
                    algorithms: jwt.algorithms.clone(),
                    leeway: self.leeway_seconds.as_secs_f64(),
                    max_lifetime: self.max_lifetime_seconds.as_secs_f64(),
                };
                Ok((rules, self.source(jwt)?))
            })
            .collect()
    }

    pub(crate) fn times(&self) -> Times {
        Times {
            refresh: self.jwks_refresh_seconds,
            retry: self.jwks_retry_seconds,
            stale: self.jwks_stale_seconds,
        }
    }

    pub(crate) fn max_token_bytes(&self) -> usize {
        self.max_token_bytes
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || address
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests;
