//! Connections of gRPC: how many there are, how old one may become, and how one is taken leave of.
//!
//! A connection that is to end is told so (HTTP/2's GOAWAY): its client sends further calls over another one, and those that are under way go on.

use std::{
    hash::{BuildHasher as _, RandomState},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use axum::Router;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::Instant,
};

use super::{
    manners::{GrpcManners, unless_zero},
    preface::Prefaced,
};
use crate::{
    Shutdown,
    connections::{LEAVE_TAKING, PAUSE_AFTER_FAILURE, without_delay},
    tls::{Acceptor, Answering, Stream},
};

type Connection = http2::Connection<TokioIo<Prefaced<Stream>>, Answering, TokioExecutor>;

/// Serves over this socket until the stop, and then until the last connection is closed.
pub(super) async fn serve(
    listener: TcpListener,
    tls: Acceptor,
    router: Router,
    manners: GrpcManners,
    shutdown: Shutdown,
) {
    let places = Arc::new(Semaphore::new(manners.max_connections));
    let mut http = http2::Builder::new(TokioExecutor::new());
    http.timer(TokioTimer::new())
        .keep_alive_interval(unless_zero(manners.keepalive_seconds))
        .keep_alive_timeout(manners.keepalive_timeout_seconds)
        .max_concurrent_streams(manners.max_calls_per_connection);
    let opening = Opening {
        tls,
        http,
        router,
        limit: manners.handshake_seconds,
        grace: unless_zero(manners.connection_grace_seconds),
        shutdown: shutdown.clone(),
    };
    // Connections that were opened together, after a restart say, are not to end together.
    let jitter = RandomState::new();
    let mut number: u64 = 0;
    let mut full = false;
    // What was on its way when the stop came is still taken.
    while let Some(accepted) = shutdown.unless_stopped_for(LEAVE_TAKING, listener.accept()).await {
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(%error, "a connection cannot be accepted");
                tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            // Said once, not for each that comes meanwhile.
            if !std::mem::replace(&mut full, true) {
                tracing::warn!(
                    max_connections = manners.max_connections,
                    "connections of gRPC are refused: there are too many"
                );
            }
            continue;
        };
        full = false;
        number += 1;
        let age =
            unless_zero(manners.max_connection_age_seconds).map(|age| jittered(age, jitter.hash_one(number)));
        let opening = opening.clone();
        shutdown.spawn(async move {
            let _place = place;
            opening.serve(without_delay(stream), from, age).await;
        });
    }
    drop(listener);
    // All places are free again once all connections are closed.
    let all = u32::try_from(manners.max_connections).unwrap_or(u32::MAX);
    let _closed = places.acquire_many(all).await;
}

/// What all connections go by.
#[derive(Clone)]
struct Opening {
    tls: Acceptor,
    http: http2::Builder<TokioExecutor>,
    router: Router,
    limit: Duration,
    grace: Option<Duration>,
    shutdown: Shutdown,
}

impl Opening {
    /// From the handshake, if there is one, to the end.
    async fn serve(self, stream: TcpStream, from: SocketAddr, age: Option<Duration>) {
        let deadline = Instant::now() + self.limit;
        let accepting = self.tls.accept(stream, deadline);
        // Also of one that came while the stop still takes them.
        let (stream, peer) = match self.shutdown.unless_stopped_for(LEAVE_TAKING, accepting).await {
            Some(Ok(accepted)) => accepted,
            Some(Err(error)) => {
                tracing::debug!(%error, "a handshake with a caller of gRPC failed");
                return;
            }
            None => return,
        };
        let stream = TokioIo::new(Prefaced::new(stream, deadline));
        let connection = self
            .http
            .serve_connection(stream, Answering::new(self.router, peer, from));
        until_closed(connection, age, self.grace, self.shutdown).await;
    }
}

async fn until_closed(
    connection: Connection,
    age: Option<Duration>,
    grace: Option<Duration>,
    shutdown: Shutdown,
) {
    tokio::pin!(connection);
    // One that is told to end before it has shaken hands is closed without a word, and its client takes that for a failure.
    let shaken = Instant::now() + LEAVE_TAKING;
    let leaving = async {
        shutdown.stopping().await;
        tokio::time::sleep_until(shaken).await;
    };
    let result = tokio::select! {
        biased;
        result = connection.as_mut() => result,
        () = leaving => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        () = after(age) => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                biased;
                result = connection.as_mut() => result,
                () = after(grace) => {
                    tracing::debug!("an old connection is cut with the calls that were still open on it");
                    return;
                }
            }
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection of gRPC broke off");
    }
}

/// Never, where there is no span.
async fn after(span: Option<Duration>) {
    match span {
        Some(span) => tokio::time::sleep(span).await,
        None => std::future::pending().await,
    }
}

/// A span of 0.9 to 1.1 times this one.
fn jittered(span: Duration, random: u64) -> Duration {
    let percent = u32::try_from(random % 201).unwrap_or(0);
    span.saturating_mul(900 + percent) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_differ_by_a_tenth_at_most() {
        let age = Duration::from_secs(1);
        assert_eq!(jittered(age, 0), Duration::from_millis(900));
        assert_eq!(jittered(age, 200), Duration::from_millis(1100));
        let seed = RandomState::new();
        let ages: std::collections::BTreeSet<Duration> = (0..200_u64)
            .map(|number| jittered(age, seed.hash_one(number)))
            .collect();
        assert!(ages.len() > 20, "{ages:?}");
        assert!(ages.iter().all(|age| (900..=1100).contains(&age.as_millis())));
    }
}
