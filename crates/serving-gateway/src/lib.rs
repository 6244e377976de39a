//! The serving layer: live changes to view tables, questions to answers.
//!
//! ```text
//! SpeedService.Changes ──merge──► view tables ◄──query── gRPC Query, HTTP $sql-run
//!                                 (PostgreSQL)              │ a view that is not materialised
//! registry ──catalog──► which views, columns, search params └──raw──► BatchService.RunView
//!                                 view tables ◄──cohort─ gRPC Cohort
//!                                                           │ patients' resources
//!                                                           └───────► BatchService.ReadPatientResources
//! ```
//!
//! Rows and freshness of an answer come from one PostgreSQL snapshot. The merger writes live rows to where queries read them, so a query is a plain
//! SELECT. What one gateway's merger does is right whether or not another one runs.

mod batch_call;
mod catalog;
mod cohort;
mod config;
mod discovery;
mod errors;
mod freshness;
mod gateway;
mod hapi_clock;
mod http;
mod layer_health;
pub mod merge;
mod metrics;
mod query;
mod raw;
mod reads;
mod rows;
pub mod search;
mod service;
mod shape;
mod shared;
mod sql;
mod statistics;
mod views_watch;
mod visibility;

pub use config::{Config, DEFAULTS};
pub use gateway::{GatewayError, run};
pub use http::{HttpConfig, paths as http_paths};
