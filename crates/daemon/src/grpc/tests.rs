//! Connections as a server keeps them, told by clients that speak HTTP/2 by hand where a library would be too polite.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tonic::{
    Code,
    service::Routes,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::{GrpcManners, GrpcServer};
use crate::{Shutdown, admin::Readiness, connections::LEAVE_TAKING, tls::Acceptor};

/// Nothing here takes as long.
const PATIENCE: Duration = Duration::from_secs(20);
/// Types of frames.
const PING: u8 = 6;
const GOAWAY: u8 = 7;

struct Served {
    address: SocketAddr,
    readiness: Readiness,
    shutdown: Shutdown,
}

impl Served {
    async fn start(manners: GrpcManners, reflection: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (readiness, shutdown) = (Readiness::default(), Shutdown::new());
        let server = GrpcServer {
            listener,
            tls: Acceptor::plain(),
            reflection,
            readiness: readiness.clone(),
            manners,
            around: Vec::new(),
        };
        let serving = server.serve("test.Service", Routes::default(), shutdown.clone());
        shutdown.spawn(async move { serving.await.expect("it serves until the stop") });
        Self {
            address,
            readiness,
            shutdown,
        }
    }

    fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.address))
            .expect("an address")
            .connect_lazy()
    }

    async fn health(&self, service: &str) -> Result<ServingStatus, Code> {
        let request = HealthCheckRequest {
            service: service.into(),
        };
        HealthClient::new(self.channel())
            .check(request)
            .await
            .map(|response| response.into_inner().status())
            .map_err(|status| status.code())
    }

    async fn until_health(&self, service: &str, wanted: ServingStatus) {
        let looking = async {
            while self.health(service).await != Ok(wanted) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, looking)
            .await
            .unwrap_or_else(|_| panic!("{service:?} never became {wanted:?}"));
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.shutdown.stop();
    }
}

/// A connection of HTTP/2 by hand.
struct ByHand(TcpStream);

impl ByHand {
    async fn open(address: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        // The preface, and settings that set nothing.
        let hello = [
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(),
            &[0, 0, 0, 4, 0, 0, 0, 0, 0],
        ]
        .concat();
        stream.write_all(&hello).await.expect("it is open");
        Self(stream)
    }

    /// The next frame: type, flags, payload; `None` at the end of the connection.
    async fn frame(&mut self) -> Option<(u8, u8, Vec<u8>)> {
        let reading = async {
            let mut head = [0_u8; 9];
            self.0.read_exact(&mut head).await.ok()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; usize::try_from(length).ok()?];
            self.0.read_exact(&mut payload).await.ok()?;
            Some((head[3], head[4], payload))
        };
        tokio::time::timeout(PATIENCE, reading)
            .await
            .expect("a frame, or the end")
    }

    /// Types of frames up to the end of the connection.
    async fn until_closed(mut self, answers_pings: bool) -> Vec<u8> {
        let mut kinds = Vec::new();
        while let Some((kind, flags, payload)) = self.frame().await {
            kinds.push(kind);
            if kind == PING && flags & 1 == 0 && answers_pings {
                let answer = [&[0, 0, 8, PING, 1, 0, 0, 0, 0][..], &payload].concat();
                // It may be closed by now.
                let _closed = self.0.write_all(&answer).await;
            }
        }
        kinds
    }
}

#[tokio::test]
async fn a_client_that_is_gone_is_noticed_and_one_that_is_there_is_kept() {
    let served = Served::start(
        GrpcManners {
            keepalive_seconds: Duration::from_millis(50),
            keepalive_timeout_seconds: Duration::from_millis(200),
            ..GrpcManners::default()
        },
        false,
    )
    .await;
    let kinds = ByHand::open(served.address).await.until_closed(false).await;
    assert!(kinds.contains(&PING), "{kinds:?}");
    // Well beyond the time in which the other was closed.
    let mut polite = ByHand::open(served.address).await;
    let mut pings = 0;
    while pings < 10 {
        let (kind, flags, payload) = polite.frame().await.expect("the connection is kept");
        if kind == PING && flags & 1 == 0 {
            pings += 1;
            let answer = [&[0, 0, 8, PING, 1, 0, 0, 0, 0][..], &payload].concat();
            polite.0.write_all(&answer).await.expect("the connection is kept");
        }
    }
}

#[tokio::test]
async fn what_was_on_its_way_when_a_stop_came_is_answered() {
    loop {
        let served = Served::start(GrpcManners::default(), false).await;
        assert!(served.health("").await.is_ok());
        let stopped = Instant::now();
        served.shutdown.stop();
        // Over a connection of its own, which comes after the stop.
        let answer = served.health("").await;
        // On a busy machine it may come too late: then that was no test.
        if answer.is_ok() || stopped.elapsed() < LEAVE_TAKING {
            assert!(answer.is_ok(), "{answer:?}");
            return;
        }
    }
}

