//! Where a request's connection comes from: in the request's extensions, of HTTP and of gRPC alike. Behind a proxy it is the proxy's.

use std::net::SocketAddr;

/// The other end of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerAddress(pub SocketAddr);
