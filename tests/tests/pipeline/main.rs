//! The pipeline end to end: a real HAPI at its own defaults (webhooks every 5 s), PostgreSQL, Redis and the built daemons.
//!
//! HAPI takes some 25 s to start, so all tests share one stack, one after the other; each leaves it whole for the next. The stack ends with this
//! program. `cargo build --workspace --bins` must have built the daemons; `make test` does.

mod audit;
mod bad_input;
mod bodies;
mod bulk_load;
mod consistency;
mod crashes;
mod forwarders;
mod latency;
mod privacy;
mod rows;
mod shell;
mod stack;
mod subscription;
mod webhook_outage;
mod writers;
