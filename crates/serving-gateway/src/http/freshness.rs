//! The freshness contract in headers: what a request demands, and what an answer is made of.

use api::{
    Outcome,
    proto::serving::{Freshness, Source},
    query::{FreshnessDemand, Layers, NotBefore, ResourceVersion},
    time,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use fhir_core::resource::{is_id, is_type};

const MAX_STALENESS: &str = "x-researchflow-max-staleness-ms";
const AT_LEAST: &str = "x-researchflow-at-least";
const LAYERS: &str = "x-researchflow-layers";
const NOT_BEFORE: &str = "x-researchflow-not-before";

const AS_OF: HeaderName = HeaderName::from_static("x-researchflow-as-of");
const BATCH_AS_OF: HeaderName = HeaderName::from_static("x-researchflow-batch-as-of");
const SPEED_AS_OF: HeaderName = HeaderName::from_static("x-researchflow-speed-as-of");
const STALENESS: HeaderName = HeaderName::from_static("x-researchflow-staleness-ms");
const SOURCE: HeaderName = HeaderName::from_static("x-researchflow-source");
const VIEW_STATE: HeaderName = HeaderName::from_static("x-researchflow-view-state");
const READ_AT: HeaderName = HeaderName::from_static("x-researchflow-read-at");
const POSITION: HeaderName = HeaderName::from_static("x-researchflow-position");
const DEGRADATION: HeaderName = HeaderName::from_static("x-researchflow-degradation");

/// Versions that may be waited for, as in gRPC.
const MAX_AT_LEAST: usize = 1_000;

/// What a request's headers demand.
pub(super) fn demand(headers: &HeaderMap) -> Result<FreshnessDemand, Outcome> {
    let max_staleness = one(headers, MAX_STALENESS)?
        .map(|text| {
            let span = text
                .parse::<u32>()
                .ok()
                .map(|ms| TimeDelta::milliseconds(ms.into()));
            span.ok_or_else(|| invalid(MAX_STALENESS, "must be a whole number of milliseconds, 0 or more"))
        })
        .transpose()?;
    let layers = match one(headers, LAYERS)? {
        None | Some("merged") => Layers::Merged,
        Some("batch") => Layers::Batch,
        Some(_) => return Err(invalid(LAYERS, "must be merged or batch")),
    };
    let mut at_least = Vec::new();
    for value in headers.get_all(AT_LEAST) {
        let rule = "must be versions such as Patient/123/_history/4, separated by commas; 1000 at most";
        let text = value.to_str().map_err(|_| invalid(AT_LEAST, rule))?;
        for version in text.split(',').map(str::trim) {
            at_least.push(self::version(version).ok_or_else(|| invalid(AT_LEAST, rule))?);
        }
        if at_least.len() > MAX_AT_LEAST {
            return Err(invalid(AT_LEAST, rule));
        }
    }
    let not_before = one(headers, NOT_BEFORE)?
        .map(|text| NotBefore::read(text).ok_or_else(|| invalid(NOT_BEFORE, NotBefore::RULE)))
        .transpose()?;
    Ok(FreshnessDemand {
        max_staleness,
        at_least,
        layers,
        not_before,
    })
}

/// The value of a header that may stand once.
fn one<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Option<&'a str>, Outcome> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => {
            let text = value.to_str().map_err(|_| invalid(name, "must be plain text"))?;
            Ok(Some(text.trim()))
        }
        _ => Err(invalid(name, "may be given once")),
    }
}

fn invalid(header: &str, rule: &str) -> Outcome {
    Outcome::new(400, "invalid", &[], format!("{header}: {rule}"))
}

/// `Type/id/_history/version`, as the header `Location` of a write has it.
fn version(text: &str) -> Option<ResourceVersion> {
    let mut parts = text.split('/');
    let (of, id, history, version) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let version: i64 = version.parse().ok().filter(|version| *version >= 1)?;
    let good = is_type(of) && is_id(id) && history == "_history" && parts.next().is_none();
    good.then(|| ResourceVersion {
        resource_type: of.to_owned(),
        id: id.to_owned(),
        version,
    })
}

