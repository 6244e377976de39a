//! The speed layer on a real Redis: store, tail, webhook, service.

#![expect(
    clippy::unwrap_used,
    reason = "what a test takes for granted ends it where it does not hold"
)]

mod acknowledged;
mod backup;
mod conditions;
mod expiry;
mod hostile;
mod kills;
mod kit;
mod load;
mod notices;
mod pressure;
mod put;
mod queue;
mod races;
mod recorded;
mod replay;
mod scan;
mod service;
mod store;
mod tail;
mod watch;
mod webhook;

use e2e::house;
