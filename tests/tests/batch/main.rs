//! batch-refresher against a real PostgreSQL with HAPI's tables, written by SQL as HAPI writes them.

mod bodies;
mod crashes;
mod loads;
mod played;
mod refused;
mod runs;
mod service;
mod watermark;
