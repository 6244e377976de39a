//! What is done around every operation: outermost a record is begun and ended, so that what is refused further in is recorded too; innermost it is noted who was
//! found to ask.

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::Method,
    middleware::{self, Next},
    response::Response,
};
use daemon::{Principal, grpc::GrpcServer};
use hyper::body::Body as _;
use tonic::service::Routes;

use crate::{
    Audit,
    audit::Inner,
    body::{Ending, Watched},
    call::Call,
    operation, outcome,
};

use std::sync::Arc;

impl Audit {
    /// Around every method of a service. The outer part stands outside of what `server` does around calls already, but for their ids.
    pub fn around_grpc(&self, server: &mut GrpcServer, routes: Routes) -> Routes {
        let Some(inner) = self.0.clone() else {
            return routes;
        };
        let outermost = move |router: Router| router.layer(middleware::from_fn_with_state(inner, grpc));
        server.around.push(Box::new(outermost));
        Routes::from(routes.into_axum_router().layer(middleware::from_fn(who)))
    }

    /// Around every route of HTTP. `between`: what stands between the two parts, such as whoever looks at a caller's proof.
    pub fn around_http<S: Clone + Send + Sync + 'static>(
        &self,
        router: Router<S>,
        between: impl FnOnce(Router<S>) -> Router<S>,
    ) -> Router<S> {
        let Some(inner) = self.0.clone() else {
            return between(router);
        };
        let router = between(router.layer(middleware::from_fn(who)));
        router.layer(middleware::from_fn_with_state(inner, http))
    }
}

async fn who(request: Request, next: Next) -> Response {
    if let Some(call) = Call::current() {
        call.is_from(request.extensions());
    }
    next.run(request).await
}

async fn grpc(State(audit): State<Arc<Inner>>, request: Request, next: Next) -> Response {
    let Some(operation) = operation::of_grpc(request.uri().path()) else {
        return next.run(request).await;
    };
    let call = Call::new(audit, operation, request.headers(), request.extensions());
    let response = call.clone().within(next.run(request)).await;
    refused_to(&call, &response);
    // An error comes without a body.
    if let Some(outcome) = outcome::of_headers(response.headers()) {
        call.ends(outcome).await;
        return response;
    }
    response.map(|body| Body::new(Watched::new(body, call, Ending::Trailers)))
}

async fn http(State(audit): State<Arc<Inner>>, request: Request, next: Next) -> Response {
    let served = matches!(*request.method(), Method::GET | Method::POST | Method::HEAD);
    let Some(operation) = operation::of_http(request.uri().path()).filter(|_| served) else {
        return next.run(request).await;
    };
    let call = Call::new(audit, operation, request.headers(), request.extensions());
    let response = call.clone().within(next.run(request)).await;
    refused_to(&call, &response);
    let status = response.status();
    if !status.is_success() {
        call.ends(outcome::of_status(status)).await;
        return response;
    }
    // Nobody asks further for what is known to have nothing, such as the answer to HEAD.
    if response.body().is_end_stream() {
        call.ends("ok").await;
        return response;
    }
    response.map(|body| Body::new(Watched::new(body, call, Ending::Plain)))
}

/// Whoever refuses a known caller says in the answer's extensions whom.
fn refused_to(call: &Call, response: &Response) {
    if response.extensions().get::<Principal>().is_some() {
        call.is_from(response.extensions());
    }
}
