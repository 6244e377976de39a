//! Stands before every call of gRPC and every request of HTTP: who sent it, and whether it may go on.
//!
//! Health and reflection are served beside it: they tell of the contract and of readiness, and of no data.

use std::sync::Arc;

use api::{Outcome, ServiceError};
use axum::{
    Router,
    extract::{MatchedPath, Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::Response,
};
use daemon::{Clock, ConfigError, Principal, Shutdown, connections, fhir_answer, metrics::Metrics};
use tonic::{Status, service::Routes};

use crate::{
    AuthConfig, Authenticator, Grants, Identity,
    table::{self, Need},
};

/// The guard; none where no authorisation is configured. Cheap to clone.
#[derive(Clone, Default)]
pub struct Guard(Option<Arc<Authenticator>>);

impl Guard {
    /// As configured. Needs a tokio runtime.
    pub fn start(
        config: &AuthConfig,
        clock: Arc<dyn Clock>,
        metrics: &Metrics,
        shutdown: &Shutdown,
    ) -> Result<Self, ConfigError> {
        if !config.is_on() {
            return Ok(Self(None));
        }
        let authenticator = Authenticator::start(config, clock, metrics, shutdown)?;
        Ok(Self(Some(Arc::new(authenticator))))
    }

    /// The routes of a service, guarded. What is added to them later (health, reflection) is not.
    #[must_use]
    pub fn grpc(&self, routes: Routes) -> Routes {
        match &self.0 {
            None => routes,
            Some(authenticator) => routes
                .into_axum_router()
                .layer(middleware::from_fn_with_state(authenticator.clone(), around_call))
                .into(),
        }
    }

    /// The paths of HTTP, guarded.
    pub fn http<S: Clone + Send + Sync + 'static>(&self, router: Router<S>) -> Router<S> {
        match &self.0 {
            None => router,
            Some(authenticator) => router.layer(middleware::from_fn_with_state(
                authenticator.clone(),
                around_request,
            )),
        }
    }
}

impl Authenticator {
    /// Lets a request go on, with who sent it and what they may do in its extensions.
    async fn admit(&self, need: Need, request: &mut Request) -> Result<(), ServiceError> {
        if need == Need::Open {
            // What is open to everybody shows nothing that somebody may not see.
            request.extensions_mut().insert(Grants::of([]));
            return Ok(());
        }
        let identified = self.identify(request.headers(), request.extensions()).await;
        let Identity { principal, grants } = identified.map_err(|refusal| {
            self.measures.refused(refusal.label());
            ServiceError::from(refusal)
        })?;
        request.extensions_mut().insert(principal);
        need.check(&grants)?;
        request.extensions_mut().insert(grants);
        Ok(())
    }
}

async fn around_call(
    State(authenticator): State<Arc<Authenticator>>,
    mut request: Request,
    next: Next,
) -> Response {
    // What no contract has is told so by who serves them.
    if let Some(need) = table::of_call(request.uri().path())
        && let Err(error) = authenticator.admit(need, &mut request).await
    {
        count_forbidden(&authenticator, error.code == api::Code::Forbidden);
        let principal = request.extensions().get::<Principal>().cloned();
        return told(Status::from(error).into_http(), principal);
    }
    let response = next.run(request).await;
    let refused = Status::from_header_map(response.headers())
        .is_some_and(|status| status.code() == tonic::Code::PermissionDenied);
    count_forbidden(&authenticator, refused);
    response
}

async fn around_request(
    State(authenticator): State<Arc<Authenticator>>,
    mut request: Request,
    next: Next,
) -> Response {
    let path = request.extensions().get::<MatchedPath>();
    // A path that does not exist is told so by the router.
    let need = path.map(|path| table::of_route(path.as_str()));
    if let Some(need) = need
        && let Err(error) = authenticator.admit(need, &mut request).await
    {
        let principal = request.extensions().get::<Principal>().cloned();
        // Whoever is still sending does not read the answer.
        connections::discard(request.into_body()).await;
        let response = with_challenge(fhir_answer::outcome(&Outcome::from(error)));
        count_forbidden(&authenticator, response.status() == StatusCode::FORBIDDEN);
        return told(response, principal);
    }
    let response = with_challenge(next.run(request).await);
    count_forbidden(&authenticator, response.status() == StatusCode::FORBIDDEN);
    response
}

fn count_forbidden(authenticator: &Authenticator, refused: bool) {
    if refused {
        authenticator.measures.refused("forbidden");
    }
}

/// A refusal tells whoever stands around it, an audit, whom it refused: where that is known, in the response's extensions.
fn told(mut refusal: Response, principal: Option<Principal>) -> Response {
    if let Some(principal) = principal {
        refusal.extensions_mut().insert(principal);
    }
    refusal
}

/// What RFC 6750 wants a refusal to say.
fn with_challenge(mut response: Response) -> Response {
    let challenge = match response.status() {
        StatusCode::UNAUTHORIZED => "Bearer realm=\"researchflow\"",
        StatusCode::FORBIDDEN => "Bearer realm=\"researchflow\", error=\"insufficient_scope\"",
        _ => return response,
    };
    response
        .headers_mut()
        .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    response
}
