//! What a run that compares everything tells of the runs before it: nothing should have differed but what has changed since the last of them.

use std::collections::HashSet;

use fhir_core::merge::Position;
use view_store::Run;

use crate::{hapi::Hapi, run::RunError};

/// Resources that differed though no change since the watermark before the run tells why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Differences {
    /// Gone: HAPI has no row of them, and had one (they were expunged, or lost by a restore).
    pub gone: u64,
    /// The others: tags came or went, they were created anew after being expunged, or a version was missed.
    pub changed: u64,
}

impl Differences {
    /// Of both kinds.
    pub fn total(self) -> u64 {
        self.gone + self.changed
    }
}

/// Of a run that has just been published: what it put right that an incremental run since `before` could not have found. `None` where HAPI's database is
/// not the one that `before` is a position of: then nothing is known of what should have been found.
///
/// What has changed since `before` is read once more, in a snapshot after the run's own, and only where something differed at all.
pub async fn differences(
    hapi: &Hapi,
    run: &mut Run,
    before: &Position,
) -> Result<Option<Differences>, RunError> {
    let differing = run.differing().await?;
    let mut differences = Differences::default();
    let explained: HashSet<String> = if differing.is_empty() {
        HashSet::new()
    } else {
        let mut snapshot = hapi.snapshot().await?;
        if snapshot.timeline != before.timeline {
            return Ok(None);
        }
        let resource_type = run.views().resource_type.clone();
        let changed = snapshot.changed_since(&resource_type, before, None, None).await?;
        changed.into_iter().collect()
    };
    for resource in differing.iter().filter(|d| !explained.contains(&d.id)) {
        if resource.gone {
            differences.gone += 1;
        } else {
            differences.changed += 1;
        }
    }
    Ok(Some(differences))
}
