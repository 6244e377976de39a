//! batch-refresher against a real PostgreSQL with HAPI's tables, written by SQL as HAPI writes them.

mod bodies;
mod cancelled;
mod crashes;
mod errors;
mod joins;
mod loads;
mod patient_resources;
mod played;
mod progress;
mod readers;
mod reconcile;
mod refused;
mod replica;
mod runs;
mod schedule;
mod served;
mod service;
mod watermark;
