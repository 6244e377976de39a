//! Rounds of the tail: when they come, what they found, and how the tail is.
//!
//! A round comes every interval, and at once when a webhook came (many webhooks, one round). When the batch layer is down rounds come less often.
//! Each round's window is capped, to stay cheap while a transaction of HAPI stays open for long; now and then a sweep reaches further back.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use api::batch::TypeReading;
use chrono::{DateTime, TimeDelta, Utc};
use daemon::{Clock, Shutdown};
use fhir_core::merge::Position;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use crate::{
    accepted::Accepted,
    measures::{Measures, RoundLabel, TypeLabel},
    needed::Needed,
    store::{SpeedStore, StoreError},
    tail::{ChangesReader, Stepped, Tail, TailError},
};

/// Without a finished round for so long the tail is not healthy, whatever the last one said.
const STALE_AFTER: TimeDelta = TimeDelta::seconds(10);
/// Rounds that fail come at most so seldom: soon enough for whoever waits for the batch layer's return (everything is visible within 2 s).
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Between the begin of two rounds, however many webhooks come: at most 25 snapshots a second in HAPI's database.
/// (A webhook's body is shown before its reading; a DELETE's webhook waits for one.)
const SHORTEST_PAUSE: Duration = Duration::from_millis(40);

/// When rounds come.
#[derive(Debug, Clone, Copy)]
pub struct RoundSettings {
    /// Between the begin of two rounds.
    pub interval: Duration,
    /// How far back a round reads.
    pub window: TimeDelta,
    /// How often one reads as far back as is needed.
    pub sweep: Duration,
}

/// What the last round said of a type.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TypeRound {
    /// The mark that the round has set, or that was there.
    pub mark: Option<Position>,
    /// A full refresh must come first: there is nothing yet that changes could be missing from.
    pub full_refresh_needed: bool,
    /// Number of the batch's watermark.
    pub published_n: i64,
    /// Seen first by the tail, since the start.
    pub healed: u64,
}

#[derive(Debug, Default)]
struct Seen {
    last_finished: Option<DateTime<Utc>>,
    /// Why the last round failed.
    reason: Option<String>,
    types: BTreeMap<String, TypeRound>,
}

/// How the tail is, for whoever depends on it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct TailState(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    seen: Mutex<Seen>,
    wake: Notify,
    /// Rounds begun, and the last of them that finished.
    rounds: watch::Sender<(u64, u64)>,
}

impl Default for TailState {
    fn default() -> Self {
        Self(Arc::new(Shared {
            seen: Mutex::default(),
            wake: Notify::new(),
            rounds: watch::Sender::new((0, 0)),
        }))
    }
}

impl TailState {
    /// Asks for a round at once.
    pub fn wake(&self) {
        self.0.wake.notify_one();
    }

    /// Whether the tail is healthy; why not, if not.
    pub fn health(&self, now: DateTime<Utc>) -> Result<(), String> {
        let seen = self.seen();
        match (&seen.reason, seen.last_finished) {
            (Some(reason), _) => Err(reason.clone()),
            (None, None) => Err("no round has finished yet".to_owned()),
            (None, Some(at)) if now - at > STALE_AFTER => Err("no round has finished for a while".to_owned()),
            (None, Some(_)) => Ok(()),
        }
    }

    /// What is known of a type.
    pub fn of_type(&self, resource_type: &str) -> Option<TypeRound> {
        self.seen().types.get(resource_type).cloned()
    }

    /// The newest finished reading of any type: later ones have higher numbers.
    pub fn newest(&self) -> Option<Position> {
        let seen = self.seen();
        let types = seen.types.values().filter(|round| !round.full_refresh_needed);
        types
            .filter_map(|round| round.mark.clone())
            .max_by_key(|mark| mark.n)
    }

