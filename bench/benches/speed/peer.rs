//! `redis-benchmark`: SET of as many bytes over as many connections, at the same Redis.

use anyhow::{Context as _, ensure};

use crate::{Arguments, servers::Servers};

/// Requests of one run.
const REQUESTS: u64 = 250_000;
/// The database that it writes, so that what it leaves can be emptied.
pub(crate) const DATABASE: u8 = 1;

pub(crate) async fn sets_per_second(servers: &Servers, arguments: &Arguments) -> anyhow::Result<f64> {
    let requests = if servers.fsync == "always" {
        REQUESTS / 4
    } else {
        REQUESTS
    };
    let output = tokio::process::Command::new("redis-benchmark")
        .args(["-h", "127.0.0.1", "-p", &servers.redis.port().to_string()])
        .args([
            "-t",
            "set",
            "--csv",
            "-r",
            "100000",
            "--dbnum",
            &DATABASE.to_string(),
        ])
        .args(["-d", &arguments.bytes.to_string()])
        .args(["-c", &arguments.connections.to_string()])
        .args(["-n", &requests.to_string()])
        .output()
        .await
        .context("redis-benchmark cannot be run; install it: apt-get install redis-tools")?;
    ensure!(output.status.success(), "redis-benchmark failed");
    let text = String::from_utf8(output.stdout)?;
    let line = text
        .lines()
        .find(|line| line.starts_with("\"SET\""))
        .context("redis-benchmark says nothing of SET")?;
    let figure = line
        .split(',')
        .nth(1)
        .context("redis-benchmark gives no figure")?;
    Ok(figure.trim_matches('"').parse()?)
}
