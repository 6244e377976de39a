//! The body as HAPI delivers it: the stored text with `id` and `meta` put back, character by character as HAPI's own parser writes them.
//!
//! HAPI stores a resource without `id` and without the members of `meta` that it keeps in columns; what else stands in `meta` (extensions; with
//! inline tags also profile, security and tag) stays in the text and is merged. Nothing else is touched: numbers keep every digit.

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::LazyLock;

use memchr::{memchr, memmem::Finder};
use serde_json::value::RawValue;

/// A row of `hfj_tag_def`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tag {
    pub(super) system: Option<String>,
    pub(super) code: Option<String>,
    pub(super) display: Option<String>,
    pub(super) version: Option<String>,
    pub(super) user_selected: Option<bool>,
    pub(super) kind: TagKind,
}

/// `hfj_tag_def.tag_type`
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum TagKind {
    Tag,
    Profile,
    Security,
}

/// What HAPI keeps in columns.
#[derive(Debug, Default)]
pub(super) struct Columns<'a> {
    pub(super) id: &'a str,
    pub(super) version: i64,
    pub(super) last_updated: String,
    pub(super) source_uri: Option<&'a str>,
    pub(super) request_id: Option<&'a str>,
    pub(super) tags: Vec<Tag>,
}

/// Why a text cannot be a stored resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BodyError {
    #[error("the stored text is not a JSON object")]
    NotAnObject,
    #[error("the stored text does not open with a resourceType")]
    NoResourceType,
    #[error("the stored meta is not a JSON object")]
    MetaNotAnObject,
}

/// Puts `id` and `meta` back, right after `resourceType`, where HAPI has them.
pub(super) fn compose(stored: &[u8], columns: &Columns<'_>) -> Result<Vec<u8>, BodyError> {
    // HAPI writes resourceType first and meta, if any of it is left, next: a text without the word needs no look at the rest.
    if let Some(end) = plain_head(stored) {
        let meta = meta_text(&[], columns);
        return Ok(assemble(&stored[..end], columns.id, &meta, &[&stored[end..]]));
    }
    let stored = str::from_utf8(stored).map_err(|_| BodyError::NotAnObject)?;
    let members = members(stored).ok_or(BodyError::NotAnObject)?;
    let resource_type = members
        .iter()
        .find(|m| m.key == "resourceType")
        .ok_or(BodyError::NoResourceType)?;
    let stored_meta = match members.iter().find(|m| m.key == "meta") {
        Some(m) => self::members(&stored[m.value.clone()]).ok_or(BodyError::MetaNotAnObject)?,
        None => Vec::new(),
    };
    let meta_source = members
        .iter()
        .find(|m| m.key == "meta")
        .map_or("", |m| &stored[m.value.clone()]);
    let kept: Vec<(String, &str)> = stored_meta
        .into_iter()
        .map(|m| (m.key, &meta_source[m.value]))
        .collect();
    let meta = meta_text(&kept, columns);
    let head = format!("{{\"resourceType\":{}", &stored[resource_type.value.clone()]);
    let mut rest: Vec<&[u8]> = Vec::new();
    for m in members
        .iter()
        .filter(|m| !matches!(m.key.as_str(), "resourceType" | "meta" | "id"))
    {
        rest.push(b",");
        rest.push(&stored.as_bytes()[m.whole.clone()]);
    }
    rest.push(b"}");
    Ok(assemble(head.as_bytes(), columns.id, &meta, &rest))
}

fn assemble(head: &[u8], id: &str, meta: &str, rest: &[&[u8]]) -> Vec<u8> {
    let size = head.len() + id.len() + meta.len() + 20 + rest.iter().map(|r| r.len()).sum::<usize>();
    let mut body = Vec::with_capacity(size);
    body.extend_from_slice(head);
    body.extend_from_slice(b",\"id\":");
    push_bytes(&mut body, id);
    body.extend_from_slice(b",\"meta\":");
    body.extend_from_slice(meta.as_bytes());
    for part in rest {
        body.extend_from_slice(part);
    }
    body
}

/// Length of `{"resourceType":"…"` at the start of a text that has no meta of its own.
fn plain_head(stored: &[u8]) -> Option<usize> {
    const OPEN: &[u8] = b"{\"resourceType\":\"";
    static META: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"meta\""));
    let name = stored.strip_prefix(OPEN)?;
    let end = memchr(b'"', name)?;
    let after = &name[end + 1..];
    if after.starts_with(b",\"id\"")
        || !(after.starts_with(b",\"") || after == b"}")
        || META.find(stored).is_some()
    {
        return None;
    }
    Some(OPEN.len() + end + 1)
}

