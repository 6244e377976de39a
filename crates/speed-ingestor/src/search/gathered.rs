//! What a scan has found so far, in bounded memory: the newest resources, the patients, the count.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use fhir_core::{json::Tape, resource::Content};

use super::{Examined, Search};
use crate::store::Recent;

/// Bytes of bodies that are kept, if there is more than one.
const MAX_BYTES: usize = 64 * 1024 * 1024;
/// Patients that are listed: the summary is one message, and clients take 4 MiB unless they are told otherwise.
const MAX_PATIENTS: usize = 50_000;

/// The resources that match, as far as they are kept.
pub struct Gathered {
    search: Search,
    tape: Tape,
    bounds: Bounds,
    /// The oldest first; of one time, the last id first.
    newest: BTreeMap<(DateTime<Utc>, Reverse<String>), Recent>,
    bytes: usize,
    patients: BTreeSet<String>,
    patients_cut: bool,
    total: u64,
    unreadable: u64,
}

#[derive(Debug, Clone, Copy)]
struct Bounds {
    resources: usize,
    bytes: usize,
    patients: usize,
}

/// What is said of all that match, kept or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Their patients, sorted.
    pub patient_ids: Vec<String>,
    /// How many match.
    pub total_count: u64,
    /// Not all were kept.
    pub truncated: bool,
    /// There are more patients than were kept.
    pub patient_ids_truncated: bool,
    /// States that could not be read.
    pub unreadable_count: u64,
}

impl Gathered {
    /// Nothing yet; the newest `max_resources` of what matches will be kept.
    pub fn new(search: Search, max_resources: usize) -> Self {
        let bounds = Bounds {
            resources: max_resources,
            bytes: MAX_BYTES,
            patients: MAX_PATIENTS,
        };
        Self::within(search, bounds)
    }

    fn within(search: Search, bounds: Bounds) -> Self {
        Self {
            search,
            tape: Tape::default(),
            bounds,
            newest: BTreeMap::new(),
            bytes: 0,
            patients: BTreeSet::new(),
            patients_cut: false,
            total: 0,
            unreadable: 0,
        }
    }

    /// Looks at a state: each resource comes once.
    pub fn take(&mut self, recent: Recent) {
        match self.search.examine(&mut self.tape, &recent.state) {
            Examined::Not => return,
            Examined::Unreadable => {
                self.unreadable += 1;
                if !self.search.is_empty() {
                    return;
                }
            }
            Examined::Match(patients) => {
                self.patients.extend(patients);
                while self.patients.len() > self.bounds.patients {
                    self.patients.pop_last();
                    self.patients_cut = true;
                }
            }
        }
        self.total += 1;
        self.bytes += size(&recent);
        let key = (recent.state.last_updated, Reverse(recent.state.id.clone()));
        self.newest.insert(key, recent);
        while self.newest.len() > self.bounds.resources
            || (self.bytes > self.bounds.bytes && self.newest.len() > 1)
        {
            if let Some((_, oldest)) = self.newest.pop_first() {
                self.bytes -= size(&oldest);
            }
        }
    }

    /// What was kept, the newest first, of one time by id; and the summary.
    pub fn end(self) -> (impl Iterator<Item = Recent>, Summary) {
        let summary = Summary {
            patient_ids: self.patients.into_iter().collect(),
            total_count: self.total,
            truncated: self.total > self.newest.len() as u64,
            patient_ids_truncated: self.patients_cut,
            unreadable_count: self.unreadable,
        };
        (self.newest.into_values().rev(), summary)
    }
}

fn size(recent: &Recent) -> usize {
    match &recent.state.content {
        Content::Body(body) => body.len(),
        Content::Deleted | Content::Unreadable(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use fhir_core::resource::State;

    use super::*;

    fn recent(id: &str, second: i64, body: &str) -> Recent {
        let state = State {
            id: id.into(),
            version: 1,
            last_updated: DateTime::from_timestamp(second, 0).unwrap(),
            content: Content::Body(body.into()),
        };
        Recent {
            state,
            preview: false,
        }
    }

    fn gathered(bounds: Bounds, all: &[Recent]) -> (Vec<String>, Summary) {
        let mut gathered = Gathered::within(Search::new("Patient", []).unwrap(), bounds);
        for recent in all {
            gathered.take(recent.clone());
        }
        let (kept, summary) = gathered.end();
        (kept.map(|recent| recent.state.id).collect(), summary)
    }

    #[test]
    fn the_newest_are_kept_and_all_are_counted() {
        let all = [
            recent("c", 5, "{}"),
            recent("d", 2, "{}"),
            recent("a", 5, "{}"),
            recent("b", 9, "{}"),
        ];
        let bounds = Bounds {
            resources: 10,
            bytes: 100,
            patients: 10,
        };
        let (kept, summary) = gathered(bounds, &all);
        assert_eq!(kept, ["b", "a", "c", "d"]);
        assert_eq!(summary.patient_ids, ["a", "b", "c", "d"]);
        assert!(!summary.truncated && !summary.patient_ids_truncated);
        for bounds in [
            Bounds {
                resources: 2,
                ..bounds
            },
            Bounds { bytes: 5, ..bounds },
        ] {
            let (kept, summary) = gathered(bounds, &all);
            assert_eq!(kept, ["b", "a"]);
            assert_eq!((summary.total_count, summary.truncated), (4, true));
            assert_eq!(summary.patient_ids.len(), 4);
        }
    }

    #[test]
    fn a_resource_larger_than_all_that_is_kept_is_kept_alone_and_patients_are_bounded() {
        let bounds = Bounds {
            resources: 10,
            bytes: 1,
            patients: 2,
        };
        let all = ["c", "b", "a"].map(|id| recent(id, 1, "{}"));
        let (kept, summary) = gathered(bounds, &all);
        assert_eq!(kept, ["a"]);
        assert_eq!(summary.patient_ids, ["a", "b"]);
        assert!(summary.patient_ids_truncated && summary.truncated);
    }
}
