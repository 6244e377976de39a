//! The gRPC service: decode, ask, encode; nothing more.

use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
    time::Duration,
};

use api::{
    Code, ServiceError,
    cohort::Cohort,
    proto::serving::{self as proto, serving_service_server::ServingService},
    query::Query,
    sql::SqlQuestion,
};
use daemon::Shutdown;
use futures::{Stream, StreamExt as _, stream};
use identity::Grants;
use tokio::time::Instant;
use tonic::{Request, Response, Status, metadata::MetadataMap};

use crate::{
    cohort,
    config::QueryLimits,
    discovery,
    errors::store_error,
    gateway::not_ready,
    metrics::{CallLabel, ServingMetrics},
    query,
    shared::Core,
    sql,
};

/// An answer must be on its way this long before the caller's deadline.
const ON_ITS_WAY: Duration = Duration::from_millis(20);

/// The service.
pub(crate) struct Serving {
    core: Arc<OnceLock<Core>>,
    metrics: ServingMetrics,
    shutdown: Shutdown,
    limits: QueryLimits,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Serving {
    pub(crate) fn new(
        core: Arc<OnceLock<Core>>,
        metrics: ServingMetrics,
        shutdown: Shutdown,
        limits: QueryLimits,
    ) -> Self {
        Self {
            core,
            metrics,
            shutdown,
            limits,
        }
    }

    fn core(&self) -> Result<&Core, ServiceError> {
        self.core.get().ok_or_else(not_ready)
    }

    /// As whoever sent the request sees it.
    fn core_for<T>(&self, request: &Request<T>) -> Result<Core, ServiceError> {
        Ok(self.core()?.seen_by(Grants::of_request(request.extensions())))
    }

    /// Counts a call by its outcome.
    fn done<T>(&self, method: &'static str, result: Result<T, ServiceError>) -> Result<Response<T>, Status> {
        let code = result.as_ref().map_or_else(|error| error.code.name(), |_| "ok");
        self.metrics
            .calls
            .get_or_create(&CallLabel { method, code })
            .inc();
        result.map(Response::new).map_err(Status::from)
    }

    async fn query_parts(
        &self,
        request: Request<proto::QueryRequest>,
    ) -> Result<Answers<proto::QueryResponse>, ServiceError> {
        let (core, deadline) = (self.core_for(&request)?, self.deadline(request.metadata()));
        let query = Query::try_from(request.into_inner())?;
        self.stream(query::answer(core, query, deadline)).await
    }

    async fn sql_parts(
        &self,
        request: Request<proto::SqlRequest>,
    ) -> Result<Answers<proto::SqlResponse>, ServiceError> {
        let (core, deadline) = (self.core_for(&request)?, self.deadline(request.metadata()));
        let question = SqlQuestion::try_from(request.into_inner())?;
        self.stream(sql::answer(core, question, deadline)).await
    }

    async fn cohort_parts(
        &self,
        request: Request<proto::CohortRequest>,
    ) -> Result<Answers<proto::CohortResponse>, ServiceError> {
        let (core, deadline) = (self.core_for(&request)?, self.deadline(request.metadata()));
        let cohort = Cohort::try_from(request.into_inner())?;
        self.stream(cohort::answer(core, cohort, deadline)).await
    }

    /// Until when an answer must be on its way.
    fn deadline(&self, metadata: &MetadataMap) -> Instant {
        let caller = daemon::grpc::timeout(metadata.as_ref()).ok().flatten();
        let within = caller.unwrap_or(self.limits.at_least_seconds);
        Instant::now() + within.saturating_sub(ON_ITS_WAY)
    }

    /// The first part decides whether there is an answer at all; the rest follows, and ends soon after a stop.
    async fn stream<T: Send + 'static>(
        &self,
        mut parts: impl Stream<Item = Result<T, ServiceError>> + Send + Unpin + 'static,
    ) -> Result<Answers<T>, ServiceError> {
        let (shutdown, grace) = (self.shutdown.clone(), self.limits.stop_seconds);
        let first = match shutdown.unless_stopped_for(grace, parts.next()).await {
            Some(Some(first)) => first?,
            Some(None) => return Err(ServiceError::new(Code::Internal, "no answer was made")),
            None => return Err(ServiceError::stopping()),
        };
        let cut = async move { shutdown.stopped_for(grace).await };
        // A stream that is cut ends with an error: nobody takes half an answer for a whole one.
        let rest = parts
            .map(|part| part.map_err(Status::from))
            .take_until(Box::pin(cut));
        let rest = stream::unfold((rest, false), |(mut rest, over)| async move {
            if over {
                return None;
            }
            match rest.next().await {
                Some(part) => {
                    let over = part.is_err();
                    Some((part, (rest, over)))
                }
                None if rest.is_stopped() && rest.take_result().is_some() => {
                    Some((Err(ServiceError::stopping().into()), (rest, true)))
                }
                None => None,
            }
        });
        Ok(Box::pin(stream::once(async { Ok(first) }).chain(rest)))
    }
}

