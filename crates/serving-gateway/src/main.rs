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

/// Rows are many small pieces that one thread allocates and another gives back, which is what C libraries' allocators are slowest at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    if let Some(code) = audit::command::run("serving-gateway") {
        return code;
    }
    daemon::main(ABOUT, serving_gateway::run)
}
