//! serving-gateway: see the library.

use std::process::ExitCode;

use daemon::About;

const ABOUT: About = About {
    name: "serving-gateway",
    version: env!("CARGO_PKG_VERSION"),
    about: "Merges live changes into the view tables, and answers questions over them",
    env_prefix: "RF_SERVING",
    defaults: serving_gateway::DEFAULTS,
};

fn main() -> ExitCode {
    if let Some(code) = audit::command::run("serving-gateway") {
        return code;
    }
    daemon::main(ABOUT, serving_gateway::run)
}
