//! speed-ingestor
pub mod batch;
pub mod measures;
pub mod needed;
pub mod rounds;
pub mod store;
pub mod tail;
pub mod auth;
pub mod delivery;
