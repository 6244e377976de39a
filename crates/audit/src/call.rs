//! One operation, from its request to the end of its answer: what is known of it is put together here by whoever knows it, and recorded once.
//!
//! The call is at hand for everything that works on the request ([`Call::current`]), so that nothing needs to be handed through for the audit's sake.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use api::{
    Code, ServiceError,
    proto::serving::{Freshness, Source},
    time,
};
use axum::http::{Extensions, HeaderMap};
use daemon::{Incoming, PeerAddress, Principal, Proof};
use futures::future::{self, BoxFuture, FutureExt as _};
use tokio::sync::{mpsc, oneshot};

use crate::{
    audit::Inner,
    keys::Key,
    operation::Operation,
    purpose,
    question::Question,
    record::{Given, Kind, Record, Who},
    writer::Item,
};

tokio::task_local! {
    static CURRENT: Call;
}

/// One operation that is being recorded. Cheap to clone.
#[derive(Clone)]
pub struct Call(Arc<Shared>);

struct Shared {
    audit: Arc<Inner>,
    operation: Operation,
    id: String,
    key: Key,
    began: Instant,
    request_id: Option<String>,
    trace_id: Option<String>,
    purpose: Result<Option<&'static str>, purpose::NoPurpose>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    who: Who,
    question: Question,
    given: Given,
    /// The daemon has answered: names are its own.
    answered: bool,
    /// The place in the queue that the end has from the beginning.
    place: Option<mpsc::OwnedPermit<Item>>,
    ended: bool,
}

impl Call {
    pub(crate) fn new(
        audit: Arc<Inner>,
        operation: Operation,
        headers: &HeaderMap,
        extensions: &Extensions,
    ) -> Self {
        audit.opened();
        // Both parts stand within what the daemon does around its requests.
        let incoming = Incoming::current();
        let call = Self(Arc::new(Shared {
            id: audit.next_id(),
            key: audit.keys.current(),
            began: Instant::now(),
            request_id: incoming.as_ref().map(|incoming| incoming.id().to_owned()),
            trace_id: incoming
                .as_ref()
                .and_then(Incoming::trace)
                .map(|trace| trace.trace().to_string()),
            purpose: purpose::of(headers),
            state: Mutex::default(),
            operation,
            audit,
        }));
        let peer = extensions.get::<PeerAddress>().map(|peer| peer.0.to_string());
        call.state().question = Question::new(call.0.key.clone());
        call.state().who = Who {
            name: "anonymous".to_owned(),
            proof: None,
            peer,
        };
        call.is_from(extensions);
        call
    }

    /// The operation that is being worked on here, if it is recorded.
    pub fn current() -> Option<Self> {
        CURRENT.try_with(Clone::clone).ok()
    }

    /// What is done in here can find it.
    pub(crate) fn within<F: Future>(self, work: F) -> impl Future<Output = F::Output> {
        CURRENT.scope(self, work)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over who was proved to ask, if it was.
    pub(crate) fn is_from(&self, extensions: &Extensions) {
        if let Some(Principal { name, proof }) = extensions.get() {
            let mut state = self.state();
            state.who.name = name.to_string();
            let proof = match proof {
                Proof::Certificate => "certificate",
                Proof::StaticToken => "token",
                Proof::Jwt => "jwt",
            };
            state.who.proof = Some(proof.into());
        }
    }

    /// Notes what is asked.
    pub fn asks(&self, note: impl FnOnce(&mut Question)) {
        note(&mut self.state().question);
    }

    /// The daemon answers by what it knows: the names of the question are its own from here on.
    pub fn answers(&self) {
        self.state().answered = true;
    }

    /// The same, with what the answer is made of.
    pub fn answers_from(&self, freshness: &Freshness) {
        let at =
            |at: &Option<prost_types::Timestamp>| at.as_ref().and_then(|at| time::datetime("as_of", at).ok());
        let layers = match freshness.source() {
            Source::Raw => "raw",
            Source::Materialized if freshness.speed_layer_enabled => "merged",
            Source::Materialized | Source::Unspecified => "batch",
        };
        let mut state = self.state();
        state.answered = true;
        let given = &mut state.given;
        given.layers = Some(layers.into());
        given.as_of = at(&freshness.as_of);
        given.batch_as_of = at(&freshness.batch_as_of);
        given.speed_as_of = at(&freshness.speed_as_of);
    }

    /// Counts what is given out.
    pub fn gives(&self, count: impl FnOnce(&mut Given)) {
        count(&mut self.state().given);
    }

    /// Runs what reads: at once, beside the record of its beginning where one is wanted; what was read is given out only if that is safe.
    pub async fn reads<T, E: From<ServiceError>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let begun = self.begin()?;
        let (begun, result) = future::join(begun, work).await;
        begun?;
        result
    }

