//! The whole installation, watched as it is when it is operated: Prometheus asks the three daemons, its rules tell Alertmanager, and that tells Slack.
//!
//! ```text
//! HAPI's REST (of the test) ◄── speed-ingestor 1, 2 ◄─╳─ serving-gateway ─╳─► PostgreSQL (views)
//!                                       └──► batch-refresher ◄─╳─┘              a line that can be cut: ╳
//! daemons ◄── Prometheus ──► Alertmanager ──► Slack (of the test)
//! ```

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{Method, StatusCode},
    response::{IntoResponse as _, Response},
    routing::any,
};
use chrono::TimeDelta;
use daemon::{Clock as _, SystemClock};
use e2e::{
    certificates::Authority,
    fhir::http_client,
    ground::Ground,
    house::versions_of,
    line::Line,
    process::{Daemon, write_private},
    server::{self, Launch, Server},
    stack::project_folder,
};
use speed_ingestor::backup::format::{FORMAT, Manifest};

use crate::{
    scaled,
    slack::{Message, Slack},
};

/// By when an alert has come, on a busy machine.
pub(crate) const SOON: Duration = Duration::from_mins(1);

/// Everything.
pub(crate) struct Watched {
    pub(crate) slack: Slack,
    alertmanager: Server,
    prometheus: Server,
    pub(crate) serving: Daemon,
    pub(crate) speed: Daemon,
    pub(crate) further_speed: Daemon,
    pub(crate) batch: Daemon,
    pub(crate) hapi_rest: HapiRest,
    /// Of the gateway, to the views' PostgreSQL and to the other layers.
    pub(crate) to_views: Line,
    pub(crate) to_speed: Line,
    pub(crate) to_batch: Line,
    pub(crate) ground: Ground,
}

impl Watched {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let ground = Ground::start(&[versions_of(
            "Patient",
            &[("active", "active"), ("family", "name.family")],
        )])
        .await?;
        ground.put_view_file(
            "no_view",
            "{\"resourceType\": \"ViewDefinition\", \"name\": \"no_view\"}",
        )?;
        let backups = ground.folder().join("backups");
        old_backup(&backups)?;
        let hapi_rest = HapiRest::start().await?;
        let batch = ground
            .batch("1", &[("RF_BATCH__REFRESH__INTERVAL_SECONDS", "1")])
            .await?;
        let to_batch = Line::to(batch.address("grpc")?.parse()?).await?;
        let backups = format!("file://{}", backups.display());
        let variables = [
            ("RF_SPEED__HAPI__URL", hapi_rest.url.as_str()),
            ("RF_SPEED__HAPI__CHECK_SECONDS", "1"),
            ("RF_SPEED__HAPI__SILENT_AFTER_SECONDS", "2"),
            ("RF_SPEED__STORE__TIME_TO_LIVE_SECONDS", "4"),
            ("RF_SPEED__BACKUP__URL", &backups),
            ("RF_SPEED__BACKUP__INTERVAL_SECONDS", "0"),
        ];
        let speed = ground.speed("1", &batch.address("grpc")?, &variables).await?;
        // Nobody calls this one.
        let pair = Authority::new()?.issue_for_days(&["localhost"], 5)?;
        let (certificate, key) = (certificate_of(&ground), ground.folder().join("tls.key"));
        std::fs::write(&certificate, pair.certificate)?;
        write_private(&key, &pair.key)?;
        let (certificate, key) = (certificate.display().to_string(), key.display().to_string());
        let secured = [
            ("RF_SPEED__DAEMON__GRPC_TLS__CERTIFICATE", certificate.as_str()),
            ("RF_SPEED__DAEMON__GRPC_TLS__KEY", &key),
            ("RF_SPEED__DAEMON__TLS_RELOAD_SECONDS", "0.2"),
        ];
        let further_speed = ground
            .speed("2", &batch.address("grpc")?, &[&variables[..], &secured].concat())
            .await?;
        let to_speed = Line::to(speed.address("grpc")?.parse()?).await?;
        let to_views = Line::to(format!("127.0.0.1:{}", ground.postgres.port()).parse()?).await?;
        let through = |login: &str| {
            let (direct, line) = (
                format!(":{}/", ground.postgres.port()),
                format!(":{}/", to_views.address().port()),
            );
            ground.url_as(login, "views").replace(&direct, &line)
        };
        // Nobody listens at port 1.
        let replica = "read_urls = [\"postgresql://gateway:x@127.0.0.1:1/views\"]";
        let (views, sql) = (through("gateway"), through("analyst"));
        let audit = audit_folder(&ground);
        std::fs::create_dir(&audit)?;
        let audit_key = ground.folder().join("audit.key");
        write_private(&audit_key, &format!("first {}\n", "0123456789abcdef".repeat(4)))?;
        let (audit, audit_key) = (
            audit.join("audit.ndjson").display().to_string(),
            audit_key.display().to_string(),
        );
        let variables = [
            ("RF_SERVING__VIEWS__URL", views.as_str()),
            ("RF_SERVING__SQL__URL", &sql),
            ("RF_SERVING__AUDIT__FILE", &audit),
            ("RF_SERVING__AUDIT__KEY_FILE", &audit_key),
            ("RF_SERVING__AUDIT__QUEUE", "16"),
        ];
        let (batch_line, speed_line) = (to_batch.address().to_string(), to_speed.address().to_string());
        let serving = ground
            .serving_with(replica, "1", &batch_line, &speed_line, &variables)
            .await?;