#[tonic::async_trait]
impl ServingService for Serving {
    type QueryStream = Answers<proto::QueryResponse>;
    type SqlStream = Answers<proto::SqlResponse>;
    type CohortStream = Answers<proto::CohortResponse>;

    async fn query(
        &self,
        request: Request<proto::QueryRequest>,
    ) -> Result<Response<Self::QueryStream>, Status> {
        let result = self.query_parts(request).await;
        self.done("Query", result)
    }

    async fn sql(&self, request: Request<proto::SqlRequest>) -> Result<Response<Self::SqlStream>, Status> {
        let result = self.sql_parts(request).await;
        self.done("Sql", result)
    }

    async fn cohort(
        &self,
        request: Request<proto::CohortRequest>,
    ) -> Result<Response<Self::CohortStream>, Status> {
        let result = self.cohort_parts(request).await;
        self.done("Cohort", result)
    }

    async fn list_views(
        &self,
        request: Request<proto::ListViewsRequest>,
    ) -> Result<Response<proto::ListViewsResponse>, Status> {
        let answer = async { discovery::list(&self.core_for(&request)?).await };
        self.done("ListViews", answer.await)
    }

    async fn describe_view(
        &self,
        request: Request<proto::DescribeViewRequest>,
    ) -> Result<Response<proto::DescribeViewResponse>, Status> {
        let answer = async { discovery::describe(&self.core_for(&request)?, &request.get_ref().view).await };
        self.done("DescribeView", answer.await)
    }

    async fn get_statistics(
        &self,
        request: Request<proto::GetStatisticsRequest>,
    ) -> Result<Response<proto::GetStatisticsResponse>, Status> {
        let answer = async {
            let core = self.core_for(&request)?;
            let mut answer = core
                .statistics
                .answer(core.catalog.cached(), core.use_speed_layer);
            if !core.grants.is_everything() {
                let views = core.catalog.views().await.map_err(store_error)?;
                answer.views.retain(|counted| views.named(&counted.view).is_ok());
            }
            Ok(answer)
        }
        .await;
        self.done("GetStatistics", answer)
    }

    async fn reset_statistics(
        &self,
        _: Request<proto::ResetStatisticsRequest>,
    ) -> Result<Response<proto::ResetStatisticsResponse>, Status> {
        let answer = self.core().map(|core| {
            core.statistics.reset(core.hapi_clock.local());
            proto::ResetStatisticsResponse {}
        });
        self.done("ResetStatistics", answer)
    }

    async fn clear_view_cache(
        &self,
        _: Request<proto::ClearViewCacheRequest>,
    ) -> Result<Response<proto::ClearViewCacheResponse>, Status> {
        let answer = self.core().map(|core| proto::ClearViewCacheResponse {
            views_forgotten: i64::try_from(core.catalog.clear()).unwrap_or(i64::MAX),
        });
        self.done("ClearViewCache", answer)
    }
}
