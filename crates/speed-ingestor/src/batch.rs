//! The batch layer as the tail sees it: readings by `ReadChanges`, the types that views need by `WatchViews`.

use std::time::Duration;

use api::{
    Code, MAX_MESSAGE_BYTES, ServiceError,
    batch::{ReadChanges, ReadChangesPart, batch_service_client::BatchServiceClient},
    proto::batch as proto,
};
use chrono::TimeDelta;
use daemon::grpc::{Line, Outgoing, Outward, sent};
use fhir_core::merge::{Mark, Position};
use tonic::{Streaming, service::interceptor::InterceptedService, transport::Channel};

use crate::tail::{ChangesReader, OpenedReading, ReadingPart, RereadsFrom};

/// How long the batch layer may take for the next part of a reading.
const PART_TIMEOUT: Duration = Duration::from_secs(30);

/// The same of a reading without a window, which may have hours of versions to look at.
const SWEEP_PART_TIMEOUT: Duration = Duration::from_mins(4);

/// A client of the batch layer. Cheap to clone; connects when first used, and again after a break.
#[derive(Debug, Clone)]
pub struct BatchLayer {
    client: BatchServiceClient<Line>,
}

/// A reading that comes as a stream.
#[derive(Debug)]
pub struct StreamedReading {
    mark: Mark,
    parts: Streaming<proto::ReadChangesResponse>,
    patience: Duration,
}

impl BatchLayer {
    /// A client of the service, which is shown nothing.
    pub fn new(channel: Channel) -> Self {
        Self::over(InterceptedService::new(
            Outgoing::over(channel),
            Outward::default(),
        ))
    }

    /// A client of the service.
    pub fn over(line: Line) -> Self {
        let client = BatchServiceClient::new(line)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        Self { client }
    }

    /// The registered views, again after each change.
    pub async fn watch_views(&self) -> Result<Streaming<proto::WatchViewsResponse>, ServiceError> {
        Ok(self
            .client
            .clone()
            .watch_views(proto::WatchViewsRequest {})
            .await?
            .into_inner())
    }
}

/// The resource types that views need: of all views that are, or are about to be, materialised.
pub fn needed_types(views: &[proto::View]) -> Vec<String> {
    let mut types: Vec<String> = views
        .iter()
        .filter(|view| view.state() != proto::ViewState::Error)
        .map(|view| view.resource_type.clone())
        .collect();
    types.sort();
    types.dedup();
    types
}

impl ChangesReader for BatchLayer {
    // `ReadChanges` reads the clock and opens the snapshot in one call, in that order.
    type Begun = ();
    type Opened = StreamedReading;

    async fn begin(&self) -> Result<(), ServiceError> {
        Ok(())
    }

    async fn open(
        &self,
        (): (),
        since: Vec<(String, Option<Position>)>,
        window: Option<TimeDelta>,
    ) -> Result<Option<StreamedReading>, ServiceError> {
        let patience = window.map_or(SWEEP_PART_TIMEOUT, |_| PART_TIMEOUT);
        let request = ReadChanges {
            since,
            window,
            from_here: false,
        };
        self.read(&request, patience).await.map(Some)
    }
}

impl RereadsFrom for BatchLayer {
    async fn open_from(
        &self,
        (): (),
        since: Vec<(String, Position)>,
    ) -> Result<Option<StreamedReading>, ServiceError> {
        let since = since.into_iter().map(|(of, position)| (of, Some(position)));
        let request = ReadChanges {
            since: since.collect(),
            window: None,
            from_here: true,
        };
        self.read(&request, SWEEP_PART_TIMEOUT).await.map(Some)
    }
}

impl BatchLayer {
    async fn read(&self, request: &ReadChanges, patience: Duration) -> Result<StreamedReading, ServiceError> {
        let request = proto::ReadChangesRequest::from(request);
        // A webhook waits for it, and the layer may be restarting.
        let call = || {
            let (mut client, request) = (self.client.clone(), request.clone());
            async move { client.read_changes(request).await }
        };
        let mut parts = in_time(PART_TIMEOUT, sent(call)).await?.into_inner();
        match next_part(PART_TIMEOUT, &mut parts).await? {
            ReadChangesPart::Header { n, as_of } => Ok(StreamedReading {
                mark: Mark { n, as_of },
                parts,
                patience,
            }),
            _ => Err(ServiceError::new(
                Code::Internal,
                "a reading must begin with its header",
            )),
        }
    }
}

impl OpenedReading for StreamedReading {
    fn mark(&self) -> Mark {
        self.mark
    }

    async fn next(&mut self) -> Result<ReadingPart, ServiceError> {
        match next_part(self.patience, &mut self.parts).await? {
            ReadChangesPart::States(states) => Ok(ReadingPart::States(states)),
            ReadChangesPart::Footer(types) => Ok(ReadingPart::End(types)),
            ReadChangesPart::Header { .. } => {
                Err(ServiceError::new(Code::Internal, "a reading has one header"))
            }
        }
    }
}

async fn next_part(
    patience: Duration,
    parts: &mut Streaming<proto::ReadChangesResponse>,
) -> Result<ReadChangesPart, ServiceError> {
    match in_time(patience, parts.message()).await? {
        Some(part) => Ok(part.try_into()?),
        None => Err(ServiceError::new(Code::Unavailable, "the reading was cut off")),
    }
}

async fn in_time<T>(
    patience: Duration,
    work: impl Future<Output = Result<T, tonic::Status>>,
) -> Result<T, ServiceError> {
    match tokio::time::timeout(patience, work).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(ServiceError::new(
            Code::Unavailable,
            "the batch layer does not answer in time",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_those_of_views_that_are_or_will_be_materialised() {
        use proto::ViewState::{Active, Creating, Error, Stale};
        let view = |resource_type: &str, state: proto::ViewState| proto::View {
            resource_type: resource_type.into(),
            state: state.into(),
            ..Default::default()
        };
        let views = [
            view("Patient", Active),
            view("Condition", Creating),
            view("Patient", Error),
            view("Encounter", Stale),
            view("Goal", Error),
        ];
        assert_eq!(needed_types(&views), ["Condition", "Encounter", "Patient"]);
    }
}
