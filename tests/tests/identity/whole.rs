//! The three daemons, closed to strangers: each believes one issuer, and knows one static token.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use e2e::{
    ask::channel,
    house::{House, versions_of},
    issuer::{Issuer, Kind, SigningKey, claims},
    process::{Daemon, write_private},
};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tonic::{Request, transport::Channel};

use crate::believed::AUDIENCE;

/// All that there is.
pub(crate) const EVERYTHING: &str =
    "system/*.rs system/researchflow.operate system/researchflow.ingest system/researchflow.refresh";
/// The token that the daemons show each other.
const OF_LAYERS: &str = "a-token-of-the-layers-of-a-test";
/// One of a person.
pub(crate) const OF_OPERATOR: &str = "a-token-of-an-operator-of-a-test";

/// The views, each with the url `http://views.test/<type>`.
pub(crate) fn views() -> [Value; 2] {
    let mut views = [
        versions_of("Patient", &[("gender", "gender"), ("active", "active")]),
        versions_of("Condition", &[("patient_id", "subject.getReferenceKey(Patient)")]),
    ];
    for view in &mut views {
        let of = view["resource"].as_str().unwrap_or_default();
        view["url"] = format!("http://views.test/{of}").into();
    }
    views
}

/// All three, what they stand on, and whom they believe.
pub(crate) struct Whole {
    pub(crate) house: House,
    pub(crate) speed: Daemon,
    pub(crate) serving: Daemon,
    pub(crate) issuer: Issuer,
    pub(crate) key: SigningKey,
    /// What the gateway shows the other layers.
    pub(crate) layers_token: PathBuf,
    _folder: TempDir,
}

/// Who calls all three daemons, and makes tokens.
pub(crate) struct Asking<'a> {
    /// By the service that they lead to.
    pub(crate) channels: [(&'static str, Channel); 3],
    pub(crate) key: &'a SigningKey,
    pub(crate) issuer: String,
    /// Each shows a certificate, whose holder no scope is given to: whoever shows no token is known, and may do nothing that needs one.
    pub(crate) certified: bool,
}

impl Asking<'_> {
    /// To the daemon that serves a path.
    pub(crate) fn channel(&self, path: &str) -> anyhow::Result<&Channel> {
        let to = self.channels.iter().find(|(service, _)| path.contains(service));
        Ok(&to
            .with_context(|| format!("no daemon serves {path}: start it"))?
            .1)
    }

    /// Claims of a token with these scopes.
    pub(crate) fn claims(&self, scopes: &str) -> Value {
        claims(&self.issuer, AUDIENCE, scopes)
    }

    /// A good token with these scopes.
    pub(crate) fn token(&self, scopes: &str) -> String {
        self.key.token(&self.claims(scopes))
    }
}

/// As the configuration has it.
pub(crate) fn digest(token: &str) -> String {
    Sha256::digest(token)
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// The files that the daemons know static tokens by, and that they show each other; in this folder.
pub(crate) fn tokens(folder: &Path) -> anyhow::Result<[PathBuf; 2]> {
    let (tokens, layers) = (folder.join("tokens"), folder.join("layers"));
    let known = format!(
        "layers {} system/*.rs\noperator {} {EVERYTHING}\n",
        digest(OF_LAYERS),
        digest(OF_OPERATOR)
    );
    write_private(&tokens, &known)?;
    write_private(&layers, OF_LAYERS)?;
    Ok([tokens, layers])
}

/// The section `[auth]` of all of them.
pub(crate) fn auth(issuer: &Issuer, tokens: &Path) -> String {
    format!(
        "\n[auth]\nstatic_tokens_file = \"{}\"\njwks_refresh_seconds = 1\njwks_retry_seconds = 0.1\n\
         [[auth.jwt]]\nissuer = \"{}\"\njwks_url = \"{}\"\naudiences = [\"{AUDIENCE}\"]\n",
        tokens.display(),
        issuer.name(),
        issuer.jwks_url(),
    )
}

impl Whole {
    /// With two views, and a patient that came after they were materialised: the speed layer holds it.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let key = SigningKey::new(Kind::Ed, "first");
        let issuer = Issuer::start(&[&key]).await?;
        let [tokens, layers_token] = tokens(folder.path())?;
        let auth = auth(&issuer, &tokens);
        let mut house = House::start(&views(), "").await?;
        house.batch.restart_configured(&auth, &[]).await?;
        let of_batch = format!("token_file = \"{}\"\n{auth}", layers_token.display());
        let speed = house.speed(&of_batch).await?;
        let mut serving = house.serving(&speed).await?;
        let layers = layers_token.display().to_string();
        let token_file = [("RF_SERVING__SERVICES__TOKEN_FILE", layers.as_str())];
        serving.restart_configured(&auth, &token_file).await?;
        let this = Self {
            house,
            speed,
            serving,
            issuer,
            key,
            layers_token,
            _folder: folder,
        };
        let shown = format!("Bearer {OF_OPERATOR}");
        let speed = this.channel("SpeedService").await?;
        this.house.hold_patient(speed, Some(&shown)).await?;
        Ok(this)
    }

    /// To the daemon that serves a service, or a path of it.
    pub(crate) async fn channel(&self, path: &str) -> anyhow::Result<Channel> {
        let daemon = match path {
            path if path.contains("BatchService") => &self.house.batch,
            path if path.contains("SpeedService") => &self.speed,
            path if path.contains("ServingService") => &self.serving,
            other => anyhow::bail!("no daemon serves {other}: start it here"),
        };
        channel(&daemon.address("grpc")?).await
    }

    /// Calls all three, without TLS.
    pub(crate) async fn asking(&self) -> anyhow::Result<Asking<'_>> {
        Ok(Asking {
            channels: [
                ("BatchService", self.channel("BatchService").await?),
                ("SpeedService", self.channel("SpeedService").await?),
                ("ServingService", self.channel("ServingService").await?),
            ],
            key: &self.key,
            issuer: self.issuer.name(),
            certified: false,
        })
    }

    /// Claims of a token with these scopes.
    pub(crate) fn claims(&self, scopes: &str) -> Value {
        claims(&self.issuer.name(), AUDIENCE, scopes)
    }

    /// A good token with these scopes.
    pub(crate) fn token(&self, scopes: &str) -> String {
        self.key.token(&self.claims(scopes))
    }

    /// Base URL of the gateway's HTTP.
    pub(crate) fn http(&self) -> anyhow::Result<String> {
        Ok(format!("http://{}", self.serving.address("http")?))
    }

    pub(crate) fn daemons(&self) -> [(&'static str, &Daemon); 3] {
        [
            ("batch-refresher", &self.house.batch),
            ("speed-ingestor", &self.speed),
            ("serving-gateway", &self.serving),
        ]
    }
}

/// A request that shows a token.
pub(crate) fn with_token<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    let value = format!("Bearer {token}").parse().expect("a header");
    request.metadata_mut().insert("authorization", value);
    request
}
