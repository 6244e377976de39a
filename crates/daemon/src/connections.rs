//! Connections of an HTTP listener: who may open one, how many there are, how long a request's head may take.
//!
//! A connection that sends nothing costs a place and little else, and loses it when the time for a head is over: so thousands of slow ones
//! hold up nobody who sends.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    http::{HeaderValue, header},
    middleware,
    response::Response,
};
use http_body_util::BodyExt as _;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use ipnet::IpNet;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::Instant,
};

use tokio_util::task::AbortOnDropHandle;
use tower::util::MapResponseLayer;
use tracing::Instrument as _;

use crate::{
    Shutdown,
    tls::{Acceptor, Answering, Stream, refuse_strangers},
};

/// What a connection is told for which there is no place. (Whoever asks tries again.)
const NO_PLACE: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
/// After a failure to accept (no file descriptors left): soon enough, and no loop that takes a core.
pub(crate) const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(50);

/// How long a stop still takes connections, and requests over those that are open: what was sent before its sender knew of the stop is answered, each time with the word
/// that the connection ends (`Connection: close`), and only then are idle ones closed.
pub(crate) const LEAVE_TAKING: Duration = Duration::from_millis(250);

/// How much of a refused body is read and thrown away: whoever is still sending does not read the answer.
const DISCARDED_BYTES: usize = 64 * 1024 * 1024;
/// How long that may take.
const DISCARD_TIME: Duration = Duration::from_secs(5);

/// Bounds of connections.
#[derive(Debug, Clone)]
pub struct ConnectionLimits {
    /// Open at the same time.
    pub most: usize,
    /// How long a request's head may take, from the end of the one before: also how long an idle connection stays, and a handshake of TLS takes.
    pub head_time: Duration,
    /// Who may connect; nobody is left out if it is empty.
    pub allowed: Vec<IpNet>,
}

/// Serves over this socket until the stop; requests under way are then finished. `count` is told of each connection: `accepted`, `no_place` or
/// `not_allowed`.
pub async fn serve(
    listener: TcpListener,
    tls: Acceptor,
    router: Router,
    limits: ConnectionLimits,
    count: impl Fn(&'static str) + Send + Sync,
    shutdown: Shutdown,
) -> io::Result<()> {
    let places = Arc::new(Semaphore::new(limits.most));
    let router = if tls.is_secured() {
        router.layer(middleware::from_fn(refuse_strangers))
    } else {
        router
    };
    let stopping = shutdown.clone();
    let router = router.layer(MapResponseLayer::new(move |response| {
        say_that_it_ends(&stopping, response)
    }));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(limits.head_time);
    let opening = Opening {
        tls,
        http,
        router,
        limit: limits.head_time,
        shutdown: shutdown.clone(),
    };
    while let Some(accepted) = shutdown.unless_stopped_for(LEAVE_TAKING, listener.accept()).await {
        let (mut stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(%error, "a connection cannot be accepted");
                tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
                continue;
            }
        };
        if !limits.allows(from) {
            count("not_allowed");
            continue;
        }
        let Ok(place) = places.clone().try_acquire_owned() else {
            count("no_place");
            if !opening.tls.is_secured() {
                // Into an empty socket buffer: it does not wait.
                let _gone = stream.write_all(NO_PLACE).await;
            }
            continue;
        };
        count("accepted");
        let serving = opening.clone().serve(without_delay(stream), from);
        // A task within a task: requests are answered in it, and a panic over one of them ends its connection, not the daemon.
        let answering = async move {
            let _place = place;
            serving.await;
        };
        let answering = tokio::spawn(answering.in_current_span());
        let answering = AbortOnDropHandle::new(answering);
        shutdown.spawn(async move {
            let _closed_or_panicked = answering.await;
        });
    }
    drop(listener);
    // All places are free again once all connections are closed.
    let all = u32::try_from(limits.most).unwrap_or(u32::MAX);
    let _closed = places.acquire_many(all).await;
    Ok(())
}

impl ConnectionLimits {
    fn allows(&self, from: SocketAddr) -> bool {
        // A socket of both families shows addresses of the old one in the form of the new one.
        let from: IpAddr = from.ip().to_canonical();
        self.allowed.is_empty() || self.allowed.iter().any(|network| network.contains(&from))
    }
}

