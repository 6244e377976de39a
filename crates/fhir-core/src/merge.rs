//! What is later than what: the decisions of the merge protocol (`docs/protocol.md`; rules 7, 9, 11 and 15 of the model), and nothing else.
//!
//! HAPI's database is the truth. A state that is shown comes from a *reading* of it, with the number of its snapshot, or is a *preview*: the
//! body of a webhook, which a reading is about to confirm. The later reading wins, whatever its version says.

use chrono::{DateTime, TimeDelta, Utc};

/// A finished reading: its place in the order, and what the next one needs to go on from it (rule 1 to 3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// Readings are numbered in the order of their snapshots.
    pub n: i64,
    /// All that was committed before T is in; the clock of HAPI's PostgreSQL.
    pub as_of: DateTime<Utc>,
    /// Nothing that was uncommitted then has an earlier `res_updated`.
    pub bound: DateTime<Utc>,
    /// xmin of the snapshot, widened by its epoch.
    pub xmin: u64,
    /// System identifier and timeline of HAPI's PostgreSQL.
    pub timeline: String,
}

/// The last mark that was applied: number and clock of a whole tail round; the mergers' cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Number of the reading.
    pub n: i64,
    /// Its T.
    pub as_of: DateTime<Utc>,
}

/// Which layer shows a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// The batch has not published the shown state yet.
    Live,
    /// Published by the last run.
    Batch,
}

/// The ledger's entry: the state shown of a resource that is live, or that the last run published; also of one without rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Number of the reading; of a preview, of the reading that was known before.
    pub n: i64,
    /// Version that is shown.
    pub version: i64,
    /// Layer that shows it.
    pub layer: Layer,
    /// When a shown preview was received, by the ingestor's clock.
    pub received: Option<DateTime<Utc>>,
}

/// Whether a reading (number `n`, clock `as_of`) of a resource in version `version` is later than what is shown (rule 7).
///
/// `entry` is the ledger's, `published_n` the number of the batch's watermark (0 before the first), `skew` how far two machines'
/// clocks may be apart. `as_of` is `None` for a reading under the type's lock: it has seen all that was ever applied (rule 14).
///
/// A shown preview was committed before it was received, so a reading that began later has seen it; an earlier one may not have: then
/// the higher version stays.
pub fn outranks(
    entry: Option<&Entry>,
    published_n: i64,
    n: i64,
    as_of: Option<DateTime<Utc>>,
    version: i64,
    skew: TimeDelta,
) -> bool {
    let Some(entry) = entry else {
        return n > published_n;
    };
    if n <= entry.n {
        return false;
    }
    match (entry.received, as_of) {
        (Some(received), Some(as_of)) => as_of > received + skew || version >= entry.version,
        _ => true,
    }
}

/// Whether a preview is shown: its version is higher than the one shown, and it is dated after all that the batch has read (rule 9).
/// If not, nothing is lost: a reading comes. `published_as_of` is `None` before the first refresh.
pub fn shows_preview(
    entry: Option<&Entry>,
    published_as_of: Option<DateTime<Utc>>,
    version: i64,
    last_updated: DateTime<Utc>,
    skew: TimeDelta,
) -> bool {
    entry.is_none_or(|e| version > e.version) && published_as_of.is_none_or(|t| last_updated > t + skew)
}

/// Whether what is live stays when the batch publishes a reading of the same resource (rule 11).
pub fn live_stays(
    entry: Option<&Entry>,
    published_n: i64,
    n: i64,
    as_of: Option<DateTime<Utc>>,
    version: i64,
    skew: TimeDelta,
) -> bool {
    entry.is_some_and(|e| e.layer == Layer::Live) && !outranks(entry, published_n, n, as_of, version, skew)
}

/// Whether a version is visible: the known one says so, or all that was committed before the question is in (rule 15).
pub fn is_visible(
    known_version: i64,
    version: i64,
    as_of: Option<DateTime<Utc>>,
    asked: Option<DateTime<Utc>>,
) -> bool {
    known_version >= version || matches!((as_of, asked), (Some(as_of), Some(asked)) if as_of >= asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SKEW: TimeDelta = TimeDelta::seconds(1);

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)
    }

    fn preview(version: i64, received: i64) -> Entry {
        Entry {
            n: 4,
            version,
            layer: Layer::Live,
            received: Some(at(received)),
        }
    }

    #[test]
    fn a_reading_that_may_not_have_seen_a_preview_does_not_hide_its_version() {
        let shown = preview(3, 10);
        let outranks = |as_of, version| outranks(Some(&shown), 0, 5, as_of, version, SKEW);
        assert!(!outranks(Some(at(10)), 2), "it began when the preview came");
        assert!(
            !outranks(Some(at(11)), 2),
            "as far as two clocks can tell it may have"
        );
        assert!(
            outranks(Some(at(12)), 2),
            "it began later: the preview was taken back"
        );
        assert!(outranks(Some(at(1)), 3), "it confirms the preview");
        assert!(outranks(None, 0), "under the type's lock it has seen everything");
    }

    #[test]
    fn a_preview_within_the_clocks_doubt_of_the_batch_is_not_shown() {
        let shows =
            |updated, version| shows_preview(Some(&preview(3, 10)), Some(at(20)), version, at(updated), SKEW);
        assert!(!shows(20, 4) && !shows(21, 4) && shows(22, 4));
        assert!(!shows(22, 3), "the version is shown already");
        assert!(shows_preview(None, None, 1, at(0), SKEW), "nothing was ever read");
    }
}
