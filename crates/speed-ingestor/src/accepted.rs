//! What came by webhook, and what should have: of each type, for the status and the alarm.
//!
//! HAPI's Subscription can be `active` and yet send nothing (its endpoint is someone else's, its queue is stuck). So the tail, which sees every change, says
//! when it saw one; if no webhook of that type has come long after, whichever ingestor would have got it, the Subscription is *silent*.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock, RwLockWriteGuard},
};

use chrono::{DateTime, TimeDelta, Utc};

/// Webhooks accepted of each type since the start, and changes that the tail saw without one. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Accepted(Arc<RwLock<HashMap<String, OfType>>>);

/// What is known of a type.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OfType {
    /// Webhooks accepted by this process.
    pub webhooks: i64,
    /// When the last one came, to whichever ingestor.
    pub last: Option<DateTime<Utc>>,
    /// When the tail saw a change first after that.
    pub unanswered_since: Option<DateTime<Utc>>,
}

impl OfType {
    /// Since when webhooks are missing, if they are by now. `patience` is longer than HAPI may rightly take.
    pub fn silent_since(&self, now: DateTime<Utc>, patience: TimeDelta) -> Option<DateTime<Utc>> {
        self.unanswered_since.filter(|since| now - *since > patience)
    }
}

impl Accepted {
    /// What is known of a type.
    pub fn of_type(&self, resource_type: &str) -> OfType {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.get(resource_type).copied().unwrap_or_default()
    }

    /// Counts a webhook.
    pub fn count(&self, label: &str, now: DateTime<Utc>) {
        let mut all = self.all();
        if let Some(known) = all.get_mut(label) {
            known.webhooks += 1;
            known.came(now);
        } else {
            all.insert(
                label.to_owned(),
                OfType {
                    webhooks: 1,
                    last: Some(now),
                    unanswered_since: None,
                },
            );
        }
    }

    /// One came at that time, to this ingestor or another.
    pub fn came(&self, resource_type: &str, at: DateTime<Utc>) {
        self.all().entry(resource_type.to_owned()).or_default().came(at);
    }

    /// The tail saw a change of which no webhook had come.
    pub fn tail_saw(&self, resource_type: &str, now: DateTime<Utc>) {
        let mut all = self.all();
        let known = all.entry(resource_type.to_owned()).or_default();
        known.unanswered_since.get_or_insert(now);
    }

    fn all(&self) -> RwLockWriteGuard<'_, HashMap<String, OfType>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OfType {
    fn came(&mut self, at: DateTime<Utc>) {
        self.last = self.last.max(Some(at));
        if self.unanswered_since.is_some_and(|since| since <= at) {
            self.unanswered_since = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)
    }

    #[test]
    fn a_type_is_silent_when_changes_are_seen_long_without_a_webhook() {
        let accepted = Accepted::default();
        let silent = |now| {
            accepted
                .of_type("Patient")
                .silent_since(at(now), TimeDelta::seconds(60))
        };
        accepted.count("Patient", at(1));
        assert_eq!(silent(1000), None, "nothing has changed");
        accepted.tail_saw("Patient", at(10));
        accepted.tail_saw("Patient", at(60));
        assert_eq!((silent(70), silent(71)), (None, Some(at(10))));
        accepted.came("Patient", at(9));
        assert_eq!(silent(71), Some(at(10)), "of an earlier change");
        accepted.came("Patient", at(12));
        assert_eq!(silent(1000), None);
        assert_eq!(accepted.of_type("Patient").last, Some(at(12)));
        assert_eq!(accepted.of_type("Patient").webhooks, 1);
    }
}
