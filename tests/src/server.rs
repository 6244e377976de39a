//! Child processes of tests, demo and stack.
//!
//! A server is started from one thread that lives as long as this program, with a parent-death signal: so that even a killed test run leaves
//! nothing behind. (The kernel sends that signal when the *thread* that started the child ends, and test threads end early.)
//! A stack that is to outlive the program ([`Lifetime::Detached`]) gets a process group of its own instead.

use std::ffi::OsString;
use std::fs::File;
use std::net::TcpListener;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use anyhow::{Context, bail};

use crate::{background, deadline};

/// How long a child may live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// Ends with this program.
    Program,
    /// Goes on after this program has ended.
    Detached,
}

/// What to run.
#[derive(Debug, Clone)]
pub struct Launch {
    /// Short name for messages.
    pub name: String,
    /// The program and its arguments.
    pub command: Vec<OsString>,
    /// Variables set beside the inherited ones.
    pub environment: Vec<(String, String)>,
    /// Gets standard output and error, appended.
    pub log: PathBuf,
    /// The user to run as, where that is not the present one; needs root.
    pub user: Option<String>,
    /// Signal that the kernel sends if this program dies first.
    pub death_signal: &'static str,
    /// How long the child may live.
    pub lifetime: Lifetime,
}

impl Launch {
    /// A command that logs to `log`, is killed with this program, and runs as the present user.
    pub fn new(name: &str, program: impl Into<OsString>, log: PathBuf) -> Self {
        Self {
            name: name.to_owned(),
            command: vec![program.into()],
            environment: Vec::new(),
            log,
            user: None,
            death_signal: "KILL",
            lifetime: Lifetime::Program,
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.command.push(argument.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, arguments: impl IntoIterator<Item = &'static str>) -> Self {
        self.command.extend(arguments.into_iter().map(OsString::from));
        self
    }

    /// Adds a variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    fn build(&self) -> anyhow::Result<Command> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut all: Vec<OsString> = Vec::new();
        if self.lifetime == Lifetime::Program || self.user.is_some() {
            all.push("setpriv".into());
            if let Some(user) = &self.user {
                all.extend([
                    format!("--reuid={user}").into(),
                    format!("--regid={user}").into(),
                    "--clear-groups".into(),
                ]);
            }
            if self.lifetime == Lifetime::Program {
                all.extend(["--pdeathsig".into(), self.death_signal.into()]);
            }
            all.push("--".into());
        }
        all.extend(self.command.iter().cloned());
        let (program, arguments) = all.split_first().context("an empty command")?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        if self.lifetime == Lifetime::Detached {
            command.process_group(0);
        }
        Ok(command)
    }

    /// Starts it.
    pub fn spawn(self) -> anyhow::Result<Server> {
        let command = self.build()?;
        let child =
            spawn_from_lasting_thread(command).with_context(|| format!("cannot start {}", self.name))?;
        if self.lifetime == Lifetime::Detached {
            background::note_process(&self.name, child.id())?;
        }
        Ok(Server {
            launch: self,
            child: Some(child),
        })
    }
}

type Order = (Command, Sender<std::io::Result<Child>>);

fn spawn_from_lasting_thread(command: Command) -> anyhow::Result<Child> {
    static THREAD: OnceLock<Mutex<Sender<Order>>> = OnceLock::new();
    let orders = THREAD.get_or_init(|| {
        let (orders, inbox) = channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, answer) in inbox {
                // An asker that is gone has no use for the child either; its drop ends nothing, the death signal does.
                let _ = answer.send(command.spawn());
            }
        });
        Mutex::new(orders)
    });
    let (answer, spawned) = channel();
    orders
        .lock()
        .map_err(|_| anyhow::anyhow!("the starting thread panicked"))?
        .send((command, answer))?;
    Ok(spawned.recv()??)
}

/// A running child. Killed when dropped, unless it is detached.
#[derive(Debug)]
pub struct Server {
    launch: Launch,
    child: Option<Child>,
}

impl Server {
    /// Process id; 0 once it has been seen to end.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// How it was started.
    pub fn launch(&self) -> &Launch {
        &self.launch
    }

