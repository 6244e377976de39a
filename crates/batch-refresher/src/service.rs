//! `researchflow.batch.v1.BatchService`: requests in, domain types through, answers out.

mod views;

use std::{sync::Arc, time::Duration};

use api::{
    InvalidField, ServiceError,
    batch::{ReadChanges, batch_service_server::BatchService, resource_type},
    cohort::resource_types,
    proto::batch as proto,
    time, without_nul,
};
use async_stream::try_stream;
use daemon::Shutdown;
use futures::{Stream, TryStreamExt as _};
use identity::Grants;
use tonic::{Request, Response, Status};
use view_store::{RunKind, ViewStore};

use crate::{
    answers::{self, Answer},
    changes::Changes,
    conversions, folder,
    hapi::{Hapi, Selection},
    patient_resources::{self, OwnedType},
    refresher::Refresher,
    resources::{self, Reference},
    run_view::{self, RunView},
    verify::Verify,
};

/// References that `ReadResources` takes at once, and patients that `ReadPatientResources` does.
const MAX_REFERENCES: usize = 10_000;

/// The service.
#[derive(Clone)]
pub struct Batch {
    /// HAPI.
    pub hapi: Hapi,
    /// The views.
    pub store: ViewStore,
    /// Runs.
    pub refresher: Refresher,
    /// Readings.
    pub changes: Changes,
    /// Resources that `RunView` reads at most where the caller names no limit.
    pub run_view_limit: i64,
    /// What the status tells besides: problems of the folder of views.
    pub notes: Arc<Vec<String>>,
    /// Streams end at the stop.
    pub shutdown: Shutdown,
}

impl Batch {
    /// An answer that has an end: a stop leaves it the time that calls have, and then it ends with UNAVAILABLE.
    fn answer<T: Send + 'static>(
        &self,
        stream: impl Stream<Item = Result<T, Status>> + Send + 'static,
    ) -> Response<Answer<T>> {
        answers::until_stopped_for(self.shutdown.time_for_calls(), &self.shutdown, stream)
    }

    /// An answer that goes on for long, or for ever: it ends at a stop with UNAVAILABLE, so that the caller turns to another replica.
    fn lasting_answer<T: Send + 'static>(
        &self,
        stream: impl Stream<Item = Result<T, Status>> + Send + 'static,
    ) -> Response<Answer<T>> {
        answers::until_stopped_for(Duration::ZERO, &self.shutdown, stream)
    }
}

fn refuse(invalid: InvalidField) -> Status {
    ServiceError::from(invalid).into()
}

#[tonic::async_trait]
impl BatchService for Batch {
    async fn list_views(
        &self,
        request: Request<proto::ListViewsRequest>,
    ) -> Result<Response<proto::ListViewsResponse>, Status> {
        let grants = Grants::of_request(request.extensions());
        Ok(Response::new(proto::ListViewsResponse {
            views: self.views_for(&grants).await?,
        }))
    }

    type WatchViewsStream = Answer<proto::WatchViewsResponse>;

    async fn watch_views(
        &self,
        request: Request<proto::WatchViewsRequest>,
    ) -> Result<Response<Self::WatchViewsStream>, Status> {
        let grants = Grants::of_request(request.extensions());
        let (this, mut changed) = (self.clone(), self.refresher.registry());
        Ok(self.lasting_answer(try_stream! {
            loop {
                changed.borrow_and_update();
                yield proto::WatchViewsResponse { views: this.views_for(&grants).await? };
                if changed.changed().await.is_err() {
                    break;
                }
            }
        }))
    }

    async fn put_view(
        &self,
        request: Request<proto::PutViewRequest>,
    ) -> Result<Response<proto::PutViewResponse>, Status> {
        let proto::PutViewRequest {
            definition_json,
            force,
        } = request.into_inner();
        let view = folder::compile(&definition_json)
            .map_err(|problem| refuse(InvalidField::new("definition_json", problem)))?;
        self.store
            .put_view(&view, &definition_json, force)
            .await
            .map_err(|e| conversions::store_error(&e))?;
        self.refresher
            .follow_registry()
            .await
            .map_err(|e| conversions::store_error(&e))?;
        Ok(Response::new(proto::PutViewResponse {
            view: Some(self.view(view.name(), &Grants::everything()).await?),
        }))
    }

    async fn drop_view(
        &self,
        request: Request<proto::DropViewRequest>,
    ) -> Result<Response<proto::DropViewResponse>, Status> {
        let name = request.into_inner().name;
        without_nul("name", std::slice::from_ref(&name)).map_err(refuse)?;
        self.store
            .drop_view(&name)
            .await
            .map_err(|e| conversions::store_error(&e))?;
        self.refresher
            .follow_registry()
            .await
            .map_err(|e| conversions::store_error(&e))?;
        Ok(Response::new(proto::DropViewResponse {}))
    }

