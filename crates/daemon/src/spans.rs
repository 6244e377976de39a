//! Spans as OpenTelemetry has them: what `tracing`'s own cannot say. Where no spans are exported, all of this does nothing.
//!
//! Attributes have the names of OpenTelemetry's semantic conventions. They hold names of the contract, of routes and of registered views, numbers and codes; never a value of
//! a row or a request, an id, a query string, a body or the text of a statement.

use api::{TraceContext, contract::Method};
use axum::extract::MatchedPath;
use axum::http::{self, HeaderMap};
use opentelemetry::{
    Context, SpanId, TraceFlags, TraceId, Value,
    trace::{SpanContext, Status, TraceContextExt as _, TraceState},
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// Which end of a call a span is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Server,
    Client,
}

/// Where a span is in its trace; `None` if it is in none.
pub fn of(span: &Span) -> Option<TraceContext> {
    let context = span.context();
    let span = context.span();
    let here = span.span_context();
    here.is_valid().then(|| TraceContext {
        trace_id: here.trace_id().to_bytes(),
        span_id: here.span_id().to_bytes(),
        sampled: here.is_sampled(),
    })
}

/// The same, if the trace is recorded: for whoever goes on with it later.
pub fn recorded(span: &Span) -> Option<TraceContext> {
    of(span).filter(|here| here.sampled)
}

/// Puts a span under one of another process. To be done before it is entered.
pub fn set_parent(span: &Span, parent: &TraceContext) {
    // It fails where no spans are exported.
    let _off = span.set_parent(Context::new().with_remote_span_context(context_of(parent)));
}

/// Says that a span has to do with another one, of whatever trace.
pub fn link(span: &Span, other: &TraceContext) {
    span.add_link(context_of(other));
}

fn context_of(place: &TraceContext) -> SpanContext {
    let flags = if place.sampled {
        TraceFlags::SAMPLED
    } else {
        TraceFlags::default()
    };
    SpanContext::new(
        TraceId::from_bytes(place.trace_id),
        SpanId::from_bytes(place.span_id),
        flags,
        true,
        // It is handed on to services, and not exported: a caller may have put anything into it.
        TraceState::default(),
    )
}

/// A method of ours, at either end of its call. `None`: one that is not of the contract.
pub(crate) fn rpc(span: &Span, method: Option<&'static Method>) {
    span.set_attribute("rpc.system", "grpc");
    let Some((service, name)) = method.and_then(|method| method.name.split_once('/')) else {
        return;
    };
    span.set_attribute("rpc.service", service);
    span.set_attribute("rpc.method", name);
    rename(span, method.map_or(name, |method| method.name.as_str()));
}

/// The status of a call, where these headers or trailers have one.
pub(crate) fn grpc_status(span: &Span, end: End, headers: &HeaderMap) {
    use tonic::Code::{DataLoss, DeadlineExceeded, Internal, Ok, Unavailable, Unimplemented, Unknown};
    let Some(status) = tonic::Status::from_header_map(headers) else {
        return;
    };
    let code = status.code();
    span.set_attribute("rpc.grpc.status_code", i64::from(i32::from(code)));
    // What is the caller's own fault is no failure of a server.
    let failed = match end {
        End::Client => code != Ok,
        End::Server => matches!(
            code,
            Unknown | DeadlineExceeded | Unimplemented | Internal | Unavailable | DataLoss
        ),
    };
    if failed {
        fail(span);
    }
}

/// A request of HTTP, of which the extensions say by what pattern its path was routed: never the path itself.
pub fn http(span: &Span, method: &http::Method, extensions: &http::Extensions) {
    if recorded(span).is_none() {
        return;
    }
    let method = method_name(method);
    let matched = extensions.get::<MatchedPath>();
    let route = matched.map_or_else(
        || "other".to_owned(),
        |path| path.as_str().replacen("%24", "$", 1),
    );
    rename(span, format!("{method} {route}"));
    span.set_attribute("http.request.method", method);
    span.set_attribute("http.route", route);
}

/// The status of its answer.
pub fn http_status(span: &Span, status: http::StatusCode) {
    span.set_attribute("http.response.status_code", i64::from(status.as_u16()));
    if status.is_server_error() {
        fail(span);
    }
}

/// What was to be done was not. No words: an error's may be about what was asked for, and logs have them.
pub fn fail(span: &Span) {
    span.set_status(Status::error(""));
}

/// A number of the span.
pub fn number(span: &Span, name: &'static str, number: usize) {
    span.set_attribute(name, Value::I64(i64::try_from(number).unwrap_or(i64::MAX)));
}

fn rename(span: &Span, name: impl Into<std::borrow::Cow<'static, str>>) {
    span.context().span().update_name(name.into());
}

/// A method may be any word.
fn method_name(method: &http::Method) -> &'static str {
    match *method {
        http::Method::GET => "GET",
        http::Method::HEAD => "HEAD",
        http::Method::POST => "POST",
        http::Method::PUT => "PUT",
        http::Method::DELETE => "DELETE",
        http::Method::PATCH => "PATCH",
        http::Method::OPTIONS => "OPTIONS",
        _ => "_OTHER",
    }
}
