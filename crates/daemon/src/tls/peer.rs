//! Who the other side of a connection is, told to each of its requests.

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use api::{Code, ServiceError};
use axum::{
    Router, body::Body, extract::Request, http::Extensions, middleware::Next, response::Response,
    routing::future::RouteFuture,
};
use hyper::body::Incoming;
use tonic::codegen::Service as _;

use crate::{PeerAddress, Principal, Proof, connections::discard, fhir_answer::outcome, request_id};

/// What a handshake has told of the other side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// Nothing: there was none, or no certificate was shown.
    Unknown,
    /// Whose certificate it is, which was verified.
    Known(Principal),
    /// A good certificate, of one that this listener is not for.
    NotAllowed,
}

/// Stands in the extensions of a request whose sender this listener is not for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NotAllowed;

impl Peer {
    pub(super) fn certified(name: Arc<str>) -> Self {
        Self::Known(Principal {
            name,
            proof: Proof::Certificate,
        })
    }

    fn tell(&self, extensions: &mut Extensions) {
        match self {
            Self::Unknown => {}
            Self::Known(principal) => {
                extensions.insert(principal.clone());
            }
            Self::NotAllowed => {
                extensions.insert(NotAllowed);
            }
        }
    }
}

impl NotAllowed {
    /// What whoever it is gets for an answer.
    pub(crate) fn error() -> ServiceError {
        ServiceError::new(
            Code::Forbidden,
            "this listener is not for the holder of this certificate (allowed_clients)",
        )
    }
}

/// Answers the requests of one connection, and says in each who it comes from.
#[derive(Debug, Clone)]
pub struct Answering {
    router: Router,
    peer: Peer,
    from: PeerAddress,
}

impl Answering {
    /// Of one connection.
    pub fn new(router: Router, peer: Peer, from: SocketAddr) -> Self {
        Self {
            router,
            peer,
            from: PeerAddress(from),
        }
    }
}

impl hyper::service::Service<Request<Incoming>> for Answering {
    type Response = Response;
    type Error = Infallible;
    type Future = RouteFuture<Infallible>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.from);
        self.peer.tell(request.extensions_mut());
        // A router is always ready.
        self.router.clone().call(request)
    }
}

/// Around all routes of a listener of HTTP: whoever it is not for gets 403. (gRPC has its own answer.)
pub async fn refuse_strangers(request: Request<Body>, next: Next) -> Response {
    if request.extensions().get::<NotAllowed>().is_none() {
        return next.run(request).await;
    }
    let id = request_id::of(request.headers());
    discard(request.into_body()).await;
    let mut response = outcome(&NotAllowed::error().into());
    response.headers_mut().insert(request_id::HEADER, id);
    response
}
