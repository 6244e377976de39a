//! What runs in the background of this project: a list of exactly the processes and folders that `make up` has made, for `make down` to end and remove.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;

use crate::server;
use crate::stack::project_folder;

/// How long a process may take to end by itself.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// The folder of the development stack: endpoints, and the list of what runs.
pub fn folder() -> PathBuf {
    project_folder().join("target/dev")
}

fn list() -> PathBuf {
    folder().join("running")
}

fn note(line: &str) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder())?;
    let mut file = File::options().create(true).append(true).open(list())?;
    writeln!(file, "{line}")?;
    Ok(())
}

/// Notes a process that goes on in the background.
pub fn note_process(name: &str, pid: u32) -> anyhow::Result<()> {
    // The start time tells the process from a later one of the same id.
    note(&format!(
        "process {name} {pid} {}",
        start_time(pid).unwrap_or_default()
    ))
}

/// Notes a folder that belongs to a background process.
pub fn note_folder(folder: &Path) -> anyhow::Result<()> {
    note(&format!("folder {}", folder.display()))
}

/// When a process started, in clock ticks since boot; none if it does not run.
fn start_time(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before the last parenthesis may hold anything; the start time is the 20th field after it.
    stat.rsplit(')')
        .next()?
        .split_whitespace()
        .nth(19)
        .map(str::to_owned)
}

struct Process {
    name: String,
    pid: u32,
}

fn read() -> anyhow::Result<(Vec<Process>, Vec<PathBuf>)> {
    let (mut processes, mut folders) = (Vec::new(), Vec::new());
    let text = match std::fs::read_to_string(list()) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).context("the list of what runs cannot be read"),
    };
    for line in text.lines() {
        if let Some(folder) = line.strip_prefix("folder ") {
            folders.push(PathBuf::from(folder));
            continue;
        }
        let fields: Vec<&str> = line.split_whitespace().collect();
        let ["process", name, pid, started] = fields[..] else {
            continue;
        };
        let pid: u32 = pid.parse().context("the list of what runs holds no process id")?;
        if server::is_running(pid) && start_time(pid).as_deref() == Some(started) {
            processes.push(Process {
                name: name.to_owned(),
                pid,
            });
        }
    }
    Ok((processes, folders))
}

/// Names of what runs in the background.
pub fn running() -> anyhow::Result<Vec<String>> {
    Ok(read()?.0.into_iter().map(|process| process.name).collect())
}

/// Ends what runs in the background, the last started first, and removes its files. Answers the names of what was ended.
pub async fn stop() -> anyhow::Result<Vec<String>> {
    let (processes, folders) = read()?;
    let mut ended = Vec::new();
    for Process { name, pid } in processes.into_iter().rev() {
        // PostgreSQL's TERM would wait until its last client has gone.
        server::signal_process(pid, if name == "postgresql" { "INT" } else { "TERM" });
        if server::gone(pid, STOP_LIMIT).await.is_err() {
            server::signal_process(pid, "KILL");
            server::gone(pid, STOP_LIMIT).await?;
        }
        ended.push(name);
    }
    for folder in folders {
        let _ = std::fs::remove_dir_all(folder);
    }
    for file in ["running", "endpoints.env"] {
        let _ = std::fs::remove_file(self::folder().join(file));
    }
    Ok(ended)
}
