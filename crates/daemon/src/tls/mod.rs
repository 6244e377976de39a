//! TLS: how listeners are secured, how calls to others are, and how both go on when certificates, keys and authorities are replaced.
//!
//! ```text
//! files ► watched (looked at every few seconds) ─┬─► server: an Acceptor of each listener ► Stream, Peer ► Principal of each request
//!                                                └─► client: the connector of a gRPC channel, or a client of HTTP
//! ```
//!
//! A new connection takes what the files say at that time; those that are open go on, until they are too old (`max_connection_age_seconds`). Nothing is
//! resumed: each handshake is a whole one, so that whoever is no longer trusted is not let in by a ticket from before.

mod client;
mod leaf;
mod material;
mod measures;
mod peer;
mod server;
mod settings;
#[cfg(test)]
mod tests;
mod watched;

use std::{sync::Arc, time::Duration};

use rustls::{ClientConfig, crypto::CryptoProvider};

pub(crate) use self::{client::Connector, peer::NotAllowed};
pub use self::{
    client::TlsClient,
    material::{Fault, TlsError},
    peer::{Answering, Peer, refuse_strangers},
    server::{Acceptor, HandshakeError, Protocol, Stream},
    settings::{ClientCertificates, ClientPem, ClientTls, ListenerTls, RELOAD_SECONDS, is_server_name},
    watched::Watched,
};
use self::{measures::TlsMeasures, watched::Endpoint};
use crate::{ConfigError, Shutdown, metrics::Metrics};

/// Makes what a daemon's listeners and calls are secured by. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tls {
    measures: TlsMeasures,
    interval: Duration,
    shutdown: Shutdown,
}

impl Tls {
    /// `interval`: how often files are looked at, until the stop.
    pub fn new(interval: Duration, metrics: &Metrics, shutdown: &Shutdown) -> Self {
        Self {
            measures: TlsMeasures::register(metrics),
            interval,
            shutdown: shutdown.clone(),
        }
    }

    /// How a listener takes connections: `name` is that of its metrics, `section` that of its settings. Needs a tokio runtime where files are to be watched.
    pub fn listener(
        &self,
        name: &'static str,
        section: &str,
        settings: &ListenerTls,
        protocol: Protocol,
    ) -> Result<Acceptor, ConfigError> {
        if !settings.is_on() {
            return Ok(Acceptor::plain());
        }
        let made = Acceptor::secured(settings, protocol, &self.endpoint(name));
        made.map_err(|error| error.of(section))
    }

    /// How calls to other services of ours are secured.
    pub fn client(
        &self,
        name: &'static str,
        section: &str,
        settings: &ClientTls,
    ) -> Result<TlsClient, ConfigError> {
        if !settings.is_set() {
            return Ok(TlsClient::by_the_system());
        }
        self.client_of(name, section, settings, &[b"h2"], Ok)
            .map(TlsClient::by_files)
    }

    /// The same for a client of another library: `make` is called at once, and again whenever the files have changed. `alpn`: what it speaks, the best first.
    pub fn client_of<T: Send + Sync + 'static>(
        &self,
        name: &'static str,
        section: &str,
        settings: &ClientTls,
        alpn: &'static [&'static [u8]],
        make: impl Fn(ClientConfig) -> Result<T, TlsError> + Send + Sync + 'static,
    ) -> Result<Watched<T>, ConfigError> {
        let config = settings.clone();
        let watched = Watched::start(&self.endpoint(name), settings.files(), move |contents| {
            client::config(&config, alpn, contents)?.and_then(&make)
        });
        watched.map_err(|error| error.of(section))
    }

    fn endpoint(&self, name: &'static str) -> Endpoint {
        Endpoint {
            name,
            measures: self.measures.clone(),
            interval: self.interval,
            shutdown: self.shutdown.clone(),
        }
    }
}

/// The one implementation of cryptography in all daemons.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
