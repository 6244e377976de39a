//! Configuration: the commented default file that is part of the binary, then a file, then variables of the environment; unknown keys are errors.

use std::{net::SocketAddr, path::Path, time::Duration};

use config::{Config, Environment, File, FileFormat};
use serde::{Deserialize, de::DeserializeOwned};

use crate::telemetry::LogFormat;

/// A daemon's own configuration: a struct with `deny_unknown_fields` and a section `daemon`.
pub trait DaemonConfig: DeserializeOwned + std::fmt::Debug + Send + 'static {
    /// The section that all daemons have.
    fn common(&self) -> &CommonConfig;
    /// What cannot be said by types alone: all that is wrong, each with the key and what to do.
    fn validate(&self) -> Result<(), Vec<String>> {
        Ok(())
    }
    /// Variables without the prefix that stand for a key, such as `USE_SPEED_LAYER` for `use_speed_layer`.
    fn plain_variables() -> &'static [(&'static str, &'static str)] {
        &[]
    }
}

/// The section `[daemon]`: what all daemons are told.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommonConfig {
    /// Where gRPC is served.
    pub grpc_listen: SocketAddr,
    /// Where liveness, readiness and metrics are served.
    pub admin_listen: SocketAddr,
    /// What is logged: directives such as `info` or `warn,serving_gateway=debug`.
    pub log: String,
    /// Text or JSON.
    pub log_format: LogFormat,
    /// Whether gRPC reflection is served.
    pub reflection: bool,
    /// How long a stop may take before what is still open is cut.
    #[serde(with = "seconds")]
    pub shutdown_grace_seconds: Duration,
}

/// Spans in whole or broken seconds.
pub mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, de::Error};

    /// Reads a number of seconds.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        Duration::try_from_secs_f64(seconds)
            .map_err(|_| D::Error::custom("must be a number of seconds that is not negative"))
    }
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read, a key is unknown or a value is not of its type.
    #[error("the configuration cannot be used: {0}")]
    Unusable(String),
    /// Rules that are broken.
    #[error("the configuration cannot be used:\n{}", .0.join("\n"))]
    Invalid(Vec<String>),
}

/// Loads: `defaults` (TOML), then `file`, then `PREFIX__SECTION__KEY` of the environment, then plain variables.
pub fn load<C: DaemonConfig>(
    defaults: &str,
    file: Option<&Path>,
    env_prefix: &str,
) -> Result<C, ConfigError> {
    let unusable = |error: config::ConfigError| ConfigError::Unusable(error.to_string());
    let mut builder = Config::builder().add_source(File::from_str(defaults, FileFormat::Toml));
    if let Some(file) = file {
        builder = builder.add_source(File::from(file).format(FileFormat::Toml));
    }
    let environment = Environment::with_prefix(env_prefix)
        .prefix_separator("__")
        .separator("__")
        .try_parsing(true);
    builder = builder.add_source(environment);
    for (variable, key) in C::plain_variables() {
        if let Ok(value) = std::env::var(variable) {
            builder = builder.set_override(*key, value).map_err(unusable)?;
        }
    }
    let config: C = builder
        .build()
        .map_err(unusable)?
        .try_deserialize()
        .map_err(unusable)?;
    config.validate().map_err(ConfigError::Invalid)?;
    Ok(config)
}
