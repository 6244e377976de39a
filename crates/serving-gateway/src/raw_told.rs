//! How fresh the answers were that views gave before they were materialised.
//!
//! Such an answer is of HAPI's own tables as they are, and a view's tables are a moment behind those. Whoever asks once more when the view has just become materialised
//! must not see an earlier state than before, so the first answers from its tables wait until they have come so far.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use chrono::{DateTime, Utc};
use tokio::time::Instant;

/// How long an answer waits for the view's tables at most: if the speed layer is away they are behind for longer, and say so.
const LONGEST: Duration = Duration::from_secs(2);
/// Between two looks at them.
const PAUSE: Duration = Duration::from_millis(20);

/// Of each view the latest `as_of` that was told of HAPI's tables, until its own have come there. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct RawTold(Arc<Mutex<HashMap<String, DateTime<Utc>>>>);

/// An answer's patience.
pub(crate) struct Patience(Instant);

impl Patience {
    /// At most until the caller's deadline.
    pub(crate) fn until(deadline: Instant) -> Self {
        Self(deadline.min(Instant::now() + LONGEST))
    }
}

impl RawTold {
    /// An answer from HAPI's tables says that it is as of this.
    pub(crate) fn tell(&self, view: &str, as_of: DateTime<Utc>) {
        if let Ok(mut told) = self.0.lock() {
            let latest = told.entry(view.to_owned()).or_insert(as_of);
            *latest = as_of.max(*latest);
        }
    }

    /// Pauses, and is true, if the view's tables are to be looked at once more: what they show as of this is earlier than what was told.
    pub(crate) async fn is_ahead_of(
        &self,
        view: &str,
        as_of: Option<DateTime<Utc>>,
        patience: &Patience,
    ) -> bool {
        if !self.is_ahead(view, as_of) || Instant::now() + PAUSE > patience.0 {
            return false;
        }
        tokio::time::sleep(PAUSE).await;
        true
    }

    fn is_ahead(&self, view: &str, as_of: Option<DateTime<Utc>>) -> bool {
        let Ok(mut told) = self.0.lock() else { return false };
        let Some(latest) = told.get(view) else {
            return false;
        };
        let is_ahead = as_of.is_none_or(|as_of| as_of < *latest);
        if !is_ahead {
            told.remove(view);
        }
        is_ahead
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_tables_are_waited_for_until_they_have_come_to_what_was_told() {
        let at = |second| DateTime::from_timestamp(second, 0);
        let told = RawTold::default();
        let patience = Patience::until(Instant::now() + LONGEST);
        assert!(!told.is_ahead_of("v", at(1), &patience).await, "never asked");
        told.tell("v", at(5).expect("a time"));
        told.tell("v", at(3).expect("a time"));
        assert!(told.is_ahead_of("v", None, &patience).await);
        assert!(told.is_ahead_of("v", at(4), &patience).await);
        assert!(
            !told
                .is_ahead_of("v", at(4), &Patience::until(Instant::now()))
                .await
        );
        assert!(!told.is_ahead_of("w", at(4), &patience).await, "another view");
        assert!(!told.is_ahead_of("v", at(5), &patience).await);
        assert!(
            !told.is_ahead_of("v", at(4), &patience).await,
            "it has come there once"
        );
    }
}
