//! What HAPI's Subscriptions deliver: authenticate, read, understand, store, wake.
//!
//! What each status tells HAPI. 2xx: safe; a body is in Redis as a preview, or the tail is known to come by (law 5). 503: try again, HAPI does so for about
//! a minute and then gives up, which the tail heals. 4xx: wrong in itself; a dead letter (reason, hash, size) is kept. Every error is an OperationOutcome.
//!
//! A PUT lies beside the readings as a preview. A DELETE carries no version and may be late: it only wakes the tail.

use std::{sync::Arc, time::Duration};

use api::{Code, ServiceError};
use axum::{
    body::{Body, Bytes},
    extract::{Path, Request, State},
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use daemon::Clock;
use fhir_core::resource::{State as ResourceState, is_id};
use futures::StreamExt;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    accepted::Accepted,
    answer,
    auth::SharedSecret,
    delivery::{self, BundleEntry, Delivered},
    gate::Gate,
    measures::{EventLabels, Measures, TypeLabel},
    needed::Needed,
    rounds::TailState,
    store::SpeedStore,
};

/// How much of a refused body is read and thrown away: whoever is still sending does not read the answer.
const DISCARDED_BYTES: usize = 64 * 1024 * 1024;
/// How long that may take.
const DISCARD_TIME: Duration = Duration::from_secs(5);

/// What the webhook needs. Shared by all requests.
pub struct Webhook {
    /// Where previews go.
    pub store: SpeedStore,
    /// Whom to wake, and whether it is well.
    pub tail: TailState,
    /// What is kept.
    pub needed: Needed,
    /// Whether Redis may be written to.
    pub gate: Gate,
    /// What deliveries must show.
    pub secret: SharedSecret,
    /// Bounds.
    pub limits: Limits,
    /// Requests whose body is being read or stored.
    pub in_flight: Arc<Semaphore>,
    /// Webhooks accepted of each type.
    pub accepted: Accepted,
    /// Metrics.
    pub measures: Measures,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// Bounds of a request.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of a body, decompressed.
    pub body_bytes: usize,
    /// Nesting of objects and arrays.
    pub depth: usize,
    /// How long a body may take to come.
    pub body_time: Duration,
}

/// What became of an accepted request.
enum Done {
    Accepted,
    NotNeeded,
}

/// A request that is refused, with what is known of its body.
struct Refused {
    error: ServiceError,
    letter: Option<Letter>,
}

struct Letter {
    sha256: String,
    bytes: u64,
}

impl From<ServiceError> for Refused {
    fn from(error: ServiceError) -> Self {
        Self { error, letter: None }
    }
}

/// `PUT {type}/{id}`
pub async fn put(
    State(webhook): State<Arc<Webhook>>,
    Path(path): Path<(String, String)>,
    request: Request,
) -> Response {
    let result = webhook.put(&path, request).await;
    webhook.answer("put", &path.0, result, answer::empty).await
}

/// `DELETE {type}/{id}`
pub async fn delete(
    State(webhook): State<Arc<Webhook>>,
    Path(path): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let result = webhook.delete(&path, &headers).await.map_err(Refused::from);
    webhook.answer("delete", &path.0, result, answer::empty).await
}

/// `POST` to the base: Bundles, and what a Subscription without a payload sends.
pub async fn post(State(webhook): State<Arc<Webhook>>, request: Request) -> Response {
    let result = webhook.post(request).await;
    webhook
        .answer("bundle", "Bundle", result, answer::transaction_response)
        .await
}

impl Webhook {
    async fn put(&self, (resource_type, id): &(String, String), request: Request) -> Result<Done, Refused> {
        self.authenticate(request.headers())?;
        check_path(resource_type, id)?;
        let (parts, body) = request.into_parts();
        if !self.needed.includes(resource_type) {
            discard(body).await;
            return Ok(Done::NotNeeded);
        }
        self.gate.pass()?;
        let (body, _permit) = self.read(&parts.headers, body).await?;
        let delivered = delivery::resource(&body, self.limits.depth).and_then(|delivered| {
            agrees(&delivered, resource_type, id, &parts.headers)?;
            Ok(delivered)
        });
        let delivered = delivered.map_err(|error| refused(error, &body))?;
        self.offer(resource_type, &delivered.state).await?;
        self.tail.wake();
        Ok(Done::Accepted)
    }

