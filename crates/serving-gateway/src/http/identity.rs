//! Which view an id, or a canonical URL, names.
//!
//! A view's name may hold `_`, which an id of FHIR may not: written with `-` it is an id, and of one view alone. The definition's own `id` is the id where
//! no other view has it already.

use std::sync::Arc;

use api::sql_run::Canonical;
use fhir_core::resource::is_id;
use serde_json::{Map, Value};

use crate::catalog::{View, Views};

/// A definition as FHIR has it: `resourceType` first, then the id.
pub(super) struct Definition {
    pub(super) view: Arc<View>,
    pub(super) id: String,
    pub(super) members: Map<String, Value>,
}

/// All definitions with their ids, in the order of their names.
pub(super) fn definitions(views: &Views) -> Vec<Definition> {
    let read: Vec<(Arc<View>, Map<String, Value>)> =
        views.all().map(|view| (view.clone(), members(view))).collect();
    let ids = ids(&read);
    read.into_iter()
        .zip(ids)
        .map(|((view, mut members), id)| {
            let mut whole = Map::new();
            whole.insert("resourceType".into(), "ViewDefinition".into());
            whole.insert("id".into(), id.clone().into());
            members.remove("resourceType");
            members.remove("id");
            whole.append(&mut members);
            Definition {
                view,
                id,
                members: whole,
            }
        })
        .collect()
}

fn ids(read: &[(Arc<View>, Map<String, Value>)]) -> Vec<String> {
    let own = |members: &Map<String, Value>| {
        let id = members.get("id").and_then(Value::as_str).filter(|id| is_id(id));
        id.map(str::to_owned)
    };
    let of_name = |view: &View| view.registered.name.replace('_', "-");
    let taken = |id: &str, but: usize| {
        read.iter().enumerate().any(|(i, (view, members))| {
            i != but && (of_name(view) == id || own(members).as_deref() == Some(id))
        })
    };
    read.iter()
        .enumerate()
        .map(|(i, (view, members))| {
            own(members)
                .filter(|id| !taken(id, i))
                .unwrap_or_else(|| of_name(view))
        })
        .collect()
}

/// The view of this id, or of this name.
pub(super) fn by_id(views: &Views, id: &str) -> Option<Definition> {
    let mut all = definitions(views);
    let named = |definition: &Definition| {
        definition.id == id
            || definition.view.registered.name == id
            || definition.view.registered.name.replace('_', "-") == id
    };
    let place = all
        .iter()
        .position(|definition| definition.id == id)
        .or_else(|| all.iter().position(named))?;
    Some(all.swap_remove(place))
}

/// The view of this canonical URL: of this version, or of the greatest.
pub(super) fn by_canonical(views: &Views, canonical: &Canonical) -> Option<Arc<View>> {
    let of_url = views
        .all()
        .filter(|view| view.registered.url.as_deref() == Some(&canonical.url));
    let versions = of_url.map(|view| {
        let version = members(view)
            .get("version")
            .and_then(Value::as_str)
            .map(str::to_owned);
        (version, view)
    });
    match &canonical.version {
        Some(wanted) => versions
            .filter(|(version, _)| version.as_ref() == Some(wanted))
            .map(|(_, view)| view.clone())
            .next(),
        None => versions
            .max_by_key(|(version, _)| version.as_deref().map(ordered))
            .map(|(_, view)| view.clone()),
    }
}

/// Versions in their order: `10` is after `9`.
fn ordered(version: &str) -> Vec<(u64, String)> {
    version
        .split(['.', '-', '+'])
        .map(|part| match part.parse() {
            Ok(number) => (number, String::new()),
            Err(_) => (0, part.to_owned()),
        })
        .collect()
}

fn members(view: &View) -> Map<String, Value> {
    serde_json::from_str(&view.registered.definition).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_in_the_order_of_their_numbers() {
        assert!(ordered("1.10.0") > ordered("1.9.9"));
        assert!(ordered("2") > ordered("1.99"));
    }
}
