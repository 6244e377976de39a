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

/// Logs where a panic happened, and not what it says: its message may quote the text that was being worked on.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string);
        tracing::error!(location, "a panic: this is a bug");
    }));
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        sync::{Arc, Mutex},
    };

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_panic_is_logged_without_its_message() {
        let (lines, before) = (Lines::default(), std::panic::take_hook());
        log_panics();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .finish();
        let caught =
            tracing::subscriber::with_default(subscriber, || std::panic::catch_unwind(|| panic!("planted")));
        std::panic::set_hook(before);
        assert!(caught.is_err());
        let logged = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert!(logged.contains("telemetry.rs"), "{logged}");
        assert!(!logged.contains("planted"), "{logged}");
    }
}