/// Puts what an answer is made of into its headers.
pub(super) fn tell(freshness: &Freshness, headers: &mut HeaderMap) {
    let at = |at: &Option<prost_types::Timestamp>| time::datetime("as_of", at.as_ref()?).ok();
    for (name, time) in [
        (AS_OF, &freshness.as_of),
        (BATCH_AS_OF, &freshness.batch_as_of),
        (SPEED_AS_OF, &freshness.speed_as_of),
    ] {
        if let Some(time) = at(time) {
            put(headers, name, &time.to_rfc3339_opts(SecondsFormat::Micros, true));
        }
    }
    if let Some(as_of) = at(&freshness.as_of) {
        put(headers, header::LAST_MODIFIED, &http_date(as_of));
    }
    if let Some(span) = freshness
        .staleness
        .as_ref()
        .and_then(|span| time::span("staleness", span).ok())
    {
        put(headers, STALENESS, &span.num_milliseconds().to_string());
    }
    let source = match freshness.source() {
        Source::Materialized => "materialized",
        Source::Raw => "raw",
        Source::Unspecified => "unspecified",
    };
    put(headers, SOURCE, source);
    for (name, text) in [
        (VIEW_STATE, &freshness.view_state),
        (READ_AT, &freshness.read_at),
        (POSITION, &freshness.position),
    ] {
        if !text.is_empty() {
            put(headers, name, text);
        }
    }
    for degradation in &freshness.degradations {
        let reason = degradation.reason().as_str_name();
        let reason = reason.strip_prefix("DEGRADATION_REASON_").unwrap_or(reason);
        degraded(headers, reason, &degradation.detail);
    }
}

/// Tells that an answer is less than it could be.
pub(super) fn degraded(headers: &mut HeaderMap, reason: &str, detail: &str) {
    // A header is of visible ASCII.
    let plain = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
    let text: String = format!("{reason}; {detail}").chars().map(plain).collect();
    if let Ok(value) = HeaderValue::from_str(&text) {
        headers.append(DEGRADATION, value);
    }
}

/// Tells that rows were made of what the request held.
pub(super) fn of_the_request(headers: &mut HeaderMap) {
    put(headers, SOURCE, "request");
}

fn put(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// A time as HTTP has it (RFC 9110, 5.6.7), of whole seconds.
fn http_date(at: DateTime<Utc>) -> String {
    at.format("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn demands_are_read_and_bad_ones_are_refused_without_their_value() {
        let asked = demand(&headers(&[
            (MAX_STALENESS, "250"),
            (LAYERS, "batch"),
            (AT_LEAST, "Patient/a/_history/1, Condition/b/_history/22"),
            (AT_LEAST, "Patient/c/_history/3"),
        ]))
        .expect("good");
        assert_eq!(asked.max_staleness, Some(TimeDelta::milliseconds(250)));
        assert_eq!((asked.layers, asked.at_least.len()), (Layers::Batch, 3));
        assert_eq!(
            demand(&HeaderMap::new()).expect("none"),
            FreshnessDemand::default()
        );
        for bad in [
            (MAX_STALENESS, "s3cret"),
            (MAX_STALENESS, "-1"),
            (LAYERS, "s3cret"),
            (AT_LEAST, "Patient/s3cret"),
            (AT_LEAST, "Patient/s3cret/_history/0"),
            (AT_LEAST, "Patient/s3cret/_history/1/x"),
            (AT_LEAST, ""),
            (NOT_BEFORE, "s3cret"),
            (NOT_BEFORE, "-1"),
        ] {
            let refused = demand(&headers(&[bad])).expect_err(bad.1);
            assert_eq!(refused.status, 400);
            assert!(!refused.to_string().contains("s3cret"), "{refused}");
        }
        assert!(demand(&headers(&[(LAYERS, "batch"), (LAYERS, "merged")])).is_err());
    }

    #[test]
    fn dates_are_as_http_has_them() {
        let at = "2026-02-01T03:04:05.9Z".parse().expect("a time");
        assert_eq!(http_date(at), "Sun, 01 Feb 2026 03:04:05 GMT");
    }
}
