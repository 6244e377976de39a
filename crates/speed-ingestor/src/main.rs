//! speed-ingestor: see the library.

use std::process::ExitCode;

/// A webhook is many small pieces that one thread allocates and another gives back, which is what C libraries' allocators are slowest at. (It gives pages back a second
/// late: large bodies lie elsewhere, see `body`.)
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    if let Some(code) = audit::command::run("speed-ingestor") {
        return code;
    }
    let about = daemon::About {
        name: env!("CARGO_PKG_NAME"),
        version: env!("CARGO_PKG_VERSION"),
        about: "Takes HAPI's webhooks and tails HAPI's committed versions into Redis: the speed layer, ordered, durable and complete.",
        env_prefix: "RF_SPEED",
        defaults: speed_ingestor::config::DEFAULTS,
    };
    daemon::main(about, speed_ingestor::run)
}
