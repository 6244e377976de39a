//! A streaming replica of a private PostgreSQL: a base backup of it that goes on replaying what it commits. Ends with this program, or when dropped.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::postgres::{Postgres, binaries};
use crate::server::{self, Launch, Lifetime, Server};

const START_LIMIT: Duration = Duration::from_mins(1);

/// A running replica at 127.0.0.1.
#[derive(Debug)]
pub struct Standby {
    server: Server,
    port: u16,
    folder: PathBuf,
}

impl Standby {
    /// A replica of a server at which everyone is believed.
    pub async fn of(primary: &Postgres) -> anyhow::Result<Self> {
        let binaries = binaries()?;
        let user = server::is_root().then_some("postgres");
        let folder = server::new_folder("standby", user, Lifetime::Program)?;
        let (data, log) = (folder.join("data"), folder.join("log"));
        let backup = binaries.join("pg_basebackup");
        let mut command = match user {
            Some(user) => {
                let mut command = server::as_user(user);
                command.arg(&backup);
                command
            }
            None => Command::new(&backup),
        };
        command
            .args(["-h", "127.0.0.1", "-U", "postgres", "-p"])
            .arg(primary.port().to_string())
            .arg("-D")
            .arg(&data)
            // With the file and settings that make it a replica; the log that is written meanwhile comes along.
            .args(["-R", "-X", "stream", "--checkpoint=fast", "--no-sync"]);
        // It may take some seconds, which other tasks of the test need not wait for.
        tokio::task::spawn_blocking(move || server::run(&mut command))
            .await?
            .context("pg_basebackup failed")?;
        let start = |port: u16| {
            let mut launch = Launch::new("postgresql standby", binaries.join("postgres"), log.clone())
                .arg("-D")
                .arg(&data)
                .arg("-p")
                .arg(port.to_string());
            launch.user = user.map(str::to_owned);
            launch.death_signal = "QUIT";
            for setting in [
                "listen_addresses=127.0.0.1",
                "unix_socket_directories=",
                // No less than the primary has, or it would not start.
                "max_connections=200",
                "max_prepared_transactions=5",
                "logging_collector=off",
                "fsync=off",
                "wal_retrieve_retry_interval=100ms",
            ] {
                launch = launch.arg("-c").arg(setting);
            }
            async move {
                let mut started = Self {
                    server: launch.spawn()?,
                    port,
                    folder: PathBuf::new(),
                };
                started.wait_until_ready().await?;
                anyhow::Ok(started)
            }
        };
        let mut started = server::start_on_free_port(&log, "could not bind", start).await?;
        started.folder = folder;
        Ok(started)
    }

    async fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let url = self.url_as("postgres", "postgres");
        let connect = || async { PgConnection::connect(&url).await.ok() };
        self.server.ready(START_LIMIT, connect).await?.close().await?;
        Ok(())
    }

    /// URL of a database as a role.
    pub fn url_as(&self, role: &str, database: &str) -> String {
        format!("postgresql://{role}@127.0.0.1:{}/{database}", self.port)
    }

    /// Runs a statement, as the superuser.
    pub async fn execute(&self, statement: &str) -> anyhow::Result<()> {
        let mut connection = PgConnection::connect(&self.url_as("postgres", "postgres")).await?;
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
            .execute(&mut connection)
            .await?;
        connection.close().await?;
        Ok(())
    }

    /// Stands still: what it receives is not replayed.
    pub async fn pause(&self) -> anyhow::Result<()> {
        self.execute("SELECT pg_wal_replay_pause()").await?;
        let paused = "SELECT pg_get_wal_replay_pause_state() = 'paused'";
        crate::postgres::until_true(&self.url_as("postgres", "postgres"), paused, START_LIMIT).await
    }

    /// Goes on.
    pub async fn resume(&self) -> anyhow::Result<()> {
        self.execute("SELECT pg_wal_replay_resume()").await
    }

    /// Sets a setting that can be set while it runs.
    pub async fn set(&self, name: &str, value: &str) -> anyhow::Result<()> {
        self.execute(&format!("ALTER SYSTEM SET {name} = '{value}'"))
            .await?;
        self.execute("SELECT pg_reload_conf()").await
    }

    /// Becomes a primary of its own.
    pub async fn promote(&self) -> anyhow::Result<()> {
        self.execute("SELECT pg_promote(wait => true)").await
    }

    /// Sends a signal to all its processes: `STOP` and `CONT` freeze it for a while.
    pub fn signal_all(&self, signal: &str) -> anyhow::Result<()> {
        for pid in self.processes()? {
            server::signal_process(pid, signal);
        }
        Ok(())
    }

    /// The server and its children.
    fn processes(&self) -> anyhow::Result<Vec<u32>> {
        let own = self.server.pid();
        let children = std::fs::read_to_string(format!("/proc/{own}/task/{own}/children"))?;
        let children = children.split_whitespace().map(str::parse);
        let mut all = vec![own];
        all.extend(children.collect::<Result<Vec<u32>, _>>()?);
        Ok(all)
    }

    /// Kills it as a crash does.
    pub fn kill9(&mut self) {
        self.server.kill9();
    }

    /// Starts it again on the same port and data; ready when this returns.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        // A killed server's children hold its shared memory for some milliseconds more, and a start is refused meanwhile.
        let start = std::time::Instant::now();
        loop {
            self.server.restart()?;
            match self.wait_until_ready().await {
                Ok(()) => return Ok(()),
                Err(error) if start.elapsed() > START_LIMIT => return Err(error),
                Err(_) => {}
            }
        }
    }
}

impl Drop for Standby {
    fn drop(&mut self) {
        // One that stands still would not hear of its end.
        let _gone = self.signal_all("CONT");
        self.server.signal_and_wait("QUIT");
        if self.folder.is_absolute() {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}
