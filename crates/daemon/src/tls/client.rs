//! Calls to other services: a connector that takes, for each new connection, what the files say then.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use hyper::Uri;
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use rustls::{
    ClientConfig, RootCertStore, client::Resumption, pki_types::ServerName, sign::SingleCertAndKey,
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::codegen::Service;

use super::{
    material::{Contents, Fault, TlsError},
    provider,
    settings::ClientTls,
    watched::{Made, Watched},
};

/// How calls to other services of ours are secured. Cheap to clone.
#[derive(Debug, Clone)]
pub struct TlsClient(Trust);

#[derive(Debug, Clone)]
enum Trust {
    /// As the files say.
    Files(Watched<ClientConfig>),
    /// By the authorities that the operating system knows, and without a certificate of ours. It may know none where nothing is called by TLS.
    System,
}

static BY_THE_SYSTEM: LazyLock<Result<Arc<ClientConfig>, TlsError>> = LazyLock::new(|| {
    let made = config(&ClientTls::default(), &[b"h2"], &Contents::read(&[])?)?;
    Ok(Arc::new(made.value))
});

impl TlsClient {
    pub(super) fn by_files(config: Watched<ClientConfig>) -> Self {
        Self(Trust::Files(config))
    }

    pub(crate) fn by_the_system() -> Self {
        Self(Trust::System)
    }

    /// What a new connection is to go by.
    fn current(&self) -> Result<Arc<ClientConfig>, TlsError> {
        match &self.0 {
            Trust::Files(config) => Ok(config.current()),
            Trust::System => BY_THE_SYSTEM.clone(),
        }
    }
}

/// Connects to one server, whose certificate must be good for `name`.
#[derive(Debug, Clone)]
pub(crate) struct Connector {
    tcp: HttpConnector,
    tls: TlsClient,
    name: ServerName<'static>,
    /// Key of the URL.
    key: &'static str,
    /// That it cannot be done was said, and it has not been done since.
    said: Arc<AtomicBool>,
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Connecting = Pin<Box<dyn Future<Output = Result<TokioIo<TlsStream<TcpStream>>, BoxError>> + Send>>;

impl Connector {
    pub(crate) fn new(key: &'static str, tls: TlsClient, name: ServerName<'static>) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        Self {
            tcp,
            tls,
            name,
            key,
            said: Arc::default(),
        }
    }

    /// Says once why the other side is not trusted, or does not trust ours: whoever calls learns no more than that it cannot be reached.
    fn tell(&self, result: &io::Result<TlsStream<TcpStream>>) {
        let failed = result.is_err();
        if self.said.swap(failed, Ordering::Relaxed) == failed {
            return;
        }
        match result {
            Ok(_) => tracing::info!(key = self.key, "calls are secured again"),
            Err(error) => tracing::warn!(key = self.key, %error, "calls cannot be secured"),
        }
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = BoxError;
    type Future = Connecting;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, to: Uri) -> Connecting {
        let connecting = self.tcp.call(to);
        let this = self.clone();
        Box::pin(async move {
            let tcp = connecting.await?.into_inner();
            let result = match this.tls.current() {
                Ok(config) => TlsConnector::from(config).connect(this.name.clone(), tcp).await,
                Err(error) => Err(io::Error::other(error)),
            };
            this.tell(&result);
            let stream = result?;
            if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
                return Err(io::Error::other("the server speaks no HTTP/2 over TLS").into());
            }
            Ok(TokioIo::new(stream))
        })
    }
}

/// What new connections are to go by. `alpn`: what is spoken over them, the best first.
pub(super) fn config(
    settings: &ClientTls,
    alpn: &[&[u8]],
    contents: &Contents,
) -> Result<Made<ClientConfig>, TlsError> {
    let roots = if settings.has_ca() {
        contents.roots("ca")?
    } else {
        system_roots()?
    };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|_| TlsError::unusable("ca"))?
        .with_root_certificates(roots);
    let (mut value, not_after) = if settings.has_certificate() {
        let (pair, leaf) = contents.pair()?;
        let resolver = Arc::new(SingleCertAndKey::from(pair));
        (builder.with_client_cert_resolver(resolver), Some(leaf.not_after))
    } else {
        (builder.with_no_client_auth(), None)
    };
    value.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    // A session that is resumed is not verified again.
    value.resumption = Resumption::disabled();
    Ok(Made { value, not_after })
}

/// Authorities that the operating system knows. Some of them may be of forms that are not known here: they are left out.
fn system_roots() -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(TlsError::new("ca", Fault::NoSystemRoots));
    }
    Ok(roots)
}
