//! A private Redis as the speed layer needs it: append-only file, no eviction, own port at 127.0.0.1. Ends with this program, or when dropped.

use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::TimeDelta;
use daemon::tls::ClientTls;
use speed_ingestor::store::StoreSettings;

use crate::server::{self, Launch, Lifetime, Server};

const START_LIMIT: Duration = Duration::from_secs(30);

/// How an instance is set up.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Settings of the server, `name`, `value`; later ones win over the defaults here.
    pub options: Vec<(String, String)>,
    /// How long it may live.
    pub lifetime: Lifetime,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            options: Vec::new(),
            lifetime: Lifetime::Program,
        }
    }
}

/// A running private Redis.
#[derive(Debug)]
pub struct Redis {
    server: Server,
    port: u16,
    folder: PathBuf,
}

impl Redis {
    /// Starts an instance with `appendonly yes` and `noeviction`.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with(Settings::default()).await
    }

    /// Starts an instance.
    pub async fn start_with(settings: Settings) -> anyhow::Result<Self> {
        let program = server::find_program("redis-server", &[], "redis-server")?;
        let folder = server::new_folder("redis", None, settings.lifetime)?;
        let log = folder.join("log");
        let start = |port: u16| {
            let mut launch = Launch::new("redis", &program, log.clone());
            launch.lifetime = settings.lifetime;
            let port_text = port.to_string();
            let folder_text = folder.display().to_string();
            let fixed = [
                ("port", port_text.as_str()),
                ("bind", "127.0.0.1"),
                ("dir", &folder_text),
                ("appendonly", "yes"),
                ("appendfsync", "everysec"),
                ("maxmemory-policy", "noeviction"),
                ("save", ""),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
            for (name, value) in fixed.iter().chain(&settings.options) {
                launch = launch.arg(format!("--{name}")).arg(value);
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
        // The folder goes with the server once it is there: of one that did not start the log stays.
        let mut started = server::start_on_free_port(&log, "Address already in use", start).await?;
        started.folder = folder;
        Ok(started)
    }

    async fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let client = redis::Client::open(self.url())?;
        self.server
            .ready(START_LIMIT, || async {
                let mut connection = client.get_multiplexed_async_connection().await.ok()?;
                // A server that still loads its file answers with an error.
                redis::cmd("PING")
                    .query_async::<String>(&mut connection)
                    .await
                    .ok()
            })
            .await?;
        Ok(())
    }

    /// How the speed layer reaches this server; the rest as its default configuration has it.
    pub fn store_settings(&self) -> StoreSettings {
        StoreSettings {
            url: self.url(),
            key_prefix: "fhir:".into(),
            time_to_live: TimeDelta::hours(24),
            max_previews: 10_000,
            max_preview_bytes: 32 * 1024 * 1024,
            wait_for_disk: false,
            connect_timeout: Duration::from_secs(1),
            response_timeout: Duration::from_secs(3),
            tls: ClientTls::default(),
        }
    }

    /// URL of the server.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// Port at 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Process id of the server.
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// The folder of the instance: append-only file and log.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Kills the server as a crash does.
    pub fn kill9(&mut self) {
        self.server.kill9();
    }

    /// Starts it again on the same port and file, after [`Self::kill9`] or while it runs; ready when this returns.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.server.restart()?;
        self.wait_until_ready().await
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if self.server.launch().lifetime == Lifetime::Program {
            self.server.kill9();
            if self.folder.is_absolute() {
                let _ = std::fs::remove_dir_all(&self.folder);
            }
        }
    }
}
