//! A real HAPI FHIR server, built from published artifacts (`tests/hapi`) and started on a free port of 127.0.0.1 over a database of its own.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context;

use crate::fhir::Fhir;
use crate::server::{self, Launch, Lifetime, Server};

/// 20 to 25 s on an idle machine of two cores; many times that where others use it too.
const START_LIMIT: Duration = Duration::from_mins(10);

/// Where HAPI keeps its data.
#[derive(Debug, Clone)]
pub struct Database {
    /// Port of PostgreSQL at 127.0.0.1.
    pub port: u16,
    /// Name of the database.
    pub name: String,
    /// Role that owns it.
    pub user: String,
    /// Its password.
    pub password: String,
}

/// How a server is set up.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How often HAPI drains its outbox of webhooks; none keeps HAPI's default, 5 s.
    pub polling: Option<Duration>,
    /// Zone of the JVM: HAPI writes `res_updated` in it.
    pub time_zone: String,
    /// How long the server may live.
    pub lifetime: Lifetime,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            polling: None,
            time_zone: "UTC".to_owned(),
            lifetime: Lifetime::Program,
        }
    }
}

/// A running HAPI.
#[derive(Debug)]
pub struct Hapi {
    server: Server,
    port: u16,
}

impl Hapi {
    /// Builds the server if it was not built before, starts it and waits until it answers.
    pub async fn start(database: &Database, settings: &Settings) -> anyhow::Result<Self> {
        let java = server::find_program("java", &[], "default-jdk-headless")?;
        let build = build()?;
        let folder = server::new_folder("hapi", None, settings.lifetime)?;
        let log = folder.join("log");
        let mut tries = 0;
        loop {
            tries += 1;
            let port = server::free_port()?;
            let classes = format!("{0}/hapi-server-1.jar:{0}/lib/*", build.display());
            let mut launch = Launch::new("hapi", &java, log.clone())
                .arg("-Xmx2g")
                // Starts in half the time; nobody here runs long enough to gain from the slower compiler.
                .args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
                .arg(format!("-Duser.timezone={}", settings.time_zone))
                .arg("-cp")
                .arg(classes)
                .arg("org.researchflow.hapi.HapiServer")
                .env("HAPI_PORT", port.to_string())
                .env(
                    "HAPI_DB_URL",
                    format!("jdbc:postgresql://127.0.0.1:{}/{}", database.port, database.name),
                )
                .env("HAPI_DB_USER", &database.user)
                .env("HAPI_DB_PASSWORD", &database.password);
            if let Some(polling) = settings.polling {
                launch = launch.env("HAPI_SUBSCRIPTION_POLLING_MS", polling.as_millis().to_string());
            }
            launch.lifetime = settings.lifetime;
            let mut started = Self {
                server: launch.spawn()?,
                port,
            };
            match started.wait_until_ready().await {
                Ok(()) => return Ok(started),
                // Someone else took the port between its choice and the start.
                Err(_) if tries < 3 && started.server.log_tail().contains("already in use") => {
                    std::fs::remove_file(&log)?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let fhir = self.fhir()?;
        self.server
            .ready(START_LIMIT, || async { fhir.is_ready().await.then_some(()) })
            .await
    }

    /// Base URL of the REST API.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/fhir", self.port)
    }

    /// A client of the REST API.
    pub fn fhir(&self) -> anyhow::Result<Fhir> {
        Fhir::new(&self.url())
    }

    /// Process id of the server.
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// Kills the server as a crash does.
    pub fn kill9(&mut self) {
        self.server.kill9();
    }

    /// Starts it again on the same port and database; ready when this returns.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.server.restart()?;
        self.wait_until_ready().await
    }
}

/// The folder with the built server; built once for each state of its sources (10 s, and 293 MB of jars the first time).
pub fn build() -> anyhow::Result<PathBuf> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("hapi");
    let output = server::target_folder()?.join("hapi");
    std::fs::create_dir_all(&output)?;
    // Two test programs may need it at once.
    let lock = File::create(output.join("lock"))?;
    lock.lock()?;
    let package = "src/main/java/org/researchflow/hapi/HapiServer.java";
    let mut state = String::new();
    for file in ["pom.xml", package, "src/main/resources/application.properties"] {
        let file = sources.join(file);
        state +=
            &std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    }
    let built = output.join("built-from");
    if std::fs::read_to_string(&built).is_ok_and(|built| built == state) {
        return Ok(output);
    }
    let maven = server::find_program("mvn", &[], "maven default-jdk-headless")?;
    let mut command = Command::new(maven);
    command
        .args(["-q", "-B", "package"])
        .arg(format!("-Doutput.folder={}", output.display()));
    server::run(command.current_dir(&sources)).context("HAPI's launcher cannot be built")?;
    std::fs::write(built, state)?;
    Ok(output)
}
