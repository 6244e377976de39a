//! speed-ingestor