    async fn delete(
        &self,
        (resource_type, id): &(String, String),
        headers: &HeaderMap,
    ) -> Result<Done, ServiceError> {
        self.authenticate(headers)?;
        check_path(resource_type, id)?;
        if !self.needed.includes(resource_type) {
            return Ok(Done::NotNeeded);
        }
        self.gate.pass()?;
        let mark = self.store.note_delete(resource_type, id).await?;
        self.tail.wake();
        self.tail_comes_by(resource_type, mark.is_some())?;
        Ok(Done::Accepted)
    }

    async fn post(&self, request: Request) -> Result<Done, Refused> {
        self.authenticate(request.headers())?;
        let (parts, body) = request.into_parts();
        self.gate.pass()?;
        let (body, _permit) = self.read(&parts.headers, body).await?;
        if body.is_empty() || content_type(&parts.headers).starts_with("application/x-www-form-urlencoded") {
            let error = ServiceError::new(
                Code::Unprocessable,
                "this POST says neither type nor id: set the Subscription's channel.payload to application/fhir+json",
            );
            return Err(refused(error, &body));
        }
        let entries = delivery::bundle(&body, self.limits.depth).map_err(|error| refused(error, &body))?;
        let mut notices = entries.is_empty();
        for entry in entries {
            match entry {
                BundleEntry::Notice => notices = true,
                BundleEntry::Resource(Delivered { resource_type, state })
                    if self.needed.includes(&resource_type) =>
                {
                    self.offer(&resource_type, &state).await?;
                }
                BundleEntry::Resource(_) => {}
            }
        }
        self.tail.wake();
        if notices {
            for resource_type in self.needed.types().unwrap_or_default().iter() {
                let mark = self.store.mark(resource_type).await.map_err(ServiceError::from)?;
                self.tail_comes_by(resource_type, mark.is_some())?;
            }
        }
        Ok(Done::Accepted)
    }

    fn authenticate(&self, headers: &HeaderMap) -> Result<(), ServiceError> {
        if self.secret.is_shown(headers) {
            return Ok(());
        }
        let header = self.secret.header();
        Err(ServiceError::new(
            Code::Unauthenticated,
            format!(
                "the header {header} does not hold the shared secret: make HAPI's Subscription send webhook.secret in it (channel.header)"
            ),
        ))
    }

    async fn offer(&self, resource_type: &str, state: &ResourceState) -> Result<(), ServiceError> {
        let dropped = self
            .store
            .offer_preview(resource_type, state, self.clock.now())
            .await?;
        if dropped > 0 {
            let label = TypeLabel {
                r#type: self.needed.label(resource_type),
            };
            self.measures
                .previews_dropped
                .get_or_create(&label)
                .inc_by(dropped);
        }
        Ok(())
    }

    /// What carries no state is safe once the mark is known to lie before it while the tail is healthy: the next round reads it (law 5). Where
    /// nothing was ever read there is no mark, and the full refresh that must come first reads it.
    fn tail_comes_by(&self, resource_type: &str, marked: bool) -> Result<(), ServiceError> {
        let unavailable = |why: &str| {
            Err(ServiceError::new(
                Code::Unavailable,
                format!("the tail cannot confirm this yet: {why}"),
            ))
        };
        if let Err(reason) = self.tail.health(self.clock.now()) {
            return unavailable(&reason);
        }
        let nothing_read = self
            .tail
            .of_type(resource_type)
            .is_some_and(|round| round.full_refresh_needed);
        if marked || nothing_read {
            Ok(())
        } else {
            unavailable("it has no mark of this type")
        }
    }

