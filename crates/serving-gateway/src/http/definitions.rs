//! The registered views as FHIR resources: read and search.

use api::{
    Outcome,
    sql_run::{by_preference, unserved},
};
use axum::{
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    response::Response,
};
use daemon::fhir_answer::fhir;
use serde_json::{Map, Value, json};

use super::{
    Http,
    identity::{self, Definition},
    run,
};
use crate::errors::store_error;

/// Entries a page, where `_count` does not say it, and at most.
const PAGE: usize = 100;
const MAX_PAGE: usize = 1_000;

/// `GET ViewDefinition/{id}`
pub(super) async fn read(http: &Http, id: &str, head: &Parts) -> Result<Response, Outcome> {
    json_only(&head.headers, &pairs(head), &[])?;
    let core = http.core_for(&head.extensions)?;
    let views = core.catalog.views().await.map_err(store_error)?;
    let mut found = identity::by_id(&views, id);
    if found.is_none() {
        let views = core.catalog.reload().await.map_err(store_error)?;
        found = identity::by_id(&views, id);
        if found.is_none()
            && let Some(hidden) = identity::by_id(&views.with_hidden(), id)
        {
            hidden.view.to_read(&core.grants)?;
        }
    }
    let found = found.ok_or_else(|| {
        let there = "no view has this id: GET ViewDefinition lists those that there are";
        Outcome::new(404, "not-found", &[], there)
    })?;
    let mut response = fhir(StatusCode::OK, &Value::Object(found.members));
    let tag = format!("W/\"{}\"", found.view.registered.hash);
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    Ok(response)
}

/// `GET ViewDefinition?...`
pub(super) async fn search(http: &Http, head: &Parts) -> Result<Response, Outcome> {
    let pairs = pairs(head);
    let known = [
        "_id",
        "name",
        "name:exact",
        "name:contains",
        "url",
        "status",
        "resource",
        "_count",
        "_offset",
    ];
    json_only(&head.headers, &pairs, &known)?;
    let (count, offset) = (number(&pairs, "_count")?, number(&pairs, "_offset")?.unwrap_or(0));
    let count = count.unwrap_or(PAGE).min(MAX_PAGE);
    let core = http.core_for(&head.extensions)?;
    // What is listed is what there is: a view that was registered a moment ago too.
    let views = core.catalog.reload().await.map_err(store_error)?;
    let found: Vec<Definition> = identity::definitions(&views)
        .into_iter()
        .filter(|definition| pairs.iter().all(|(name, value)| matches(definition, name, value)))
        .collect();
    let base = http.base(&head.headers);
    let total = found.len();
    let entries: Vec<Value> = found
        .into_iter()
        .skip(offset)
        .take(count)
        .map(|definition| {
            json!({
                "fullUrl": format!("{base}/ViewDefinition/{}", definition.id),
                "resource": definition.members,
                "search": {"mode": "match"},
            })
        })
        .collect();
    let link = |relation: &str, offset: usize| {
        let kept = pairs
            .iter()
            .filter(|(name, _)| !matches!(name.as_str(), "_count" | "_offset"));
        let query: String = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(kept)
            .append_pair("_count", &count.to_string())
            .append_pair("_offset", &offset.to_string())
            .finish();
        json!({"relation": relation, "url": format!("{base}/ViewDefinition?{query}")})
    };
    let mut links = vec![link("self", offset)];
    if count > 0 && offset.saturating_add(count) < total {
        links.push(link("next", offset + count));
    }
    let mut bundle = Map::new();
    bundle.insert("resourceType".into(), "Bundle".into());
    bundle.insert("type".into(), "searchset".into());
    bundle.insert("total".into(), total.into());
    bundle.insert("link".into(), links.into());
    if !entries.is_empty() {
        bundle.insert("entry".into(), entries.into());
    }
    Ok(fhir(StatusCode::OK, &Value::Object(bundle)))
}

fn pairs(head: &Parts) -> Vec<(String, String)> {
    let query = head.uri.query().unwrap_or_default();
    form_urlencoded::parse(query.as_bytes()).into_owned().collect()
}

/// Resources are served in JSON, and parameters beside `_format` only where they are known.
pub(super) fn json_only(
    headers: &HeaderMap,
    pairs: &[(String, String)],
    known: &[&str],
) -> Result<(), Outcome> {
    for (name, value) in pairs {
        if name == "_format" {
            if !matches!(
                value.as_str(),
                "json" | "application/json" | "application/fhir+json"
            ) {
                return Err(Outcome::unsupported(
                    "_format",
                    "_format: resources are served as json",
                ));
            }
        } else if !known.contains(&name.as_str()) {
            return Err(unserved(name));
        }
    }
    let asked = pairs.iter().any(|(name, _)| name == "_format");
    let accept = run::accept(headers);
    let mut ranges = by_preference(&accept).peekable();
    let json = |range: &str| {
        matches!(
            range,
            "application/fhir+json" | "application/json" | "application/*" | "*/*" | "text/json"
        )
    };
    if asked || ranges.peek().is_none() || ranges.any(json) {
        return Ok(());
    }
    Err(Outcome::not_acceptable(
        "Accept: resources are served as application/fhir+json",
    ))
}

fn number(pairs: &[(String, String)], name: &'static str) -> Result<Option<usize>, Outcome> {
    let mut given = pairs.iter().filter(|(given, _)| given == name);
    match (given.next(), given.next()) {
        (None, _) => Ok(None),
        (Some((_, value)), None) => {
            let number = value
                .parse::<u32>()
                .ok()
                .and_then(|number| usize::try_from(number).ok());
            let number = number.ok_or_else(|| {
                Outcome::invalid(name, format!("{name}: must be a whole number, 0 or more"))
            })?;
            Ok(Some(number))
        }
        _ => Err(Outcome::invalid(name, format!("{name}: may be given once"))),
    }
}

/// Whether a definition is one that a parameter asks for; the values of one parameter are alternatives.
fn matches(definition: &Definition, name: &str, value: &str) -> bool {
    let member = |name: &str| {
        definition
            .members
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let any = |found: &dyn Fn(&str) -> bool| value.split(',').any(found);
    let named = member("name").to_lowercase();
    match name {
        "_id" => any(&|value| value == definition.id),
        "name" => any(&|value| named.starts_with(&value.to_lowercase())),
        "name:exact" => any(&|value| value == member("name")),
        "name:contains" => any(&|value| named.contains(&value.to_lowercase())),
        "url" => any(&|value| value == member("url")),
        // A token may come with its system.
        "status" => any(&|value| value.rsplit('|').next() == Some(member("status"))),
        "resource" => any(&|value| value.rsplit('|').next() == Some(member("resource"))),
        _ => true,
    }
}