/// Reads on what is still being sent, and throws it away.
pub async fn discard(mut body: Body) {
    let mut left = DISCARDED_BYTES;
    let reading = async {
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, axum::body::Bytes::len));
            if left == 0 {
                return;
            }
        }
    };
    let _elapsed = tokio::time::timeout(DISCARD_TIME, reading).await;
}

/// An answer that is given while the daemon stops is the last one of its connection: whoever asks again opens another, to another replica.
fn say_that_it_ends(shutdown: &Shutdown, mut response: Response) -> Response {
    if shutdown.is_stopping() {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    response
}

/// Small answers, and parts of a stream, go at once: else each would wait 40 ms for the other side's acknowledgement.
pub(crate) fn without_delay(stream: TcpStream) -> TcpStream {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "answers of a connection may be delayed");
    }
    stream
}

/// What all connections go by.
#[derive(Clone)]
struct Opening {
    tls: Acceptor,
    http: http1::Builder,
    router: Router,
    limit: Duration,
    shutdown: Shutdown,
}

impl Opening {
    /// From the handshake, if there is one, to the end.
    async fn serve(self, stream: TcpStream, from: SocketAddr) {
        let accepting = self.tls.accept(stream, Instant::now() + self.limit);
        // Also of one that came while the stop still takes them.
        match self.shutdown.unless_stopped_for(LEAVE_TAKING, accepting).await {
            Some(Ok((stream, peer))) => {
                let answering = Answering::new(self.router, peer, from);
                let connection = self.http.serve_connection(TokioIo::new(stream), answering);
                until_closed(connection, self.shutdown).await;
            }
            Some(Err(error)) => tracing::debug!(%error, "a handshake failed"),
            None => {}
        }
    }
}

async fn until_closed(connection: http1::Connection<TokioIo<Stream>, Answering>, shutdown: Shutdown) {
    tokio::pin!(connection);
    let result = tokio::select! {
        biased;
        result = connection.as_mut() => result,
        () = shutdown.stopped_for(LEAVE_TAKING) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection broke off");
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn a_panic_over_one_request_ends_its_connection_and_nothing_else() {
        let shutdown = Shutdown::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new()
            .route(
                "/panics",
                get(|| async { std::hint::black_box(None::<&str>).unwrap() }),
            )
            .route("/answers", get(|| async { "here" }));
        let limits = ConnectionLimits {
            most: 1,
            head_time: Duration::from_secs(20),
            allowed: Vec::new(),
        };
        let serve = serve(
            listener,
            Acceptor::plain(),
            router,
            limits,
            |_| {},
            shutdown.clone(),
        );
        let serving = tokio::spawn(serve);
        let ask = async |path: &str| {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut said = String::new();
            stream.read_to_string(&mut said).await.unwrap();
            said
        };
        assert_eq!(ask("/panics").await, "");
        assert!(!shutdown.is_stopping());
        // There is one place, and it is free again.
        let answered = async {
            while !ask("/answers").await.ends_with("here") {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), answered)
            .await
            .unwrap();
        shutdown.stop();
        serving.await.unwrap().unwrap();
        assert!(shutdown.drain(Duration::from_secs(20)).await);
    }

    #[test]
    fn who_may_connect_is_said_by_networks_of_both_families() {
        let limits = |allowed: &[&str]| ConnectionLimits {
            most: 1,
            head_time: Duration::from_secs(1),
            allowed: allowed.iter().map(|network| network.parse().unwrap()).collect(),
        };
        let from = |address: &str| address.parse().unwrap();
        assert!(limits(&[]).allows(from("203.0.113.7:1")));
        let inner = limits(&["10.0.0.0/8", "fd00::/8"]);
        for (address, allowed) in [
            ("10.1.2.3:1", true),
            ("[::ffff:10.1.2.3]:1", true),
            ("[fd00::1]:1", true),
            ("11.1.2.3:1", false),
            ("[fe00::1]:1", false),
        ] {
            assert_eq!(inner.allows(from(address)), allowed, "{address}");
        }
    }
}
