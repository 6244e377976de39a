//! From our types to the contract's.

use api::{Code, ServiceError, proto::batch as proto, time};
use view_store::{RegisteredView, RunKind, StoreError, ViewState};

use crate::{
    hapi::HapiError,
    progress::RunPhase,
    reading::ReadingError,
    refresher::RunStatus,
    run_view::{RunViewPart, ViewRow},
    verify::Verified,
};

pub(crate) fn view(view: RegisteredView) -> proto::View {
    let state = match view.state {
        ViewState::Creating => proto::ViewState::Creating,
        ViewState::Populating => proto::ViewState::Populating,
        ViewState::Active => proto::ViewState::Active,
        ViewState::Stale => proto::ViewState::Stale,
        ViewState::Error => proto::ViewState::Error,
    };
    proto::View {
        name: view.name,
        url: view.url.unwrap_or_default(),
        resource_type: view.resource_type,
        state: state.into(),
        reason: view.reason.unwrap_or_default(),
        definition_json: view.definition,
        definition_hash: view.hash,
        batch_as_of: view.batch_as_of.map(time::timestamp),
        published_n: view.published_n,
        row_count: view.row_count.unwrap_or(-1),
        byte_count: view.byte_count.unwrap_or(-1),
        error_count: view.error_count,
    }
}

pub(crate) fn run_status(status: RunStatus) -> proto::RefreshResponse {
    let kind = match status.kind {
        RunKind::Incremental => proto::RefreshKind::Incremental,
        RunKind::Full | RunKind::Join => proto::RefreshKind::Full,
    };
    let figures = status.figures;
    let phase = match figures.phase {
        RunPhase::Waiting => proto::RefreshPhase::Waiting,
        RunPhase::Loading => proto::RefreshPhase::Loading,
        RunPhase::CatchingUp => proto::RefreshPhase::CatchingUp,
        RunPhase::Publishing => proto::RefreshPhase::Publishing,
        RunPhase::Done => proto::RefreshPhase::Done,
        RunPhase::Failed => proto::RefreshPhase::Failed,
    };
    let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let span = |span| chrono::TimeDelta::from_std(span).ok().map(time::duration);
    proto::RefreshResponse {
        resource_type: status.resource_type,
        kind: kind.into(),
        phase: phase.into(),
        resources_read: count(figures.read),
        resources_published: count(figures.published),
        resources_failed: count(figures.failed),
        elapsed: span(status.elapsed),
        batch_as_of: status.batch_as_of.map(time::timestamp),
        reason: status.reason.unwrap_or_default(),
        resources_total: figures.total.map_or(0, count),
        rows: count(figures.rows),
        bytes: count(figures.bytes),
        resources_per_second: status.per_second.unwrap_or_default(),
        remaining: status.remaining.and_then(span),
        differences: status.differences.map(|d| count(d.total())),
    }
}

pub(crate) fn run_view_part(part: RunViewPart, columns: &[proto::Column]) -> proto::RunViewResponse {
    use proto::run_view_response::Part;
    let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let part = match part {
        RunViewPart::Header { as_of } => Part::Header(proto::RunViewHeader {
            columns: columns.to_vec(),
            as_of: Some(time::timestamp(as_of)),
        }),
        RunViewPart::Rows(rows) => Part::Rows(proto::RunViewRows {
            rows: rows.into_iter().map(view_row).collect(),
        }),
        RunViewPart::Footer {
            read,
            failed,
            truncated,
        } => Part::Footer(proto::RunViewFooter {
            resources_read: count(read),
            resources_failed: count(failed),
            truncated,
        }),
    };
    proto::RunViewResponse { part: Some(part) }
}

fn view_row(row: ViewRow) -> proto::ViewRow {
    proto::ViewRow {
        resource_id: row.id,
        version: row.version,
        last_updated: Some(time::timestamp(row.last_updated)),
        values_json: row.values_json,
    }
}

pub(crate) fn verified(verified: Verified) -> proto::VerifyResponse {
    let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let differences = verified
        .differences
        .into_iter()
        .map(|d| proto::verify_response::Difference {
            view: d.view,
            resource_id: d.id,
            version: d.version,
        });
    proto::VerifyResponse {
        resources_compared: count(verified.compared),
        differences_found: count(verified.found),
        differences: differences.collect(),
        done: verified.done,
    }
}

pub(crate) fn hapi_error(error: &HapiError) -> ServiceError {
    match error {
        HapiError::Database { transient: true, .. } => {
            ServiceError::new(Code::Unavailable, error.to_string())
        }
        HapiError::Database { .. } => ServiceError::internal(error),
        HapiError::Refused(_) => ServiceError::new(Code::Precondition, error.to_string()),
    }
}

pub(crate) fn store_error(error: &StoreError) -> ServiceError {
    match error {
        StoreError::Database { transient: true, .. }
        | StoreError::Busy { .. }
        | StoreError::ViewsChanged { .. } => ServiceError::new(Code::Unavailable, error.to_string()),
        StoreError::UnknownView { .. } => ServiceError::new(Code::NotFound, error.to_string()),
        // This service migrates at start: a schema of another release was put in place since, and no waiting mends it.
        StoreError::Incompatible(_) | StoreError::NotMigrated(_) => {
            ServiceError::new(Code::Precondition, error.to_string())
        }
        StoreError::InvalidDefinition(_) => ServiceError::invalid("definition_json", error),
        StoreError::InvalidSelect(_) => ServiceError::new(Code::Invalid, error.to_string()),
        StoreError::Database { .. } | StoreError::Inconsistent(_) => ServiceError::internal(error),
    }
}

pub(crate) fn reading_error(error: &ReadingError) -> ServiceError {
    match error {
        ReadingError::Hapi(error) => hapi_error(error),
        ReadingError::Store(error) => store_error(error),
    }
}
