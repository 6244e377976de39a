//! Whether a backup's numbers mean here what they meant where it was made.

use fhir_core::merge::Position;

use super::{BackupError, format::Manifest};

/// The newest of the positions: of a finished reading.
pub(super) fn newest<'a>(positions: impl IntoIterator<Item = &'a Position>) -> Option<&'a Position> {
    positions.into_iter().max_by_key(|position| position.n)
}

/// The highest number in a backup, of a reading or a mark.
pub(super) fn highest_n(manifest: &Manifest) -> i64 {
    let of_marks = marks(manifest).map(|mark| mark.n);
    let of_readings = manifest.types.iter().map(|of| of.highest_n);
    of_marks.chain(of_readings).max().unwrap_or_default()
}

/// Refuses a backup whose readings cannot be compared with those that the tail makes now: the later number must be the later snapshot, of one history.
pub(super) fn check(manifest: &Manifest, now: &Position) -> Result<(), BackupError> {
    let foreign = |what: &str| Err(BackupError::Foreign(what.to_owned()));
    let marks: Vec<Position> = marks(manifest).collect();
    let Some(then) = newest(&marks) else {
        return foreign("it has no mark, so that it is not known which database it was read from");
    };
    // Readings before the switch to another timeline may be of states that HAPI has lost.
    if marks.iter().any(|mark| mark.timeline != now.timeline) {
        return foreign("HAPI's database is another one, or was itself restored or failed over since");
    }
    if highest_n(manifest) > now.n || then.as_of > now.as_of {
        return foreign(
            "its readings have higher numbers than readings have now: the views' database was made anew since",
        );
    }
    Ok(())
}

fn marks(manifest: &Manifest) -> impl Iterator<Item = Position> {
    manifest
        .types
        .iter()
        .filter_map(|of| of.mark.clone().map(Into::into))
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::backup::format::{FORMAT, TypeSaved};

    fn position(n: i64, timeline: &str) -> Position {
        let at = DateTime::from_timestamp(1_800_000_000 + n, 0).unwrap();
        Position {
            n,
            as_of: at,
            bound: at,
            xmin: 700,
            timeline: timeline.into(),
        }
    }

    fn backup(mark: Option<Position>, highest_n: i64) -> Manifest {
        let of = |resource_type: &str, mark: Option<Position>| TypeSaved {
            resource_type: resource_type.into(),
            object: String::new(),
            bytes: 0,
            sha256: String::new(),
            readings: 0,
            highest_n,
            mark: mark.map(Into::into),
        };
        Manifest {
            format: FORMAT,
            name: String::new(),
            created_at: DateTime::UNIX_EPOCH,
            service_version: String::new(),
            types: vec![of("Condition", None), of("Patient", mark)],
        }
    }

    #[test]
    fn only_what_can_be_compared_is_put_back() {
        let now = position(20, "7300/1");
        assert!(check(&backup(Some(position(10, "7300/1")), 12), &now).is_ok());
        assert!(check(&backup(Some(position(20, "7300/1")), 20), &now).is_ok());
        for other in [
            backup(None, 12),
            backup(Some(position(10, "7300/2")), 12),
            backup(Some(position(10, "7300/1")), 21),
            backup(Some(position(21, "7300/1")), 12),
        ] {
            assert!(matches!(check(&other, &now), Err(BackupError::Foreign(_))));
        }
    }
}
