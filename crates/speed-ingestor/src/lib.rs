//! The speed layer: what HAPI has committed since the batch, ordered, durable and complete, in Redis.
//!
//! ```text
//! HAPI's webhook ► connections ► routes ► around ► webhook ► body ► delivery, bundle ──previews──► store (Redis) ──► service: Changes ──► merger
//! batch layer ◄─ReadChanges─ rounds ► tail ──readings, marks──►   ▲    └──► ScanRecentResources (search)
//!      └─WatchViews──► upkeep ► needed ──► subscriptions ──► HAPI └── batch's watermark: release
//! ```
//!
//! A webhook only makes a change visible earlier: it is a *preview*, which a *reading* of HAPI's database confirms. The tail makes the readings, so
//! that nothing is missing when webhooks are late, repeated, out of order or lost. What the tail's mark promises, and what may leave, are the
//! rules of the protocol (`docs/protocol.md`), each a Lua script in [`store`].
//!
//! Read in this order: [`store`], [`tail`], [`rounds`], [`delivery`], [`webhook`], [`service`], [`put`], [`search`]; apart from them, [`backup`].

pub mod accepted;
pub mod answer;
mod around;
pub mod auth;
pub mod backup;
pub mod batch;
pub mod body;
pub mod bundle;
pub mod config;
pub mod connections;
pub mod delivery;
pub mod gate;
pub mod hapi;
mod hex;
mod ingest;
pub mod measures;
pub mod needed;
pub mod put;
pub mod rounds;
pub mod routes;
mod scan;
pub mod search;
pub mod service;
mod status;
pub mod store;
pub mod subscriptions;
pub mod tail;
pub mod upkeep;
pub mod webhook;

pub use ingest::run;
pub use routes::router;
