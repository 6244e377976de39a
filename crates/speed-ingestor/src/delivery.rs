//! A webhook's body, as far as the speed layer must understand it: what it is, of which resource, in which version. Pure.
//!
//! The body is not turned into a tree: it is scanned once for its depth and once for four members, and kept byte by byte.

use std::{borrow::Cow, marker::PhantomData};

use api::{Code, ServiceError};
use chrono::{DateTime, Utc};
use fhir_core::resource::{Content, State, is_id};
use serde::{
    Deserialize, Deserializer as _,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};

/// A resource with its type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    /// Resource type.
    pub resource_type: String,
    /// The state.
    pub state: State,
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow, rename = "resourceType")]
    resource_type: Option<Cow<'a, str>>,
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    meta: Option<Meta<'a>>,
}

#[derive(Deserialize)]
struct Meta<'a> {
    #[serde(borrow, rename = "versionId")]
    version_id: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "lastUpdated")]
    last_updated: Option<Cow<'a, str>>,
}

/// A resource as a PUT delivers it.
pub fn resource(body: &[u8], max_depth: usize) -> Result<Delivered, ServiceError> {
    let text = checked_text(body, max_depth)?;
    delivered(text, text)
}

/// The version that an `If-Match` header asks for, weak or strong; `None` where it names none.
pub fn if_match(value: &str) -> Result<Option<i64>, ServiceError> {
    let value = value.trim();
    if value == "*" {
        return Ok(None);
    }
    let tag = value.strip_prefix("W/").unwrap_or(value);
    let tag = tag
        .strip_prefix('"')
        .and_then(|tag| tag.strip_suffix('"'))
        .unwrap_or(tag);
    tag.parse()
        .map(Some)
        .map_err(|_| invalid("If-Match must hold a version, such as W/\"3\""))
}

/// A resource within a text that is JSON.
pub(crate) fn delivered(text: &str, body: &str) -> Result<Delivered, ServiceError> {
    let head: Head<'_> = object(text)?;
    let resource_type = head
        .resource_type
        .ok_or_else(|| invalid("the body has no resourceType: it is not a FHIR resource"))?;
    let resource_type = api::batch::resource_type("resourceType", resource_type.into_owned())?;
    let id = head.id.ok_or_else(|| invalid("the body has no id"))?.into_owned();
    if !is_id(&id) {
        return Err(invalid("id must be 1 to 64 letters, digits, '-' and '.'"));
    }
    let meta = head
        .meta
        .ok_or_else(|| invalid("the body has no meta, so no version"))?;
    let version = meta.version_id.ok_or_else(|| {
        invalid("meta.versionId is missing: remove subscription-resthook-strip-version-ids from the Subscription's channel")
    })?;
    let version = version
        .parse()
        .ok()
        .filter(|version| *version > 0)
        .ok_or_else(|| invalid("meta.versionId must be a number above 0"))?;
    let last_updated = meta
        .last_updated
        .ok_or_else(|| invalid("meta.lastUpdated is missing"))?;
    let last_updated: DateTime<Utc> = DateTime::parse_from_rfc3339(&last_updated)
        .map_err(|_| {
            invalid(
                "meta.lastUpdated must be an instant with an offset, such as 2026-01-31T10:09:44.706+00:00",
            )
        })?
        .into();
    let content = Content::Body(body.as_bytes().to_vec());
    Ok(Delivered {
        resource_type,
        state: State {
            id,
            version,
            last_updated,
            content,
        },
    })
}

/// What a text that is JSON says that it is.
pub(crate) fn resource_type_of(text: &str) -> Result<Cow<'_, str>, ServiceError> {
    #[derive(Deserialize)]
    struct Typed<'a> {
        #[serde(borrow, rename = "resourceType")]
        resource_type: Option<Cow<'a, str>>,
    }
    let typed: Typed<'_> = object(text)?;
    typed
        .resource_type
        .ok_or_else(|| invalid("the body has no resourceType: it is not a FHIR resource"))
}

/// The body as text, if it is UTF-8 and no deeper than allowed. (Whether it is JSON is found out by who reads it.)
pub(crate) fn checked_text(body: &[u8], max_depth: usize) -> Result<&str, ServiceError> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(invalid("the body is empty"));
    }
    let text = std::str::from_utf8(body).map_err(|_| invalid("the body is not JSON: it is not UTF-8"))?;
    if depth_exceeds(body, max_depth) {
        return Err(invalid(format!("the body is nested more than {max_depth} deep")));
    }
    Ok(text)
}

