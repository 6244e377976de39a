//! batch-refresher: reads HAPI's PostgreSQL, keeps the views' batch rows, makes readings for the speed layer.

use std::process::ExitCode;

use batch_refresher::{config, start::start};

fn main() -> ExitCode {
    if let Some(code) = audit::command::run("batch-refresher") {
        return code;
    }
    let about = daemon::About {
        name: "batch-refresher",
        version: env!("CARGO_PKG_VERSION"),
        about: "Reads HAPI FHIR's PostgreSQL and keeps SQL on FHIR views as tables. Serves readings of what has changed to the speed layer.",
        env_prefix: "RF_BATCH",
        defaults: config::DEFAULTS,
    };
    daemon::main(about, start)
}
