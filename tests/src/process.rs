//! One of the three daemons, as its built binary: own configuration file, ports chosen by the kernel, read back from what it announces.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::Context;

use crate::fhir::http_client;
use crate::server::{Launch, Lifetime, Server};

/// Until a daemon must have bound its sockets, and until it must be ready then.
const START_LIMIT: Duration = Duration::from_mins(1);

/// What to start.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Name of the binary.
    pub name: &'static str,
    /// Configuration in TOML. `{grpc}`, `{admin}` and `{http}` stand for addresses: of free ports at the first start, the same ones at a restart.
    pub config: String,
    /// Variables set beside the inherited ones.
    pub environment: Vec<(String, String)>,
    /// Folder for configuration, announcement and log.
    pub folder: PathBuf,
    /// How long it may live.
    pub lifetime: Lifetime,
}

/// A running daemon.
#[derive(Debug)]
pub struct Daemon {
    server: Server,
    plan: Plan,
    addresses: BTreeMap<String, String>,
}

impl Daemon {
    /// Starts a daemon and waits until it is ready.
    pub async fn start(plan: Plan) -> anyhow::Result<Self> {
        let mut daemon = Self::start_unready(plan).await?;
        daemon.ready().await?;
        Ok(daemon)
    }

    /// Starts a daemon and waits until it has bound its sockets.
    pub async fn start_unready(plan: Plan) -> anyhow::Result<Self> {
        let server = spawn(&plan, &BTreeMap::new())?;
        let mut daemon = Self {
            server,
            plan,
            addresses: BTreeMap::new(),
        };
        daemon.read_announcement().await?;
        Ok(daemon)
    }

    async fn read_announcement(&mut self) -> anyhow::Result<()> {
        let file = announcement(&self.plan);
        self.addresses = self
            .server
            .ready(START_LIMIT, || async {
                serde_json::from_slice(&std::fs::read(&file).ok()?).ok()
            })
            .await?;
        Ok(())
    }

    /// Waits until `/readyz` says so.
    pub async fn ready(&mut self) -> anyhow::Result<()> {
        let url = format!("http://{}/readyz", self.address("admin")?);
        let client = http_client()?;
        let said = Mutex::new(String::new());
        let ready = self.server.ready(START_LIMIT, || async {
            let answer = client
                .get(&url)
                .timeout(Duration::from_secs(2))
                .send()
                .await
                .ok()?;
            let ready = answer.status().is_success();
            if let (Ok(text), Ok(mut said)) = (answer.text().await, said.lock()) {
                *said = text;
            }
            ready.then_some(())
        });
        let ready = ready.await;
        let said = said.lock().map(|said| said.trim().to_owned()).unwrap_or_default();
        ready.with_context(|| format!("{} is not ready: {said}", self.plan.name))
    }

    /// The bound address of `grpc`, `admin` or `http`, as `host:port`.
    pub fn address(&self, of: &str) -> anyhow::Result<String> {
        self.addresses
            .get(of)
            .cloned()
            .with_context(|| format!("{} has announced no address for {of}", self.plan.name))
    }

    /// The text of `/metrics`.
    pub async fn metrics(&self) -> anyhow::Result<String> {
        let url = format!("http://{}/metrics", self.address("admin")?);
        Ok(http_client()?
            .get(url)
            .send()
            .await?
            .error_for_status()?
            .text()
            .await?)
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// Everything that it has logged so far.
    pub fn log(&self) -> String {
        let log = std::fs::read(&self.server.launch().log).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// Fails if it has ended.
    pub fn expect_running(&mut self) -> anyhow::Result<()> {
        self.server.expect_running()
    }

    /// Kills it as a crash does.
    pub fn kill9(&mut self) {
        self.server.kill9();
    }

    /// Sends a signal by name: `STOP` and `CONT` let it stand still for a while.
    pub fn signal(&self, signal: &str) {
        self.server.signal(signal);
    }

    /// Starts it again on the same addresses, after [`Self::kill9`], and waits until it has bound them: it need not become ready.
    pub async fn restart_unready(&mut self) -> anyhow::Result<()> {
        self.server = spawn(&self.plan, &self.addresses)?;
        self.read_announcement().await
    }

    /// Starts it again on the same addresses, after [`Self::kill9`] or while it runs, with further or other variables; ready when this returns.
    pub async fn restart_with(&mut self, environment: &[(&str, &str)]) -> anyhow::Result<()> {
        self.server.kill9();
        for (name, value) in environment {
            self.plan.environment.retain(|(known, _)| known != name);
            self.plan
                .environment
                .push(((*name).to_owned(), (*value).to_owned()));
        }
        self.server = spawn(&self.plan, &self.addresses)?;
        self.read_announcement().await?;
        self.ready().await
    }

    /// The same with further lines behind its configuration, such as a section that it did not have.
    pub async fn restart_configured(
        &mut self,
        further: &str,
        environment: &[(&str, &str)],
    ) -> anyhow::Result<()> {
        self.plan.config.push_str(further);
        self.restart_with(environment).await
    }

    /// Starts it again on the same addresses; ready when this returns.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.restart_with(&[]).await
    }

    /// Sends SIGTERM and waits for the end, up to `limit`.
    pub async fn terminate(&mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        self.server.terminate(limit).await
    }
}

fn announcement(plan: &Plan) -> PathBuf {
    plan.folder.join(format!("{}.json", plan.name))
}

fn spawn(plan: &Plan, addresses: &BTreeMap<String, String>) -> anyhow::Result<Server> {
    let mut config = plan.config.clone();
    for socket in ["grpc", "admin", "http"] {
        let address = addresses.get(socket).map_or("127.0.0.1:0", String::as_str);
        config = config.replace(&format!("{{{socket}}}"), address);
    }
    let file = plan.folder.join(format!("{}.toml", plan.name));
    write_private(&file, &config)?;
    let announcement = announcement(plan);
    // The one of the run before would be taken for this run's.
    let _ = std::fs::remove_file(&announcement);
    let mut launch = Launch::new(
        plan.name,
        binary(plan.name)?,
        plan.folder.join(format!("{}.log", plan.name)),
    )
    .arg("--config")
    .arg(file)
    .arg("--announce")
    .arg(announcement);
    launch.environment.clone_from(&plan.environment);
    launch.lifetime = plan.lifetime;
    launch.spawn()
}

/// Writes a file that only its owner can read: configurations hold passwords.
pub fn write_private(file: &Path, text: &str) -> anyhow::Result<()> {
    let _ = std::fs::remove_file(file);
    let mut options = std::fs::File::options();
    let mut out = options.write(true).create_new(true).mode(0o600).open(file)?;
    out.write_all(text.as_bytes())?;
    Ok(())
}

/// A variable that names the folder of another build's daemons: those of an earlier release.
pub const BINARIES: &str = "RESEARCHFLOW_BINARIES";

/// A built daemon: it lies where this program's build put it, unless [`BINARIES`] says otherwise.
pub fn binary(name: &str) -> anyhow::Result<PathBuf> {
    if let Some(folder) = std::env::var_os(BINARIES) {
        return Ok(PathBuf::from(folder).join(name));
    }
    let own = std::env::current_exe()?;
    own.ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
        .with_context(|| format!("{name} is not built; run: cargo build --workspace --bins"))
}