/// Whether objects and arrays are nested deeper than `max`. Needs no well-formed JSON, and no stack.
fn depth_exceeds(body: &[u8], max: usize) -> bool {
    // What has no more brackets than that, which is counted many times as fast, is no deeper.
    if body.iter().filter(|byte| matches!(byte, b'{' | b'[')).count() <= max {
        return false;
    }
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for byte in body {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => {
                depth += 1;
                if depth > max {
                    return true;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

/// What an object holds, and nothing but an object: a derived reader would take an array for one.
pub(crate) fn object<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, ServiceError> {
    struct Object<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for Object<T> {
        type Value = T;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map))
        }
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    deserializer
        .deserialize_map(Object(PhantomData))
        .and_then(|found| deserializer.end().map(|()| found))
        .map_err(|error| not_fhir(&error))
}

/// What the parser says, without what it has seen: its own texts quote the body.
fn not_fhir(error: &serde_json::Error) -> ServiceError {
    if error.is_data() {
        invalid("the body is not a FHIR resource: a member is not of its type, or stands twice")
    } else {
        invalid(format!(
            "the body is not JSON (line {}, column {})",
            error.line(),
            error.column()
        ))
    }
}

pub(crate) fn invalid(message: impl Into<String>) -> ServiceError {
    ServiceError::new(Code::Invalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"resourceType":"Patient","id":"p-1","meta":{"versionId":"3","lastUpdated":"2026-01-31T10:09:44.706-05:00"},"x":[1.50]}"#;

    #[test]
    fn a_delivery_keeps_every_byte_and_knows_its_version() {
        let Delivered { resource_type, state } = resource(GOOD.as_bytes(), 10).unwrap();
        assert_eq!(
            (resource_type.as_str(), state.id.as_str(), state.version),
            ("Patient", "p-1", 3)
        );
        assert_eq!(state.last_updated.to_rfc3339(), "2026-01-31T15:09:44.706+00:00");
        assert_eq!(state.content, Content::Body(GOOD.as_bytes().to_vec()));
    }

    #[test]
    fn what_is_wrong_is_said_without_showing_the_body() {
        let deep = format!(
            r#"{{"resourceType":"Patient","x":{}{}}}"#,
            "[".repeat(500),
            "]".repeat(500)
        );
        let cases: &[(&str, &str)] = &[
            ("", "empty"),
            (" \n", "empty"),
            ("Zaphod", "not JSON"),
            (r#"{"resourceType":"Patient""#, "not JSON"),
            (r#"["Zaphod"]"#, "not a FHIR resource"),
            (r#""Zaphod""#, "not a FHIR resource"),
            (r#"{"name":"Zaphod"}"#, "resourceType"),
            (r#"{"resourceType":"patient","id":"Zaphod"}"#, "resourceType"),
            (r#"{"resourceType":42,"id":"Zaphod"}"#, "not of its type"),
            (r#"{"resourceType":"Patient","resourceType":"Zaphod"}"#, "twice"),
            (r#"{"resourceType":"Patient"}"#, "no id"),
            (
                r#"{"resourceType":"Patient","id":"Zaphod Beeblebrox"}"#,
                "64 letters",
            ),
            (r#"{"resourceType":"Patient","id":"Zaphod"}"#, "no meta"),
            (
                r#"{"resourceType":"Patient","id":"Zaphod","meta":{}}"#,
                "strip-version-ids",
            ),
            (
                r#"{"resourceType":"Patient","id":"Zaphod","meta":{"versionId":"0"}}"#,
                "above 0",
            ),
            (
                r#"{"resourceType":"Patient","id":"Zaphod","meta":{"versionId":"1"}}"#,
                "lastUpdated is missing",
            ),
            (
                r#"{"resourceType":"Patient","id":"a","meta":{"versionId":"1","lastUpdated":"Zaphod"}}"#,
                "offset",
            ),
            (deep.as_str(), "more than 200 deep"),
        ];
        for (body, said) in cases {
            let error = resource(body.as_bytes(), 200).unwrap_err();
            assert_eq!(error.code, Code::Invalid);
            assert!(error.message.contains(said), "{said}: {error}");
            assert!(!error.message.contains("Zaphod"), "{error}");
        }
        assert!(resource(b"\xff\xfe", 200).unwrap_err().message.contains("UTF-8"));
    }

    #[test]
    fn depth_is_counted_outside_of_strings() {
        assert!(!depth_exceeds(br#"{"a":"[[[[\"[[[["}"#, 1));
        assert!(depth_exceeds(b"[[", 1));
        assert!(!depth_exceeds(b"[][][]", 1));
    }

    #[test]
    fn if_match_is_taken_weak_strong_or_bare() {
        for value in [r#"W/"3""#, r#""3""#, "3", r#" W/"3" "#] {
            assert_eq!(if_match(value).unwrap(), Some(3), "{value}");
        }
        assert_eq!(if_match("*").unwrap(), None);
        assert!(if_match(r#"W/"x""#).is_err());
    }
}
