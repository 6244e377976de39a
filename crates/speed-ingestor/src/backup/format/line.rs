//! A reading as a line of JSON.

use std::borrow::Cow;

use api::speed::Reading;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use chrono::{DateTime, Utc};
use fhir_core::resource::{Content, State};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::store::SavedReading;

#[derive(Serialize, Deserialize)]
pub(super) struct Line<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    n: i64,
    as_of: DateTime<Utc>,
    version: i64,
    last_updated: DateTime<Utc>,
    received_at: DateTime<Utc>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    deleted: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unreadable: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body_base64: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    body: Option<&'a RawValue>,
}

impl<'a> Line<'a> {
    pub(super) fn of(saved: &'a SavedReading) -> Self {
        let Reading { state, n, as_of } = &saved.reading;
        let mut line = Self {
            id: Cow::Borrowed(&state.id),
            n: *n,
            as_of: *as_of,
            version: state.version,
            last_updated: state.last_updated,
            received_at: saved.received,
            deleted: false,
            unreadable: None,
            body_base64: None,
            body: None,
        };
        match &state.content {
            Content::Deleted => line.deleted = true,
            Content::Unreadable(reason) => line.unreadable = Some(Cow::Borrowed(reason)),
            Content::Body(body) => {
                line.body = verbatim(body);
                if line.body.is_none() {
                    line.body_base64 = Some(Cow::Owned(BASE64_STANDARD.encode(body)));
                }
            }
        }
        line
    }

    pub(super) fn parse(text: &[u8]) -> Option<SavedReading> {
        let line: Line = serde_json::from_slice(text).ok()?;
        let content = match (line.body, line.body_base64, line.unreadable, line.deleted) {
            (Some(body), None, None, false) => Content::Body(body.get().as_bytes().to_vec()),
            (None, Some(body), None, false) => Content::Body(BASE64_STANDARD.decode(&*body).ok()?),
            (None, None, Some(reason), false) => Content::Unreadable(reason.into_owned()),
            (None, None, None, true) => Content::Deleted,
            _ => return None,
        };
        Some(SavedReading {
            reading: Reading {
                state: State {
                    id: line.id.into_owned(),
                    version: line.version,
                    last_updated: line.last_updated,
                    content,
                },
                n: line.n,
                as_of: line.as_of,
            },
            received: line.received_at,
        })
    }
}

/// A body that can stand in a line as it is: JSON, nothing around it, and no line break.
fn verbatim(body: &[u8]) -> Option<&RawValue> {
    if body.contains(&b'\n') || body.contains(&b'\r') {
        return None;
    }
    let raw: &RawValue = serde_json::from_slice(body).ok()?;
    // `null` would be read as no body.
    (raw.get().len() == body.len() && raw.get() != "null").then_some(raw)
}
