//! `researchflow.speed.v1.SpeedService`: decodes, asks the store, encodes.

use std::{pin::Pin, sync::Arc, time::Duration};

use api::{
    Code, InvalidField, MAX_MESSAGE_BYTES, MAX_REQUEST_BYTES, ServiceError,
    proto::speed as proto,
    speed::{
        Changes, ChangesPart, Preview,
        speed_service_server::{SpeedService, SpeedServiceServer},
        type_marks,
    },
    transport,
};
use audit::Audited;
use chrono::TimeDelta;
use daemon::{Clock, Shutdown};
use fhir_core::{
    merge::{Mark, Position},
    resource::Content,
};
use futures::Stream;
use identity::Grants;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming, codec::CompressionEncoding};

use crate::{
    accepted::Accepted,
    backup::{BackupError, Backups},
    needed::Needed,
    put::Taking,
    rounds::TailState,
    store::SpeedStore,
    subscriptions::Subscriptions,
};

/// What a flush must say, so that none is sent by mistake.
const FLUSH_WORD: &str = "flush";
/// And a restore.
const RESTORE_WORD: &str = "restore";
/// How long a part of an answer may wait to be read: a reader that stands still must not keep previews from others.
const READER_TIME: Duration = Duration::from_secs(10);
/// How long a pull may wait for a round.
const PULL_TIME: Duration = Duration::from_secs(30);
/// Parts of an answer that wait for a slow reader.
const PARTS_AHEAD: usize = 4;
/// About how many bytes of previews go into a part of an answer.
const BYTES_A_PART: usize = 1024 * 1024;
/// Of a request that puts a resource: whatever is not its body.
const ROOM_FOR_THE_REST: usize = 64 * 1024;
/// How often a waiting answer looks by itself: another ingestor may have written, whom nothing here wakes.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct Speed {
    /// The speed store.
    pub store: SpeedStore,
    /// The tail.
    pub tail: TailState,
    /// The types that views need.
    pub needed: Needed,
    /// Webhooks accepted.
    pub accepted: Accepted,
    /// How long the tail may see changes without a webhook.
    pub silent_after: TimeDelta,
    /// What taking a resource needs besides.
    pub taking: Taking,
    /// Our Subscription; `None` where none is kept.
    pub subscriptions: Option<Subscriptions>,
    /// Backups; `None` where none are kept.
    pub backups: Option<Backups>,
    /// The stop: streams end at it.
    pub shutdown: Shutdown,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

