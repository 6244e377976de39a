//! A private PostgreSQL: own data folder, own port at 127.0.0.1, no unix socket, never the system's cluster. Ends with this program, or when dropped.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::deadline;
use crate::server::{self, Launch, Lifetime, Server};

/// Password of the superuser `postgres` of each private instance, where passwords are asked for.
pub(crate) const SUPERUSER_PASSWORD: &str = "private-superuser";

/// Start, and start after a crash with much to replay.
const START_LIMIT: Duration = Duration::from_mins(1);

/// How a client proves who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auth {
    /// Everyone is believed.
    Trust,
    /// Passwords, as SCRAM-SHA-256.
    Scram,
}

/// How an instance is set up.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How a client proves who it is.
    pub auth: Auth,
    /// Settings of the server, `name`, `value`.
    pub options: Vec<(String, String)>,
    /// Wait for the disk at commits. A killed process loses nothing without it; a power cut would.
    pub fsync: bool,
    /// How long it may live.
    pub lifetime: Lifetime,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            auth: Auth::Trust,
            options: Vec::new(),
            fsync: false,
            lifetime: Lifetime::Program,
        }
    }
}

/// A running private PostgreSQL.
#[derive(Debug)]
pub struct Postgres {
    server: Server,
    port: u16,
    folder: PathBuf,
    auth: Auth,
}

impl Postgres {
    /// Starts an instance where everyone is believed, fast rather than safe against a power cut.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with(Settings::default()).await
    }

    /// Starts an instance.
    pub async fn start_with(settings: Settings) -> anyhow::Result<Self> {
        let binaries = binaries()?;
        // PostgreSQL refuses to run as root; Debian's package makes the user.
        let user = server::is_root().then_some("postgres");
        let folder = server::new_folder("postgres", user, settings.lifetime)?;
        let data = folder.join("data");
        init_data(&binaries, &data, &folder, user, settings.auth)?;
        let log = folder.join("log");
        let start = |port: u16| {
            let mut launch = Launch::new("postgresql", binaries.join("postgres"), log.clone())
                .arg("-D")
                .arg(&data)
                .arg("-p")
                .arg(port.to_string());
            launch.user = user.map(str::to_owned);
            launch.death_signal = "QUIT";
            launch.lifetime = settings.lifetime;
            for (name, value) in options(&settings) {
                launch = launch.arg("-c").arg(format!("{name}={value}"));
            }
            async move {
                let mut started = Self {
                    server: launch.spawn()?,
                    port,
                    folder: PathBuf::new(),
                    auth: settings.auth,
                };
                started.wait_until_ready().await?;
                anyhow::Ok(started)
            }
        };
        // The folder goes with the server once it is there: of one that did not start the log stays.
        let mut started = server::start_on_free_port(&log, "could not bind", start).await?;
        started.folder = folder;
        Ok(started)
    }

    async fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let url = self.url("postgres");
        self.server
            .ready(START_LIMIT, || async { PgConnection::connect(&url).await.ok() })
            .await?
            .close()
            .await?;
        Ok(())
    }

    /// Port at 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Process id of the server.
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// The folder of the instance: data and log.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// URL of a database, as the superuser.
    pub fn url(&self, database: &str) -> String {
        self.url_as("postgres", SUPERUSER_PASSWORD, database)
    }

    /// URL of a database as a role; the password is left out where none is asked for.
    pub fn url_as(&self, role: &str, password: &str, database: &str) -> String {
        match self.auth {
            Auth::Trust => format!("postgresql://{role}@127.0.0.1:{}/{database}", self.port),
            Auth::Scram => format!(
                "postgresql://{role}:{password}@127.0.0.1:{}/{database}",
                self.port
            ),
        }
    }

    /// Creates a database and answers its URL (superuser).
    pub async fn create_database(&self, name: &str) -> anyhow::Result<String> {
        self.execute("postgres", &format!("CREATE DATABASE \"{name}\""))
            .await?;
        Ok(self.url(name))
    }

    /// Runs statements in a database, as the superuser.
    pub async fn execute(&self, database: &str, statements: &str) -> anyhow::Result<()> {
        let mut connection = PgConnection::connect(&self.url(database)).await?;
        sqlx::raw_sql(AssertSqlSafe(statements.to_owned()))
            .execute(&mut connection)
            .await?;
        connection.close().await?;
        Ok(())
    }

    /// Kills the server as a crash does, without a shutdown of its own.
    pub fn kill9(&mut self) {
        self.server.kill9();
    }

    /// Starts it again on the same port and data, after [`Self::kill9`] or while it runs; ready when this returns.
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

    /// Stops the server gracefully.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        self.server.signal("INT");
        self.server.wait(Duration::from_secs(30)).await?;
        Ok(())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.server.launch().lifetime == Lifetime::Program {
            self.server.signal_and_wait("QUIT");
            if self.folder.is_absolute() {
                let _ = std::fs::remove_dir_all(&self.folder);
            }
        }
    }
}

