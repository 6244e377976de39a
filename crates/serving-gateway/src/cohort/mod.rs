//! Cohorts: the distinct patients of whom a tree of criteria over several views is true, counted, named, and with their resources.
//!
//! ```text
//! tree ──plan──► sets of patients ──► view-store: one statement, one snapshot ──► count and freshness, ids ──┐
//!                                                      BatchService.ReadPatientResources ◄── ids of a group ─┴─► resources
//! ```
//!
//! All criteria and the freshness are of one snapshot (law 3). Resources are read from HAPI after it, by groups of patients: HAPI's tables hold every version that
//! a criterion may have seen, or a later one.

pub(crate) mod plan;
mod resources;
mod sets;

use std::{pin::Pin, pin::pin};

use api::{Code, ServiceError, cohort::Cohort, proto::serving as proto, query::Layers};
use async_stream::try_stream;
use futures::{Stream, StreamExt as _};
use proto::cohort_response::Part;
use tokio::time::Instant;
use tracing::{Instrument as _, debug_span};
use view_store::{CohortError, CohortSelect, CohortSnapshot, FoundPatients, StoreError};

use self::{plan::Plan, resources::Read};
use crate::{
    errors::store_error,
    freshness::AnswerFreshness,
    reads::{Demand, Route, Server},
    shared::Core,
    statistics::Served,
};

/// Ids a message at most.
const IDS: usize = 5_000;

/// The parts of an answer, in their order.
pub(crate) type Parts = Pin<Box<dyn Stream<Item = Result<proto::CohortResponse, ServiceError>> + Send>>;

/// Answers a cohort. Errors before the header come as the stream's first item.
pub(crate) fn answer(core: Core, cohort: Cohort, deadline: Instant) -> Parts {
    Box::pin(try_stream! {
        let plan = plan(&core, &cohort).instrument(debug_span!("catalog")).await?;
        let on = core.circumstances(cohort.freshness.layers);
        let demand = Demand::of(&cohort.freshness, on.effective(), on.now, deadline);
        let mut route = core.reads.route(&core, demand).instrument(debug_span!("route")).await?;
        let merged = on.effective() == Layers::Merged;
        let select = CohortSelect {
            patients: plan.patients.clone(),
            merged,
            count_only: cohort.count_only,
            limit: cohort.limit,
        };
        let mut snapshot;
        let (at, freshness, FoundPatients { count: patient_count, ids }) = loop {
            let at = route.server();
            let opened = match at.while_it_answers(open(&core, &cohort, &plan, &route)).await {
                Ok(opened) => opened,
                Err(lost) => Err(lost),
            };
            let fresh = opened.and_then(|(snapshot, freshness)| {
                freshness.meets(cohort.freshness.max_staleness)?;
                Ok((snapshot, freshness))
            });
            let freshness = match fresh {
                Ok((opened, freshness)) => {
                    snapshot = opened;
                    freshness
                }
                Err(error) => {
                    route.missed(error)?;
                    continue;
                }
            };
            match at.selected(snapshot.find(&select)).await {
                Ok(Ok(found)) => break (at, freshness, found),
                Ok(Err(error)) => route.missed(cohort_error(&core, &at, error))?,
                Err(lost) => route.missed(lost)?,
            }
        };
        route.answered();
        let wanted = patient_count.min(cohort.limit.unwrap_or(i64::MAX));
        if !cohort.resource_types.is_empty() {
            check_resources(wanted, core.cohort.max_resource_patients)?;
        }
        let served = if merged { Served::Merged } else { Served::Batch };
        core.statistics.query_over(plan.views.keys().map(String::as_str), served);
        let header = proto::CohortHeader { patient_count, freshness: Some(freshness.message()) };
        let streaming = debug_span!("rows");
        yield part(Part::Header(header));

        let mut footer = proto::CohortFooter {
            truncated: !cohort.count_only && wanted < patient_count,
            ..Default::default()
        };
        // Kept only where resources are asked for, and then bounded.
        let mut patients = Vec::new();
        let mut pages = at.rows(ids).chunks(IDS);
        while let Some(page) = pages.next().await {
            let page: Result<Vec<String>, CohortError> = page.into_iter().collect();
            let patient_ids = page.map_err(|error| cohort_error(&core, &at, error))?;
            footer.patients_sent += i64::try_from(patient_ids.len()).unwrap_or(i64::MAX);
            if !cohort.resource_types.is_empty() {
                patients.extend_from_slice(&patient_ids);
            }
            yield part(Part::Patients(proto::CohortPatients { patient_ids }));
        }
        drop((pages, streaming));
        // Resources may take long: nothing of the views' database is held meanwhile.
        drop(snapshot);
        let mut read = pin!(resources::of(core.batch.clone(), cohort.resource_types, patients));
        while let Some(found) = read.next().await {
            match found? {
                Read::Resource(resource) => {
                    footer.resources_sent += 1;
                    yield part(Part::Resource(resource));
                }
                Read::Unreadable => footer.resources_unreadable += 1,
            }
        }
        yield part(Part::Footer(footer));
    })
}

