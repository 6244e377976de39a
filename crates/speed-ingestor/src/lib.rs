//! speed-ingestor
pub mod store;