    /// Waits until a round has finished that began after this call.
    pub async fn finish_one(&self) {
        let mut rounds = self.0.rounds.subscribe();
        let wanted = rounds.borrow().0 + 1;
        self.wake();
        // The sender lives in `self`, so this cannot fail.
        let _closed = rounds.wait_for(|(_, finished)| *finished >= wanted).await;
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn finished(&self, readings: &[TypeReading], now: DateTime<Utc>) {
        let mut seen = self.seen();
        (seen.last_finished, seen.reason) = (Some(now), None);
        seen.types
            .retain(|known, _| readings.iter().any(|reading| reading.resource_type == *known));
        for reading in readings {
            let known = seen.types.entry(reading.resource_type.clone()).or_default();
            known.mark = reading.position.clone().or(known.mark.take());
            known.full_refresh_needed = reading.full_refresh_needed;
            known.published_n = reading.published_n;
        }
    }
}

/// Makes rounds until the stop.
pub struct Rounds<R: ChangesReader> {
    /// Whoever reads HAPI.
    pub reader: R,
    /// Where readings go.
    pub store: SpeedStore,
    /// The types to read.
    pub needed: Needed,
    /// What is known of the tail.
    pub state: TailState,
    /// What came by webhook.
    pub accepted: Accepted,
    /// Metrics.
    pub measures: Measures,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// When rounds come.
    pub settings: RoundSettings,
}

impl<R: ChangesReader> Rounds<R> {
    /// Runs until the stop. A round under way at the stop is dropped: its marks were not set, the next one begins where it began.
    pub async fn run(self, shutdown: Shutdown) {
        let mut tail = Tail::default();
        let (mut swept, mut failures) = (None::<Instant>, 0u32);
        let mut types_change = self.needed.changes();
        loop {
            let began = Instant::now();
            let types = self.needed.types();
            let Some(types) = types.as_ref().filter(|types| !types.is_empty()) else {
                self.nothing_to_read(types.is_some());
                let rest = async {
                    tokio::select! {
                        _ = types_change.changed() => {}
                        () = self.state.0.wake.notified() => {}
                        () = tokio::time::sleep(LONGEST_PAUSE) => {}
                    }
                };
                if shutdown.unless_stopped(rest).await.is_none() {
                    return;
                }
                continue;
            };
            let sweeps = swept.is_none_or(|at| began - at >= self.settings.sweep);
            let window = (!sweeps).then_some(self.settings.window);
            self.state.0.rounds.send_modify(|(begun, _)| *begun += 1);
            let Some(result) = shutdown
                .unless_stopped(self.round(&mut tail, types, window))
                .await
            else {
                return;
            };
            // Also when it failed: the rounds between two sweeps go on, whatever it is that sweeps cannot do.
            if sweeps {
                swept = Some(began);
            }
            match result {
                Ok(()) => {
                    if failures > 0 {
                        tracing::info!(failures, "the tail goes on");
                    }
                    failures = 0;
                    self.state
                        .0
                        .rounds
                        .send_modify(|(begun, finished)| *finished = *begun);
                }
                Err(error) => {
                    tail.restart();
                    failures = failures.saturating_add(1);
                    self.failed(&error, failures, types, tail.covered()).await;
                }
            }
            self.measure_lag(types);
            let pause = self
                .settings
                .interval
                .saturating_mul(1 << failures.min(4))
                .min(LONGEST_PAUSE.max(self.settings.interval));
            let rest = async {
                if failures == 0 {
                    tokio::time::sleep_until(began + SHORTEST_PAUSE).await;
                    let _elapsed = tokio::time::timeout_at(began + pause, self.state.0.wake.notified()).await;
                } else {
                    tokio::time::sleep_until(began + pause).await;
                }
            };
            if shutdown.unless_stopped(rest).await.is_none() {
                return;
            }
        }
    }

    /// No view needs anything, so nothing can be missing; or it is not known yet what they need.
    fn nothing_to_read(&self, known: bool) {
        if known {
            self.state.finished(&[], self.clock.now());
            self.state.0.rounds.send_modify(|(begun, finished)| {
                *begun += 1;
                *finished = *begun;
            });
        } else {
            self.state.seen().reason = Some("it is not known yet which resource types views need".to_owned());
        }
    }

    async fn round(
        &self,
        tail: &mut Tail<R>,
        types: &[String],
        window: Option<TimeDelta>,
    ) -> Result<(), TailError> {
        loop {
            match tail
                .step(&self.reader, &self.store, types, window, self.clock.now())
                .await?
            {
                Stepped::Begun | Stepped::Opened(_) => {}
                Stepped::Offered(offered) => {
                    for (resource_type, offered) in offered {
                        let label = TypeLabel::of(&resource_type);
                        self.measures.readings.get_or_create(&label).inc_by(offered.held);
                        self.measures.healed.get_or_create(&label).inc_by(offered.healed);
                        if offered.healed > 0 {
                            self.accepted.tail_saw(&resource_type, self.clock.now());
                        }
                        self.state.seen().types.entry(resource_type).or_default().healed += offered.healed;
                    }
                }
                Stepped::NothingToGoOnFrom => {
                    self.count_round("full_refresh_needed");
                    return Ok(());
                }
                Stepped::Finished(readings) => {
                    let now = self.clock.now();
                    self.state.finished(&readings, now);
                    self.count_round("finished");
                    for reading in readings.iter().filter(|reading| reading.published_n > 0) {
                        self.store
                            .release(&reading.resource_type, reading.published_n, now)
                            .await?;
                    }
                    return Ok(());
                }
            }
        }
    }

