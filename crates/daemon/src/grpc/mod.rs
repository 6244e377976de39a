//! gRPC. Serving: connections, what is done around each call, health, reflection and the drain are the same for all services. Calling: so is the way to another
//! one.
//!
//! ```text
//! socket ► accept (TLS, how many, how old, keepalive) ► call (id, log, deadline, what cannot be read) ► health, reflection, the service
//! ```

mod accept;
mod call;
mod deadline;
mod manners;
mod outgoing;
mod outward;
mod preface;
#[cfg(test)]
mod tests;
mod unsent;

use std::time::Duration;

use axum::{Router, http::Uri, middleware};
use rustls::pki_types::ServerName;
use tokio::net::TcpListener;
use tonic::{
    service::Routes,
    transport::{Channel, Endpoint},
};
use tonic_health::{ServingStatus, server::HealthReporter};

pub use self::{
    deadline::{NoTimeout, timeout},
    manners::GrpcManners,
    outgoing::Outgoing,
    outward::{Line, Outward, line},
    unsent::sent,
};
use crate::{
    ConfigError, Shutdown,
    admin::Readiness,
    tls::{Acceptor, Connector, TlsClient},
};

/// Why gRPC cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum GrpcError {
    /// The descriptors of the contracts cannot be read.
    #[error("reflection cannot be set up: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// How long a connection to another service may take.
const CONNECT: Duration = Duration::from_secs(2);

/// How another service is reached.
#[derive(Debug, Clone, Copy)]
pub struct Way<'a> {
    /// Key of the URL in the configuration.
    pub key: &'static str,
    /// `http://host:port`, or `https://host:port`.
    pub url: &'a str,
    /// The name that the server's certificate must be good for; empty: the URL's host.
    pub server_name: &'a str,
    /// How a call by `https` is secured.
    pub tls: &'a TlsClient,
}

/// A way to another service: made when it is first needed, and made again when it breaks. Needs a tokio runtime.
pub fn channel(way: Way<'_>) -> Result<Channel, ConfigError> {
    let unusable = || {
        let rule = "must be a URL such as http://127.0.0.1:7401";
        ConfigError::Invalid(vec![format!("{}: {rule}", way.key)])
    };
    let uri: Uri = way.url.parse().map_err(|_| unusable())?;
    let endpoint = |uri: Uri| {
        Endpoint::from(uri)
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(Duration::from_secs(10))
            .keep_alive_timeout(Duration::from_secs(5))
    };
    match uri.scheme_str() {
        Some("http") => Ok(endpoint(uri).connect_lazy()),
        Some("https") => {
            let host = uri.host().ok_or_else(unusable)?;
            // In a URL an address of IPv6 stands in brackets.
            let name = if way.server_name.is_empty() {
                host.trim_matches(['[', ']'])
            } else {
                way.server_name
            };
            let name = ServerName::try_from(name.to_owned()).map_err(|_| {
                let rule = "the server's name must be a DNS name or an address";
                ConfigError::Invalid(vec![format!("{}: {rule}", way.key)])
            })?;
            // The connector makes TLS of it; the library is to see nothing that it would want to secure itself.
            let port = uri.port_u16().unwrap_or(443);
            let bare = format!("http://{host}:{port}").parse().map_err(|_| unusable())?;
            let connector = Connector::new(way.key, way.tls.clone(), name);
            Ok(endpoint(bare).origin(uri).connect_with_connector_lazy(connector))
        }
        _ => Err(unusable()),
    }
}

/// What else is done around every call: within its id and its deadline, outside of the service. What is put around first is innermost.
pub type Around = Box<dyn FnOnce(Router) -> Router + Send>;

/// How a daemon serves gRPC.
pub struct GrpcServer {
    /// The socket, bound.
    pub listener: TcpListener,
    /// How its connections are secured.
    pub tls: Acceptor,
    /// Whether reflection is served.
    pub reflection: bool,
    /// What the health service says: serving once this is complete, not serving while it is not.
    pub readiness: Readiness,
    /// Bounds of connections and calls.
    pub manners: GrpcManners,
    /// What else is done around every call.
    pub around: Vec<Around>,
}

impl GrpcServer {
    /// Serves until the stop. `service` is its full name, for `grpc.health.v1`. Streams must end at the stop: whoever makes one watches it too.
    pub async fn serve(
        self,
        service: &'static str,
        mut routes: Routes,
        shutdown: Shutdown,
    ) -> Result<(), GrpcError> {
        let (reporter, health) = tonic_health::server::health_reporter();
        shutdown.spawn(report_health(reporter, service, self.readiness, shutdown.clone()));
        routes = routes.add_service(health);
        if self.reflection {
            let builder = || {
                tonic_reflection::server::Builder::configure()
                    .register_encoded_file_descriptor_set(api::FILE_DESCRIPTOR_SET)
                    .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                    .with_service_name(service)
                    .with_service_name("grpc.health.v1.Health")
            };
            routes = routes
                .add_service(builder().build_v1()?)
                .add_service(builder().build_v1alpha()?);
        }
        let around = middleware::from_fn_with_state(self.manners.request_seconds, call::around);
        let mut wrapped = routes.prepare().into_axum_router();
        for further in self.around {
            wrapped = further(wrapped);
        }
        let wrapped = wrapped.layer(around);
        accept::serve(self.listener, self.tls, wrapped, self.manners, shutdown).await;
        Ok(())
    }
}

/// Says what readiness says, for the service and for the whole process.
async fn report_health(
    reporter: HealthReporter,
    service: &'static str,
    readiness: Readiness,
    shutdown: Shutdown,
) {
    let mut said = None;
    loop {
        let serving = readiness.missing().is_empty() && !shutdown.is_stopping();
        if said != Some(serving) {
            let status = if serving {
                ServingStatus::Serving
            } else {
                ServingStatus::NotServing
            };
            reporter.set_service_status(service, status).await;
            reporter.set_service_status("", status).await;
            said = Some(serving);
        }
        if shutdown.is_stopping() {
            return;
        }
        shutdown.sleep(Duration::from_millis(50)).await;
    }
}
