//! From what is asked to what the view store finds: each view, column and parameter is checked before anything is looked up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::{
    Code, ServiceError,
    cohort::{Cohort, Criterion},
    query::Query,
};
use fhir_core::resource::{is_r4_type, patient_elements};
use view_store::{PatientKey, PatientRows, Patients, listed};

use super::sets::{Truth, truth};
use crate::{
    catalog::{View, Views},
    config::CohortLimits,
    query::conditions,
    shape::Shape,
};

/// How a cohort will be found.
pub(super) struct Plan {
    pub(super) patients: Patients,
    /// Those of the criteria, and one more where all patients are looked at. By name.
    pub(super) views: BTreeMap<String, Arc<View>>,
}

impl Plan {
    pub(super) fn names(&self) -> BTreeSet<String> {
        self.views.keys().cloned().collect()
    }
}

/// Checks a cohort against the limits and the views that there are.
pub(super) fn plan(cohort: &Cohort, known: &Views, limits: &CohortLimits) -> Result<Plan, ServiceError> {
    let criteria = cohort.criteria.criteria().len();
    for (count, limit, rule) in [
        (
            criteria,
            limits.max_criteria,
            "criteria at most (cohort.max_criteria)",
        ),
        (
            cohort.criteria.depth(),
            limits.max_depth,
            "levels at most (cohort.max_depth)",
        ),
    ] {
        if count > limit {
            let rule = format!("may have {limit} {rule}, and has {count}");
            return Err(ServiceError::invalid("criteria", rule));
        }
    }
    for name in &cohort.resource_types {
        check_type(name)?;
    }
    let mut views = BTreeMap::new();
    let mut find = |criterion: &Criterion| {
        let found = view_of(criterion, known).and_then(|view| {
            let patients = rows_of(criterion, &view, known)?;
            views.insert(view.registered.name.clone(), view);
            Ok(patients)
        });
        found.map_err(|error: ServiceError| {
            let message = format!("criteria: criterion {}: {}", criterion.number, error.message);
            ServiceError::new(error.code, message).at("criteria")
        })
    };
    let patients = match truth(&cohort.criteria, &mut find)? {
        Truth::Of(patients) => patients,
        Truth::AllBut(patients) => {
            let everyone = everyone(known)?;
            let all = PatientRows {
                view: everyone.registered.name.clone(),
                hash: everyone.registered.hash.clone(),
                key: PatientKey::OwnId,
                condition: None,
            };
            views.insert(everyone.registered.name.clone(), everyone);
            Patients::All {
                of: vec![Patients::OfRows(all)],
                without: vec![patients],
            }
        }
    };
    Ok(Plan { patients, views })
}

/// Types whose resources are somebody's.
fn check_type(name: &str) -> Result<(), ServiceError> {
    let refused = |rule: String| Err(ServiceError::invalid("resource_types", rule));
    if !is_r4_type(name) {
        return refused("must be names of FHIR R4's resource types, such as Condition".into());
    }
    if name != "Patient" && patient_elements(name).is_empty() {
        return refused(format!(
            "{name} has no element that says whose a resource is; ask for Patient, or for types with a subject or patient"
        ));
    }
    Ok(())
}

fn view_of(criterion: &Criterion, known: &Views) -> Result<Arc<View>, ServiceError> {
    let view = known.named(&criterion.view)?;
    if view.is_materialized() {
        return Ok(view);
    }
    let message = format!(
        "view {} is not materialised (state {}): all criteria of a cohort are looked at in one snapshot of the views' tables, of which HAPI's own tables are not part; \
         wait until it is materialised, or ask for its rows with Query",
        view.registered.name,
        view.registered.state.name()
    );
    Err(ServiceError::new(Code::Precondition, message))
}

fn rows_of(criterion: &Criterion, view: &View, known: &Views) -> Result<Patients, ServiceError> {
    let key = patient_key(view).ok_or_else(|| {
        let usable: Vec<String> = known
            .all()
            .filter(|view| view.is_materialized() && patient_key(view).is_some())
            .map(|view| view.registered.name.clone())
            .collect();
        let message = format!(
            "view {} does not say whose its rows are: it is over {}, and no column of it is bound to the search parameter patient; these can be criteria: {}",
            view.registered.name,
            view.registered.resource_type,
            listed(&usable)
        );
        ServiceError::new(Code::Invalid, message)
    })?;
    let asked = Query {
        view: criterion.view.clone(),
        filters: criterion.filters.clone(),
        search: criterion.search.clone(),
        since: criterion.since,
        ..Query::default()
    };
    Ok(Patients::OfRows(PatientRows {
        view: view.registered.name.clone(),
        hash: view.registered.hash.clone(),
        key,
        condition: conditions::condition(&asked, view)?,
    }))
}

/// How a view's rows say whose they are; `None` if they do not.
pub(crate) fn patient_key(view: &View) -> Option<PatientKey> {
    if view.registered.resource_type == "Patient" {
        return Some(PatientKey::OwnId);
    }
    let columns = view.bindings.patient_columns(view.compiled.columns());
    (!columns.is_empty()).then_some(PatientKey::Columns(columns))
}

/// A row of the view for each Patient there is.
pub(crate) fn has_every_patient(view: &View) -> bool {
    view.is_materialized()
        && view.registered.resource_type == "Patient"
        && Shape::of(&view.registered.definition).every_resource
}

fn everyone(known: &Views) -> Result<Arc<View>, ServiceError> {
    known
        .all()
        .find(|view| has_every_patient(view))
        .cloned()
        .ok_or_else(|| {
            ServiceError::new(
                Code::Precondition,
                "criteria: this negation is about all patients, and no materialised view has a row for each Patient (one over Patient without where, forEach and repeat); \
                 register one, or put the negation into `all` beside a criterion that finds patients",
            )
        })
}