    async fn failed(&self, error: &TailError, failures: u32, types: &[String], covered: &[(String, i64)]) {
        self.count_round("failed");
        self.state.seen().reason = Some(error.to_string());
        if failures == 1 {
            tracing::warn!(%error, "a round of the tail failed");
        } else {
            tracing::debug!(%error, failures, "a round of the tail failed again");
        }
        if matches!(error, TailError::Store(StoreError::OutOfMemory(_))) {
            self.shed(types, covered).await;
        }
    }

    /// Memory is short: what the batch has covered goes first. What that is only a round knows, and none has finished since memory is short.
    async fn shed(&self, types: &[String], covered: &[(String, i64)]) {
        for (resource_type, published_n) in covered {
            if let Err(error) = self
                .store
                .release(resource_type, *published_n, self.clock.now())
                .await
            {
                tracing::warn!(%error, "covered readings cannot be let go");
            }
        }
        for resource_type in types {
            match self.store.shed(resource_type).await {
                Ok(0) => self.drop_previews(resource_type).await,
                Ok(shed) => {
                    self.measures.shed.inc_by(shed);
                    tracing::warn!(
                        readings = shed,
                        "redis is out of memory: covered readings left early"
                    );
                }
                Err(error) => tracing::warn!(%error, "covered readings cannot be let go"),
            }
        }
    }

    /// Nothing is covered that could go: previews do, as the readings that find no room now stand in for them.
    async fn drop_previews(&self, resource_type: &str) {
        match self.store.drop_previews(resource_type).await {
            Ok(0) => {}
            Ok(dropped) => {
                let label = TypeLabel::of(resource_type);
                self.measures
                    .previews_dropped
                    .get_or_create(&label)
                    .inc_by(dropped);
                tracing::warn!(
                    previews = dropped,
                    "redis is out of memory: previews left for readings"
                );
            }
            Err(error) => tracing::warn!(%error, "previews cannot be let go"),
        }
    }

    fn measure_lag(&self, types: &[String]) {
        let seen = self.state.seen();
        let oldest = types
            .iter()
            .filter_map(|known| seen.types.get(known)?.mark.as_ref())
            .map(|mark| mark.as_of)
            .min();
        if let Some(oldest) = oldest {
            self.measures
                .tail_lag_seconds
                .set((self.clock.now() - oldest).as_seconds_f64().max(0.0));
        }
    }

    fn count_round(&self, outcome: &'static str) {
        self.measures
            .tail_rounds
            .get_or_create(&RoundLabel { outcome })
            .inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(resource_type: &str) -> TypeReading {
        TypeReading {
            resource_type: resource_type.into(),
            position: None,
            full_refresh_needed: true,
            published_n: 0,
            refresh_nudged: false,
        }
    }

    #[test]
    fn health_says_why_not_and_grows_old() {
        let (state, start) = (TailState::default(), DateTime::UNIX_EPOCH);
        assert!(state.health(start).is_err());
        state.finished(&[reading("Patient")], start);
        assert_eq!(state.health(start + TimeDelta::seconds(5)), Ok(()));
        assert!(state.health(start + TimeDelta::seconds(11)).is_err());
        assert!(state.of_type("Patient").unwrap().full_refresh_needed);
        state.seen().reason = Some("the batch layer: away".into());
        assert_eq!(state.health(start), Err("the batch layer: away".into()));
        state.finished(&[], start);
        assert_eq!(state.of_type("Patient"), None);
    }

    #[test]
    fn many_wishes_for_a_round_make_one() {
        let state = TailState::default();
        (0..100).for_each(|_| state.wake());
        let mut woken = 0;
        while futures::FutureExt::now_or_never(state.0.wake.notified()).is_some() {
            woken += 1;
        }
        assert_eq!(woken, 1);
    }
}
