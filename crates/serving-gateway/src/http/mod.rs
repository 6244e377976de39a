//! The views over HTTP, as HL7's SQL on FHIR has it: `$sql-run`, the views as FHIR resources, and what is served as a CapabilityStatement.
//!
//! ```text
//! routes ► around ► body ► api::sql_run (types) ► subject, scope ► rows (Query, RunView, given resources, SQL) ► encode ► pump ► client
//! ```
//!
//! Rows come from where gRPC's come from; only their form is made here. Every error is an OperationOutcome, and one in the middle of an answer breaks
//! the answer off, so that nobody takes half of it for the whole. `docs/serving-http.md` has each parameter, format, header and error.

mod around;
mod audited;
mod body;
mod capability;
mod config;
mod definitions;
mod encode;
mod evaluated;
mod freshness;
mod identity;
mod metrics;
mod pump;
mod routes;
mod rows;
mod run;
mod scope;
mod sql;
mod subject;

use std::sync::{Arc, OnceLock};

use ::identity::{Grants, Guard};
use api::Outcome;
use audit::Audit;
use axum::http::{Extensions, HeaderMap, header};
use chrono::{DateTime, Utc};
use daemon::{Shutdown, tls::Acceptor};
use tokio::{net::TcpListener, sync::Semaphore};

pub(crate) use self::body::UNIT_BYTES;
pub use self::config::HttpConfig;
pub(crate) use self::metrics::HttpMetrics;
pub use self::routes::paths;
use crate::{config::QueryLimits, gateway::not_ready, shared::Core};

/// What all requests share.
pub(crate) struct Http {
    pub(crate) core: Arc<OnceLock<Core>>,
    pub(crate) shutdown: Shutdown,
    /// Stands before each request.
    pub(crate) guard: Guard,
    pub(crate) config: HttpConfig,
    pub(crate) limits: QueryLimits,
    pub(crate) metrics: HttpMetrics,
    /// When this gateway began: the date of what it says of itself.
    pub(crate) started: DateTime<Utc>,
    /// Memory for bodies, in KiB.
    pub(crate) memory: Arc<Semaphore>,
    pub(crate) audit: Audit,
}

impl Http {
    /// As whoever sent the request with these extensions sees it.
    fn core_for(&self, extensions: &Extensions) -> Result<Core, Outcome> {
        let core = self.core.get().ok_or_else(not_ready)?;
        Ok(core.seen_by(Grants::of_request(extensions)))
    }

    /// The base URL under which a client reaches this gateway, without a slash at the end.
    fn base(&self, headers: &HeaderMap) -> String {
        if !self.config.base_url.is_empty() {
            return self.config.base_url.trim_end_matches('/').to_owned();
        }
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let scheme = if self.config.tls.is_on() { "https" } else { "http" };
        format!("{scheme}://{}", host.unwrap_or("localhost"))
    }
}

/// Serves until the stop.
pub(crate) async fn serve(listener: TcpListener, tls: Acceptor, http: Http) -> std::io::Result<()> {
    let (limits, shutdown, metrics) = (
        http.config.connection_limits(),
        http.shutdown.clone(),
        http.metrics.clone(),
    );
    let router = routes::router(Arc::new(http));
    let count = |outcome| metrics.connection(outcome);
    daemon::connections::serve(listener, tls, router, limits, count, shutdown).await
}
