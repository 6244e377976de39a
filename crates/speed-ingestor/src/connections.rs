//! Connections of the webhook, on a thread of their own with what brings previews to Redis: a webhook is little work, and to hand it from thread to
//! thread would be as much again. While all that has come is read, the next group of previews gathers. What a request may do is said in
//! [`webhook`](crate::webhook).

use std::io;

use api::{Code, ServiceError};
use axum::Router;
pub use daemon::connections::ConnectionLimits;
use daemon::{Shutdown, tls::Acceptor};
use tokio::{net::TcpListener, sync::oneshot};

use crate::measures::{ConnectionLabel, Measures};

/// Of so many sockets on which something has come a group of previews gathers: Redis works on it while the next ones are read. Of all that are ready at once, each would
/// wait for the others.
const EVENTS_AT_ONCE: usize = 16;

/// Where deliveries come to.
#[derive(Debug)]
pub struct Listening {
    /// The socket, bound.
    pub listener: TcpListener,
    /// How its connections are secured.
    pub tls: Acceptor,
    /// Their bounds.
    pub limits: ConnectionLimits,
}

/// Serves over this socket, on a thread of its own, until the stop; requests under way are then finished. `router` is called on that thread.
pub async fn serve_apart(
    listening: Listening,
    router: impl FnOnce() -> Result<Router, ServiceError> + Send + 'static,
    measures: Measures,
    shutdown: Shutdown,
) -> Result<(), ServiceError> {
    let internal = |error: io::Error| ServiceError::internal(&error);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_io_events_per_tick(EVENTS_AT_ONCE)
        .build()
        .map_err(internal)?;
    let (told, ended) = oneshot::channel();
    let Listening {
        listener,
        tls,
        limits,
    } = listening;
    let listener = listener.into_std().map_err(internal)?;
    let serving = move || {
        let result = runtime.block_on(async {
            let listening = Listening {
                listener: TcpListener::from_std(listener).map_err(internal)?,
                tls,
                limits,
            };
            serve(listening, router()?, measures, shutdown)
                .await
                .map_err(internal)
        });
        let _nobody_waits = told.send(result);
    };
    std::thread::Builder::new()
        .name("webhook".to_owned())
        .spawn(serving)
        .map_err(internal)?;
    ended.await.unwrap_or_else(|_| {
        Err(ServiceError::new(
            Code::Internal,
            "the webhook's thread has fallen",
        ))
    })
}

/// The same on the runtime of whoever calls.
pub async fn serve(
    listening: Listening,
    router: Router,
    measures: Measures,
    shutdown: Shutdown,
) -> io::Result<()> {
    let count = |outcome| {
        measures
            .connections
            .get_or_create(&ConnectionLabel { outcome })
            .inc();
    };
    let Listening {
        listener,
        tls,
        limits,
    } = listening;
    daemon::connections::serve(listener, tls, router, limits, count, shutdown).await
}
