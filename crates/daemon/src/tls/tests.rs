//! Listeners and callers with certificates of authorities of their own.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use axum::{Extension, Router, routing::get};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tonic::{Code, service::Routes};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::*;
use crate::{
    Principal,
    admin::Readiness,
    connections::{self, ConnectionLimits},
    grpc::{GrpcManners, GrpcServer, Way, channel},
};

/// Nothing here takes as long.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(20);

/// Signs certificates.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its key, in PEM.
struct Pair {
    certificate: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        let issuer = Issuer::new(params, key);
        Self { issuer, pem }
    }

    fn issue(&self, names: &[&str]) -> Pair {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let params = CertificateParams::new(names).expect("names");
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Pair {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }
}

/// Files that a listener and its callers read, and what watches them.
struct House {
    folder: PathBuf,
    metrics: Metrics,
    shutdown: Shutdown,
    tls: Tls,
}

impl House {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("daemon-tls-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let (metrics, shutdown) = (Metrics::new(), Shutdown::new());
        let tls = Tls::new(LOOK, &metrics, &shutdown);
        Self {
            folder,
            metrics,
            shutdown,
            tls,
        }
    }

    fn put(&self, file: &str, text: &str) -> PathBuf {
        let path = self.folder.join(file);
        std::fs::write(&path, text).expect("written");
        path
    }

    /// A listener with this pair that asks callers for certificates of that authority.
    fn settings(&self, pair: &Pair, clients: &Authority, asked: ClientCertificates) -> ListenerTls {
        ListenerTls {
            certificate: self.put("server.pem", &pair.certificate),
            key: self.put("server.key", &pair.key),
            client_ca: self.put("clients.pem", &clients.pem),
            client_certificates: asked,
            allowed_clients: Vec::new(),
        }
    }

    /// HTTP that says who calls; heads may take `head_time`.
    async fn http(&self, settings: &ListenerTls, most: usize, head_time: Duration) -> SocketAddr {
        let acceptor = self.tls.listener("http", "http.tls", settings, Protocol::Http1);
        let who = async |principal: Option<Extension<Principal>>| {
            principal.map_or("nobody".to_owned(), |Extension(who)| who.name.to_string())
        };
        let router = Router::new().route("/", get(who));
        let limits = ConnectionLimits {
            most,
            head_time,
            allowed: Vec::new(),
        };
        let (listener, address) = bound().await;
        let acceptor = acceptor.expect("good files");
        let serving = connections::serve(listener, acceptor, router, limits, |_| {}, self.shutdown.clone());
        self.shutdown
            .spawn(async move { serving.await.expect("it serves") });
        address
    }

    async fn grpc(&self, settings: &ListenerTls, manners: GrpcManners) -> SocketAddr {
        let tls = self
            .tls
            .listener("grpc", "daemon.grpc_tls", settings, Protocol::Http2);
        let (listener, address) = bound().await;
        let server = GrpcServer {
            listener,
            tls: tls.expect("good files"),
            reflection: false,
            readiness: Readiness::default(),
            manners,
            around: Vec::new(),
        };
        let serving = server.serve("test.Service", Routes::default(), self.shutdown.clone());
        self.shutdown
            .spawn(async move { serving.await.expect("it serves") });
        address
    }

    fn measured(&self, line: &str) -> bool {
        let text = self.metrics.encode().expect("a text");
        text.lines().any(|known| known == line)
    }

    async fn until(&self, what: &str, holds: impl AsyncFn() -> bool) {
        let looking = async {
            while !holds().await {
                tokio::time::sleep(LOOK).await;
            }
        };
        timeout(PATIENCE, looking)
            .await
            .unwrap_or_else(|_| panic!("never: {what}"));
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.shutdown.stop();
        let _gone = std::fs::remove_dir_all(&self.folder);
    }
}

async fn bound() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate")
}

/// What a caller gets who trusts this authority and shows that pair: the answer and the server's certificate.
async fn ask(
    address: SocketAddr,
    trusted: &Authority,
    shown: Option<&Pair>,
) -> std::io::Result<(String, CertificateDer<'static>)> {
    let mut roots = RootCertStore::empty();
    roots.add(der(&trusted.pem)).expect("an authority");
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots);
    let config = match shown {
        Some(pair) => {
            let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("a key");
            builder
                .with_client_auth_cert(vec![der(&pair.certificate)], key)
                .expect("it fits")
        }
        None => builder.with_no_client_auth(),
    };
    let asking = async {
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from("127.0.0.1").expect("an address");
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .await?;
        let mut said = String::new();
        stream.read_to_string(&mut said).await?;
        let certificates = stream.get_ref().1.peer_certificates().expect("it shows one");
        Ok((said, certificates[0].clone().into_owned()))
    };
    timeout(PATIENCE, asking).await.expect("an answer, or a refusal")
}

