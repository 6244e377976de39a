//! What is called by TLS outside of the installation: HAPI's REST, Redis, PostgreSQL.

use std::{net::SocketAddr, path::PathBuf, process::Command, time::Duration};

use api::Code;
use axum::{Router, routing::get};
use daemon::{
    Shutdown,
    connections::{self, ConnectionLimits},
    metrics::Metrics,
    tls::{Acceptor, ClientCertificates, ClientTls, ListenerTls, Protocol, Tls},
};
use e2e::{
    certificates::Authority,
    deadline::until,
    postgres::{self, Postgres},
    redis::Redis,
    server::{self, Lifetime},
};
use speed_ingestor::{
    config::{DEFAULTS, SpeedConfig},
    hapi::Hapi,
    store::{SpeedStore, StoreError, StoreSettings},
};
use sqlx::{Connection as _, PgConnection};
use tokio::net::{TcpListener, TcpStream};

use crate::installation::LIMIT;

/// A server's certificate, a caller's, and who has signed both.
struct Place {
    folder: PathBuf,
    authority: Authority,
    shutdown: Shutdown,
    tls: Tls,
}

impl Place {
    fn new(name: &str, user: Option<&str>) -> anyhow::Result<Self> {
        let shutdown = Shutdown::new();
        Ok(Self {
            folder: server::new_folder(name, user, Lifetime::Program)?,
            authority: Authority::new()?,
            tls: Tls::new(Duration::from_millis(50), &Metrics::new(), &shutdown),
            shutdown,
        })
    }

    fn put(&self, file: &str, text: &str) -> anyhow::Result<PathBuf> {
        let path = self.folder.join(file);
        std::fs::write(&path, text)?;
        Ok(path)
    }

    /// A listener that asks callers for certificates.
    fn acceptor(&self) -> anyhow::Result<Acceptor> {
        let pair = self.authority.issue(&["127.0.0.1"])?;
        let settings = ListenerTls {
            certificate: self.put("server.pem", &pair.certificate)?,
            key: self.put("server.key", &pair.key)?,
            client_ca: self.put("clients.pem", &self.authority.pem)?,
            client_certificates: ClientCertificates::Required,
            allowed_clients: vec!["speed-ingestor".to_owned()],
        };
        Ok(self
            .tls
            .listener("server", "server", &settings, Protocol::Http1)?)
    }