    /// The body, and the place among the requests in flight that its request holds until it is answered: what is made of a body takes more memory.
    async fn read(
        &self,
        headers: &HeaderMap,
        mut body: Body,
    ) -> Result<(Bytes, OwnedSemaphorePermit), Refused> {
        if let Err(error) = check_headers(headers, self.limits.body_bytes) {
            let bytes = declared_length(headers).unwrap_or_default();
            discard(body).await;
            return Err(Refused {
                error,
                letter: Some(Letter {
                    sha256: String::new(),
                    bytes,
                }),
            });
        }
        let permit = self
            .in_flight
            .clone()
            .try_acquire_owned()
            .map_err(|_| ServiceError::new(Code::Unavailable, "too many requests at once: try again"))?;
        let limited = Limited::new(&mut body, self.limits.body_bytes);
        match tokio::time::timeout(self.limits.body_time, limited.collect()).await {
            Ok(Ok(collected)) => Ok((collected.to_bytes(), permit)),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                discard(body).await;
                let letter = Some(Letter {
                    sha256: String::new(),
                    bytes: self.limits.body_bytes as u64 + 1,
                });
                Err(Refused {
                    error: too_large(self.limits.body_bytes),
                    letter,
                })
            }
            Ok(Err(_)) => Err(ServiceError::new(
                Code::Invalid,
                "the body cannot be read: cut off, or not in its Content-Encoding",
            )
            .into()),
            Err(_) => Err(ServiceError::new(Code::SlowRequest, "the body did not come in time").into()),
        }
    }

    async fn answer(
        &self,
        op: &'static str,
        resource_type: &str,
        result: Result<Done, Refused>,
        good: fn() -> Response,
    ) -> Response {
        let now = self.clock.now();
        let label = self.needed.label(resource_type);
        let (outcome, response) = match result {
            Ok(Done::Accepted) => {
                self.accepted.count(&label, now);
                ("accepted", good())
            }
            Ok(Done::NotNeeded) => ("not_needed", good()),
            Err(Refused { error, letter }) => {
                if let Some(Letter { sha256, bytes }) = letter
                    && let Err(error) = self.store.dead_letter(&error.message, &sha256, bytes, now).await
                {
                    tracing::debug!(%error, "a dead letter cannot be kept");
                }
                let outcome = if error.code == Code::Unavailable {
                    "unavailable"
                } else {
                    "refused"
                };
                tracing::debug!(op, outcome, reason = %error, "webhook not accepted");
                (outcome, answer::error(&error))
            }
        };
        self.measures
            .webhook_events
            .get_or_create(&EventLabels {
                r#type: label,
                op,
                outcome,
            })
            .inc();
        response
    }
}

fn check_path(resource_type: &str, id: &str) -> Result<(), ServiceError> {
    api::batch::resource_type("path", resource_type.to_owned())?;
    if is_id(id) {
        return Ok(());
    }
    Err(ServiceError::new(
        Code::Invalid,
        "the path must end with an id of 1 to 64 letters, digits, '-' and '.'",
    ))
}

fn agrees(
    delivered: &Delivered,
    resource_type: &str,
    id: &str,
    headers: &HeaderMap,
) -> Result<(), ServiceError> {
    let disagrees = |what: &str| {
        Err(ServiceError::new(
            Code::Invalid,
            format!("{what} of the body is not that of the request"),
        ))
    };
    if delivered.resource_type != resource_type {
        return disagrees("resourceType");
    }
    if delivered.state.id != id {
        return disagrees("id");
    }
    let Some(asked) = headers.get(header::IF_MATCH) else {
        return Ok(());
    };
    match delivery::if_match(asked.to_str().unwrap_or_default())? {
        Some(version) if version != delivered.state.version => disagrees("meta.versionId"),
        _ => Ok(()),
    }
}

fn check_headers(headers: &HeaderMap, most_bytes: usize) -> Result<(), ServiceError> {
    if content_type(headers).contains("xml") {
        let message = "XML is not taken: set the Subscription's channel.payload to application/fhir+json";
        return Err(ServiceError::new(Code::UnsupportedMedia, message));
    }
    // What the decompression in front could open has lost this header.
    if headers
        .get(header::CONTENT_ENCODING)
        .is_some_and(|encoding| encoding != "identity")
    {
        return Err(ServiceError::new(
            Code::UnsupportedMedia,
            "Content-Encoding must be gzip, deflate or none",
        ));
    }
    match declared_length(headers) {
        Some(length) if length > most_bytes as u64 => Err(too_large(most_bytes)),
        _ => Ok(()),
    }
}

fn content_type(headers: &HeaderMap) -> &str {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

pub(crate) fn too_large(most_bytes: usize) -> ServiceError {
    ServiceError::new(
        Code::TooLarge,
        format!("the body is larger than {most_bytes} bytes (webhook.max_body_bytes)"),
    )
}

fn refused(error: ServiceError, body: &Bytes) -> Refused {
    let sha256 = format!("{:x}", Bytes::copy_from_slice(&Sha256::digest(body)));
    Refused {
        error,
        letter: Some(Letter {
            sha256,
            bytes: body.len() as u64,
        }),
    }
}

async fn discard(body: Body) {
    let mut left = DISCARDED_BYTES;
    let mut stream = body.into_data_stream();
    let reading = async {
        while let Some(Ok(part)) = stream.next().await {
            left = left.saturating_sub(part.len());
            if left == 0 {
                return;
            }
        }
    };
    let _elapsed = tokio::time::timeout(DISCARD_TIME, reading).await;
}

/// `GET` and `HEAD`: says that a receiver is here.
pub async fn probe() -> Response {
    answer::here().into_response()
}
