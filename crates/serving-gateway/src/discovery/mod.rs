//! What can be asked: enough for a program to write a right question without any other document.
//!
//! Everything here is said by what answers questions itself: search forms by the bindings, filters by the columns, cohorts by their plan. A test asks each form and
//! each example of each view.

mod examples;
mod filters;

use std::{collections::HashMap, sync::Arc};

use api::{ServiceError, proto::serving as proto, query::Layers};
use view_store::{PatientKey, TypeFreshness};

use crate::{
    catalog::{View, Views},
    cohort::plan::{has_every_patient, patient_key},
    errors::store_error,
    freshness::AnswerFreshness,
    reads::{Demand, Route},
    shape::Shape,
    shared::Core,
};

/// All views with their freshness.
pub(crate) async fn list(core: &Core) -> Result<proto::ListViewsResponse, ServiceError> {
    let views: Vec<Arc<View>> = views(core).await?.all().cloned().collect();
    Ok(proto::ListViewsResponse {
        views: summaries(core, &views).await?,
    })
}

/// One view, whole.
pub(crate) async fn describe(core: &Core, name: &str) -> Result<proto::DescribeViewResponse, ServiceError> {
    let views = views(core).await?;
    let view = &views.named(name)?;
    let summary = summaries(core, std::slice::from_ref(view)).await?.pop();
    let use_in_cohorts = cohort_use(view);
    let example_cohort = if use_in_cohorts.usable {
        examples::cohort(view, &views)
    } else {
        String::new()
    };
    Ok(proto::DescribeViewResponse {
        summary,
        columns: view.compiled.columns().iter().map(proto::Column::from).collect(),
        search: search(view),
        example_query: examples::query(view),
        filters: view.compiled.columns().iter().map(filters::of_column).collect(),
        cohort_use: Some(use_in_cohorts),
        example_cohort,
        example_sql: examples::sql(view).unwrap_or_default(),
        notes: notes(view),
        definition_json: view.registered.definition.clone(),
    })
}

/// The views as they are now: states move, counts move without the registry, and with them what a view can be asked. Where the primary does not answer, as they were
/// last known.
async fn views(core: &Core) -> Result<Arc<Views>, ServiceError> {
    let reloading = core.reads.primary().while_it_answers(core.catalog.reload());
    match reloading.await {
        Ok(views) => views.map_err(store_error),
        Err(_) => core.catalog.views().await.map_err(store_error),
    }
}

/// Counts and times of these views, read at one server, or else at the next one.
async fn summaries(core: &Core, views: &[Arc<View>]) -> Result<Vec<proto::ViewSummary>, ServiceError> {
    let mut route = core.reads.route(core, Demand::none()).await?;
    loop {
        let server = route.server();
        match server.while_it_answers(summaries_at(core, &route, views)).await {
            Ok(Ok(summaries)) => {
                route.answered();
                return Ok(summaries);
            }
            Ok(Err(error)) | Err(error) => route.missed(error)?,
        }
    }
}

async fn summaries_at(
    core: &Core,
    route: &Route,
    views: &[Arc<View>],
) -> Result<Vec<proto::ViewSummary>, ServiceError> {
    let mut types: HashMap<&str, TypeFreshness> = HashMap::new();
    let mut summaries = Vec::new();
    for view in views {
        let name = view.registered.resource_type.as_str();
        if !types.contains_key(name) {
            types.insert(name, freshness(route, name).await?);
        }
        summaries.push(summary(core, route, view, &types[name]).await?);
    }
    Ok(summaries)
}

async fn freshness(route: &Route, resource_type: &str) -> Result<TypeFreshness, ServiceError> {
    let store = route.store();
    let state = store
        .pulse()
        .unless_silent(store.type_state(resource_type))
        .await
        .map_err(store_error)?;
    Ok(TypeFreshness {
        batch_as_of: state.published.map(|position| position.as_of),
        speed_as_of: state.speed.map(|mark| mark.as_of),
    })
}

