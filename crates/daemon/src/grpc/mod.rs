//! gRPC. Serving: connections, what is done around each call, health, reflection and the drain are the same for all services. Calling: so is the way to another
//! one.
//!
//! ```text
//! socket ► accept (how many, how old, keepalive) ► call (id, log, deadline, what cannot be read) ► health, reflection, the service
//! ```

mod accept;
mod call;
mod deadline;
mod manners;
mod outward;
#[cfg(test)]
mod tests;

use std::time::Duration;

use axum::middleware;
use tokio::net::TcpListener;
use tonic::{
    service::Routes,
    transport::{Channel, Endpoint},
};
use tonic_health::{ServingStatus, server::HealthReporter};

pub use self::{
    deadline::{NoTimeout, timeout},
    manners::GrpcManners,
    outward::{Line, Outward, TokenFileError, line},
};
use crate::{ConfigError, Shutdown, admin::Readiness};

/// Why gRPC cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum GrpcError {
    /// The descriptors of the contracts cannot be read.
    #[error("reflection cannot be set up: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// How long a connection to another service may take.
const CONNECT: Duration = Duration::from_secs(2);

/// A way to another service: made when it is first needed, and made again when it breaks. `key` is that of the configuration. Needs a tokio runtime.
pub fn channel(key: &'static str, url: &str) -> Result<Channel, ConfigError> {
    let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|_| {
        ConfigError::Invalid(vec![format!(
            "{key}: must be a URL such as http://127.0.0.1:7401"
        )])
    })?;
    Ok(endpoint
        .connect_timeout(CONNECT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(5))
        .connect_lazy())
}

/// How a daemon serves gRPC.
pub struct GrpcServer {
    /// The socket, bound.
    pub listener: TcpListener,
    /// Whether reflection is served.
    pub reflection: bool,
    /// What the health service says: serving once this is complete, not serving while it is not.
    pub readiness: Readiness,
    /// Bounds of connections and calls.
    pub manners: GrpcManners,
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
        let wrapped = routes.prepare().into_axum_router().layer(around);
        accept::serve(self.listener, wrapped, self.manners, shutdown).await;
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