    /// The exit status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.try_wait().ok()??;
        self.child = None;
        Some(status)
    }

    /// The last lines of its log.
    pub fn log_tail(&self) -> String {
        let text = std::fs::read(&self.launch.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        // Of Java's stack traces only the messages: they may be hundreds of lines deep.
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("\tat ")).collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Sends a signal by name: `TERM`, `QUIT`, `KILL`.
    pub fn signal(&self, signal: &str) {
        if self.pid() != 0 {
            signal_process(self.pid(), signal);
        }
    }

    /// Kills it and waits for its end.
    pub fn kill9(&mut self) {
        self.signal_and_wait("KILL");
    }

    /// Sends a signal after which the process ends by itself soon, and waits for that end.
    pub fn signal_and_wait(&mut self, signal: &str) {
        self.signal(signal);
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
        }
    }

    /// Sends SIGTERM and waits for the end, up to `limit`; kills it then and fails.
    pub async fn terminate(&mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        if self.child.is_none() {
            bail!("{} is not running", self.launch.name);
        }
        self.signal("TERM");
        let ended = self.wait(limit).await;
        if ended.is_err() {
            self.kill9();
        }
        ended
    }

    /// Waits for the end of a process that ends by itself, up to `limit`.
    pub async fn wait(&mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        let what = format!("the end of {}", self.launch.name);
        let start = std::time::Instant::now();
        loop {
            if let Some(status) = self.ended() {
                return Ok(status);
            }
            anyhow::ensure!(start.elapsed() < limit, "waited {limit:?} in vain for {what}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Starts it again in the same way.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        if self.child.is_some() {
            self.kill9();
        }
        *self = self.launch.clone().spawn()?;
        Ok(())
    }

    /// Fails, with the log's last lines, if it has ended.
    pub fn expect_running(&mut self) -> anyhow::Result<()> {
        match self.ended() {
            None => Ok(()),
            Some(status) => bail!(
                "{} ended early ({}); its log {} ends:\n{}",
                self.launch.name,
                describe(status),
                self.launch.log.display(),
                self.log_tail()
            ),
        }
    }

    /// Waits until `look` answers, and fails at once if the process ends meanwhile.
    pub async fn ready<T, F, Fut>(&mut self, limit: Duration, mut look: F) -> anyhow::Result<T>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Option<T>>,
    {
        let what = format!(
            "{} to be ready (log {})",
            self.launch.name,
            self.launch.log.display()
        );
        let start = std::time::Instant::now();
        loop {
            self.expect_running()?;
            if let Some(found) = look().await {
                return Ok(found);
            }
            anyhow::ensure!(
                start.elapsed() < limit,
                "waited {limit:?} in vain for {what}; it ends:\n{}",
                self.log_tail()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.launch.lifetime == Lifetime::Program {
            let signal = self.launch.death_signal;
            self.signal_and_wait(signal);
        }
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "unknown status".to_owned(),
    }
}

/// Sends a signal to a process by its id. A process that is gone is no error.
pub fn signal_process(pid: u32, signal: &str) {
    // The shell's own `kill`: a bare Debian has no other.
    let _ = Command::new("sh")
        .args(["-c", "kill -\"$1\" \"$2\"", "sh", signal, &pid.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}

/// Whether a process of this id runs (a zombie does not).
pub fn is_running(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        !stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .trim_start()
            .starts_with('Z')
    })
}

/// Waits until no process of this id runs.
pub async fn gone(pid: u32, limit: Duration) -> anyhow::Result<()> {
    deadline::until(&format!("the end of process {pid}"), limit, || async {
        (!is_running(pid)).then_some(())
    })
    .await
}

/// A port of 127.0.0.1 that is free now. Someone else may take it before the server binds it: callers try again with another one.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Starts a server on a free port, and on another one where someone else took it between its choice and the start: its log then says `taken`.
pub async fn start_on_free_port<S, F, Fut>(log: &Path, taken: &str, mut start: F) -> anyhow::Result<S>
where
    F: FnMut(u16) -> Fut,
    Fut: Future<Output = anyhow::Result<S>>,
{
    let mut tries = 0;
    loop {
        tries += 1;
        match start(free_port()?).await {
            Err(_) if tries < 10 && std::fs::read_to_string(log).is_ok_and(|text| text.contains(taken)) => {
                std::fs::remove_file(log)?;
            }
            ended => return ended,
        }
    }
}

/// The build's target folder: the one that the running executable lies in.
pub fn target_folder() -> anyhow::Result<PathBuf> {
    let executable = std::env::current_exe()?;
    executable
        .ancestors()
        // Cargo tags only a folder that it has made itself; what it knows of the compiler it writes into any.
        .find(|folder| folder.join(".rustc_info.json").is_file())
        .map(Path::to_path_buf)
        .context("this program does not lie in a target folder of cargo")
}

/// A new folder for a server's files below the target folder, or below the system's temporary folder where `user` cannot reach the target folder (a
/// clone in root's home, say). Folders of programs that have ended are removed on the way, but for those of detached servers.
pub fn new_folder(name: &str, user: Option<&str>, lifetime: Lifetime) -> anyhow::Result<PathBuf> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let mut bases = vec![std::env::temp_dir().join("researchflow-servers")];
    if let Ok(target) = target_folder() {
        bases.insert(0, target.join("servers"));
    }
    let kept = if lifetime == Lifetime::Detached {
        "-kept"
    } else {
        ""
    };
    for base in &bases {
        std::fs::create_dir_all(base)?;
        remove_orphans(base);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = base.join(format!("{name}-{}-{count}{kept}", std::process::id()));
        // Left by a program of the same process id, before a reboot.
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder)?;
        if let Some(user) = user {
            run(Command::new("chown").arg(user).arg(&folder))?;
            if !as_user(user)
                .args(["test", "-w"])
                .arg(&folder)
                .status()?
                .success()
            {
                std::fs::remove_dir_all(&folder)?;
                continue;
            }
        }
        if lifetime == Lifetime::Detached {
            background::note_folder(&folder)?;
        }
        return Ok(folder);
    }
    bail!(
        "no folder for {name} that user {} can write to; tried below {bases:?}",
        user.unwrap_or("(present)")
    )
}

fn remove_orphans(base: &Path) {
    let Ok(entries) = std::fs::read_dir(base) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let starter = name.rsplit('-').nth(1).and_then(|pid| pid.parse::<u32>().ok());
        if !name.ends_with("-kept") && starter.is_some_and(|pid| !is_running(pid)) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// A command that runs as another user; needs root.
pub fn as_user(user: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args([
        &format!("--reuid={user}"),
        &format!("--regid={user}"),
        "--clear-groups",
        "--",
    ]);
    command
}

/// Whether this program runs as root.
pub fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// Runs a command to its end; fails with what it printed.
pub fn run(command: &mut Command) -> anyhow::Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot run {}", command.get_program().display()))?;
    anyhow::ensure!(
        output.status.success(),
        "{} failed: {}{}",
        command.get_program().display(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Finds a program in PATH or in further folders; fails with the command that installs it.
pub fn find_program(name: &str, further: &[PathBuf], package: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(further.iter().cloned())
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
        .with_context(|| {
            format!("{name} is not installed; install it with: sudo apt-get install -y --no-install-recommends {package}")
        })
}
