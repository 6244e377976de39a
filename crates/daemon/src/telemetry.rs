//! Logs: set up once, before the configuration is acted on.
//!
//! Levels: `error` needs a person, `warn` heals by itself but should be rare, `info` is what an operator wants to see of a normal day, `debug` is for
//! developers. No level ever holds a resource's id, body, name or a search value.

use serde::Deserialize;
use tracing_subscriber::EnvFilter;

/// Form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Reads the directives of `daemon.log`.
pub fn filter(directives: &str) -> Result<EnvFilter, String> {
    EnvFilter::try_new(directives).map_err(|error| {
        format!("daemon.log: {error}: must be a level, or directives such as info,serving_gateway=debug")
    })
}

/// Installs the subscriber; logs go to standard error.
pub fn install(filter: EnvFilter, format: LogFormat) -> Result<(), String> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let installed = match format {
        LogFormat::Text => builder.with_ansi(false).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    installed.map_err(|error| format!("logging cannot be set up: {error}"))
}
