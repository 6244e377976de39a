//! The connection to the views' PostgreSQL.

use crate::StoreError;

/// How to reach the views' PostgreSQL.
#[derive(Clone)]
pub struct StoreSettings {
    /// `postgres://user:password@host:port/database`; may hold `options`.
    pub url: String,
    /// Connections at most.
    pub max_connections: u32,
    /// How far two machines' clocks may be apart (rules 7 and 9); 1 s by default.
    pub skew: chrono::TimeDelta,
}

/// The views' PostgreSQL. Cheap to clone.
#[derive(Clone)]
pub struct ViewStore {}

impl ViewStore {
    /// Connects; fails with a clear error (never with the password) if it cannot.
    pub async fn connect(_settings: StoreSettings) -> Result<Self, StoreError> {
        unimplemented!()
    }
    /// Brings schemas, tables and roles to this release's state. Needs the owner.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        unimplemented!()
    }
    /// Whether the schema is there and of this release; `StoreError::NotMigrated` says what to do.
    pub async fn check(&self) -> Result<(), StoreError> {
        unimplemented!()
    }
}
