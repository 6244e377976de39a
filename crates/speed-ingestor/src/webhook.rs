//! What HAPI's Subscriptions deliver: authenticate, read, understand, store, wake.
//!
//! What each status tells HAPI. 2xx: safe; a body is in Redis as a preview, or the tail is known to come by (law 5). 503: try again, HAPI does so for about
//! a minute and then gives up, which the tail heals. 4xx: wrong in itself; a dead letter (reason, hash, size) is kept. Every error is an OperationOutcome.
//!
//! A PUT lies beside the readings as a preview. A DELETE carries no version and may be late: it only wakes the tail.

use std::{collections::HashMap, sync::Arc};

use api::{Code, ServiceError};
use axum::{
    extract::{Path, Request, State, rejection::PathRejection},
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use daemon::{Clock, connections::discard};
use fhir_core::resource::{State as ResourceState, is_id};
use futures::future::try_join_all;

use crate::{
    accepted::Accepted,
    answer,
    auth::SharedSecret,
    body::{Bodies, Held, Letter, Refused, content_type},
    bundle::{self, BundleEntry, Reference},
    delivery::{self, Delivered},
    gate::Gate,
    hapi::Hapi,
    measures::{EventLabels, Measures},
    needed::Needed,
    rounds::TailState,
    store::{Hold, Queued, SpeedStore, StoreError},
};

/// Resources that HAPI is asked for on account of one notification; one that tells more ids is refused while the tail does not come by.
const ASKED_AT_ONCE: usize = 20;

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
    /// Reads bodies.
    pub bodies: Bodies,
    /// Where a resource is read of which only the id was told, while the tail does not come by; `None` where HAPI's REST is not known.
    pub hapi: Option<Hapi>,
    /// Webhooks accepted of each type.
    pub accepted: Accepted,
    /// Metrics.
    pub measures: Measures,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// What became of an accepted request.
enum Done {
    Accepted,
    NotNeeded,
}

/// `PUT {type}/{id}`
pub async fn put(State(webhook): State<Arc<Webhook>>, path: TypeAndId, request: Request) -> Response {
    let path = named(path);
    let result = webhook.put(&path, request).await;
    webhook.answer("put", &path.0, result, answer::empty).await
}

/// `DELETE {type}/{id}`
pub async fn delete(State(webhook): State<Arc<Webhook>>, path: TypeAndId, headers: HeaderMap) -> Response {
    let path = named(path);
    let result = webhook.delete(&path, &headers).await;
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
        let body = self.bodies.read(&parts.headers, body).await?;
        let delivered = delivery::resource(&body.bytes, self.bodies.limits().depth).and_then(|delivered| {
            agrees(&delivered, resource_type, id, &parts.headers)?;
            Ok(delivered)
        });
        let delivered = delivered.map_err(|error| Refused::of(error, &body.bytes))?;
        // The bytes go; what they hold of the common bounds stays until Redis has what was made of them.
        let held = body.into_held();
        self.offer(resource_type, delivered.state, Box::new(held)).await?;
        self.tail.wake();
        Ok(Done::Accepted)
    }

    async fn delete(
        &self,
        (resource_type, id): &(String, String),
        headers: &HeaderMap,
    ) -> Result<Done, Refused> {
        self.authenticate(headers)?;
        check_path(resource_type, id)?;
        if !self.needed.includes(resource_type) {
            return Ok(Done::NotNeeded);
        }
        self.gate.pass()?;
        let marked = match self.store.note_delete(resource_type, id, self.clock.now()).await {
            // The note is for a count only.
            Err(StoreError::OutOfMemory(_)) => self.store.mark(resource_type).await,
            noted => noted,
        };
        let marked = marked.map_err(ServiceError::from)?;
        self.tail.wake();
        self.tail_comes_by(resource_type, marked.is_some())?;
        Ok(Done::Accepted)
    }

    async fn post(&self, request: Request) -> Result<Done, Refused> {
        self.authenticate(request.headers())?;
        let (parts, body) = request.into_parts();
        self.gate.pass()?;
        let body = self.bodies.read(&parts.headers, body).await?;
        if body.bytes.is_empty()
            || content_type(&parts.headers).starts_with("application/x-www-form-urlencoded")
        {
            let error = ServiceError::new(
                Code::Unprocessable,
                "this POST says neither type nor id: set the Subscription's channel.payload to application/fhir+json",
            );
            return Err(Refused::of(error, &body.bytes));
        }
        let mut entries = bundle::entries(&body.bytes, self.bodies.limits().depth)
            .map_err(|error| Refused::of(error, &body.bytes))?;
        if entries.is_empty() {
            entries.push(BundleEntry::Notice);
        }
        let held = Arc::new(body.into_held());
        let (mut offers, mut changed, mut noticed) = (Vec::new(), Vec::new(), false);
        for entry in entries {
            match entry {
                BundleEntry::Resource(delivered) => {
                    if self.needed.includes(&delivered.resource_type) {
                        offers.push(self.offer_of(delivered, held.clone()));
                    }
                }
                BundleEntry::Changed(reference) => {
                    if self.needed.includes(&reference.resource_type) {
                        changed.push(reference);
                    }
                }
                BundleEntry::Notice => noticed = true,
            }
        }
        // In their order, and all in a few groups.
        try_join_all(offers).await?;
        self.changed(changed).await?;
        if noticed {
            self.noticed().await?;
        }
        self.tail.wake();
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

    async fn offer_of(&self, delivered: Delivered, held: Arc<Held>) -> Result<(), ServiceError> {
        let Delivered { resource_type, state } = delivered;
        self.offer(&resource_type, state, Box::new(held)).await
    }

    /// Stores a preview; where there is no room for it, it is as if only the id had come (law 5).
    async fn offer(&self, resource_type: &str, state: ResourceState, hold: Hold) -> Result<(), ServiceError> {
        if !self.gate.has_room() {
            return self.tail_stands_in(resource_type, "redis is nearly full").await;
        }
        let offered = self
            .store
            .offer_preview_holding(resource_type, state, self.clock.now(), hold)
            .await;
        let queued = match offered {
            Err(error @ StoreError::OutOfMemory(_)) => {
                return self.tail_stands_in(resource_type, &error.to_string()).await;
            }
            queued => queued?,
        };
        if queued != Queued::default() {
            self.measures
                .count_queued(&self.needed.label(resource_type), &queued);
        }
        Ok(())
    }

    async fn tail_stands_in(&self, resource_type: &str, why: &str) -> Result<(), ServiceError> {
        self.tail.wake();
        self.tail_reads(resource_type).await.map_err(|error| {
            let message = format!("{why}, so previews are not taken; {}", error.message);
            ServiceError::new(error.code, message)
        })
    }

    /// Of these resources only the ids came. The tail reads them at once; while it does not come by, HAPI is asked.
    async fn changed(&self, changed: Vec<Reference>) -> Result<(), ServiceError> {
        let (mut unread, mut types) = (Vec::new(), HashMap::new());
        for reference in changed {
            let of = &reference.resource_type;
            if !types.contains_key(of) {
                self.note(of).await;
                types.insert(of.clone(), self.tail_reads(of).await.err());
            }
            if let Some(Some(error)) = types.get(of) {
                unread.push((reference, error.clone()));
            }
        }
        if unread.len() > ASKED_AT_ONCE
            && let Some((_, error)) = unread.pop()
        {
            return Err(error);
        }
        let asked = unread
            .into_iter()
            .map(|(reference, error)| self.read_from_hapi(reference, error));
        try_join_all(asked).await?;
        Ok(())
    }

    /// `error` says why the tail does not come by.
    async fn read_from_hapi(&self, reference: Reference, error: ServiceError) -> Result<(), ServiceError> {
        let Reference { resource_type, id } = reference;
        let (Some(hapi), limits) = (&self.hapi, self.bodies.limits()) else {
            return Err(error);
        };
        // A deletion has no body to show: the tail is waited for.
        let Some(body) = hapi.read(&resource_type, &id, limits.body_bytes).await? else {
            return Err(error);
        };
        let delivered = delivery::resource(&body, limits.depth)?;
        if (&delivered.resource_type, &delivered.state.id) != (&resource_type, &id) {
            return Err(ServiceError::new(
                Code::Unavailable,
                "hapi answers with another resource than was asked for",
            ));
        }
        self.offer(&resource_type, delivered.state, Box::new(())).await
    }

    /// Something has changed, of whatever type.
    async fn noticed(&self) -> Result<(), ServiceError> {
        let Some(types) = self.needed.types() else {
            return Err(ServiceError::new(
                Code::Unavailable,
                "it is not known yet which resource types views need",
            ));
        };
        for resource_type in types.iter() {
            self.note(resource_type).await;
            self.tail_reads(resource_type).await?;
        }
        Ok(())
    }

    /// For the alarm of a silent Subscription only.
    async fn note(&self, resource_type: &str) {
        if let Err(error) = self.store.note_webhook(resource_type, self.clock.now()).await {
            tracing::debug!(%error, "a webhook cannot be noted");
        }
    }

    async fn tail_reads(&self, resource_type: &str) -> Result<(), ServiceError> {
        let mark = self.store.mark(resource_type).await?;
        self.tail_comes_by(resource_type, mark.is_some())
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

/// What stands in the path, if it can be read.
type TypeAndId = Result<Path<(String, String)>, PathRejection>;

/// A path that cannot be read names nothing, which the check of it refuses.
fn named(path: TypeAndId) -> (String, String) {
    path.map(|Path(named)| named).unwrap_or_default()
}

fn check_path(resource_type: &str, id: &str) -> Result<(), Refused> {
    let refused = |error| Refused::of(error, &[]);
    api::batch::resource_type("path", resource_type.to_owned())
        .map_err(|error| refused(ServiceError::from(error)))?;
    if is_id(id) {
        return Ok(());
    }
    Err(refused(ServiceError::new(
        Code::Invalid,
        "the path must end with an id of 1 to 64 letters, digits, '-' and '.'",
    )))
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

/// `GET` and `HEAD`: says that a receiver is here.
pub async fn probe() -> Response {
    answer::here().into_response()
}
