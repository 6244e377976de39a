//! How a listener takes connections: as they come, or by a handshake of TLS that tells who the other side is.

use std::{collections::BTreeSet, io, sync::Arc};

use rustls::{
    RootCertStore, ServerConfig,
    pki_types::CertificateDer,
    server::{NoServerSessionStorage, WebPkiClientVerifier},
    sign::SingleCertAndKey,
};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::either::Either;

use super::{
    leaf::Leaf,
    material::{Contents, TlsError},
    measures::TlsMeasures,
    peer::Peer,
    provider,
    settings::{ClientCertificates, ListenerTls},
    watched::{Endpoint, Made, Watched},
};

/// What is spoken over a listener's connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// `http/1.1`
    Http1,
    /// `h2`: gRPC.
    Http2,
}

/// Why a connection is not taken.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The handshake was not over in time.
    #[error("it took too long")]
    TooSlow,
    /// It is no TLS, or what the other side shows is not good, or ours is not for it.
    #[error("{0}")]
    Failed(#[from] io::Error),
}

/// The bytes of a connection, with TLS or without.
pub type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// Takes a listener's connections. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Acceptor(Option<Arc<Secured>>);

#[derive(Debug)]
struct Secured {
    config: Watched<ServerConfig>,
    /// Empty: all.
    allowed: BTreeSet<String>,
    name: &'static str,
    measures: TlsMeasures,
}

impl Acceptor {
    /// Without TLS.
    pub fn plain() -> Self {
        Self::default()
    }

    pub(super) fn secured(
        settings: &ListenerTls,
        protocol: Protocol,
        endpoint: &Endpoint,
    ) -> Result<Self, TlsError> {
        let own = settings.clone();
        let config = Watched::start(endpoint, settings.files(), move |contents| {
            config(&own, protocol, contents)
        })?;
        Ok(Self(Some(Arc::new(Secured {
            config,
            allowed: settings.allowed_clients.iter().cloned().collect(),
            name: endpoint.name,
            measures: endpoint.measures.clone(),
        }))))
    }

    /// Whether there is TLS.
    pub fn is_secured(&self) -> bool {
        self.0.is_some()
    }

    /// The connection and who it is from, once that is known; by `deadline` at the latest.
    pub async fn accept(
        &self,
        stream: TcpStream,
        deadline: Instant,
    ) -> Result<(Stream, Peer), HandshakeError> {
        let Some(secured) = &self.0 else {
            return Ok((Either::Left(stream), Peer::Unknown));
        };
        let acceptor = TlsAcceptor::from(secured.config.current());
        let result = match timeout_at(deadline, acceptor.accept(stream)).await {
            Err(_) => Err(HandshakeError::TooSlow),
            Ok(Err(error)) => Err(error.into()),
            Ok(Ok(stream)) => {
                let certificates = stream.get_ref().1.peer_certificates();
                let peer = secured.peer(certificates.and_then(<[_]>::first));
                Ok((Either::Right(Box::new(stream)), peer))
            }
        };
        let outcome = match &result {
            Ok((_, Peer::NotAllowed)) => "not_allowed",
            Ok(_) => "done",
            Err(HandshakeError::TooSlow) => "too_slow",
            Err(HandshakeError::Failed(_)) => "failed",
        };
        secured.measures.handshake(secured.name, outcome);
        result
    }
}

impl Secured {
    /// Who shows this certificate, which was verified.
    fn peer(&self, certificate: Option<&CertificateDer<'_>>) -> Peer {
        let Some(certificate) = certificate else {
            return Peer::Unknown;
        };
        // Whoever has no name is on nobody's list.
        let Some(name) = Leaf::of(certificate).and_then(|leaf| leaf.name) else {
            return Peer::NotAllowed;
        };
        if self.allowed.is_empty() || self.allowed.contains(name.as_ref()) {
            Peer::certified(name)
        } else {
            Peer::NotAllowed
        }
    }
}

/// What new connections are to go by.
pub(super) fn config(
    settings: &ListenerTls,
    protocol: Protocol,
    contents: &Contents,
) -> Result<Made<ServerConfig>, TlsError> {
    let (pair, leaf) = contents.pair()?;
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|_| TlsError::unusable("certificate"))?;
    let builder = match settings.client_certificates {
        ClientCertificates::Off => builder.with_no_client_auth(),
        asked => {
            let roots: Arc<RootCertStore> = contents.roots("client_ca")?.into();
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
            let verifier = if asked == ClientCertificates::Optional {
                verifier.allow_unauthenticated()
            } else {
                verifier
            };
            let verifier = verifier.build().map_err(|_| TlsError::unusable("client_ca"))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
    config.alpn_protocols = vec![match protocol {
        Protocol::Http1 => b"http/1.1".to_vec(),
        Protocol::Http2 => b"h2".to_vec(),
    }];
    // A session that is resumed is not verified again.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Made {
        value: config,
        not_after: Some(leaf.not_after),
    })
}
