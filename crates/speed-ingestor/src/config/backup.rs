//! `[backup]`: where backups go, when they come, how many are kept.

use std::{str::FromStr, time::Duration};

use chrono_tz::Tz;
use daemon::{
    Secret,
    config::{Demands, is_http_url, seconds},
};
use serde::Deserialize;

use super::LONGEST_SPAN;
use crate::backup::{BackupSettings, S3Settings, Schedule, TargetSettings, target};

/// Most backups that may be kept: each is looked for after each backup.
const MOST_KEPT: usize = 10_000;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BackupConfig {
    url: String,
    #[serde(with = "seconds")]
    interval_seconds: Duration,
    cron: String,
    time_zone: String,
    keep: usize,
    s3: S3Config,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct S3Config {
    endpoint: String,
    region: String,
    access_key_id: Secret,
    secret_access_key: Secret,
    session_token: Secret,
    allow_http: bool,
    kms_key_id: String,
}

impl BackupConfig {
    pub(super) fn validate(&self, demands: &mut Demands) {
        let s3 = &self.s3;
        demands.demand(
            self.url.is_empty() || target::is_usable(&self.url),
            "backup.url: must be a folder such as file:///var/backups/speed, a bucket such as s3://bucket/prefix, or \"\"",
        );
        if let Err(error) = self.schedule() {
            demands.demand(false, error);
        }
        demands.demand(
            self.interval_seconds <= LONGEST_SPAN,
            "backup.interval_seconds: must be at most 31622400, a year",
        );
        demands.demand(
            (1..=MOST_KEPT).contains(&self.keep),
            format!("backup.keep: must be from 1 to {MOST_KEPT}"),
        );
        demands.demand(
            s3.endpoint.is_empty() || is_http_url(&s3.endpoint),
            "backup.s3.endpoint: must be an address such as https://s3.internal:9000, or \"\" for that of AWS",
        );
        demands.demand(
            !s3.endpoint.starts_with("http://") || s3.allow_http,
            "backup.s3.endpoint: is without TLS: bodies and signatures would be readable on the way; use https, or allow it with backup.s3.allow_http = true",
        );
        demands.demand(!s3.region.is_empty(), "backup.s3.region: must be set");
        demands.demand(
            s3.access_key_id.expose().is_empty() == s3.secret_access_key.expose().is_empty(),
            "backup.s3.access_key_id, backup.s3.secret_access_key: must both be set, or neither",
        );
    }

    /// `None`: no backups are kept.
    pub(super) fn settings(&self) -> Option<BackupSettings> {
        let S3Config {
            endpoint,
            region,
            access_key_id,
            secret_access_key,
            session_token,
            allow_http,
            kms_key_id,
        } = self.s3.clone();
        (!self.url.is_empty()).then(|| BackupSettings {
            target: TargetSettings {
                url: self.url.clone(),
                s3: S3Settings {
                    endpoint,
                    region,
                    access_key_id,
                    secret_access_key,
                    session_token,
                    allow_http,
                    kms_key_id,
                },
            },
            // It was checked by `validate`.
            schedule: self.schedule().unwrap_or(Schedule::OnDemand),
            keep: self.keep,
        })
    }

    fn schedule(&self) -> Result<Schedule, String> {
        let zone = Tz::from_str(&self.time_zone).map_err(|_| {
            "backup.time_zone: is not the name of a time zone, such as UTC or Europe/Berlin".to_owned()
        })?;
        match self.cron.as_str() {
            "" => Ok(Schedule::every(self.interval_seconds)),
            cron => Schedule::cron(cron, zone).map_err(|error| format!("backup.cron: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::load;

    fn with(backup: &str) -> Result<super::super::SpeedConfig, String> {
        load(&format!("[webhook]\nsecret = \"s\"\n[backup]\n{backup}"))
    }

    #[test]
    fn no_backups_are_kept_unless_it_is_said_where() {
        assert!(with("").unwrap().backup_settings().is_none());
        let settings = with("url = \"s3://bucket/speed\"\n[backup.s3]\naccess_key_id = \"AKIA\"\nsecret_access_key = \"planted\"")
            .unwrap()
            .backup_settings()
            .unwrap();
        assert_eq!(settings.keep, 24);
        assert!(!format!("{settings:?}").contains("planted"));
    }

    #[test]
    fn all_that_is_wrong_is_said_with_its_key() {
        let error = with(
            "url = \"/var/backups\"\ncron = \"often\"\nkeep = 0\n[backup.s3]\nendpoint = \"http://127.0.0.1:9000\"\nsecret_access_key = \"planted\"",
        )
        .unwrap_err();
        for says in [
            "backup.url",
            "backup.cron",
            "backup.keep",
            "backup.s3.allow_http",
            "backup.s3.access_key_id",
        ] {
            assert!(error.contains(says), "{says}: {error}");
        }
        assert!(!error.contains("planted"), "{error}");
        assert!(
            with("time_zone = \"Mars/Olympus\"")
                .unwrap_err()
                .contains("backup.time_zone")
        );
    }
}
