//! The three daemons, each with a certificate of its own, which call each other and are called by mutual TLS alone.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use api::proto::serving::serving_service_client::ServingServiceClient;
use daemon::{
    Shutdown,
    grpc::{Way, channel},
    metrics::Metrics,
    tls::{ClientTls, Tls, TlsClient},
};
use e2e::{
    ask::{Asker, rows_where},
    certificates::{Authority, Mounted, Pair},
    deadline::{until, until_ok},
    house::{House, SECRET, versions_of},
    process::{Daemon, Plan},
    server::{self, Lifetime},
    tables,
};
use reqwest::{Certificate, Identity};
use serde_json::Value;
use tonic::transport::Channel;

/// Nothing here takes as long.
pub(crate) const LIMIT: Duration = Duration::from_secs(40);
/// How often the daemons, and this program, look at their files.
const LOOK: Duration = Duration::from_millis(100);
/// Who is on the list of every listener: this program.
pub(crate) const OPERATOR: &str = "operator";

/// Whose certificates the files hold, and whom they make trusted.
pub(crate) struct Files<'a> {
    /// Who has signed those of the daemons and of this program.
    pub(crate) issuer: &'a Authority,
    /// Who is trusted.
    pub(crate) trusted: String,
}

/// What an installation has beside TLS.
pub(crate) struct Beside {
    pub(crate) views: Vec<Value>,
    /// Sections of every daemon's configuration.
    pub(crate) sections: String,
    /// Variables of every daemon's environment, of which each takes its own.
    pub(crate) environment: Vec<(String, String)>,
}

/// All of it.
pub(crate) struct Installation {
    pub(crate) house: House,
    pub(crate) batch: Daemon,
    pub(crate) speed: Daemon,
    pub(crate) serving: Daemon,
    /// This program's own files.
    pub(crate) operator: TlsClient,
    mounted: Mounted,
    /// Of what this program itself watches.
    pub(crate) metrics: Metrics,
    tls: Tls,
    folder: PathBuf,
    shutdown: Shutdown,
}

impl Installation {
    /// Ready when this returns. Connections of gRPC grow no older than `age_seconds`.
    pub(crate) async fn start(files: &Files<'_>, age_seconds: f64) -> anyhow::Result<Self> {
        let beside = Beside {
            views: vec![versions_of("Patient", &[])],
            sections: String::new(),
            environment: Vec::new(),
        };
        Self::start_with(files, age_seconds, &beside).await
    }

    /// The same with more than TLS.
    pub(crate) async fn start_with(
        files: &Files<'_>,
        age_seconds: f64,
        beside: &Beside,
    ) -> anyhow::Result<Self> {
        let mut house = House::start(&beside.views, "").await?;
        house.batch.terminate(LIMIT).await?;
        let folder = server::new_folder("tls", None, Lifetime::Program)?;
        let mut mounted = Mounted::below(&folder);
        mounted.exchange(&files.all()?)?;
        let at = mounted.path().display().to_string();
        let shutdown = Shutdown::new();
        let metrics = Metrics::new();
        let tls = Tls::new(LOOK, &metrics, &shutdown);
        let operator = tls.client("operator", "operator", &client(&at, OPERATOR))?;
        let all = |allowed: &[&str]| {
            format!(
                "[daemon.grpc]\nmax_connection_age_seconds = {age_seconds}\nconnection_grace_seconds = {age_seconds}\n{}{}{}",
                listener(&at, "daemon.grpc_tls", allowed),
                listener(&at, "daemon.admin_tls", &[OPERATOR]),
                beside.sections,
            )
        };
        let addresses = "[daemon]\ngrpc_listen = \"{grpc}\"\nadmin_listen = \"{admin}\"\n";
        let mut batch = house.batch_config.clone();
        batch += &all(&["serving-gateway", "speed-ingestor", OPERATOR]);
        let starting = Starting {
            at: &at,
            folder: &folder,
            environment: &beside.environment,
        };
        let batch = starting.daemon("batch-refresher", "RF_BATCH", &batch).await?;
        let speed = format!(
            "{addresses}[webhook]\nlisten = \"{{http}}\"\nsecret = \"{SECRET}\"\n[redis]\nurl = \"{}\"\n[batch]\nurl = \"https://{}\"\n{}{}{}",
            house.redis.url(),
            batch.address("grpc")?,
            caller(&at, "batch.tls", "speed-ingestor"),
            listener(&at, "webhook.tls", &[OPERATOR]),
            all(&["serving-gateway", OPERATOR]),
        );
        let speed = starting.daemon("speed-ingestor", "RF_SPEED", &speed).await?;
        let serving = format!(
            "{addresses}[http]\nlisten = \"{{http}}\"\n[views]\nurl = \"{}\"\n[services]\nbatch = \"https://{}\"\nspeed = \"https://{}\"\n{}{}{}",
            house.views_url,
            batch.address("grpc")?,
            speed.address("grpc")?,
            caller(&at, "services.tls", "serving-gateway"),
            listener(&at, "http.tls", &[OPERATOR]),
            all(&[OPERATOR]),
        );
        let serving = starting.daemon("serving-gateway", "RF_SERVING", &serving).await?;
        let this = Self {
            house,
            batch,
            speed,
            serving,
            operator,
            mounted,
            metrics,
            tls,
            folder,
            shutdown,
        };
        let admin = http_client(&files.trusted, Some(&files.issuer.issue(&[OPERATOR])?))?;
        for daemon in this.daemons() {
            let url = format!("https://{}/readyz", daemon.address("admin")?);
            until_ok("the daemon is ready", LIMIT, || async {
                admin.get(&url).send().await?.error_for_status()
            })
            .await?;
        }
        Ok(this)
    }