#[tokio::test]
async fn who_calls_is_told_to_each_request() {
    let house = House::new("who");
    let (authority, foreign) = (Authority::new(), Authority::new());
    let server = authority.issue(&["127.0.0.1"]);
    let (speed, other) = (authority.issue(&["speed"]), authority.issue(&["other"]));
    let stranger = foreign.issue(&["speed"]);
    let mut settings = house.settings(&server, &authority, ClientCertificates::Required);
    settings.allowed_clients = vec!["speed".into()];
    let address = house.http(&settings, 8, PATIENCE).await;
    let (said, _) = ask(address, &authority, Some(&speed))
        .await
        .expect("it is let in");
    assert!(
        said.starts_with("HTTP/1.1 200") && said.ends_with("speed"),
        "{said}"
    );
    let (said, _) = ask(address, &authority, Some(&other)).await.expect("an answer");
    assert!(
        said.starts_with("HTTP/1.1 403") && said.contains("\"forbidden\""),
        "{said}"
    );
    assert!(ask(address, &authority, Some(&stranger)).await.is_err());
    assert!(ask(address, &authority, None).await.is_err());
    assert!(ask(address, &foreign, Some(&speed)).await.is_err());
    settings.client_certificates = ClientCertificates::Optional;
    let address = house.http(&settings, 8, PATIENCE).await;
    for (shown, answer) in [(Some(&speed), "speed"), (None, "nobody")] {
        let (said, _) = ask(address, &authority, shown).await.expect("it is let in");
        assert!(said.ends_with(answer), "{said}");
    }
    assert!(ask(address, &authority, Some(&stranger)).await.is_err());
    for (outcome, count) in [("done", 3), ("not_allowed", 1), ("failed", 4)] {
        let line =
            format!("researchflow_tls_handshakes_total{{endpoint=\"http\",outcome=\"{outcome}\"}} {count}");
        house.until(&line, async || house.measured(&line)).await;
    }
}

#[tokio::test]
async fn files_that_change_are_taken_and_those_that_do_not_fit_are_not() {
    let house = House::new("change");
    let authority = Authority::new();
    let (first, second) = (authority.issue(&["127.0.0.1"]), authority.issue(&["127.0.0.1"]));
    let settings = house.settings(&first, &authority, ClientCertificates::Off);
    let settings = ListenerTls {
        client_ca: PathBuf::new(),
        ..settings
    };
    let address = house.http(&settings, 8, PATIENCE).await;
    let shows = async |pair: &Pair| {
        let (_, shown) = ask(address, &authority, None).await.expect("it answers");
        shown == der(&pair.certificate)
    };
    let failures = async |count: usize| {
        let line = format!("researchflow_tls_reload_failures_total{{endpoint=\"http\"}} {count}");
        house.until(&line, async || house.measured(&line)).await;
    };
    assert!(shows(&first).await);
    failures(0).await;
    // A key that belongs to the next certificate, a certificate that is cut off, none at all.
    house.put("server.key", &second.key);
    failures(1).await;
    house.put("server.pem", &second.certificate[..100]);
    failures(2).await;
    std::fs::remove_file(&settings.certificate).expect("it was there");
    failures(3).await;
    assert!(shows(&first).await, "what fitted last stays in use");
    house.put("server.pem", &second.certificate);
    house
        .until("the second pair", async || shows(&second).await)
        .await;
    failures(3).await;
}

#[tokio::test]
async fn authorities_are_exchanged_on_both_sides() {
    let house = House::new("authorities");
    let (old, new) = (Authority::new(), Authority::new());
    let settings = house.settings(&old.issue(&["localhost"]), &old, ClientCertificates::Required);
    let address = house.grpc(&settings, GrpcManners::default()).await;
    let caller = old.issue(&["speed"]);
    let client = ClientTls {
        ca: house.put("servers.pem", &old.pem),
        certificate: house.put("client.pem", &caller.certificate),
        key: house.put("client.key", &caller.key),
    };
    let client = house.tls.client("services", "services.tls", &client);
    let client = client.expect("good files");
    let url = format!("https://{address}");
    let call = async |name: &str| {
        let way = Way {
            key: "services.speed",
            url: &url,
            server_name: name,
            tls: &client,
        };
        // Each over a connection of its own.
        let channel = channel(way).expect("a good URL");
        let request = HealthCheckRequest::default();
        let answer = HealthClient::new(channel).check(request).await;
        answer.map(drop).map_err(|status| status.code())
    };
    assert_eq!(call("localhost").await, Ok(()));
    // The address is not one of the certificate's names.
    assert_eq!(call("").await, Err(Code::Unavailable));
    // As operators do it: first both are trusted, then certificates are exchanged, then the old authority is trusted no more.
    let both = format!("{}{}", old.pem, new.pem);
    house.put("clients.pem", &both);
    house.put("servers.pem", &both);
    let (server, caller) = (new.issue(&["localhost"]), new.issue(&["speed"]));
    house.put("server.pem", &server.certificate);
    house.put("server.key", &server.key);
    house.put("client.pem", &caller.certificate);
    house.put("client.key", &caller.key);
    let roots = house.put("servers.pem", &new.pem);
    house
        .until("a call by new certificates", async || {
            call("localhost").await == Ok(())
        })
        .await;
    house.put("clients.pem", &new.pem);
    house
        .until("only the new ones", async || call("localhost").await == Ok(()))
        .await;
    // Whoever trusts the old one alone is not served any more.
    std::fs::write(roots, &old.pem).expect("written");
    house
        .until("the old authority is no longer good", async || {
            call("localhost").await == Err(Code::Unavailable)
        })
        .await;
}

