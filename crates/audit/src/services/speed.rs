//! SpeedService.

use api::{
    proto::speed::{self as proto, changes_response, scan_recent_resources_response},
    speed::speed_service_server::SpeedService,
};
use serde::Deserialize;
use tonic::{Request, Response, Status, Streaming};

use super::{Audited, Parts, count, limit, nothing, one, since, stream, unseen};
use crate::{Call, Noted, Question};

#[tonic::async_trait]
impl<S: SpeedService> SpeedService for Audited<S> {
    type ChangesStream = Parts<proto::ChangesResponse>;
    type ScanRecentResourcesStream = Parts<proto::ScanRecentResourcesResponse>;

    async fn changes(
        &self,
        request: Request<Streaming<proto::ChangesRequest>>,
    ) -> Result<Response<Self::ChangesStream>, Status> {
        stream(nothing, self.0.changes(request), |call, response| {
            call.answers();
            let changes = match &response.part {
                Some(changes_response::Part::Readings(part)) => part.readings.len(),
                Some(changes_response::Part::Previews(part)) => part.previews.len(),
                Some(changes_response::Part::End(_)) | None => 0,
            };
            call.gives(|given| {
                given.resources += count(changes);
                given.layers = Some("speed".into());
            });
        })
        .await
    }

    async fn scan_recent_resources(
        &self,
        request: Request<proto::ScanRecentResourcesRequest>,
    ) -> Result<Response<Self::ScanRecentResourcesStream>, Status> {
        let asked = Call::current().map(|_| request.get_ref().clone());
        let note = move |question: &mut Question| asked.iter().for_each(|asked| scan(question, asked));
        stream(note, self.0.scan_recent_resources(request), |call, response| {
            call.answers();
            call.gives(|given| {
                given.layers = Some("speed".into());
                match &response.part {
                    Some(scan_recent_resources_response::Part::State(_)) => given.resources += 1,
                    Some(scan_recent_resources_response::Part::Summary(part)) => {
                        given.rows += count(part.patient_ids.len());
                    }
                    None => {}
                }
            });
        })
        .await
    }

    async fn pull(
        &self,
        request: Request<proto::PullRequest>,
    ) -> Result<Response<proto::PullResponse>, Status> {
        self.0.pull(request).await
    }

    async fn put_resource(
        &self,
        request: Request<proto::PutResourceRequest>,
    ) -> Result<Response<proto::PutResourceResponse>, Status> {
        let named =
            Call::current().and_then(|_| serde_json::from_slice::<Named>(&request.get_ref().body).ok());
        let note = move |question: &mut Question| named.into_iter().for_each(|named| put(question, named));
        one(note, self.0.put_resource(request), unseen).await
    }

    async fn flush(
        &self,
        request: Request<proto::FlushRequest>,
    ) -> Result<Response<proto::FlushResponse>, Status> {
        let types = request.get_ref().resource_types.clone();
        one(
            |question| question.resource_types = types,
            self.0.flush(request),
            unseen,
        )
        .await
    }

    async fn register_subscriptions(
        &self,
        request: Request<proto::RegisterSubscriptionsRequest>,
    ) -> Result<Response<proto::RegisterSubscriptionsResponse>, Status> {
        one(nothing, self.0.register_subscriptions(request), unseen).await
    }

    async fn backup(
        &self,
        request: Request<proto::BackupRequest>,
    ) -> Result<Response<proto::BackupResponse>, Status> {
        one(nothing, self.0.backup(request), |call, response| {
            let readings = response.backup.as_ref().map_or(0, |backup| backup.readings);
            call.gives(|given| given.resources = u64::try_from(readings).unwrap_or(0));
        })
        .await
    }

    async fn list_backups(
        &self,
        request: Request<proto::ListBackupsRequest>,
    ) -> Result<Response<proto::ListBackupsResponse>, Status> {
        self.0.list_backups(request).await
    }

    async fn restore(
        &self,
        request: Request<proto::RestoreRequest>,
    ) -> Result<Response<proto::RestoreResponse>, Status> {
        one(nothing, self.0.restore(request), |call, response| {
            let restored = u64::try_from(response.restored).unwrap_or(0);
            call.gives(|given| given.resources = restored);
        })
        .await
    }

    async fn get_status(
        &self,
        request: Request<proto::GetStatusRequest>,
    ) -> Result<Response<proto::GetStatusResponse>, Status> {
        self.0.get_status(request).await
    }
}

/// What a resource is called.
#[derive(Deserialize)]
struct Named {
    #[serde(rename = "resourceType", default)]
    resource_type: String,
    #[serde(default)]
    id: String,
}

fn put(question: &mut Question, named: Named) {
    if named.resource_type == "Patient" {
        question.patients.push(named.id);
    } else {
        question.ids.push(named.id);
    }
    question.resource_types.push(named.resource_type);
}

fn scan(question: &mut Question, asked: &proto::ScanRecentResourcesRequest) {
    question.resource_types.push(asked.resource_type.clone());
    question.since = since(asked.since.as_ref());
    question.limit = limit(asked.max_resources);
    for asked in &asked.parameters {
        if matches!(asked.name.as_str(), "patient" | "subject") {
            question.patients.push(asked.value.clone());
        }
        question.search.push(Noted {
            of: asked.name.clone(),
            operator: "".into(),
            values: vec![asked.value.clone()],
        });
    }
}
