//! Whether Redis may be written to.

use std::sync::{Arc, PoisonError, RwLock};

use api::{Code, ServiceError};

/// Whether Redis may be written to now: it was not checked yet, it can lose what is acknowledged, it is nearly full. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Gate(Arc<RwLock<State>>);

#[derive(Debug, Clone)]
enum State {
    Open,
    /// What the tail reads is more important than previews.
    NearlyFull,
    Closed(String),
}

impl Gate {
    /// Closed until it is opened.
    pub fn closed(reason: impl Into<String>) -> Self {
        Self(Arc::new(RwLock::new(State::Closed(reason.into()))))
    }

    /// Opens.
    pub fn open(&self) {
        self.set(State::Open);
    }

    /// Opens for all but previews: what memory is left is the tail's.
    pub fn open_nearly_full(&self) {
        self.set(State::NearlyFull);
    }

    /// Closes for a reason.
    pub fn close(&self, reason: String) {
        self.set(State::Closed(reason));
    }

    /// An error while it is closed.
    pub fn pass(&self) -> Result<(), ServiceError> {
        match &*self.state() {
            State::Open | State::NearlyFull => Ok(()),
            State::Closed(reason) => Err(ServiceError::new(Code::Unavailable, reason.clone())),
        }
    }

    /// Whether there is room for previews.
    pub fn has_room(&self) -> bool {
        !matches!(&*self.state(), State::NearlyFull)
    }

    fn set(&self, state: State) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = state;
    }

    fn state(&self) -> std::sync::RwLockReadGuard<'_, State> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}
