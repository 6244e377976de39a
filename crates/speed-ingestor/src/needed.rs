//! The resource types that views need: what the tail reads, what webhooks are stored for, what is subscribed to.

use std::sync::Arc;

use tokio::sync::watch;

/// The types, shared. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Needed(watch::Sender<Option<Arc<[String]>>>);

impl Default for Needed {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl Needed {
    /// The types, sorted; `None` before the batch layer was ever heard of.
    pub fn types(&self) -> Option<Arc<[String]>> {
        self.0.borrow().clone()
    }

    /// Whether resources of this type are kept. All are, until it is known which are needed.
    pub fn includes(&self, resource_type: &str) -> bool {
        self.0
            .borrow()
            .as_deref()
            .is_none_or(|types| types.iter().any(|known| known == resource_type))
    }

    /// The type if it is known to be needed, else `other`: a label of a bounded set.
    pub fn label(&self, resource_type: &str) -> String {
        match self.0.borrow().as_deref() {
            Some(types) if types.iter().any(|known| known == resource_type) => resource_type.to_owned(),
            _ => "other".to_owned(),
        }
    }

    /// Sets the types; true if they are others than before.
    pub fn set(&self, mut types: Vec<String>) -> bool {
        types.sort();
        types.dedup();
        self.0.send_if_modified(|now| {
            let changed = now.as_deref() != Some(types.as_slice());
            if changed {
                *now = Some(types.into());
            }
            changed
        })
    }

    /// Wakes at each change.
    pub fn changes(&self) -> watch::Receiver<Option<Arc<[String]>>> {
        self.0.subscribe()
    }
}