    /// What a caller goes by.
    fn caller(&self) -> anyhow::Result<ClientTls> {
        let pair = self.authority.issue(&["speed-ingestor"])?;
        Ok(ClientTls {
            ca: self.put("ca.pem", &self.authority.pem)?,
            certificate: self.put("client.pem", &pair.certificate)?,
            key: self.put("client.key", &pair.key)?,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shutdown.stop();
    }
}

async fn bound() -> anyhow::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

#[tokio::test]
async fn hapi_is_asked_with_authorities_and_a_certificate_that_may_change() -> anyhow::Result<()> {
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let place = Place::new("outward-hapi", None)?;
    let (listener, address) = bound().await?;
    let routes = Router::new().route("/fhir/Patient/a", get(async || "{}"));
    let limits = ConnectionLimits {
        most: 8,
        head_time: LIMIT,
        allowed: Vec::new(),
    };
    let serving = connections::serve(
        listener,
        place.acceptor()?,
        routes,
        limits,
        |_| {},
        place.shutdown.clone(),
    );
    place.shutdown.spawn(async move {
        let _ended = serving.await;
    });
    let caller = place.caller()?;
    let config = format!(
        "[webhook]\nsecret = \"s3cret\"\n[hapi]\nurl = \"https://{address}/fhir\"\n\
         [hapi.tls]\nca = \"{}\"\ncertificate = \"{}\"\nkey = \"{}\"\n",
        caller.ca.display(),
        caller.certificate.display(),
        caller.key.display(),
    );
    let file = place.put("config.toml", &config)?;
    let config: SpeedConfig = daemon::config::load(DEFAULTS, Some(&file), "RF_SPEED_OF_A_TEST")?;
    let (base, authorization) = config.hapi.rest().expect("it is set");
    let hapi = Hapi::over(config.hapi.http(&place.tls)?, base, authorization);
    let reads = async || {
        let read = hapi.read("Patient", "a", 1000).await;
        read.map(|body| body.is_some()).map_err(|error| error.code)
    };
    assert_eq!(reads().await, Ok(true));
    let another = Authority::new()?;
    place.put("ca.pem", &another.pem)?;
    until("another authority to be the only one", LIMIT, || async {
        (reads().await == Err(Code::Unavailable)).then_some(())
    })
    .await?;
    place.put("ca.pem", &format!("{}{}", another.pem, place.authority.pem))?;
    until("both authorities", LIMIT, || async {
        (reads().await == Ok(true)).then_some(())
    })
    .await
}

#[tokio::test]
async fn redis_is_reached_by_rediss() -> anyhow::Result<()> {
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let place = Place::new("outward-redis", None)?;
    let redis = Redis::start().await?;
    let plain = redis.store_settings();
    // In front of Redis, as a provider's proxy of TLS is.
    let (listener, address) = bound().await?;
    let (acceptor, to) = (place.acceptor()?, redis.port());
    place.shutdown.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let deadline = tokio::time::Instant::now() + LIMIT;
                let (mut inside, _) = acceptor.accept(stream, deadline).await.ok()?;
                let mut redis = TcpStream::connect(("127.0.0.1", to)).await.ok()?;
                tokio::io::copy_bidirectional(&mut inside, &mut redis).await.ok()
            });
        }
    });
    let life = async |tls: ClientTls| {
        let settings = StoreSettings {
            url: format!("rediss://{address}/"),
            tls,
            ..plain.clone()
        };
        SpeedStore::open(settings)?.life().await
    };
    let caller = place.caller()?;
    life(caller.clone()).await?;
    let without = ClientTls {
        certificate: PathBuf::new(),
        key: PathBuf::new(),
        ..caller.clone()
    };
    let untrusting = ClientTls {
        ca: place.put("another.pem", &Authority::new()?.pem)?,
        ..caller
    };
    for tls in [without, untrusting] {
        let refused = life(tls).await;
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    }
    Ok(())
}

#[tokio::test]
async fn postgresql_is_called_as_its_url_says() -> anyhow::Result<()> {
    // As the user that PostgreSQL is started as.
    let user = server::is_root().then_some("postgres");
    let place = Place::new("outward-postgres", user)?;
    let pair = place.authority.issue(&["127.0.0.1"])?;
    let certificate = place.put("server.pem", &pair.certificate)?;
    let key = place.put("server.key", &pair.key)?;
    server::run(Command::new("chmod").arg("600").arg(&key))?;
    if let Some(user) = user {
        server::run(Command::new("chown").arg(user).arg(&key))?;
    }
    let option = |name: &str, path: &PathBuf| (name.to_owned(), path.display().to_string());
    let settings = postgres::Settings {
        options: vec![
            ("ssl".to_owned(), "on".to_owned()),
            option("ssl_cert_file", &certificate),
            option("ssl_key_file", &key),
        ],
        ..postgres::Settings::default()
    };
    let postgres = Postgres::start_with(settings).await?;
    let url = postgres.url_as("postgres", "", "postgres");
    let joint = if url.contains('?') { '&' } else { '?' };
    let by = |ca: &PathBuf| format!("{url}{joint}sslmode=verify-full&sslrootcert={}", ca.display());
    let ca = place.put("ca.pem", &place.authority.pem)?;
    assert!(view_store::is_postgres_url(&by(&ca)));
    let mut connection = PgConnection::connect(&by(&ca)).await?;
    let secured: bool = sqlx::query_scalar("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        .fetch_one(&mut connection)
        .await?;
    assert!(secured);
    let another = place.put("another.pem", &Authority::new()?.pem)?;
    assert!(PgConnection::connect(&by(&another)).await.is_err());
    Ok(())
}
