//! Logs and spans: set up once, before the configuration is acted on.
//!
//! Levels: `error` needs a person, `warn` heals by itself but should be rare, `info` is what an operator wants to see of a normal day, `debug` is for
//! developers. No level ever holds a resource's id, body, name or a search value.

mod config;
mod export;

use serde::Deserialize;
use tracing::{Metadata, level_filters::LevelFilter};
use tracing_subscriber::{
    EnvFilter, Layer as _,
    filter::filter_fn,
    layer::SubscriberExt as _,
    registry::Registry,
    util::{SubscriberInitExt as _, TryInitError},
};

pub use self::config::{Protocol, TracingConfig};
pub(crate) use self::export::{SpanCounts, Spans};
use crate::About;

/// Whose spans may be exported: those of libraries hold what they please.
const OURS: [&str; 5] = [
    "batch_refresher",
    "daemon",
    "serving_gateway",
    "speed_ingestor",
    "view_store",
];

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

/// Installs the subscriber; logs go to standard error. Spans, where they are wanted, wait to be exported.
pub(crate) fn install(
    about: About,
    filter: EnvFilter,
    format: LogFormat,
    tracing: &TracingConfig,
    counts: &SpanCounts,
) -> Result<Option<Spans>, String> {
    let failed = |error: &dyn std::fmt::Display| format!("logging cannot be set up: {error}");
    if tracing.is_on() {
        return install_with_spans(about, filter, format, tracing, counts).map_err(|error| failed(&error));
    }
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let installed = match format {
        LogFormat::Text => builder.with_ansi(false).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    installed.map(|()| None).map_err(|error| failed(&error))
}

/// Logs and spans have filters of their own: what is traced does not depend on what is logged.
fn install_with_spans(
    about: About,
    filter: EnvFilter,
    format: LogFormat,
    tracing: &TracingConfig,
    counts: &SpanCounts,
) -> Result<Option<Spans>, TryInitError> {
    let (tracer, spans) = export::tracer(about, tracing, counts);
    let exported = tracing_opentelemetry::layer()
        .with_tracer(tracer)
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_level(false)
        .with_target(false)
        .with_context_activation(false)
        .with_filter(filter_fn(is_exported).with_max_level_hint(LevelFilter::DEBUG));
    let logs = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let subscriber = Registry::default().with(exported);
    match format {
        LogFormat::Text => subscriber
            .with(logs.with_ansi(false).with_filter(filter))
            .try_init()?,
        LogFormat::Json => subscriber.with(logs.json().with_filter(filter)).try_init()?,
    }
    Ok(Some(spans))
}

/// Spans of ours, and no events: what is logged goes to the log.
fn is_exported(metadata: &Metadata<'_>) -> bool {
    let crate_name = metadata.target().split("::").next().unwrap_or_default();
    metadata.is_span() && OURS.contains(&crate_name)
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