async fn summary(
    core: &Core,
    route: &Route,
    view: &Arc<View>,
    known: &TypeFreshness,
) -> Result<proto::ViewSummary, ServiceError> {
    let (on, server) = (core.circumstances(Layers::Merged), route.server());
    let counts = if view.is_materialized() {
        let store = route.store();
        let counting = store.row_counts(&view.registered.name);
        let counted = store.pulse().unless_silent(counting).await.map_err(store_error)?;
        if counted.is_none() && !server.is_primary() {
            return Err(server.has_not_yet());
        }
        counted
    } else {
        None
    };
    let mut freshness = if view.is_materialized() {
        AnswerFreshness::of_tables(view, known, &on)
    } else {
        // Whoever asks now reads HAPI's tables as they are now.
        AnswerFreshness::of_raw(view, on.now, &on)
    };
    freshness.evaluation_errors(view.registered.error_count);
    if view.is_materialized() {
        core.reads.tell(&server, &mut freshness);
    }
    let shown = |counts: view_store::RowCounts| {
        if on.effective() == Layers::Merged {
            counts.merged
        } else {
            counts.batch
        }
    };
    Ok(proto::ViewSummary {
        name: view.registered.name.clone(),
        resource_type: view.registered.resource_type.clone(),
        description: view.compiled.description().unwrap_or_default().to_owned(),
        materialized: view.is_materialized(),
        freshness: Some(freshness.message()),
        url: view.registered.url.clone().unwrap_or_default(),
        row_count: counts.map(shown),
        batch_row_count: counts.map(|counts| counts.batch),
    })
}

fn search(view: &View) -> Vec<proto::SearchBinding> {
    let forms = view.bindings.forms().into_iter();
    forms
        .map(|of| proto::SearchBinding {
            name: of.name,
            modifiers: of
                .forms
                .iter()
                .map(|form| form.modifier)
                .filter(|modifier| !modifier.is_empty())
                .map(str::to_owned)
                .collect(),
            columns: of.columns,
            forms: of
                .forms
                .into_iter()
                .map(|form| proto::SearchForm {
                    modifier: form.modifier.to_owned(),
                    values: form.values,
                    examples: form.examples,
                })
                .collect(),
        })
        .collect()
}

fn cohort_use(view: &View) -> proto::CohortUse {
    let key = patient_key(view);
    let reason = match (&key, view.is_materialized()) {
        (None, _) => format!(
            "it is over {}, and no column is bound to the search parameter patient",
            view.registered.resource_type
        ),
        (Some(_), false) => "it is not materialised".to_owned(),
        (Some(_), true) => String::new(),
    };
    let patient_columns = match key {
        Some(PatientKey::Columns(columns)) => columns.into_iter().map(|column| column.name).collect(),
        Some(PatientKey::OwnId) | None => Vec::new(),
    };
    proto::CohortUse {
        usable: reason.is_empty(),
        patient_columns,
        every_patient: has_every_patient(view),
        reason,
    }
}

fn notes(view: &View) -> Vec<String> {
    let shape = Shape::of(&view.registered.definition);
    let of = &view.registered.resource_type;
    let mut notes = vec![if shape.several_rows {
        let key = view
            .compiled
            .columns()
            .iter()
            .find(|column| column.path == "getResourceKey()")
            .map_or_else(
                || "ask with max_resources".to_owned(),
                |column| format!("count distinct values of {}", column.name),
            );
        format!("A {of} may have several rows: to count resources, {key}.")
    } else {
        format!("A {of} has one row at most.")
    }];
    if !shape.every_resource {
        notes.push(format!(
            "A {of} may have no row at all: see the definition's where, forEach and repeat."
        ));
    }
    notes.push(
        "Rows come in no order unless one is asked for, or a limit: then ties are broken by the resource's id, so the order is the same each time; rows without a value come last."
            .to_owned(),
    );
    notes.push("A comparison never holds of a column without a value; its negation does.".to_owned());
    if !view.is_materialized() {
        notes.push(
            "It is not materialised: a question runs over HAPI's own tables, which takes longer, up to query.max_raw_bytes of rows; it cannot be asked in SQL, nor be a criterion of Cohort."
                .to_owned(),
        );
    }
    notes
}
