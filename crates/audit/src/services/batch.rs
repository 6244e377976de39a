//! BatchService.

use api::{
    batch::batch_service_server::BatchService,
    proto::batch::{
        self as proto, ResourceState, read_changes_response, run_view_request::View, run_view_response,
    },
};
use tonic::{Request, Response, Status};

use super::{Audited, Parts, count, limit, one, since, stream, unseen};
use crate::{Call, Question};

#[tonic::async_trait]
impl<S: BatchService> BatchService for Audited<S> {
    type WatchViewsStream = S::WatchViewsStream;
    type RefreshStream = Parts<proto::RefreshResponse>;
    type RunViewStream = Parts<proto::RunViewResponse>;
    type ReadChangesStream = Parts<proto::ReadChangesResponse>;
    type ReadResourcesStream = Parts<proto::ReadResourcesResponse>;
    type ReadPatientResourcesStream = Parts<proto::ReadPatientResourcesResponse>;
    type VerifyStream = Parts<proto::VerifyResponse>;

    async fn list_views(
        &self,
        request: Request<proto::ListViewsRequest>,
    ) -> Result<Response<proto::ListViewsResponse>, Status> {
        self.0.list_views(request).await
    }

    async fn watch_views(
        &self,
        request: Request<proto::WatchViewsRequest>,
    ) -> Result<Response<Self::WatchViewsStream>, Status> {
        self.0.watch_views(request).await
    }

    async fn put_view(
        &self,
        request: Request<proto::PutViewRequest>,
    ) -> Result<Response<proto::PutViewResponse>, Status> {
        let definition = request.get_ref().definition_json.clone();
        let note = |question: &mut Question| question.defines(&definition);
        one(note, self.0.put_view(request), |call, response| {
            let names = response.view.iter().map(|view| view.name.clone());
            call.asks(|question| question.views.extend(names));
        })
        .await
    }

    async fn drop_view(
        &self,
        request: Request<proto::DropViewRequest>,
    ) -> Result<Response<proto::DropViewResponse>, Status> {
        let name = request.get_ref().name.clone();
        one(
            |question| question.views.push(name),
            self.0.drop_view(request),
            unseen,
        )
        .await
    }

    async fn refresh(
        &self,
        request: Request<proto::RefreshRequest>,
    ) -> Result<Response<Self::RefreshStream>, Status> {
        let types = request.get_ref().resource_types.clone();
        stream(
            |question| question.resource_types = types,
            self.0.refresh(request),
            |call, _| call.answers(),
        )
        .await
    }

    async fn cancel_refresh(
        &self,
        request: Request<proto::CancelRefreshRequest>,
    ) -> Result<Response<proto::CancelRefreshResponse>, Status> {
        let name = request.get_ref().resource_type.clone();
        one(
            |question| question.resource_types.push(name),
            self.0.cancel_refresh(request),
            unseen,
        )
        .await
    }

    async fn run_view(
        &self,
        request: Request<proto::RunViewRequest>,
    ) -> Result<Response<Self::RunViewStream>, Status> {
        let asked = Call::current().map(|_| request.get_ref().clone());
        let note = move |question: &mut Question| asked.iter().for_each(|asked| run_view(question, asked));
        stream(note, self.0.run_view(request), |call, response| {
            match &response.part {
                Some(run_view_response::Part::Header(part)) => {
                    call.answers();
                    let as_of = since(part.as_of.as_ref());
                    call.gives(|given| (given.layers, given.as_of) = (Some("raw".into()), as_of));
                }
                Some(run_view_response::Part::Rows(part)) => {
                    call.gives(|given| given.rows += count(part.rows.len()));
                }
                Some(run_view_response::Part::Footer(_)) | None => {}
            }
        })
        .await
    }

    async fn read_changes(
        &self,
        request: Request<proto::ReadChangesRequest>,
    ) -> Result<Response<Self::ReadChangesStream>, Status> {
        let types: Vec<String> = request
            .get_ref()
            .since
            .iter()
            .map(|since| since.resource_type.clone())
            .collect();
        stream(
            |question| question.resource_types = types,
            self.0.read_changes(request),
            |call, response| {
                call.answers();
                if let Some(read_changes_response::Part::States(part)) = &response.part {
                    states(call, &part.states);
                }
            },
        )
        .await
    }

    async fn read_resources(
        &self,
        request: Request<proto::ReadResourcesRequest>,
    ) -> Result<Response<Self::ReadResourcesStream>, Status> {
        let asked = Call::current().map(|_| request.get_ref().references.clone());
        let note = move |question: &mut Question| {
            asked
                .iter()
                .flatten()
                .for_each(|asked| reference(question, asked));
        };
        stream(note, self.0.read_resources(request), |call, response| {
            states(call, &response.states);
        })
        .await
    }

    async fn read_patient_resources(
        &self,
        request: Request<proto::ReadPatientResourcesRequest>,
    ) -> Result<Response<Self::ReadPatientResourcesStream>, Status> {
        let asked = Call::current().map(|_| request.get_ref().clone());
        let note = move |question: &mut Question| {
            if let Some(asked) = asked {
                question.resource_types = asked.resource_types;
                question.patients = asked.patient_ids;
            }
        };
        stream(note, self.0.read_patient_resources(request), |call, response| {
            states(call, &response.states);
        })
        .await
    }

    async fn verify(
        &self,
        request: Request<proto::VerifyRequest>,
    ) -> Result<Response<Self::VerifyStream>, Status> {
        let views = request.get_ref().views.clone();
        stream(
            |question| question.views = views,
            self.0.verify(request),
            |call, response| {
                call.answers();
                // Of each the id is told.
                call.gives(|given| given.rows += count(response.differences.len()));
            },
        )
        .await
    }

    async fn get_status(
        &self,
        request: Request<proto::GetStatusRequest>,
    ) -> Result<Response<proto::GetStatusResponse>, Status> {
        self.0.get_status(request).await
    }
}

fn states(call: &Call, states: &[ResourceState]) {
    call.answers();
    call.gives(|given| {
        given.resources += count(states.len());
        given.layers = Some("raw".into());
    });
}

fn run_view(question: &mut Question, asked: &proto::RunViewRequest) {
    match &asked.view {
        Some(View::Name(name)) => question.views.push(name.clone()),
        Some(View::DefinitionJson(definition)) => question.defines(definition),
        None => {}
    }
    question.ids.clone_from(&asked.ids);
    question.patients.clone_from(&asked.patient_ids);
    question.since = since(asked.since.as_ref());
    question.limit = limit(asked.max_resources);
}

fn reference(question: &mut Question, asked: &proto::read_resources_request::Reference) {
    if !question.resource_types.contains(&asked.resource_type) {
        question.resource_types.push(asked.resource_type.clone());
    }
    if asked.resource_type == "Patient" {
        question.patients.push(asked.id.clone());
    } else {
        question.ids.push(asked.id.clone());
    }
}