        let slack = Slack::start().await?;
        let (alertmanager, port) = alertmanager(ground.folder(), &slack.url).await?;
        let jobs = [
            ("batch-refresher", vec![batch.address("admin")?]),
            (
                "speed-ingestor",
                vec![speed.address("admin")?, further_speed.address("admin")?],
            ),
            ("serving-gateway", vec![serving.address("admin")?]),
        ];
        let prometheus = prometheus(ground.folder(), port, &jobs).await?;
        Ok(Self {
            slack,
            alertmanager,
            prometheus,
            serving,
            speed,
            further_speed,
            batch,
            hapi_rest,
            to_views,
            to_speed,
            to_batch,
            ground,
        })
    }

    /// Waits for the message of an alert that fires, with these words in it.
    pub(crate) async fn told(&mut self, alert: &str, words: &str) -> anyhow::Result<Message> {
        self.told_after(0, alert, words).await
    }

    /// The same, of a message that was not among the first `before`.
    pub(crate) async fn told_after(
        &mut self,
        before: usize,
        alert: &str,
        words: &str,
    ) -> anyhow::Result<Message> {
        self.message(before, &format!("the message of {alert}, {words}"), |message| {
            !message.title.starts_with("Over: ")
                && message.title.contains(alert)
                && message.text.contains(words)
        })
        .await
    }

    /// Waits for the message that it is over. (Messages of before are not taken for it.)
    pub(crate) async fn over(&mut self, alert: &str, after: usize) -> anyhow::Result<()> {
        let title = format!("Over: {alert}");
        self.message(after, &format!("that {alert} is over"), |message| {
            message.title.starts_with(&title)
        })
        .await
        .map(drop)
    }

    async fn message(
        &mut self,
        before: usize,
        what: &str,
        is_it: impl Fn(&Message) -> bool,
    ) -> anyhow::Result<Message> {
        let begun = std::time::Instant::now();
        loop {
            if let Some(found) = self
                .slack
                .messages()
                .into_iter()
                .skip(before)
                .find(|message| is_it(message))
            {
                return Ok(found);
            }
            self.still_there(what, begun)?;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn still_there(&mut self, what: &str, begun: std::time::Instant) -> anyhow::Result<()> {
        self.prometheus.expect_running()?;
        self.alertmanager.expect_running()?;
        let titles: Vec<String> = self
            .slack
            .messages()
            .into_iter()
            .map(|message| message.title)
            .collect();
        anyhow::ensure!(
            begun.elapsed() < SOON,
            "waited {SOON:?} in vain for {what}; there were {titles:?}"
        );
        Ok(())
    }
}

/// Where the gateway's audit lies.
pub(crate) fn audit_folder(ground: &Ground) -> PathBuf {
    ground.folder().join("audit")
}

/// Of the second ingestor.
pub(crate) fn certificate_of(ground: &Ground) -> PathBuf {
    ground.folder().join("tls.crt")
}

/// A complete backup that was made four hours ago, of nothing.
fn old_backup(folder: &Path) -> anyhow::Result<()> {
    let made = SystemClock.now() - TimeDelta::hours(4);
    let name = format!("{}-0123456789abcdef", made.format("%Y%m%dT%H%M%S%3fZ"));
    let manifest = Manifest {
        format: FORMAT,
        name: name.clone(),
        created_at: made,
        service_version: "0.1.0".to_owned(),
        types: Vec::new(),
    };
    let folder = folder.join(name);
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("manifest.json"), manifest.seal()?)?;
    Ok(())
}

/// A program of Prometheus': Debian's, installed or unpacked.
fn program(name: &str) -> anyhow::Result<PathBuf> {
    let unpacked = server::target_folder()?.join("tools/prometheus/usr/bin");
    server::find_program(name, &[unpacked], name).context("or run: scripts/setup.sh deploy")
}

