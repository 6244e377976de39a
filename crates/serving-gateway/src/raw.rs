//! A view that is not materialised runs straight over HAPI's tables: `BatchService` evaluates it, and its rows are put into a temporary table, so
//! that filters, order and limits mean the same as for any other view.

use api::{
    Code, ServiceError,
    batch::batch_service_client::BatchServiceClient,
    proto::batch::{RunViewRequest, ViewRow, run_view_request, run_view_response::Part},
    time, values_json,
};
use chrono::{DateTime, Utc};
use daemon::grpc::Line;
use fhir_core::{column::Column, row::Cell};
use view_store::encode_rows;

use crate::{batch_call, catalog::View};

/// The rows of a view, as of one reading of HAPI's tables.
pub(crate) struct RawRows {
    /// Binary tuples with the hidden columns.
    pub(crate) tuples: Vec<u8>,
    /// Clock of the reading.
    pub(crate) as_of: DateTime<Utc>,
    /// Resources whose rows are missing.
    pub(crate) failed: i64,
    /// `BatchService` has stopped at its limit.
    pub(crate) truncated: bool,
}

/// What may be left out by `BatchService` already.
#[derive(Debug, Default)]
pub(crate) struct Pushdown {
    pub(crate) ids: Vec<String>,
    pub(crate) since: Option<DateTime<Utc>>,
    pub(crate) patients: Vec<String>,
}

/// Runs the view; more rows than `max_bytes` are an error.
pub(crate) async fn run(
    batch: BatchServiceClient<Line>,
    view: &View,
    pushdown: Pushdown,
    max_bytes: usize,
) -> Result<RawRows, ServiceError> {
    let request = RunViewRequest {
        // The definition, not the name: its columns are the ones that the rows will be read by.
        view: Some(run_view_request::View::DefinitionJson(
            view.registered.definition.clone(),
        )),
        ids: pushdown.ids,
        since: pushdown.since.map(time::timestamp),
        max_resources: 0,
        patient_ids: pushdown.patients,
    };
    let call = || {
        let (mut batch, request) = (batch.clone(), request.clone());
        async move { batch.run_view(request).await }
    };
    let mut stream = batch_call::begins(batch_call::OF_ROWS, call)
        .await
        .map_err(|status| unreachable(&status))?
        .into_inner();
    let mut rows = RawRows {
        tuples: Vec::new(),
        as_of: DateTime::UNIX_EPOCH,
        failed: 0,
        truncated: false,
    };
    let (mut header, mut footer) = (false, false);
    let columns = view.compiled.columns();
    let mut resource: Vec<ViewRow> = Vec::new();
    while let Some(message) = stream.message().await.map_err(|status| unreachable(&status))? {
        match message.part {
            Some(Part::Header(part)) => {
                let same = part
                    .columns
                    .iter()
                    .map(|c| c.name.as_str())
                    .eq(columns.iter().map(|c| c.name.as_str()));
                if !same {
                    return Err(unusable());
                }
                rows.as_of = time::required_datetime("header.as_of", part.as_of.as_ref())?;
                header = true;
            }
            Some(Part::Rows(part)) => {
                for row in part.rows {
                    if resource
                        .last()
                        .is_some_and(|last| last.resource_id != row.resource_id)
                    {
                        rows.failed += take_resource(columns, &mut resource, &mut rows.tuples)?;
                    }
                    resource.push(row);
                }
                if rows.tuples.len() > max_bytes {
                    return Err(ServiceError::new(
                        Code::Exhausted,
                        format!(
                            "the view is not materialised, and its rows are more than the limit of {max_bytes} bytes (query.max_raw_bytes): \
                             ask for fewer resources, or wait until it is materialised"
                        ),
                    ));
                }
            }
            Some(Part::Footer(part)) => {
                rows.failed += part.resources_failed;
                rows.truncated = part.truncated;
                footer = true;
            }
            None => {}
        }
    }
    rows.failed += take_resource(columns, &mut resource, &mut rows.tuples)?;
    if header && footer {
        Ok(rows)
    } else {
        Err(unusable())
    }
}

/// The rows of one resource; 1 if PostgreSQL cannot hold them, and they are left out.
fn take_resource(
    columns: &[Column],
    rows: &mut Vec<ViewRow>,
    tuples: &mut Vec<u8>,
) -> Result<i64, ServiceError> {
    let Some(first) = rows.first() else { return Ok(0) };
    let updated = time::required_datetime("rows.last_updated", first.last_updated.as_ref())?;
    let cells: Vec<Vec<Cell<'_>>> = rows
        .iter()
        .map(|row| values_json::cells(columns, &row.values_json))
        .collect::<Option<_>>()
        .ok_or_else(unusable)?;
    let encoded = encode_rows(
        columns,
        &first.resource_id,
        first.version,
        updated,
        cells.iter().map(Vec::as_slice),
    );
    let failed = i64::from(encoded.is_err());
    if let Ok(encoded) = encoded {
        tuples.extend_from_slice(&encoded);
    }
    rows.clear();
    Ok(failed)
}

/// `BatchService` cannot be reached, or cannot do it now; what it says of the request itself is passed on.
fn unreachable(status: &tonic::Status) -> ServiceError {
    if status.code() == tonic::Code::OutOfRange {
        return ServiceError::new(
            Code::Precondition,
            "a row of the view is larger than a message may be: ask for it where the view is materialised",
        );
    }
    let passed_on = ServiceError::from(status.clone());
    match passed_on.code {
        Code::Unavailable | Code::Internal | Code::Cancelled => ServiceError::new(
            Code::Unavailable,
            "the view is not materialised, and the batch layer, which would run it over HAPI's tables, cannot be reached",
        ),
        _ => passed_on,
    }
}

fn unusable() -> ServiceError {
    ServiceError::new(
        Code::Unavailable,
        "the batch layer has answered in a form that cannot be used: is it of the same release?",
    )
}