    type RefreshStream = Answer<proto::RefreshResponse>;

    async fn refresh(
        &self,
        request: Request<proto::RefreshRequest>,
    ) -> Result<Response<Self::RefreshStream>, Status> {
        let request = request.into_inner();
        let kind = match request.kind() {
            // An unknown number is read as unspecified by the generated getter: refuse it instead of guessing.
            proto::RefreshKind::Unspecified if request.kind != 0 => {
                return Err(refuse(InvalidField::new(
                    "kind",
                    "must be REFRESH_KIND_INCREMENTAL or REFRESH_KIND_FULL",
                )));
            }
            proto::RefreshKind::Full => RunKind::Full,
            proto::RefreshKind::Incremental | proto::RefreshKind::Unspecified => RunKind::Incremental,
        };
        // A view that was put by another replica a moment ago counts too.
        self.refresher
            .follow_registry()
            .await
            .map_err(|e| conversions::store_error(&e))?;
        let types = if request.resource_types.is_empty() {
            self.refresher.types()
        } else {
            request.resource_types
        };
        let mut statuses = self
            .refresher
            .request(&types, kind)
            .map_err(|reason| refuse(InvalidField::new("resource_types", reason)))?;
        let mut open = types.len();
        Ok(self.lasting_answer(try_stream! {
            while open > 0 {
                let Some(status) = statuses.recv().await else { break };
                open -= usize::from(status.is_over());
                yield conversions::run_status(status);
            }
        }))
    }

    async fn cancel_refresh(
        &self,
        request: Request<proto::CancelRefreshRequest>,
    ) -> Result<Response<proto::CancelRefreshResponse>, Status> {
        let name = resource_type("resource_type", request.into_inner().resource_type).map_err(refuse)?;
        Ok(Response::new(proto::CancelRefreshResponse {
            cancelled: self.refresher.cancel(&name),
        }))
    }

    type RunViewStream = Answer<proto::RunViewResponse>;

    async fn run_view(
        &self,
        request: Request<proto::RunViewRequest>,
    ) -> Result<Response<Self::RunViewStream>, Status> {
        let grants = Grants::of_request(request.extensions());
        let request = request.into_inner();
        let max_resources = match request.max_resources {
            0 => self.run_view_limit,
            1.. => request.max_resources.min(self.run_view_limit),
            _ => {
                return Err(refuse(InvalidField::new(
                    "max_resources",
                    "must not be negative; 0 means the service's limit",
                )));
            }
        };
        let since = request
            .since
            .as_ref()
            .map(|at| time::datetime("since", at))
            .transpose()
            .map_err(refuse)?;
        without_nul("ids", &request.ids).map_err(refuse)?;
        without_nul("patient_ids", &request.patient_ids).map_err(refuse)?;
        let view = Arc::new(self.view_to_run(request.view, &grants).await?);
        grants.to_read(&format!("view {}", view.name()), view.resource_type())?;
        let columns: Vec<proto::Column> = view.columns().iter().map(Into::into).collect();
        let parts = run_view::run(
            self.hapi.clone(),
            RunView {
                view,
                selection: Selection {
                    ids: request.ids,
                    patients: request.patient_ids,
                    since,
                    limit: Some(max_resources),
                },
            },
        );
        Ok(self.answer(
            parts
                .map_ok(move |part| conversions::run_view_part(part, &columns))
                .map_err(|error| conversions::hapi_error(&error).into()),
        ))
    }

    type ReadChangesStream = Answer<proto::ReadChangesResponse>;

    async fn read_changes(
        &self,
        request: Request<proto::ReadChangesRequest>,
    ) -> Result<Response<Self::ReadChangesStream>, Status> {
        let request = ReadChanges::try_from(request.into_inner()).map_err(refuse)?;
        let parts = self.changes.clone().read(request);
        Ok(self.answer(
            parts
                .map_ok(Into::into)
                .map_err(|error| conversions::reading_error(&error).into()),
        ))
    }

    type ReadResourcesStream = Answer<proto::ReadResourcesResponse>;

    async fn read_resources(
        &self,
        request: Request<proto::ReadResourcesRequest>,
    ) -> Result<Response<Self::ReadResourcesStream>, Status> {
        let references = request.into_inner().references;
        if references.len() > MAX_REFERENCES {
            return Err(refuse(InvalidField::new(
                "references",
                format!("must be at most {MAX_REFERENCES}: ask again for the others"),
            )));
        }
        let references = references
            .into_iter()
            .map(|r| {
                if r.version < 0 {
                    let rule = "must not be negative; 0 means the current version";
                    return Err(InvalidField::new("references.version", rule));
                }
                without_nul("references.id", std::slice::from_ref(&r.id))?;
                Ok(Reference {
                    resource_type: resource_type("references.resource_type", r.resource_type)?,
                    id: r.id,
                    version: Some(r.version).filter(|version| *version > 0),
                })
            })
            .collect::<Result<Vec<_>, _>>()
            .map_err(refuse)?;
        let states = resources::read(self.hapi.clone(), references);
        Ok(self.answer(
            states
                .map_ok(|states| proto::ReadResourcesResponse {
                    states: states.into_iter().map(Into::into).collect(),
                })
                .map_err(|error| conversions::hapi_error(&error).into()),
        ))
    }

