//! The section `[audit]`, of all daemons alike; the keys are explained in `deploy/config/serving-gateway.toml`.

use std::{path::PathBuf, time::Duration};

use axum::http::HeaderValue;
use daemon::{
    Secret,
    config::{Demands, is_http_url, seconds},
};
use serde::Deserialize;

use crate::{
    fhir,
    keys::Keys,
    log::{self, Fsync},
};

/// What is done with an operation that cannot be recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OnFailure {
    /// It is refused.
    Refuse,
    /// It is done; records wait for as long as there is room, and are counted when they are lost.
    Continue,
}

/// Whether callers must say what they ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Purpose {
    Required,
    Optional,
}

/// The section.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditConfig {
    file: PathBuf,
    pub(crate) key_file: PathBuf,
    pub(crate) on_failure: OnFailure,
    purpose: Purpose,
    pub(crate) fsync: Fsync,
    pub(crate) rotate_bytes: u64,
    #[serde(deserialize_with = "daemon::config::words")]
    pub(crate) layers: Vec<String>,
    pub(crate) queue: usize,
    #[serde(with = "seconds")]
    pub(crate) patience_seconds: Duration,
    pub(crate) fhir: FhirConfig,
}

/// `[audit.fhir]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FhirConfig {
    url: String,
    spool: PathBuf,
    authorization: Secret,
    authorization_file: PathBuf,
    max_spool_bytes: u64,
}

impl AuditConfig {
    /// Whether anything is recorded.
    pub fn is_on(&self) -> bool {
        self.file().is_some() || !self.fhir.url.is_empty()
    }

    /// What cannot be used, the files too: they are looked at, and nothing is left behind.
    pub fn check(&self, demands: &mut Demands) {
        self.fhir.check(demands);
        demands.demand(
            (16..=1_000_000).contains(&self.queue),
            "audit.queue: must be from 16 to 1000000",
        );
        demands.demand(
            (Duration::from_millis(10)..=Duration::from_mins(1)).contains(&self.patience_seconds),
            "audit.patience_seconds: must be from 0.01 to 60",
        );
        if !self.is_on() {
            for (key, asks) in [
                ("on_failure = \"refuse\"", self.on_failure == OnFailure::Refuse),
                ("purpose = \"required\"", self.purpose_is_required()),
            ] {
                demands.demand(
                    !asks,
                    format!("audit: {key} needs an audit: set audit.file or audit.fhir.url"),
                );
            }
            return;
        }
        if self.key_file.as_os_str().is_empty() {
            demands.demand(false, "audit.key_file: must be set where there is an audit: values are recorded as hashes under a key");
        } else if let Err(error) = Keys::read(&self.key_file) {
            demands.demand(false, format!("audit.key_file: {error}"));
        }
        if let Some(file) = self.file()
            && let Err(error) = log::could_write(&file)
        {
            demands.demand(false, format!("audit.file: {error}"));
        }
    }

    pub(crate) fn file(&self) -> Option<PathBuf> {
        Some(self.file.clone()).filter(|file| !file.as_os_str().is_empty())
    }

    pub(crate) fn purpose_is_required(&self) -> bool {
        self.purpose == Purpose::Required
    }
}

impl FhirConfig {
    fn check(&self, demands: &mut Demands) {
        let on = !self.url.is_empty();
        demands.demand(
            !on || is_http_url(&self.url),
            "audit.fhir.url: must be the base of HAPI's REST, such as http://127.0.0.1:8080/fhir, or \"\"",
        );
        demands.demand(
            HeaderValue::from_str(self.authorization.expose()).is_ok(),
            "audit.fhir.authorization: must be what a header can hold: visible ASCII and spaces, such as \"Bearer ...\"",
        );
        demands.demand(
            self.authorization.expose().is_empty() || self.authorization_file.as_os_str().is_empty(),
            "audit.fhir.authorization_file: only one of it and audit.fhir.authorization may be set",
        );
        demands.demand(
            self.max_spool_bytes >= 1024 * 1024,
            "audit.fhir.max_spool_bytes: must be at least 1048576",
        );
        if on {
            let spool = std::fs::metadata(&self.spool);
            demands.demand(
                spool.is_ok_and(|spool| spool.is_dir() && !spool.permissions().readonly()),
                "audit.fhir.spool: must be a folder of this daemon's own, in which it may write: records wait there for HAPI",
            );
        }
    }

    pub(crate) fn settings(&self) -> Option<fhir::Settings> {
        let authorization = if !self.authorization_file.as_os_str().is_empty() {
            fhir::Authorization::File(self.authorization_file.clone())
        } else if self.authorization.expose().is_empty() {
            fhir::Authorization::None
        } else {
            fhir::Authorization::Fixed(self.authorization.clone())
        };
        (!self.url.is_empty()).then(|| fhir::Settings {
            base: self.url.trim_end_matches('/').to_owned(),
            authorization,
            spool: self.spool.clone(),
            max_spool_bytes: self.max_spool_bytes,
        })
    }
}
