//! Whether Redis may be written to.

use std::sync::{Arc, PoisonError, RwLock};

use api::{Code, ServiceError};

/// Why Redis may not be written to now, if so: it was not checked yet, or it can lose what is acknowledged.
#[derive(Debug, Clone)]
pub struct Gate(Arc<RwLock<Option<String>>>);

impl Gate {
    /// Closed until it is opened.
    pub fn closed(reason: impl Into<String>) -> Self {
        Self(Arc::new(RwLock::new(Some(reason.into()))))
    }

    /// Opens, or closes for a reason.
    pub fn set(&self, reason: Option<String>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = reason;
    }

    /// An error while it is closed.
    pub fn pass(&self) -> Result<(), ServiceError> {
        match &*self.0.read().unwrap_or_else(PoisonError::into_inner) {
            None => Ok(()),
            Some(reason) => Err(ServiceError::new(Code::Unavailable, reason.clone())),
        }
    }
}