    type ReadPatientResourcesStream = Answer<proto::ReadPatientResourcesResponse>;

    async fn read_patient_resources(
        &self,
        request: Request<proto::ReadPatientResourcesRequest>,
    ) -> Result<Response<Self::ReadPatientResourcesStream>, Status> {
        let request = request.into_inner();
        if request.patient_ids.is_empty() || request.patient_ids.len() > MAX_REFERENCES {
            let rule = format!("must be 1 to {MAX_REFERENCES}: ask again for the others");
            return Err(refuse(InvalidField::new("patient_ids", rule)));
        }
        without_nul("patient_ids", &request.patient_ids).map_err(refuse)?;
        let names = resource_types("resource_types", request.resource_types).map_err(refuse)?;
        if names.is_empty() {
            return Err(refuse(InvalidField::new(
                "resource_types",
                "must name at least one type",
            )));
        }
        let types: Vec<OwnedType> = names
            .iter()
            .map(|name| OwnedType::of(name).map_err(|rule| InvalidField::new("resource_types", rule)))
            .collect::<Result<_, _>>()
            .map_err(refuse)?;
        let states = patient_resources::read(self.hapi.clone(), types, request.patient_ids);
        Ok(self.answer(
            states
                .map_ok(|states| proto::ReadPatientResourcesResponse {
                    states: states.into_iter().map(Into::into).collect(),
                })
                .map_err(|error| conversions::hapi_error(&error).into()),
        ))
    }

    type VerifyStream = Answer<proto::VerifyResponse>;

    async fn verify(
        &self,
        request: Request<proto::VerifyRequest>,
    ) -> Result<Response<Self::VerifyStream>, Status> {
        let request = request.into_inner();
        let sample = match request.sample {
            0.0 => 1.0,
            share if share > 0.0 && share <= 1.0 => share,
            _ => {
                return Err(refuse(InvalidField::new(
                    "sample",
                    "must be above 0 and at most 1, or 0 for all",
                )));
            }
        };
        let views = self.views_to_verify(&request.views).await?;
        let verify = Verify {
            hapi: self.hapi.clone(),
            store: self.store.clone(),
            views,
            sample,
        };
        Ok(self.answer(verify.run().map_ok(conversions::verified).map_err(Into::into)))
    }

    async fn get_status(
        &self,
        _: Request<proto::GetStatusRequest>,
    ) -> Result<Response<proto::GetStatusResponse>, Status> {
        let timeline = self
            .hapi
            .timeline()
            .await
            .map_err(|e| conversions::hapi_error(&e))?;
        let live = self
            .store
            .live_counts()
            .await
            .map_err(|e| conversions::store_error(&e))?;
        let mut types = Vec::new();
        for resource_type in self.refresher.types() {
            let state = self
                .store
                .type_state(&resource_type)
                .await
                .map_err(|e| conversions::store_error(&e))?;
            let schedule = self
                .store
                .schedule_state(&resource_type)
                .await
                .map_err(|e| conversions::store_error(&e))?;
            let ahead = self.refresher.ahead(&resource_type, &schedule);
            types.push(proto::TypeStatus {
                reconciled_as_of: schedule.reconciled_as_of.map(time::timestamp),
                reconciled_differences: schedule.differences,
                next_refresh: ahead.refresh.map(time::timestamp),
                next_reconciliation: ahead.reconciliation.map(time::timestamp),
                batch_as_of: state.published.as_ref().map(|p| time::timestamp(p.as_of)),
                speed_as_of: state.speed.map(|s| time::timestamp(s.as_of)),
                published_n: state.published.map_or(0, |p| p.n),
                live_resources: live
                    .iter()
                    .find(|(t, _)| *t == resource_type)
                    .map_or(0, |(_, n)| *n),
                last_run: self
                    .refresher
                    .last_run(&resource_type)
                    .map(conversions::run_status),
                resource_type,
            });
        }
        let schema_notes = self
            .hapi
            .schema()
            .notes
            .iter()
            .chain(self.notes.iter())
            .cloned()
            .collect();
        Ok(Response::new(proto::GetStatusResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            schema_notes,
            timeline,
            types,
        }))
    }
}
