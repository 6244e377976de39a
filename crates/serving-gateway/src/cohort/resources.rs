//! The resources of a cohort's patients, from `BatchService`: read and passed on as they are asked for, one group of patients after the other.

use api::{
    Code, ServiceError,
    batch::batch_service_client::BatchServiceClient,
    proto::{batch, serving as proto},
};
use async_stream::try_stream;
use daemon::grpc::Line;
use futures::Stream;

use crate::batch_call;

/// Patients of one call: each is a statement a type in HAPI's database.
const GROUP: usize = 500;

/// What was read of a resource.
pub(super) enum Read {
    Resource(proto::CohortResource),
    /// HAPI holds it in a form that cannot be read.
    Unreadable,
}

/// All resources of these types that are of these patients; none for no type.
pub(super) fn of(
    batch: BatchServiceClient<Line>,
    types: Vec<String>,
    patients: Vec<String>,
) -> impl Stream<Item = Result<Read, ServiceError>> + Send {
    try_stream! {
        let groups = if types.is_empty() { &[] } else { patients.as_slice() };
        for group in groups.chunks(GROUP) {
            let request = batch::ReadPatientResourcesRequest {
                resource_types: types.clone(),
                patient_ids: group.to_vec(),
            };
            let call = || {
                let (mut batch, request) = (batch.clone(), request.clone());
                async move { batch.read_patient_resources(request).await }
            };
            let begun = batch_call::begins(batch_call::OF_ROWS, call).await;
            let mut stream = begun.map_err(|status| failed(&status))?.into_inner();
            while let Some(message) = stream.message().await.map_err(|status| failed(&status))? {
                for state in message.states {
                    yield read(state);
                }
            }
        }
    }
}

fn read(state: batch::ResourceState) -> Read {
    // An empty body is no resource.
    if !state.unreadable.is_empty() || state.body.is_empty() {
        return Read::Unreadable;
    }
    Read::Resource(proto::CohortResource {
        resource_type: state.resource_type,
        id: state.id,
        version: state.version,
        body: state.body,
    })
}

/// What `BatchService` says of the request is passed on; otherwise it is not there.
fn failed(status: &tonic::Status) -> ServiceError {
    let (code, message) = match status.code() {
        tonic::Code::OutOfRange => (
            Code::Precondition,
            "resource_types: a resource is larger than a message may be",
        ),
        tonic::Code::Unimplemented => (
            Code::Precondition,
            "resource_types: the batch layer is of an earlier release, which does not read patients' resources: upgrade it",
        ),
        tonic::Code::InvalidArgument | tonic::Code::FailedPrecondition => return status.clone().into(),
        _ => (
            Code::Unavailable,
            "the batch layer, which reads the patients' resources, cannot be reached or has broken off: ask again, or for ids alone",
        ),
    };
    ServiceError::new(code, message)
}
