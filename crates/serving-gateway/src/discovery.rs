//! What can be asked: enough for a program to write a right query.

use std::{collections::HashMap, sync::Arc};

use api::{ServiceError, proto::serving as proto, query::Layers};
use serde_json::json;
use view_store::TypeFreshness;

use crate::{catalog::View, errors::store_error, freshness::AnswerFreshness, shared::Core};

/// All views with their freshness.
pub(crate) async fn list(core: &Core) -> Result<proto::ListViewsResponse, ServiceError> {
    // Counts move without the registry.
    let views = core.catalog.reload().await.map_err(store_error)?;
    let mut types: HashMap<&str, TypeFreshness> = HashMap::new();
    for view in views.all() {
        let name = view.registered.resource_type.as_str();
        if !types.contains_key(name) {
            types.insert(name, freshness(core, name).await?);
        }
    }
    let summary = |view: &Arc<View>| summary(core, view, &types[view.registered.resource_type.as_str()]);
    Ok(proto::ListViewsResponse {
        views: views.all().map(summary).collect(),
    })
}

/// One view, whole.
pub(crate) async fn describe(core: &Core, name: &str) -> Result<proto::DescribeViewResponse, ServiceError> {
    let view = core.catalog.find(name).await?;
    let known = freshness(core, &view.registered.resource_type).await?;
    let search = view
        .bindings
        .searchable()
        .into_iter()
        .map(|searchable| proto::SearchBinding {
            name: searchable.name,
            modifiers: searchable.modifiers.into_iter().map(str::to_owned).collect(),
            columns: searchable.columns,
        });
    Ok(proto::DescribeViewResponse {
        summary: Some(summary(core, &view, &known)),
        columns: view.compiled.columns().iter().map(proto::Column::from).collect(),
        search: search.collect(),
        example_query: example(&view),
    })
}

async fn freshness(core: &Core, resource_type: &str) -> Result<TypeFreshness, ServiceError> {
    let state = core.store.type_state(resource_type).await.map_err(store_error)?;
    Ok(TypeFreshness {
        batch_as_of: state.published.map(|position| position.as_of),
        speed_as_of: state.speed.map(|mark| mark.as_of),
    })
}

fn summary(core: &Core, view: &View, known: &TypeFreshness) -> proto::ViewSummary {
    let on = core.circumstances(Layers::Merged);
    let mut freshness = if view.is_materialized() {
        AnswerFreshness::of_tables(view, known, &on)
    } else {
        // Whoever asks now reads HAPI's tables as they are now.
        AnswerFreshness::of_raw(view, on.now, &on)
    };
    freshness.evaluation_errors(view.registered.error_count);
    proto::ViewSummary {
        name: view.registered.name.clone(),
        resource_type: view.registered.resource_type.clone(),
        description: view.compiled.description().unwrap_or_default().to_owned(),
        materialized: view.is_materialized(),
        freshness: Some(freshness.message()),
    }
}

fn example(view: &View) -> String {
    let mut columns: Vec<&str> = view.compiled.columns().iter().map(|c| c.name.as_str()).collect();
    columns.truncate(3);
    json!({"view": view.registered.name, "columns": columns, "maxResources": "10"}).to_string()
}