#[tokio::test]
async fn a_handshake_that_does_not_end_is_cut_and_others_go_on() {
    let house = House::new("slow");
    let authority = Authority::new();
    let server = authority.issue(&["127.0.0.1", "localhost"]);
    let settings = house.settings(&server, &authority, ClientCertificates::Optional);
    let limit = Duration::from_millis(300);
    let http = house.http(&settings, 3, limit).await;
    let manners = GrpcManners {
        max_connections: 3,
        handshake_seconds: limit,
        ..GrpcManners::default()
    };
    let grpc = house.grpc(&settings, manners).await;
    let client = ClientTls {
        ca: house.put("servers.pem", &authority.pem),
        ..ClientTls::default()
    };
    let client = house.tls.client("services", "services.tls", &client);
    let client = client.expect("good files");
    let url = format!("https://{grpc}");
    let call = async || {
        let way = Way {
            key: "services.speed",
            url: &url,
            server_name: "",
            tls: &client,
        };
        let channel = channel(way).expect("a good URL");
        let answer = HealthClient::new(channel)
            .check(HealthCheckRequest::default())
            .await;
        answer.is_ok()
    };
    for address in [http, grpc] {
        let mut silent = TcpStream::connect(address).await.expect("a connection");
        let mut half = TcpStream::connect(address).await.expect("a connection");
        // The head of a record of a handshake, and nothing behind it.
        half.write_all(&[22, 3, 1, 2, 0]).await.expect("it is open");
        if address == http {
            ask(http, &authority, None).await.expect("there is a place left");
        } else {
            assert!(call().await, "there is a place left");
        }
        for slow in [&mut silent, &mut half] {
            let closed = timeout(PATIENCE, slow.read_to_end(&mut Vec::new())).await;
            let _closed_or_reset = closed.expect("it is cut");
        }
    }
    for endpoint in ["http", "grpc"] {
        let line =
            format!("researchflow_tls_handshakes_total{{endpoint=\"{endpoint}\",outcome=\"too_slow\"}} 2");
        house.until(&line, async || house.measured(&line)).await;
    }
    // Whoever speaks without TLS is told nothing.
    let mut plain = TcpStream::connect(http).await.expect("a connection");
    plain
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .expect("it is open");
    let mut said = Vec::new();
    let closed = timeout(PATIENCE, plain.read_to_end(&mut said)).await;
    let _closed_or_reset = closed.expect("it is closed");
    assert!(!said.starts_with(b"HTTP"), "{said:?}");
}

#[tokio::test]
async fn calls_of_grpc_tell_who_they_are_from_too() {
    let house = House::new("grpc");
    let authority = Authority::new();
    let server = authority.issue(&["127.0.0.1"]);
    let mut settings = house.settings(&server, &authority, ClientCertificates::Required);
    settings.allowed_clients = vec!["speed".into()];
    let address = house.grpc(&settings, GrpcManners::default()).await;
    let url = format!("https://{address}");
    let call = async |name: &str| {
        let pair = authority.issue(&[name]);
        let client = ClientTls {
            ca: house.put("servers.pem", &authority.pem),
            certificate: house.put(&format!("{name}.pem"), &pair.certificate),
            key: house.put(&format!("{name}.key"), &pair.key),
        };
        let client = house.tls.client("services", "services.tls", &client);
        let way = Way {
            key: "services.speed",
            url: &url,
            server_name: "",
            tls: &client.expect("good files"),
        };
        let channel = channel(way).expect("a good URL");
        let request = HealthCheckRequest::default();
        let answer = HealthClient::new(channel).check(request).await;
        answer.map(drop).map_err(|status| status.code())
    };
    assert_eq!(call("speed").await, Ok(()));
    assert_eq!(call("other").await, Err(Code::PermissionDenied));
}
