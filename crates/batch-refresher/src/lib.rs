//! HAPI's tables become readings, and readings become view tables.
//!
//! ```text
//! HAPI's PostgreSQL ─► hapi ─► reading (n, T, position) ─┬─► run: evaluate, stage, publish ─► view-store
//!                                                        └─► gRPC: ReadChanges, RunView, ReadResources, ReadPatientResources, Verify
//! ```
//!
//! [`hapi`] alone knows HAPI's tables; [`reading`] numbers its snapshots; [`run`] is the batch's half of the merge protocol, as a machine that a
//! test can step; [`refresher`] says when; [`service`] serves.

mod answers;
pub mod changes;
pub mod config;
mod conversions;
pub mod folder;
pub mod hapi;
mod load;
pub mod measures;
mod messages;
pub mod patient_resources;
pub mod progress;
pub mod reading;
pub mod reconciliation;
pub mod refresher;
pub mod resources;
pub mod run;
pub mod run_view;
pub mod schedule;
pub mod service;
pub mod start;
pub mod verify;
