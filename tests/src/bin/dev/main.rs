//! `make demo`, `make up`, `make down`.

mod demo;
mod story;
mod up;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use story::Story;

#[derive(Debug, Parser)]
#[command(
    about = "The whole of ResearchFlow on this machine: PostgreSQL, Redis, HAPI and the three daemons, all private"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Follows a resource from HAPI to an answer, and checks each claim on the way
    Demo {
        /// Folder of .ndjson.gz files to load in place of 105 generated patients
        #[arg(long)]
        data: Option<PathBuf>,
        /// Leave everything running
        #[arg(long)]
        keep: bool,
    },
    /// Starts everything in the background
    Up {
        /// Folder of .ndjson.gz files to load in place of 105 generated patients
        #[arg(long)]
        data: Option<PathBuf>,
    },
    /// Ends what runs in the background
    Down,
}

#[tokio::main]
async fn main() -> ExitCode {
    let mut story = Story::new();
    let told = match Arguments::parse().command {
        Command::Demo { data, keep } => demo::tell(&mut story, data.as_deref(), keep).await,
        Command::Up { data } => up::up(&mut story, data.as_deref()).await,
        Command::Down => up::down(&mut story).await,
    };
    match told {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            story.say(&format!("FAILED: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
