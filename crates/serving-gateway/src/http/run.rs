//! `$sql-run` and its alias: from a request to an answer that has begun.

use api::{
    Outcome, ServiceError,
    query::FreshnessDemand,
    sql_run::{Format, Named, Operation, Representation, RunRequest},
};
use audit::Call;
use axum::{
    extract::Request,
    http::{HeaderMap, HeaderValue, Method, header, request::Parts},
    response::Response,
};
use futures::{StreamExt as _, stream};
use tokio::time::Instant;

use super::{
    Http, audited, body,
    encode::Encoder,
    evaluated, freshness, pump,
    rows::{self, Answered, Wanted},
    scope::{self, Scope},
    sql,
    subject::{self, Subject},
};

/// Answers one request. Everything that can be wrong before the first rows is told with its status.
pub(super) async fn run(
    http: &Http,
    operation: Operation,
    instance: Option<&str>,
    request: Request,
) -> Result<Response, Outcome> {
    let (head, content) = request.into_parts();
    let query = head.uri.query().unwrap_or_default();
    let query = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let received = if head.method == Method::POST {
        Some(body::read(http, &head.headers, content).await?)
    } else {
        None
    };
    let text = received.as_ref().map(|received| received.text.as_str());
    let asked = RunRequest::read(operation, instance, query, text)?;
    audited::asks(&asked);
    let (format, representation) = Format::negotiate(asked.format, &accept(&head.headers))?;
    let demand = freshness::demand(&head.headers)?;
    let header = asked.header;
    // On the heap: it is large, and may be held within another one.
    let answering = Box::pin(async {
        let answering = answer(http, operation, &head, asked, demand);
        let answered = http
            .shutdown
            .unless_stopped_for(http.limits.stop_seconds, answering)
            .await;
        answered.ok_or_else(ServiceError::stopping)?
    });
    let (answered, scope) = match Call::current() {
        Some(call) => call.runs(answering).await?,
        None => answering.await?,
    };
    // What the request brought has become rows.
    drop(received);

    let encoder = Encoder::new(format, representation, header, &answered.columns)?;
    let content_type = match representation {
        Representation::Raw => format.media_type(),
        Representation::Binary => "application/fhir+json",
    };
    let mut response = Response::new(pump::body(http, answered.rows, encoder));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    match &answered.freshness {
        Some(told) => freshness::tell(told, headers),
        None => freshness::of_the_request(headers),
    }
    if scope.unchecked {
        let detail = "the batch layer cannot be reached: whether the patients exist was not checked";
        freshness::degraded(headers, "BATCH_UNAVAILABLE", detail);
    }
    Ok(response)
}

/// All that the header `Accept` says, however many lines it has.
pub(super) fn accept(headers: &HeaderMap) -> String {
    let lines = headers.get_all(header::ACCEPT).iter();
    lines
        .filter_map(|line| line.to_str().ok())
        .collect::<Vec<_>>()
        .join(",")
}

/// An answer whose first rows are there: what fails later breaks it off.
async fn answer(
    http: &Http,
    operation: Operation,
    head: &Parts,
    asked: RunRequest,
    demand: FreshnessDemand,
) -> Result<(Answered, Scope), Outcome> {
    let core = &http.core_for(&head.extensions)?;
    let deadline = Instant::now() + http.limits.at_least_seconds;
    let subject = subject::resolve(http, core, operation, &head.headers, &asked.subject).await;
    if let Ok(subject) = &subject {
        subject.takes(&asked)?;
    }
    let scope = scope::scope(core, &asked).await;
    let (subject, mut scope) = match (subject, scope) {
        (Ok(subject), Ok(scope)) => (subject, scope),
        // That there is nothing to run is the greater mistake; both are told.
        (Err(mut refused), Err(other)) => {
            refused.and(other);
            return Err(refused);
        }
        (Err(refused), _) | (_, Err(refused)) => return Err(refused),
    };
    audited::is_about(&subject);
    let of_view = matches!(&subject, Subject::View(_)) && !matches!(asked.subject.named, Named::Resource(_));
    let mut answered = match subject {
        Subject::Library(library) => sql::of_query(core, &library, &asked, demand, deadline).await?,
        Subject::View(view) => {
            let wanted = Wanted {
                patients: scope.patients.take(),
                since: asked.since,
                limit: asked.limit,
                freshness: demand,
            };
            match asked.resources {
                Some(resources) => {
                    evaluated::of_resources(view, resources, asked.limit, core.max_raw_bytes).await?
                }
                None => rows::of_view(core, view, wanted, deadline).await?,
            }
        }
    };
    if let Some(first) = answered.rows.next().await {
        let first = first?;
        answered.rows = Box::pin(stream::once(async { Ok(first) }).chain(answered.rows));
    }
    Ok((audited::gives(answered, of_view), scope))
}