    /// Runs what changes: not before the record of its beginning is safe, where one is wanted.
    pub async fn changes<T, E: From<ServiceError>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        self.begin()?.await?;
        let result = work.await;
        if result.is_ok() {
            self.answers();
        }
        result
    }

    /// Runs it as its row says.
    pub async fn runs<T, E: From<ServiceError>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        if self.0.operation.action.changes() {
            self.changes(work).await
        } else {
            self.reads(work).await
        }
    }

    /// Refuses what has no purpose, where one must be named. The future is that of the record of the beginning; it is done at once where none is wanted.
    fn begin(&self) -> Result<BoxFuture<'static, Result<(), ServiceError>>, ServiceError> {
        let Shared {
            audit,
            operation,
            purpose,
            ..
        } = &*self.0;
        if operation.between_layers || audit.is_of_a_layer(&self.state().who) {
            return Ok(future::ready(Ok(())).boxed());
        }
        match purpose {
            Err(rule) => return Err(ServiceError::invalid(purpose::HEADER.as_str(), rule)),
            Ok(None) if audit.purpose_required => {
                let rule = format!("is required here: {}", purpose::NoPurpose);
                return Err(ServiceError::invalid(purpose::HEADER.as_str(), rule));
            }
            Ok(_) => {}
        }
        if !audit.refuses {
            return Ok(future::ready(Ok(())).boxed());
        }
        let call = self.clone();
        Ok(async move { call.intend().await }.boxed())
    }

    /// Records that the operation begins, and keeps a place for its end.
    async fn intend(self) -> Result<(), ServiceError> {
        let audit = &self.0.audit;
        let patience = audit.patience;
        let work = async {
            let places = audit.queue.clone();
            let end = places.clone().reserve_owned().await.ok()?;
            let begin = places.reserve_owned().await.ok()?;
            let (safe, told) = oneshot::channel();
            let record = {
                let mut state = self.state();
                state.place = Some(end);
                self.0.record(Kind::Begun, &state)
            };
            begin.send(Item {
                record,
                safe: Some(safe),
            });
            told.await.ok().filter(|safe| *safe)
        };
        if let Ok(Some(_)) = tokio::time::timeout(patience, work).await {
            return Ok(());
        }
        audit.metrics.refused.inc();
        Err(unrecorded())
    }

    /// Counts an operation that is refused for the audit's sake.
    pub(crate) fn refused(&self) {
        self.0.audit.metrics.refused.inc();
    }

    /// Records the end. Whoever is to wait until it is safe gets what tells it.
    pub(crate) fn end(&self, outcome: &'static str) -> Option<oneshot::Receiver<bool>> {
        self.0.end(outcome)
    }

    /// Records the end, and waits until it is safe where that is wanted; false if it is not.
    pub(crate) async fn ends(&self, outcome: &'static str) -> bool {
        match self.end(outcome) {
            Some(told) => told.await.unwrap_or(false),
            None => true,
        }
    }
}

impl Shared {
    fn end(&self, outcome: &'static str) -> Option<oneshot::Receiver<bool>> {
        let audit = &self.audit;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut state.ended, true) {
            return None;
        }
        let between_layers = self.operation.between_layers;
        if between_layers && (state.given_nothing(outcome) || audit.is_of_a_layer(&state.who)) {
            audit.closed();
            return None;
        }
        let mut record = self.record(Kind::Ended, &state);
        record.outcome = Some(outcome.into());
        record.given = Some(state.given.clone());
        record.seconds = Some(round(self.began.elapsed().as_secs_f64()));
        let place = state.place.take();
        drop(state);
        let (safe, told) = if audit.refuses && !between_layers {
            let (safe, told) = oneshot::channel();
            (Some(safe), Some(told))
        } else {
            (None, None)
        };
        let item = Item { record, safe };
        match place {
            Some(place) => drop(place.send(item)),
            None => audit.hand_over(item),
        }
        audit.closed();
        told
    }

    fn record(&self, kind: Kind, state: &State) -> Record {
        let audit = &self.audit;
        Record {
            operation: Some(self.operation.name.into()),
            action: Some(self.operation.action),
            who: Some(state.who.clone()),
            purpose: self.purpose.ok().flatten().map(Into::into),
            request_id: self.request_id.clone(),
            trace_id: self.trace_id.clone(),
            asked: Some(state.question.asked(&self.key, state.answered)),
            ..Record::new(
                kind,
                self.id.clone(),
                audit.clock.now(),
                audit.daemon,
                self.key.id(),
            )
        }
    }
}

impl State {
    /// Nothing left the daemon, and nobody was refused.
    fn given_nothing(&self, outcome: &str) -> bool {
        let refused = matches!(
            outcome,
            "unauthenticated" | "permission_denied" | "invalid_argument"
        );
        self.given.rows == 0 && self.given.resources == 0 && !refused
    }
}

/// What was not ended was left.
impl Drop for Shared {
    fn drop(&mut self) {
        let _nobody_waits = self.end(CUT);
    }
}

/// The outcome of an answer that was not taken to its end.
pub(crate) const CUT: &str = "cut";

/// What an operation is told that cannot be recorded.
pub(crate) fn unrecorded() -> ServiceError {
    let why = "this cannot be recorded in the audit, and is not done without (audit.on_failure): try again";
    ServiceError::new(Code::Unavailable, why).because("AUDIT_UNAVAILABLE")
}

/// To the microsecond.
fn round(seconds: f64) -> f64 {
    (seconds * 1e6).round() / 1e6
}