#[tokio::test]
async fn an_old_connection_is_told_to_go_and_closed_once_nothing_is_open_on_it() {
    let served = Served::start(
        GrpcManners {
            max_connection_age_seconds: Duration::from_millis(100),
            ..GrpcManners::default()
        },
        false,
    )
    .await;
    let kinds = ByHand::open(served.address).await.until_closed(true).await;
    assert!(kinds.contains(&GOAWAY), "{kinds:?}");
}

#[tokio::test]
async fn calls_on_an_old_connection_go_on_until_its_grace_is_over_and_others_take_a_new_one() {
    let served = Served::start(
        GrpcManners {
            max_connection_age_seconds: Duration::from_millis(100),
            connection_grace_seconds: Duration::from_millis(500),
            ..GrpcManners::default()
        },
        false,
    )
    .await;
    let latch = served.readiness.latch("of the test");
    served.until_health("", ServingStatus::NotServing).await;
    let mut client = HealthClient::new(served.channel());
    let mut watch = client
        .watch(HealthCheckRequest::default())
        .await
        .expect("a stream")
        .into_inner();
    let first = watch.message().await.expect("at once").expect("a state");
    assert_eq!(first.status(), ServingStatus::NotServing);
    latch.release();
    let second = watch.message().await.expect("still open").expect("a state");
    assert_eq!(second.status(), ServingStatus::Serving);
    // Nothing more is said: it is the connection that ends.
    let end = tokio::time::timeout(PATIENCE, watch.message()).await;
    assert!(end.expect("it is cut").is_err());
    let again = client.check(HealthCheckRequest::default()).await;
    assert_eq!(
        again.expect("over another connection").into_inner().status(),
        ServingStatus::Serving
    );
}

#[tokio::test]
async fn connections_beyond_their_number_are_closed_at_once() {
    let served = Served::start(
        GrpcManners {
            max_connections: 1,
            ..GrpcManners::default()
        },
        false,
    )
    .await;
    let mut first = ByHand::open(served.address).await;
    first.frame().await.expect("it is served");
    let refused = ByHand::open(served.address).await.until_closed(true).await;
    assert!(refused.is_empty(), "{refused:?}");
    drop(first);
    let looking = async {
        while ByHand::open(served.address).await.frame().await.is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looking)
        .await
        .expect("its place is free again");
}

#[tokio::test]
async fn whoever_opens_a_connection_and_never_speaks_does_not_keep_its_place() {
    let served = Served::start(
        GrpcManners {
            max_connections: 1,
            handshake_seconds: Duration::from_millis(200),
            ..GrpcManners::default()
        },
        false,
    )
    .await;
    // Nothing, and half of what HTTP/2 begins with.
    for said in [b"".as_slice(), b"PRI * HTTP/2"] {
        let mut silent = TcpStream::connect(served.address).await.expect("a connection");
        silent.write_all(said).await.expect("it is open");
        let mut rest = Vec::new();
        let closed = tokio::time::timeout(PATIENCE, silent.read_to_end(&mut rest)).await;
        let _closed_or_reset = closed.expect("it is closed");
    }
    // Who has spoken is kept beyond that time.
    let mut polite = ByHand::open(served.address).await;
    polite.frame().await.expect("its place is free");
    let ping = [&[0, 0, 8, PING, 0, 0, 0, 0, 0][..], &[7; 8]].concat();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(400) {
        polite.0.write_all(&ping).await.expect("it is open");
        while polite.frame().await.expect("it is kept").0 != PING {}
    }
}

#[tokio::test]
async fn health_is_told_for_the_service_and_for_the_process() {
    let served = Served::start(GrpcManners::default(), false).await;
    let latch = served.readiness.latch("of the test");
    for service in ["test.Service", ""] {
        served.until_health(service, ServingStatus::NotServing).await;
    }
    latch.release();
    for service in ["test.Service", ""] {
        served.until_health(service, ServingStatus::Serving).await;
    }
    assert_eq!(served.health("another.Service").await, Err(Code::NotFound));
}

#[tokio::test]
async fn reflection_is_served_only_where_it_is_switched_on() {
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest,
    };
    for (switched, expected) in [(true, None), (false, Some(Code::Unimplemented))] {
        let served = Served::start(GrpcManners::default(), switched).await;
        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let requests = futures::stream::iter([request]);
        let answer = ServerReflectionClient::new(served.channel())
            .server_reflection_info(requests)
            .await;
        let refused = match answer {
            Ok(response) => response.into_inner().message().await.err(),
            Err(status) => Some(status),
        };
        assert_eq!(refused.map(|status| status.code()), expected);
    }
}
