//! The speed layer on a real Redis: store, tail, webhook, service.

#![expect(
    clippy::unwrap_used,
    reason = "what a test takes for granted ends it where it does not hold"
)]

mod expiry;
mod house;
mod kills;
mod kit;
mod load;
mod races;
mod replay;
mod service;
mod store;
mod tail;
mod watch;
mod webhook;