    pub(crate) fn daemons(&self) -> [&Daemon; 3] {
        [&self.batch, &self.speed, &self.serving]
    }

    /// All files at once.
    pub(crate) fn exchange(&mut self, files: &[(String, String)]) -> anyhow::Result<()> {
        self.mounted.exchange(files)
    }

    /// What a caller goes by who trusts these authorities and shows that pair.
    pub(crate) fn caller(
        &self,
        name: &str,
        trusted: &str,
        shown: Option<&Pair>,
    ) -> anyhow::Result<TlsClient> {
        let put = |file: &str, text: &str| {
            let path = self.folder.join(format!("{name}-{file}"));
            std::fs::write(&path, text).map(|()| path)
        };
        let mut settings = ClientTls {
            ca: put("ca.pem", trusted)?,
            ..ClientTls::default()
        };
        if let Some(pair) = shown {
            settings.certificate = put("certificate.pem", &pair.certificate)?;
            settings.key = put("key.pem", &pair.key)?;
        }
        Ok(self.tls.client("caller", "caller", &settings)?)
    }

    /// Whoever asks the gateway.
    pub(crate) fn asker(&self) -> anyhow::Result<Asker> {
        let channel = secured(&self.serving, &self.operator)?;
        let client = ServingServiceClient::new(channel);
        Ok(Asker { client })
    }

    /// Writes a patient as HAPI does, and waits until the gateway answers with it: live, for nothing is refreshed.
    pub(crate) async fn sees_live(&self, id: &str) -> anyhow::Result<()> {
        tables::write_patient(&self.house.hapi, id, "female").await?;
        let asker = self.asker()?;
        until("the live row", LIMIT, || async {
            let query = rows_where("patient_versions", "id", id);
            let answer = asker.ask(query).await.ok()?;
            (answer.footer.speed_rows == 1).then_some(())
        })
        .await
    }
}

impl Drop for Installation {
    fn drop(&mut self) {
        self.shutdown.stop();
    }
}

impl Files<'_> {
    /// Every file of every daemon, and of this program.
    pub(crate) fn all(&self) -> anyhow::Result<Vec<(String, String)>> {
        let mut files = vec![("trusted.pem".to_owned(), self.trusted.clone())];
        for name in ["batch-refresher", "speed-ingestor", "serving-gateway", OPERATOR] {
            let pair = self.issuer.issue(&["127.0.0.1", name])?;
            files.push((format!("{name}.pem"), pair.certificate));
            files.push((format!("{name}.key"), pair.key));
        }
        Ok(files)
    }
}

/// A way to a daemon's gRPC.
pub(crate) fn secured(daemon: &Daemon, tls: &TlsClient) -> anyhow::Result<Channel> {
    Ok(channel(Way {
        key: "of the test",
        url: &format!("https://{}", daemon.address("grpc")?),
        server_name: "",
        tls,
    })?)
}

/// A client of HTTP that trusts these authorities alone, and shows that pair.
pub(crate) fn http_client(trusted: &str, shown: Option<&Pair>) -> anyhow::Result<reqwest::Client> {
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let mut builder = reqwest::Client::builder()
        .no_proxy()
        .timeout(LIMIT)
        .tls_certs_only(Certificate::from_pem_bundle(trusted.as_bytes())?);
    if let Some(pair) = shown {
        let pem = format!("{}{}", pair.certificate, pair.key);
        builder = builder.identity(Identity::from_pem(pem.as_bytes())?);
    }
    Ok(builder.build()?)
}

fn client(at: &str, name: &str) -> ClientTls {
    ClientTls {
        ca: format!("{at}/trusted.pem").into(),
        certificate: format!("{at}/{name}.pem").into(),
        key: format!("{at}/{name}.key").into(),
    }
}

/// A section of a caller: `NAME` is the daemon's.
fn caller(at: &str, section: &str, name: &str) -> String {
    format!(
        "[{section}]\nca = \"{at}/trusted.pem\"\ncertificate = \"{at}/{name}.pem\"\nkey = \"{at}/{name}.key\"\n"
    )
}

/// A section of a listener, which only these may call. `NAME` stands for the daemon.
fn listener(at: &str, section: &str, allowed: &[&str]) -> String {
    format!(
        "[{section}]\ncertificate = \"{at}/NAME.pem\"\nkey = \"{at}/NAME.key\"\nclient_ca = \"{at}/trusted.pem\"\n\
         client_certificates = \"required\"\nallowed_clients = {allowed:?}\n"
    )
}

/// What all daemons are started with.
struct Starting<'a> {
    at: &'a str,
    folder: &'a Path,
    environment: &'a [(String, String)],
}

impl Starting<'_> {
    async fn daemon(&self, name: &'static str, prefix: &str, config: &str) -> anyhow::Result<Daemon> {
        let at = self.at;
        let mut environment = self.environment.to_vec();
        environment.push((
            format!("{prefix}__DAEMON__TLS_RELOAD_SECONDS"),
            LOOK.as_secs_f64().to_string(),
        ));
        Daemon::start_unready(Plan {
            name,
            config: config.replace(&format!("{at}/NAME."), &format!("{at}/{name}.")),
            environment,
            folder: self.folder.to_owned(),
            lifetime: Lifetime::Program,
        })
        .await
    }
}