/// Nothing is refused by what the cache has of the views: they may be others by now.
async fn plan(core: &Core, cohort: &Cohort) -> Result<Plan, ServiceError> {
    let known = core.catalog.views().await.map_err(store_error)?;
    if let Ok(plan) = plan::plan(cohort, &known, &core.cohort) {
        return allowed(core, cohort, plan);
    }
    let known = core.catalog.reload().await.map_err(store_error)?;
    let refused = match plan::plan(cohort, &known, &core.cohort) {
        Ok(plan) => return allowed(core, cohort, plan),
        Err(refused) => refused,
    };
    // What it names may be there, and not be for whoever asks.
    if known.hides_some()
        && let Ok(plan) = plan::plan(cohort, &known.with_hidden(), &core.cohort)
    {
        plan.views
            .values()
            .try_for_each(|view| view.to_read(&core.grants))?;
    }
    Err(refused)
}

/// Criteria are over views that may be read; resources are asked for by their types.
fn allowed(core: &Core, cohort: &Cohort, plan: Plan) -> Result<Plan, ServiceError> {
    for of in &cohort.resource_types {
        core.grants.to_read(&format!("resource_types: {of}"), of)?;
    }
    Ok(plan)
}

/// The snapshot of all views, and how fresh they are together.
async fn open(
    core: &Core,
    cohort: &Cohort,
    plan: &Plan,
    route: &Route,
) -> Result<(CohortSnapshot, AnswerFreshness), ServiceError> {
    let opened = route
        .store()
        .cohort(&plan.names(), core.cohort.timeout_seconds)
        .await;
    let snapshot = opened.map_err(|error| cohort_error(core, &route.server(), error))?;
    // HAPI's time as of the snapshot, not as of when the question came.
    let on = core.circumstances(cohort.freshness.layers);
    let views = plan
        .views
        .iter()
        .filter_map(|(name, view)| {
            let (known, errors) = snapshot.freshness(name)?;
            let mut part = AnswerFreshness::of_tables(view, known, &on);
            part.evaluation_errors(errors);
            Some((name.as_str(), known.clone(), part))
        })
        .collect();
    let mut freshness = AnswerFreshness::of_all(views, &on);
    core.reads.tell(&route.server(), &mut freshness);
    if cohort.freshness.not_before.is_some() {
        freshness.shown_until(route.shown_until().await.map_err(store_error)?);
    }
    Ok((snapshot, freshness))
}

fn check_resources(patients: i64, limit: usize) -> Result<(), ServiceError> {
    if usize::try_from(patients).is_ok_and(|patients| patients <= limit) {
        return Ok(());
    }
    let message = format!(
        "resource_types: the cohort has {patients} patients, and resources are given of {limit} at most (cohort.max_resource_patients): \
         narrow the criteria, set limit, or ask for ids alone"
    );
    Err(ServiceError::new(Code::Exhausted, message))
}

fn cohort_error(core: &Core, server: &Server, error: CohortError) -> ServiceError {
    match error {
        CohortError::TimedOut => {
            let seconds = core.cohort.timeout_seconds.as_secs();
            let message = format!(
                "criteria: finding the patients took longer than {seconds} s (cohort.timeout_seconds): narrow the criteria, or filter by indexed columns"
            );
            ServiceError::new(Code::Exhausted, message)
        }
        CohortError::Store(error) => {
            // Dropped or replaced since the cache was filled.
            let moved = matches!(
                error,
                StoreError::UnknownView { .. } | StoreError::ViewsChanged { .. }
            );
            if moved && server.is_primary() {
                core.catalog.clear();
            }
            server.error(error)
        }
    }
}

fn part(part: Part) -> proto::CohortResponse {
    proto::CohortResponse { part: Some(part) }
}
