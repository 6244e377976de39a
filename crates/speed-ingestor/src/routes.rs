//! Every route of the webhook.

use std::sync::Arc;

use axum::{
    Router, middleware,
    routing::{get, put},
};
use tower::ServiceBuilder;
use tower_http::decompression::RequestDecompressionLayer;

use crate::{
    answer, around,
    webhook::{self, Webhook},
};

/// The routes. Bodies in gzip or deflate are opened on the way in; their size is bounded by the handlers as they are read, so that a bomb is
/// never held whole.
pub fn router(state: Webhook) -> Router {
    let base = get(webhook::probe).post(webhook::post);
    // As one layer: each has its price for every request.
    let around = ServiceBuilder::new()
        .layer(middleware::from_fn(around::around))
        .layer(RequestDecompressionLayer::new().pass_through_unaccepted(true));
    Router::new()
        .route("/fhir", base.clone())
        .route("/fhir/", base)
        .route("/fhir/{type}", get(webhook::probe))
        .route(
            "/fhir/{type}/{id}",
            put(webhook::put).delete(webhook::delete).get(webhook::probe),
        )
        .fallback(answer::no_such_path)
        .method_not_allowed_fallback(answer::no_such_method)
        .layer(around)
        .with_state(Arc::new(state))
}