async fn alertmanager(folder: &Path, slack: &str) -> anyhow::Result<(Server, u16)> {
    let program = program("prometheus-alertmanager")?;
    let deploy = project_folder().join("deploy/alertmanager");
    let url_file = folder.join("slack-url");
    write_private(&url_file, slack)?;
    let templates = deploy.join("templates/*.tmpl");
    let config = scaled::routing(
        &std::fs::read_to_string(deploy.join("alertmanager.yml"))?,
        &url_file.display().to_string(),
        &templates.display().to_string(),
    )?;
    let file = folder.join("alertmanager.yml");
    std::fs::write(&file, config)?;
    let log = folder.join("alertmanager.log");
    let data = folder.join("alertmanager");
    let (program, file, data) = (&program, &file, &data);
    let start = |port: u16| {
        let log = log.clone();
        async move {
            // Where its own templates lie, if it was unpacked and not installed.
            let unpacked = program
                .parent()
                .and_then(Path::parent)
                .unwrap_or(Path::new("/"))
                .join("share/prometheus/alertmanager");
            let launch = Launch::new("alertmanager", "sh", log)
                .args(["-c", "cd \"$1\" && shift && exec \"$@\"", "sh"])
                .arg(if unpacked.is_dir() {
                    unpacked
                } else {
                    PathBuf::from("/")
                })
                .arg(program)
                .arg(format!("--config.file={}", file.display()))
                .arg(format!("--storage.path={}", data.display()))
                .arg(format!("--web.listen-address=127.0.0.1:{port}"))
                .arg("--cluster.listen-address=");
            Ok((ready(launch, port).await?, port))
        }
    };
    server::start_on_free_port(&log, "address already in use", start).await
}

async fn prometheus(
    folder: &Path,
    alertmanager: u16,
    jobs: &[(&str, Vec<String>)],
) -> anyhow::Result<Server> {
    let program = program("prometheus")?;
    let rules = std::fs::read_to_string(project_folder().join("deploy/prometheus/rules/researchflow.yml"))?;
    let rules_file = folder.join("rules.yml");
    std::fs::write(&rules_file, scaled::rules(&rules)?)?;
    // Four times a second, as four times a minute.
    let mut config = format!(
        "global:\n  scrape_interval: 250ms\n  scrape_timeout: 250ms\n  evaluation_interval: 250ms\nrule_files: [\"{}\"]\n\
         alerting:\n  alertmanagers:\n    - static_configs:\n        - targets: [\"127.0.0.1:{alertmanager}\"]\nscrape_configs:\n",
        rules_file.display(),
    );
    for (job, targets) in jobs {
        let _infallible = write!(
            config,
            "  - job_name: {job}\n    static_configs:\n      - targets: {targets:?}\n"
        );
    }
    let file = folder.join("prometheus.yml");
    std::fs::write(&file, config)?;
    let log = folder.join("prometheus.log");
    let data = folder.join("prometheus");
    let (program, file, data) = (&program, &file, &data);
    let start = |port: u16| {
        let log = log.clone();
        async move {
            let launch = Launch::new("prometheus", program, log)
                .arg(format!("--config.file={}", file.display()))
                .arg(format!("--storage.tsdb.path={}", data.display()))
                .arg(format!("--web.listen-address=127.0.0.1:{port}"))
                .args(["--rules.alert.resend-delay=1s"]);
            ready(launch, port).await
        }
    };
    server::start_on_free_port(&log, "address already in use", start).await
}

async fn ready(launch: Launch, port: u16) -> anyhow::Result<Server> {
    let mut server = launch.spawn()?;
    let (client, url) = (http_client()?, format!("http://127.0.0.1:{port}/-/ready"));
    server
        .ready(Duration::from_mins(1), || async {
            let answer = client.get(&url).send().await.ok()?;
            answer.status().is_success().then_some(())
        })
        .await?;
    Ok(server)
}

/// HAPI's REST, as far as a Subscription goes: it keeps what is put, and can refuse.
pub(crate) struct HapiRest {
    url: String,
    refuses: Arc<AtomicBool>,
}

#[derive(Clone, Default)]
struct Kept {
    subscription: Arc<std::sync::Mutex<Option<Bytes>>>,
    refuses: Arc<AtomicBool>,
}

impl HapiRest {
    async fn start() -> anyhow::Result<Self> {
        let kept = Kept::default();
        let refuses = kept.refuses.clone();
        let routes = Router::new()
            .route("/fhir/Subscription/researchflow-default", any(subscription))
            .with_state(kept);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/fhir", listener.local_addr()?);
        tokio::spawn(axum::serve(listener, routes).into_future());
        Ok(Self { url, refuses })
    }

    /// Whether everything is refused from now on.
    pub(crate) fn refuses(&self, refuses: bool) {
        self.refuses.store(refuses, Ordering::Relaxed);
    }
}

async fn subscription(State(kept): State<Kept>, method: Method, body: Bytes) -> Response {
    if kept.refuses.load(Ordering::Relaxed) {
        return StatusCode::FORBIDDEN.into_response();
    }
    let mut there = kept
        .subscription
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    if method == Method::PUT {
        // HAPI activates it by itself.
        let active =
            String::from_utf8_lossy(&body).replace("\"status\":\"requested\"", "\"status\":\"active\"");
        *there = Some(active.into());
    }
    match &*there {
        Some(there) => there.clone().into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
