//! Every route.

use std::sync::Arc;

use api::{Outcome, sql_run::Operation};
use axum::{
    Router,
    extract::{Path, Request, State},
    http::request::Parts,
    middleware,
    response::Response,
    routing::{MethodRouter, get},
};
use daemon::fhir_answer::outcome;
use tower::ServiceBuilder;
use tower_http::{CompressionLevel, compression::CompressionLayer, decompression::RequestDecompressionLayer};

use super::{Http, around, capability, definitions, run};

type Shared = State<Arc<Http>>;

/// The routes. Bodies in gzip or deflate are opened on the way in; their size is bounded as they are read.
pub(super) fn router(http: Arc<Http>) -> Router {
    // As one layer: each has its price for every request.
    let around = ServiceBuilder::new()
        // Rows shrink to a tenth at the lowest level already, and the client waits for each.
        .layer(CompressionLayer::new().quality(CompressionLevel::Fastest))
        .layer(middleware::from_fn_with_state(http.clone(), around::around))
        .layer(RequestDecompressionLayer::new().pass_through_unaccepted(true));
    let routes = Paths::all()
        .router
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method);
    http.audit
        .around_http(routes, |routes| http.guard.http(routes))
        .layer(around)
        .with_state(http)
}

/// Every path that is served, in the router's notation: what is to hold of each is tested of each.
pub fn paths() -> Vec<String> {
    Paths::all().names
}

/// Paths, kept beside the router, which does not tell its own.
#[derive(Default)]
struct Paths {
    router: Router<Arc<Http>>,
    names: Vec<String>,
}

impl Paths {
    fn all() -> Self {
        let sql_run = get(sql_run).post(self::sql_run);
        let run_any = get(run_any).post(self::run_any);
        let run_one = get(run_one).post(self::run_one);
        let mut paths = Self::default();
        paths.add("/metadata", get(metadata));
        paths.add("/OperationDefinition/{id}", get(operation));
        paths.add("/ViewDefinition", get(search));
        paths.add("/ViewDefinition/{id}", get(read));
        // Some clients write the dollar sign of a path as %24.
        for dollar in ["$", "%24"] {
            paths.add(&format!("/{dollar}sql-run"), sql_run.clone());
            for base in ["", "/ViewDefinition"] {
                paths.add(&format!("{base}/{dollar}viewdefinition-run"), run_any.clone());
            }
            let of_one = format!("/ViewDefinition/{{id}}/{dollar}viewdefinition-run");
            paths.add(&of_one, run_one.clone());
        }
        paths
    }

    fn add(&mut self, path: &str, method: MethodRouter<Arc<Http>>) {
        self.router = std::mem::take(&mut self.router).route(path, method);
        self.names.push(path.to_owned());
    }
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
