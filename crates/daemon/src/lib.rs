//! The shell that all three daemons share: what each does before and after its own work. A closed charter: configuration, telemetry,
//! shutdown, health, metrics, clock, TLS, and the serving of gRPC and HTTP; nothing of what a daemon is for.
//!
//! ```no_run
//! # use std::process::ExitCode;
//! # #[derive(serde::Deserialize, Debug)] #[serde(deny_unknown_fields)] struct Config { daemon: daemon::CommonConfig }
//! # impl daemon::DaemonConfig for Config { fn common(&self) -> &daemon::CommonConfig { &self.daemon } }
//! # async fn run(_: daemon::Context<Config>) -> Result<(), api::ServiceError> { Ok(()) }
//! fn main() -> ExitCode {
//!     let about = daemon::About { name: "batch-refresher", version: env!("CARGO_PKG_VERSION"), about: "…", env_prefix: "RF_BATCH", defaults: "" };
//!     daemon::main(about, run)
//! }
//! ```
//!
//! The exit code is 0 after a stop that was asked for, 1 after a failure, 2 for a configuration that cannot be used (before anything is bound).

pub mod admin;
pub mod announce;
pub mod clock;
pub mod config;
pub mod connections;
mod entry;
pub mod fhir_answer;
pub mod grpc;
mod incoming;
pub mod metrics;
pub mod mounted;
mod peer;
mod principal;
pub mod request_id;
pub mod secret;
pub mod shutdown;
pub mod spans;
pub mod telemetry;
pub mod tls;

pub use clock::{Clock, ManualClock, SystemClock};
pub use config::{CommonConfig, ConfigError, DaemonConfig};
pub use entry::{About, Context, main};
pub use incoming::Incoming;
pub use peer::PeerAddress;
pub use principal::{Principal, Proof};
pub use secret::Secret;
pub use shutdown::Shutdown;
