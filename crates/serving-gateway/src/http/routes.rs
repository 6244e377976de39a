//! Every route.

use std::sync::Arc;

use api::{Outcome, sql_run::Operation};
use axum::{
    Router,
    extract::{DefaultBodyLimit, Path, Request, State},
    http::request::Parts,
    middleware,
    response::Response,
    routing::get,
};
use daemon::fhir_answer::outcome;
use tower_http::{CompressionLevel, compression::CompressionLayer, decompression::RequestDecompressionLayer};

use super::{Http, around, capability, definitions, run};

type Shared = State<Arc<Http>>;

/// The routes. Bodies in gzip or deflate are opened on the way in; their size is bounded as they are read.
pub(super) fn router(http: Arc<Http>) -> Router {
    let sql_run = get(sql_run).post(self::sql_run);
    let run_any = get(run_any).post(self::run_any);
    let run_one = get(run_one).post(self::run_one);
    let mut router = Router::new()
        .route("/metadata", get(metadata))
        .route("/OperationDefinition/{id}", get(operation))
        .route("/ViewDefinition", get(search))
        .route("/ViewDefinition/{id}", get(read));
    // Some clients write the dollar sign of a path as %24.
    for dollar in ["$", "%24"] {
        router = router
            .route(&format!("/{dollar}sql-run"), sql_run.clone())
            .route(&format!("/{dollar}viewdefinition-run"), run_any.clone())
            .route(
                &format!("/ViewDefinition/{dollar}viewdefinition-run"),
                run_any.clone(),
            )
            .route(
                &format!("/ViewDefinition/{{id}}/{dollar}viewdefinition-run"),
                run_one.clone(),
            );
    }
    router
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(http.clone(), around::around))
        .layer(RequestDecompressionLayer::new().pass_through_unaccepted(true))
        // Rows shrink to a tenth at the lowest level already, and the client waits for each.
        .layer(CompressionLayer::new().quality(CompressionLevel::Fastest))
        .with_state(http)
}

async fn sql_run(State(http): Shared, request: Request) -> Response {
    answered(run::run(&http, Operation::SqlRun, None, request).await)
}

async fn run_any(State(http): Shared, request: Request) -> Response {
    answered(run::run(&http, Operation::ViewDefinitionRun, None, request).await)
}

async fn run_one(State(http): Shared, Path(id): Path<String>, request: Request) -> Response {
    answered(run::run(&http, Operation::ViewDefinitionRun, Some(&id), request).await)
}

async fn read(State(http): Shared, Path(id): Path<String>, head: Parts) -> Response {
    answered(definitions::read(&http, &id, &head).await)
}

async fn search(State(http): Shared, head: Parts) -> Response {
    answered(definitions::search(&http, &head).await)
}

async fn metadata(State(http): Shared, head: Parts) -> Response {
    answered(capability::metadata(&http, &head))
}

async fn operation(State(http): Shared, Path(id): Path<String>, head: Parts) -> Response {
    answered(capability::operation(&http, &id, &head))
}

async fn no_such_path() -> Response {
    let there = "no such path: there are $sql-run, $viewdefinition-run, ViewDefinition, OperationDefinition and metadata";
    outcome(&Outcome::new(404, "not-found", &[], there))
}

async fn no_such_method() -> Response {
    outcome(&Outcome::new(
        405,
        "not-supported",
        &[],
        "no such method here: see the header Allow",
    ))
}

fn answered(result: Result<Response, Outcome>) -> Response {
    result.unwrap_or_else(|refused| outcome(&refused))
}
