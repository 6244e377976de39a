//! What a backup consists of.

use chrono::{DateTime, Utc};
use fhir_core::merge::Position;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::{Malformed, Sum, hex};

/// The form that this release writes, and the latest that it can read.
pub const FORMAT: u32 = 1;

/// What a backup consists of; written last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`]
    pub format: u32,
    /// Of the backup.
    pub name: String,
    /// When it was begun.
    pub created_at: DateTime<Utc>,
    /// Of speed-ingestor.
    pub service_version: String,
    /// In the order of their names.
    pub types: Vec<TypeSaved>,
}

/// An object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypeSaved {
    /// Resource type.
    pub resource_type: String,
    /// Beside the manifest.
    pub object: String,
    /// Length of the object.
    pub bytes: u64,
    /// Of the object, in hexadecimal.
    pub sha256: String,
    /// Lines.
    pub readings: u64,
    /// The highest number of a reading; 0 without any.
    pub highest_n: i64,
    /// The tail's last finished reading, as it was before the readings were read.
    pub mark: Option<MarkSaved>,
}

/// A position.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarkSaved {
    n: i64,
    as_of: DateTime<Utc>,
    bound: DateTime<Utc>,
    xmin: u64,
    timeline: String,
}

#[derive(Serialize, Deserialize)]
struct Sealed<'a> {
    #[serde(borrow)]
    manifest: &'a RawValue,
    sha256: String,
}

impl Manifest {
    /// As it is written: with a sum of its own.
    pub fn seal(&self) -> serde_json::Result<Vec<u8>> {
        let manifest = serde_json::value::to_raw_value(self)?;
        let sha256 = hex(&Sha256::digest(manifest.get()));
        serde_json::to_vec(&Sealed {
            manifest: &manifest,
            sha256,
        })
    }

    /// From what was written.
    pub fn open(text: &[u8]) -> Result<Self, Malformed> {
        let broken = Malformed("it is not a manifest");
        let sealed: Sealed = serde_json::from_slice(text).map_err(|_| broken)?;
        if hex(&Sha256::digest(sealed.manifest.get())) != sealed.sha256 {
            return Err(Malformed("its SHA-256 is another one"));
        }
        serde_json::from_str(sealed.manifest.get()).map_err(|_| broken)
    }

    /// Readings of all types.
    pub fn readings(&self) -> u64 {
        self.types.iter().map(|of| of.readings).sum()
    }

    /// Bytes of all objects.
    pub fn bytes(&self) -> u64 {
        self.types.iter().map(|of| of.bytes).sum()
    }
}

impl TypeSaved {
    /// What the object must be.
    pub fn sum(&self) -> Sum {
        Sum {
            bytes: self.bytes,
            sha256: self.sha256.clone(),
            readings: self.readings,
        }
    }
}

impl From<Position> for MarkSaved {
    fn from(position: Position) -> Self {
        let Position {
            n,
            as_of,
            bound,
            xmin,
            timeline,
        } = position;
        Self {
            n,
            as_of,
            bound,
            xmin,
            timeline,
        }
    }
}

impl From<MarkSaved> for Position {
    fn from(mark: MarkSaved) -> Self {
        let MarkSaved {
            n,
            as_of,
            bound,
            xmin,
            timeline,
        } = mark;
        Self {
            n,
            as_of,
            bound,
            xmin,
            timeline,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_that_was_changed_is_none() {
        let at = DateTime::from_timestamp_micros(1_700_000_000_123_456).unwrap();
        let manifest = Manifest {
            format: FORMAT,
            name: "20261128T030000120Z-0123456789abcdef".into(),
            created_at: at,
            service_version: "0.1.0".into(),
            types: vec![TypeSaved {
                resource_type: "Patient".into(),
                object: "Patient.ndjson.gz".into(),
                bytes: 20,
                sha256: "00".into(),
                readings: 3,
                highest_n: 1 << 52,
                mark: Some(MarkSaved {
                    n: 17,
                    as_of: at,
                    bound: at,
                    xmin: u64::MAX,
                    timeline: "7300/1".into(),
                }),
            }],
        };
        let sealed = manifest.seal().unwrap();
        assert_eq!(Manifest::open(&sealed).unwrap(), manifest);
        let changed = String::from_utf8(sealed.clone()).unwrap().replace("17", "18");
        assert!(Manifest::open(changed.as_bytes()).is_err());
        for end in 0..sealed.len() {
            assert!(Manifest::open(&sealed[..end]).is_err(), "{end}");
        }
    }
}