type Parts<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl SpeedService for Speed {
    type ChangesStream = Parts<proto::ChangesResponse>;
    type ScanRecentResourcesStream = Parts<proto::ScanRecentResourcesResponse>;

    async fn changes(
        &self,
        request: Request<Streaming<proto::ChangesRequest>>,
    ) -> Result<Response<Self::ChangesStream>, Status> {
        let (parts, answer) = mpsc::channel(PARTS_AHEAD);
        let (this, mut requests) = (self.clone(), request.into_inner());
        self.shutdown.spawn(async move {
            let serve = async {
                // What the library says of a message that cannot be read, in our words.
                let told = |status: Status| transport::refusal(&status).map_or(status, Status::from);
                while let Some(request) = requests.message().await.map_err(told)? {
                    let request = Changes::try_from(request).map_err(ServiceError::from)?;
                    this.answer_changes(&request, &parts).await?;
                }
                Ok::<(), Status>(())
            };
            tokio::select! {
                // Whoever asked is gone.
                () = parts.closed() => {}
                result = this.shutdown.unless_stopped(serve) => {
                    let end = result.unwrap_or_else(|| Err(ServiceError::stopping().into()));
                    if let Err(status) = end {
                        let _gone = tokio::time::timeout(READER_TIME, parts.send(Err(status))).await;
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(answer))))
    }

    async fn scan_recent_resources(
        &self,
        request: Request<proto::ScanRecentResourcesRequest>,
    ) -> Result<Response<Self::ScanRecentResourcesStream>, Status> {
        let grants = Grants::of_request(request.extensions());
        let scan = self.scan(&grants, request.into_inner());
        let scan = self
            .shutdown
            .unless_stopped_for(self.shutdown.time_for_calls(), scan);
        let parts = scan.await.ok_or_else(ServiceError::stopping)??;
        Ok(Response::new(Box::pin(futures::stream::iter(parts.map(Ok)))))
    }

    async fn put_resource(
        &self,
        request: Request<proto::PutResourceRequest>,
    ) -> Result<Response<proto::PutResourceResponse>, Status> {
        let outcome = self.put(&request.into_inner()).await?;
        Ok(Response::new(proto::PutResourceResponse {
            outcome: outcome.into(),
        }))
    }

    async fn pull(
        &self,
        request: Request<proto::PullRequest>,
    ) -> Result<Response<proto::PullResponse>, Status> {
        let types = self.types(request.into_inner().resource_types)?;
        let pull = tokio::time::timeout(PULL_TIME, self.tail.finish_one());
        // The tail's rounds end with the stop: another replica's go on.
        match self.shutdown.unless_stopped(pull).await {
            Some(Ok(())) => {}
            Some(Err(_)) => {
                let reason = self
                    .tail
                    .health(self.clock.now())
                    .err()
                    .unwrap_or_else(|| "it takes longer".to_owned());
                let message = format!("no round of the tail has finished in time: {reason}");
                return Err(ServiceError::new(Code::Unavailable, message).into());
            }
            None => return Err(ServiceError::stopping().into()),
        }
        let marks = self.marks(&types).await?;
        Ok(Response::new(proto::PullResponse {
            marks: type_marks(marks),
        }))
    }

    async fn flush(
        &self,
        request: Request<proto::FlushRequest>,
    ) -> Result<Response<proto::FlushResponse>, Status> {
        let request = request.into_inner();
        if request.confirm != FLUSH_WORD {
            let rule = format!(
                "must be the word {FLUSH_WORD}: all that is held of these types is forgotten, and read again from the batch's watermark on"
            );
            return Err(invalid("confirm", &rule).into());
        }
        // Also of types that no view needs (any more): that is what one may want to be rid of.
        let types = match request.resource_types {
            none if none.is_empty() => self.types(none)?,
            asked => asked
                .into_iter()
                .map(|of| api::batch::resource_type("resource_types", of))
                .collect::<Result<_, _>>()
                .map_err(ServiceError::from)?,
        };
        let flushed = self.store.flush(&types).await.map_err(ServiceError::from)?;
        tracing::warn!(
            readings = flushed.readings,
            previews = flushed.previews,
            "flushed on demand"
        );
        self.tail.wake();
        Ok(Response::new(proto::FlushResponse {
            readings: count(flushed.readings),
            previews: count(flushed.previews),
        }))
    }

    async fn register_subscriptions(
        &self,
        _request: Request<proto::RegisterSubscriptionsRequest>,
    ) -> Result<Response<proto::RegisterSubscriptionsResponse>, Status> {
        let Some(subscriptions) = &self.subscriptions else {
            let message = "no Subscription is kept: set hapi.url";
            return Err(ServiceError::new(Code::Precondition, message).into());
        };
        let status = subscriptions.check().await?;
        Ok(Response::new(proto::RegisterSubscriptionsResponse {
            subscriptions: vec![status],
        }))
    }

    async fn backup(
        &self,
        _request: Request<proto::BackupRequest>,
    ) -> Result<Response<proto::BackupResponse>, Status> {
        let backups = self.backups()?;
        let (manifest, seconds) = self.to_the_end(async move { backups.back_up().await }).await?;
        Ok(Response::new(proto::BackupResponse {
            backup: Some(manifest.into()),
            seconds,
        }))
    }

    async fn list_backups(
        &self,
        _request: Request<proto::ListBackupsRequest>,
    ) -> Result<Response<proto::ListBackupsResponse>, Status> {
        let listed = self.backups()?.list().await.map_err(ServiceError::from)?;
        Ok(Response::new(proto::ListBackupsResponse {
            backups: listed.into_iter().map(Into::into).collect(),
        }))
    }

    async fn restore(
        &self,
        request: Request<proto::RestoreRequest>,
    ) -> Result<Response<proto::RestoreResponse>, Status> {
        let proto::RestoreRequest { name, confirm } = request.into_inner();
        let backups = self.backups()?;
        if confirm != RESTORE_WORD {
            let rule = format!("must be the word {RESTORE_WORD}");
            return Err(invalid("confirm", &rule).into());
        }
        let restored = self
            .to_the_end(async move {
                let name = Some(name.as_str()).filter(|name| !name.is_empty());
                backups.restore(name).await
            })
            .await?;
        Ok(Response::new(restored.into()))
    }

    async fn get_status(
        &self,
        _request: Request<proto::GetStatusRequest>,
    ) -> Result<Response<proto::GetStatusResponse>, Status> {
        Ok(Response::new(self.status().await))
    }
}

impl Speed {
    /// The service as a server takes it.
    pub fn server(self) -> SpeedServiceServer<Audited<Self>> {
        // A body that is too large is to be told so by name, if it is not larger by much.
        let largest = MAX_REQUEST_BYTES.max(self.taking.limits.body_bytes + ROOM_FOR_THE_REST);
        SpeedServiceServer::new(Audited(self))
            .accept_compressed(CompressionEncoding::Gzip)
            .send_compressed(CompressionEncoding::Gzip)
            .max_decoding_message_size(largest)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// One answer: due at once if there is anything, else as soon as there is, at the latest after the wait.
    async fn answer_changes(
        &self,
        request: &Changes,
        parts: &mpsc::Sender<Result<proto::ChangesResponse, Status>>,
    ) -> Result<(), Status> {
        self.wait_for_changes(request).await?;
        let mut marks = Vec::with_capacity(request.cursors.len());
        for (resource_type, cursor) in &request.cursors {
            let mut read = self
                .store
                .read_changes(resource_type, *cursor)
                .await
                .map_err(ServiceError::from)?;
            let previews = std::mem::take(&mut read.previews);
            marks.push((resource_type.clone(), read.mark.as_ref().map(mark_of)));
            while let Some(readings) = self
                .store
                .next_readings(&mut read)
                .await
                .map_err(ServiceError::from)?
            {
                if !readings.is_empty() {
                    send(parts, ChangesPart::Readings(resource_type.clone(), readings)).await?;
                }
            }
            let mut previews = previews.into_iter().peekable();
            while previews.peek().is_some() {
                let part = part_of(&mut previews);
                send(parts, ChangesPart::Previews(resource_type.clone(), part)).await?;
            }
        }
        send(parts, ChangesPart::End(marks)).await
    }

    fn backups(&self) -> Result<Backups, ServiceError> {
        let none = || ServiceError::new(Code::Precondition, "no backups are kept: set backup.url");
        self.backups.clone().ok_or_else(none)
    }

    /// Does what must not be left half done: it goes on if the caller leaves.
    async fn to_the_end<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, BackupError>> + Send + 'static,
    ) -> Result<T, ServiceError> {
        let (done, answer) = oneshot::channel();
        let shutdown = self.shutdown.clone();
        self.shutdown.spawn(async move {
            if let Some(result) = shutdown.unless_stopped(work).await {
                let _left = done.send(result);
            }
        });
        let result = answer.await.map_err(|_| ServiceError::stopping())?;
        Ok(result?)
    }

    async fn wait_for_changes(&self, request: &Changes) -> Result<(), Status> {
        let until = Instant::now() + request.wait.to_std().unwrap_or_default();
        let mut changed = self.store.changed();
        loop {
            changed.mark_unchanged();
            for (resource_type, cursor) in &request.cursors {
                if self
                    .store
                    .has_changes(resource_type, *cursor)
                    .await
                    .map_err(ServiceError::from)?
                {
                    return Ok(());
                }
            }
            let now = Instant::now();
            if now >= until {
                return Ok(());
            }
            let _elapsed = tokio::time::timeout_at(until.min(now + LOOK_AGAIN), changed.changed()).await;
        }
    }

    pub(crate) fn known_type(
        &self,
        field: &'static str,
        resource_type: String,
    ) -> Result<String, ServiceError> {
        let resource_type = api::batch::resource_type(field, resource_type)?;
        match self.needed.types() {
            Some(types) if !types.contains(&resource_type) => {
                let rule = format!("must be one of the types that views need: {}", types.join(", "));
                Err(invalid(field, &rule))
            }
            _ => Ok(resource_type),
        }
    }

    /// The asked types; all that are needed if none is.
    fn types(&self, asked: Vec<String>) -> Result<Vec<String>, ServiceError> {
        if asked.is_empty() {
            return Ok(self
                .needed
                .types()
                .map(|types| types.to_vec())
                .unwrap_or_default());
        }
        asked
            .into_iter()
            .map(|resource_type| self.known_type("resource_types", resource_type))
            .collect()
    }

    async fn marks(&self, types: &[String]) -> Result<Vec<(String, Option<Mark>)>, ServiceError> {
        let marks = self.store.marks(types).await?;
        Ok(types
            .iter()
            .cloned()
            .zip(marks.iter().map(|mark| mark.as_ref().map(mark_of)))
            .collect())
    }
}

/// Previews of about a mebibyte together; a larger one makes a part of its own.
fn part_of(previews: &mut std::iter::Peekable<std::vec::IntoIter<Preview>>) -> Vec<Preview> {
    let (mut part, mut bytes) = (Vec::new(), 0);
    while let Some(preview) = previews.next_if(|_| bytes < BYTES_A_PART) {
        if let Content::Body(body) = &preview.state.content {
            bytes += body.len();
        }
        part.push(preview);
    }
    part
}

pub(crate) fn mark_of(position: &Position) -> Mark {
    Mark {
        n: position.n,
        as_of: position.as_of,
    }
}

fn invalid(field: &'static str, rule: &str) -> ServiceError {
    InvalidField::new(field, rule).into()
}

pub(crate) fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

async fn send(
    parts: &mpsc::Sender<Result<proto::ChangesResponse, Status>>,
    part: ChangesPart,
) -> Result<(), Status> {
    let gone = |_| Status::from(ServiceError::new(Code::Cancelled, "whoever asked is gone"));
    let sent = tokio::time::timeout(READER_TIME, parts.send(Ok(part.into()))).await;
    let slow = |_| {
        let message = "the answer is not read: previews that it has taken are not kept for it";
        Status::from(ServiceError::new(Code::Unavailable, message))
    };
    sent.map_err(slow)?.map_err(gone)
}