fn options(settings: &Settings) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = [
        ("listen_addresses", "127.0.0.1"),
        ("unix_socket_directories", ""),
        ("max_connections", "200"),
        ("max_prepared_transactions", "5"),
        ("logging_collector", "off"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    if !settings.fsync {
        all.push(("fsync".to_owned(), "off".to_owned()));
        all.push(("full_page_writes".to_owned(), "off".to_owned()));
    }
    all.extend(settings.options.iter().cloned());
    all
}

fn init_data(
    binaries: &Path,
    data: &Path,
    folder: &Path,
    user: Option<&str>,
    auth: Auth,
) -> anyhow::Result<()> {
    let initdb = binaries.join("initdb");
    let mut command = match user {
        Some(user) => {
            let mut command = server::as_user(user);
            command.arg(&initdb);
            command
        }
        None => Command::new(&initdb),
    };
    command
        .arg("-D")
        .arg(data)
        .args(["-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]);
    match auth {
        Auth::Trust => command.args(["-A", "trust"]),
        Auth::Scram => {
            let password = folder.join("password");
            std::fs::write(&password, SUPERUSER_PASSWORD)?;
            if let Some(user) = user {
                server::run(Command::new("chown").arg(user).arg(&password))?;
            }
            command
                .args(["-A", "scram-sha-256"])
                .arg("--pwfile")
                .arg(password)
        }
    };
    server::run(&mut command).context("initdb failed")?;
    Ok(())
}

/// The folder of PostgreSQL's programs: Debian's newest (it keeps them out of PATH), else where PATH has `postgres`.
pub fn binaries() -> anyhow::Result<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            Some((
                entry.file_name().to_str()?.parse().ok()?,
                entry.path().join("bin"),
            ))
        })
        .filter(|(_, folder): &(u32, PathBuf)| folder.join("initdb").is_file())
        .collect();
    versions.sort();
    let further: Vec<PathBuf> = versions.into_iter().rev().map(|(_, folder)| folder).collect();
    if let Some(newest) = further.first() {
        return Ok(newest.clone());
    }
    let postgres = server::find_program("postgres", &further, "postgresql")?;
    postgres
        .parent()
        .map(Path::to_path_buf)
        .context("postgres lies in no folder")
}

/// Waits until a condition on a database holds: a query that answers one boolean.
pub async fn until_true(url: &str, query: &str, limit: Duration) -> anyhow::Result<()> {
    let mut connection = PgConnection::connect(url).await?;
    let connection = tokio::sync::Mutex::new(&mut connection);
    deadline::until(query, limit, || async {
        let mut connection = connection.lock().await;
        sqlx::query_scalar::<_, bool>(AssertSqlSafe(query.to_owned()))
            .fetch_one(&mut **connection)
            .await
            .ok()
            .filter(|holds| *holds)
    })
    .await?;
    Ok(())
}
