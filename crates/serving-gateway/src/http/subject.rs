//! What is to be run: a view that is registered, one that the request brings, or a query in SQL that it brings.

use std::sync::Arc;

use api::{
    Outcome,
    sql_run::{Canonical, Library, Named, Operation, RunRequest, Subject as Asked},
};
use axum::http::HeaderMap;
use fhir_core::view::CompiledView;
use serde_json::Value;
use view_store::{RegisteredView, ViewState};

use super::{Http, identity};
use crate::{
    catalog::{View, Views},
    errors::store_error,
    search::Bindings,
    shared::Core,
};

/// How a view that a request brings is called in messages and statistics: its own name is the caller's word.
const INLINE: &str = "(inline)";
/// URLs that a message tells at most.
const TOLD: usize = 20;

/// A subject, resolved.
pub(super) enum Subject {
    /// A view.
    View(Arc<View>),
    /// A query in SQL.
    Library(Box<Library>),
}

impl Subject {
    /// Whether the parameters go with this kind of subject.
    pub(super) fn takes(&self, asked: &RunRequest) -> Result<(), Outcome> {
        let narrowed: Vec<&str> = [
            ("patient", !asked.patients.is_empty()),
            ("group", !asked.groups.is_empty()),
            ("_since", asked.since.is_some()),
        ]
        .into_iter()
        .filter_map(|(name, given)| given.then_some(name))
        .collect();
        let not_narrowed = |why: &str| {
            let why = format!("{}: {why}", narrowed.join(", "));
            Err(Outcome::new(400, "not-supported", &narrowed, why))
        };
        match self {
            Self::View(_) if asked.parameters.is_some() => {
                let rule = "parameters: a ViewDefinition has none: leave them out";
                Err(Outcome::invalid("parameters", rule))
            }
            Self::View(_) if !asked.context.is_empty() => {
                let rule = "context: a ViewDefinition depends on nothing: leave it out";
                Err(Outcome::invalid("context", rule))
            }
            Self::View(_) if asked.resources.is_some() && !narrowed.is_empty() => {
                not_narrowed("resources that are given are not narrowed: give those that are meant")
            }
            Self::Library(_) if asked.resources.is_some() => {
                let rule = "resource: goes with a ViewDefinition, not with a query in SQL";
                Err(Outcome::invalid("resource", rule))
            }
            Self::Library(_) if !narrowed.is_empty() => {
                not_narrowed("not served for queries in SQL: say it in the statement")
            }
            Self::View(_) | Self::Library(_) => Ok(()),
        }
    }
}

/// Finds what is named; 404 where it is not there, 422 where it cannot be run.
pub(super) async fn resolve(
    http: &Http,
    core: &Core,
    operation: Operation,
    headers: &HeaderMap,
    asked: &Asked,
) -> Result<Subject, Outcome> {
    if let Named::Resource(text) = &asked.named {
        return inline(operation, asked.parameter, text);
    }
    let views = core.catalog.views().await.map_err(store_error)?;
    let base = http.base(headers);
    if let Some(view) = find(operation, &views, &base, &asked.named) {
        return Ok(Subject::View(view));
    }
    // Registered a moment ago, perhaps.
    let views = core.catalog.reload().await.map_err(store_error)?;
    let found = find(operation, &views, &base, &asked.named).map(Subject::View);
    if found.is_none()
        && let Some(hidden) = find(operation, &views.with_hidden(), &base, &asked.named)
    {
        hidden.to_read(&core.grants)?;
    }
    found.ok_or_else(|| unknown(asked, &views))
}

fn find(operation: Operation, views: &Views, base: &str, named: &Named) -> Option<Arc<View>> {
    match named {
        Named::Canonical(canonical) => identity::by_canonical(views, canonical),
        Named::Reference(reference) => {
            let place = reference
                .strip_prefix(base)
                .map_or(reference.as_str(), |rest| rest.trim_start_matches('/'));
            let by_id = place
                .strip_prefix("ViewDefinition/")
                .and_then(|id| identity::by_id(views, id))
                .map(|definition| definition.view);
            // In the drafts before, one parameter was for both.
            let draft = operation == Operation::ViewDefinitionRun;
            by_id.or_else(|| identity::by_canonical(views, &Canonical::parse(reference).filter(|_| draft)?))
        }
        Named::Resource(_) => None,
    }
}

fn unknown(asked: &Asked, views: &Views) -> Outcome {
    let (what, known): (&str, Vec<String>) = if let Named::Canonical(_) = asked.named {
        let urls = views.all().filter_map(|view| view.registered.url.clone());
        let what = "no registered view has this url and version; there are";
        (what, urls.collect())
    } else {
        let ids = identity::definitions(views).into_iter();
        let ids = ids.map(|definition| format!("ViewDefinition/{}", definition.id));
        ("no view is at this place; there are", ids.collect())
    };
    let told = known
        .iter()
        .take(TOLD)
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(", ");
    let more = if known.len() > TOLD { ", and others" } else { "" };
    let told = if told.is_empty() { "none yet" } else { &told };
    Outcome::unresolved(
        asked.parameter,
        format!("{}: {what}: {told}{more}", asked.parameter),
    )
}

fn inline(operation: Operation, parameter: &'static str, text: &str) -> Result<Subject, Outcome> {
    let neither = || {
        let why =
            format!("{parameter}: must be a ViewDefinition, or a Library that is an SQLQuery or an SQLView");
        Outcome::unprocessable(&[parameter], why)
    };
    let resource: Value = serde_json::from_str(text).map_err(|_| neither())?;
    let of = resource
        .get("resourceType")
        .and_then(Value::as_str)
        .ok_or_else(neither)?;
    if of == "Library" && operation == Operation::SqlRun {
        return Library::parse(parameter, &resource).map(|library| Subject::Library(Box::new(library)));
    }
    if of != "ViewDefinition" && !of.ends_with("/StructureDefinition/ViewDefinition") {
        return Err(neither());
    }
    view_of(text)
        .map(|view| Subject::View(Arc::new(view)))
        .map_err(|errors| Outcome::unprocessable(&[parameter], format!("{parameter}: {errors}")))
}

/// A view that is not registered: it can be run over HAPI's tables, and over resources that are given.
fn view_of(definition: &str) -> Result<View, fhir_core::view::ViewErrors> {
    let compiled = CompiledView::from_json(definition)?;
    let registered = RegisteredView {
        name: INLINE.to_owned(),
        url: None,
        resource_type: compiled.resource_type().to_owned(),
        definition: definition.to_owned(),
        hash: String::new(),
        state: ViewState::Creating,
        reason: None,
        batch_as_of: None,
        published_n: 0,
        row_count: None,
        byte_count: None,
        error_count: 0,
    };
    Ok(View {
        bindings: Bindings::of(INLINE, compiled.resource_type(), compiled.columns()),
        registered,
        compiled,
    })
}
