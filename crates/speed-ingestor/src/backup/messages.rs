//! Backups as the service's messages have them.

use api::{proto::speed as proto, time};
use fhir_core::merge::{Mark, Position};

use super::{Backups, Listed, Restored, RestoredType, format::Manifest};
use crate::service::count;

impl Backups {
    /// As the status has it.
    pub fn status(&self) -> proto::BackupStatus {
        let last = self.last();
        proto::BackupStatus {
            url: self.url().to_owned(),
            last: last.backup.map(Into::into),
            last_seconds: last.seconds,
            next: last.next.map(time::timestamp),
            error: last.error.unwrap_or_default(),
        }
    }
}

impl From<Manifest> for proto::BackupInfo {
    fn from(manifest: Manifest) -> Self {
        Self {
            created: Some(time::timestamp(manifest.created_at)),
            readings: count(manifest.readings()),
            bytes: count(manifest.bytes()),
            types: manifest
                .types
                .into_iter()
                .map(|of| proto::BackupType {
                    resource_type: of.resource_type,
                    readings: count(of.readings),
                    bytes: count(of.bytes),
                    mark: of.mark.map(|mark| {
                        let Position { n, as_of, .. } = mark.into();
                        Mark { n, as_of }.into()
                    }),
                })
                .collect(),
            name: manifest.name,
            problem: String::new(),
        }
    }
}

impl From<Listed> for proto::BackupInfo {
    fn from(listed: Listed) -> Self {
        match listed.manifest {
            Ok(manifest) => manifest.into(),
            Err(problem) => Self {
                name: listed.name.to_string(),
                created: Some(time::timestamp(listed.name.at())),
                problem,
                ..Self::default()
            },
        }
    }
}

impl From<Restored> for proto::RestoreResponse {
    fn from(restored: Restored) -> Self {
        let sum = |of: fn(&RestoredType) -> u64| count(restored.types.iter().map(of).sum());
        Self {
            restored: sum(|of| of.restored),
            newer: sum(|of| of.newer),
            types: restored
                .types
                .iter()
                .map(|of| proto::RestoredType {
                    resource_type: of.resource_type.clone(),
                    restored: count(of.restored),
                    newer: count(of.newer),
                    same: count(of.same),
                    expired: count(of.expired),
                    not_needed: count(of.not_needed),
                    caught_up: count(of.caught_up),
                })
                .collect(),
            name: restored.name,
        }
    }
}