/// `meta` in the order of HAPI's parser: what the text kept, then what the columns hold.
fn meta_text(kept: &[(String, &str)], columns: &Columns<'_>) -> String {
    let raw = |key: &str| kept.iter().find(|(k, _)| k == key).map(|(_, v)| *v);
    let mut meta = String::with_capacity(160);
    meta.push('{');
    for key in ["id", "extension"] {
        if let Some(value) = raw(key) {
            push_member(&mut meta, key, value);
        }
    }
    let _ = write!(meta, "{}\"versionId\":\"{}\"", comma(&meta), columns.version);
    let _ = write!(meta, ",\"lastUpdated\":\"{}\"", columns.last_updated);
    if let Some(source) = source(columns) {
        meta.push_str(",\"source\":");
        push_string(&mut meta, &source);
    }
    let mut tags = columns.tags.clone();
    // HAPI's order: by system, then code, absent ones first; profiles by their URL.
    tags.sort_by(|a, b| (&a.system, &a.code).cmp(&(&b.system, &b.code)));
    let inline = tags.is_empty();
    for (key, kind) in [
        ("profile", TagKind::Profile),
        ("security", TagKind::Security),
        ("tag", TagKind::Tag),
    ] {
        if inline {
            if let Some(value) = raw(key) {
                push_member(&mut meta, key, value);
            }
            continue;
        }
        let items: Vec<String> = tags.iter().filter(|t| t.kind == kind).map(tag_text).collect();
        if !items.is_empty() {
            push_member(&mut meta, key, &format!("[{}]", items.join(",")));
        }
    }
    for (key, value) in kept {
        if !matches!(
            key.as_str(),
            "id" | "extension" | "versionId" | "lastUpdated" | "source" | "profile" | "security" | "tag"
        ) {
            push_member(&mut meta, key, value);
        }
    }
    meta.push('}');
    meta
}

/// `source_uri#request_id`, either of which may be missing; a fragment of the stored URI gives way to the request's id.
fn source(columns: &Columns<'_>) -> Option<String> {
    let uri = columns
        .source_uri
        .filter(|s| !s.trim().is_empty())
        .map(|s| s.split('#').next().unwrap_or_default());
    match (uri, columns.request_id.filter(|s| !s.trim().is_empty())) {
        (None, None) => None,
        (uri, Some(request)) => Some(format!("{}#{request}", uri.unwrap_or_default())),
        (Some(uri), None) => Some(uri.to_owned()),
    }
}

fn tag_text(tag: &Tag) -> String {
    let mut text = String::new();
    if tag.kind == TagKind::Profile {
        push_string(&mut text, tag.code.as_deref().unwrap_or_default());
        return text;
    }
    text.push('{');
    for (key, value) in [
        ("system", &tag.system),
        ("version", &tag.version),
        ("code", &tag.code),
        ("display", &tag.display),
    ] {
        if let Some(value) = value {
            let _ = write!(text, "{}\"{key}\":", comma(&text));
            push_string(&mut text, value);
        }
    }
    if let Some(selected) = tag.user_selected {
        let _ = write!(text, "{}\"userSelected\":{selected}", comma(&text));
    }
    text.push('}');
    text
}

fn comma(object: &str) -> &'static str {
    if object.ends_with('{') { "" } else { "," }
}

fn push_member(object: &mut String, key: &str, value: &str) {
    object.push_str(comma(object));
    push_string(object, key);
    object.push(':');
    object.push_str(value);
}

fn push_string(out: &mut String, text: &str) {
    // Serialising a string cannot fail; it is written as it is if it ever did.
    match serde_json::to_string(text) {
        Ok(quoted) => out.push_str(&quoted),
        Err(_) => out.push_str("\"\""),
    }
}

fn push_bytes(out: &mut Vec<u8>, text: &str) {
    // Writing to memory cannot fail.
    let _ = serde_json::to_writer(out, text);
}

/// A member of an object: its key, and where the value and the whole of it lie in the text.
struct Member {
    key: String,
    value: Range<usize>,
    whole: Range<usize>,
}

/// The members of the object that `text` is, in order, with their places. `None` if it is not one, or not JSON.
fn members(text: &str) -> Option<Vec<Member>> {
    let mut found = Vec::new();
    let mut rest = Cursor { text, at: 0 };
    rest.take('{')?;
    if rest.take('}').is_none() {
        loop {
            rest.space();
            let start = rest.at;
            let key: String = serde_json::from_str(&text[rest.value()?]).ok()?;
            rest.take(':')?;
            let value = rest.value()?;
            found.push(Member {
                key,
                whole: start..value.end,
                value,
            });
            if rest.take(',').is_none() {
                break;
            }
        }
        rest.take('}')?;
    }
    rest.space();
    (rest.at == text.len()).then_some(found)
}

struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl Cursor<'_> {
    fn space(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r']).len();
    }

    fn take(&mut self, c: char) -> Option<()> {
        self.space();
        self.text[self.at..]
            .starts_with(c)
            .then(|| self.at += c.len_utf8())
    }

    /// The place of the JSON value that comes next.
    fn value(&mut self) -> Option<Range<usize>> {
        self.space();
        let rest = &self.text[self.at..];
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<&RawValue>();
        let raw = values.next()?.ok()?;
        let start = self.at;
        self.at += raw.get().len();
        Some(start..self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns() -> Columns<'static> {
        Columns {
            id: "probe-e",
            version: 1,
            last_updated: "2026-11-22T10:19:08.150+00:00".into(),
            source_uri: None,
            request_id: Some("MleuD6Y34EZfrBoA"),
            tags: Vec::new(),
        }
    }

    fn tag(kind: TagKind, system: &str, code: &str, display: Option<&str>) -> Tag {
        Tag {
            system: Some(system.into()),
            code: Some(code.into()),
            display: display.map(Into::into),
            version: None,
            user_selected: None,
            kind,
        }
    }

    fn text(stored: &str, columns: &Columns<'_>) -> String {
        String::from_utf8(compose(stored.as_bytes(), columns).unwrap()).unwrap()
    }

    #[test]
    fn id_and_meta_follow_the_type_as_delivered() {
        let stored = r#"{"resourceType":"Patient","gender":"male","multipleBirthInteger":1,"x":1.50}"#;
        assert_eq!(
            text(stored, &columns()),
            r##"{"resourceType":"Patient","id":"probe-e","meta":{"versionId":"1","lastUpdated":"2026-11-22T10:19:08.150+00:00","source":"#MleuD6Y34EZfrBoA"},"gender":"male","multipleBirthInteger":1,"x":1.50}"##
        );
    }

    #[test]
    fn a_stored_meta_is_merged() {
        let stored = r#"{"resourceType":"Patient","meta":{"extension":[{"url":"http://x","valueString":"kept"}]},"gender":"female","value":1.00}"#;
        let mut columns = columns();
        columns.tags = vec![
            tag(TagKind::Tag, "http://t", "b", None),
            tag(TagKind::Tag, "http://t", "a", Some("A \"quoted\"")),
            tag(TagKind::Security, "http://s", "R", None),
            tag(TagKind::Profile, "own", "http://example.org/p1", None),
        ];
        assert_eq!(
            text(stored, &columns),
            r##"{"resourceType":"Patient","id":"probe-e","meta":{"extension":[{"url":"http://x","valueString":"kept"}],"versionId":"1","lastUpdated":"2026-11-22T10:19:08.150+00:00","source":"#MleuD6Y34EZfrBoA","profile":["http://example.org/p1"],"security":[{"system":"http://s","code":"R"}],"tag":[{"system":"http://t","code":"a","display":"A \"quoted\""},{"system":"http://t","code":"b"}]},"gender":"female","value":1.00}"##
        );
    }

    #[test]
    fn inline_tags_stay_and_columns_of_the_text_give_way() {
        let stored = r#"{ "resourceType" : "Patient", "id":"other", "meta":{"tag":[{"code":"in"}],"versionId":"9"}, "active" : true }"#;
        assert_eq!(
            text(
                stored,
                &Columns {
                    request_id: None,
                    source_uri: Some("http://src#old"),
                    ..columns()
                }
            ),
            r#"{"resourceType":"Patient","id":"probe-e","meta":{"versionId":"1","lastUpdated":"2026-11-22T10:19:08.150+00:00","source":"http://src","tag":[{"code":"in"}]},"active" : true}"#
        );
    }

    #[test]
    fn the_word_meta_inside_is_not_a_member() {
        let stored = r#"{"resourceType":"Patient","contained":[{"resourceType":"Organization","meta":{"profile":["p"]}}],"name":[{"text":"\"meta\":{}"}]}"#;
        let body = text(stored, &columns());
        let value: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(value["contained"][0]["meta"]["profile"][0], "p");
        assert_eq!(value["meta"]["versionId"], "1");
    }

    #[test]
    fn what_is_not_a_resource_is_said() {
        assert_eq!(compose(b"[1]", &columns()), Err(BodyError::NotAnObject));
        assert_eq!(compose(b"{\"a\":1", &columns()), Err(BodyError::NotAnObject));
        assert_eq!(compose(b"{\"a\":1}", &columns()), Err(BodyError::NoResourceType));
        assert_eq!(
            compose(b"{\"resourceType\":\"Patient\",\"meta\":3}", &columns()),
            Err(BodyError::MetaNotAnObject)
        );
        assert!(text("{\"resourceType\":\"Patient\"}", &columns()).ends_with("}}"));
    }
}
