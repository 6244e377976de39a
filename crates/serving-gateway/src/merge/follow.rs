//! The merger at work: one stream of answers for all types, applied as they come. One gateway leads, so that the work is done once;
//! none is needed for being right.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use api::{
    MAX_MESSAGE_BYTES, proto,
    speed::{Changes, ChangesPart, TypeChanges, speed_service_client::SpeedServiceClient},
};
use chrono::{DateTime, TimeDelta, Utc};
use daemon::{Shutdown, grpc::Line};
use fhir_core::merge::Mark;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use view_store::{AppliedPage, Cursor, MergeLead, StoreError, ViewStore};

use super::{MergeError, Merger, Stepped, traced::Applying};
use crate::{
    catalog::Catalog,
    hapi_clock::HapiClock,
    layer_health::LayerHealth,
    metrics::{Event, EventLabel, ServingMetrics},
    statistics::Statistics,
};

/// Readings a transaction: large enough that its fixed cost is small, small enough that the type's lock is held for some ten milliseconds.
const PAGE: usize = 500;
/// How long an answer may wait for something to come: new types are noticed within this.
const WAIT: TimeDelta = TimeDelta::seconds(1);
/// An answer that is this late beyond its wait will not come: the connection is dead, or the speed layer stands still.
const LATE: Duration = Duration::from_secs(5);
/// Cursors of types that have only a new mark are moved so often at most.
const MARKS_EVERY: Duration = Duration::from_millis(200);
/// How often a follower asks for the lead; see [`MergeLead::try_take`].
const ASK_FOR_LEAD: Duration = Duration::from_millis(500);
/// Pauses after a failure: from the first to the last, which is short, since whatever returns should be seen at once.
const BACK_OFF: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(500)];
/// A failure after so long is a new one.
const STEADY: Duration = Duration::from_secs(2);
/// Shortest and longest pause after an answer that changed nothing although it held readings, whose mark is still to come. It grows with the time
/// for which nothing new has come: the next preview waits for its end.
const NOTHING_NEW: [Duration; 2] = [Duration::from_millis(20), Duration::from_secs(1)];
/// The part of that time that one pause is.
const NOTHING_NEW_PART: u32 = 8;
/// Pauses of a type whose changes cannot be applied.
const TYPE_BACK_OFF: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(5)];

/// What the merger works with.
pub(crate) struct Follower {
    pub(crate) store: ViewStore,
    pub(crate) speed: SpeedServiceClient<Line>,
    pub(crate) catalog: Catalog,
    pub(crate) applied: watch::Sender<u64>,
    pub(crate) health: LayerHealth,
    pub(crate) hapi_clock: HapiClock,
    pub(crate) statistics: Statistics,
    pub(crate) metrics: ServingMetrics,
}

impl Follower {
    /// Asks for the lead, and merges while it has it, until the stop.
    pub(crate) async fn run(self, shutdown: Shutdown) {
        let mut pause = BACK_OFF[0];
        // What was said last of why there is no lead, which may be so for long.
        let mut said = None;
        while !shutdown.is_stopping() {
            let gained = self.store.pulse().unless_silent(Box::pin(self.gain()));
            let lead = match shutdown.unless_stopped(gained).await {
                None => return,
                Some(Ok(lead)) => lead,
                Some(Err(error)) => {
                    let reason = error.to_string();
                    if said.as_ref() != Some(&reason) {
                        tracing::warn!(reason, "the mergers' lead cannot be asked for");
                        said = Some(reason);
                    }
                    shutdown.sleep(ASK_FOR_LEAD).await;
                    continue;
                }
            };
            said = None;
            tracing::debug!("this gateway's merger leads");
            self.metrics.leading.set(1);
            let begun = Instant::now();
            let ended = Box::pin(shutdown.unless_stopped(self.merge_with(lead))).await;
            self.metrics.leading.set(0);
            self.hapi_clock.interrupted();
            let Some(Err(error)) = ended else { return };
            self.metrics.merge_failures.inc();
            if matches!(error, MergeError::Source(_)) {
                self.health.speed(false);
            }
            pause = if begun.elapsed() > STEADY {
                BACK_OFF[0]
            } else {
                (pause * 2).min(BACK_OFF[1])
            };
            tracing::warn!(reason = %error, pause_ms = pause.as_millis(), "merging is interrupted");
            shutdown.sleep(pause).await;
        }
    }

    /// Asks for the lead until no other gateway has it.
    async fn gain(&self) -> Result<MergeLead, StoreError> {
        let mut lead = self.store.merge_lead().await?;
        while !lead.try_take().await? {
            self.health.speed_unknown();
            tokio::time::sleep(ASK_FOR_LEAD).await;
        }
        Ok(lead)
    }

    /// Merges until something fails, the lead is lost, or the views' database says nothing any more. The lead is kept beside all that merging waits for.
    async fn merge_with(&self, mut lead: MergeLead) -> Result<(), MergeError> {
        let work = async {
            tokio::select! {
                lost = lead.keep() => Err(lost.into()),
                merged = self.merge() => merged,
            }
        };
        self.store.pulse().unless_silent(work).await
    }

    /// Merges until something fails.
    async fn merge(&self) -> Result<(), MergeError> {
        let mut stream = AnswerStream::open(self.speed.clone()).await?;
        let mut types: BTreeMap<String, Merger> = BTreeMap::new();
        // Marks that are seen, not yet moved to: with the cursor that they were read at.
        let mut pending: HashMap<String, (Cursor, Mark)> = HashMap::new();
        let mut marks_moved: Option<Instant> = None;
        let (mut something_new, mut resting) = (Instant::now(), Resting::default());
        loop {
            let names = self.catalog.views().await?.merged_types();
            if names.is_empty() {
                // Nothing to merge into; whether the speed layer answers is not known by asking nothing.
                tokio::time::sleep(MARKS_EVERY).await;
                continue;
            }
            types.retain(|name, _| names.contains(name));
            let names = resting.awake(names);
            if names.is_empty() {
                tokio::time::sleep(TYPE_BACK_OFF[0]).await;
                continue;
            }
            let cursors = self.store.cursors(&names).await?;
            // Another merger has moved it, or a crash has set it back: what was seen from there counts no more.
            pending.retain(|name, (from, _)| {
                names
                    .iter()
                    .position(|known| known == name)
                    .is_some_and(|index| cursors[index] == *from)
            });
            let at = |index: usize| {
                pending
                    .get(&names[index])
                    .map(|(_, mark)| *mark)
                    .or(cursors[index])
            };
            let asked: Vec<_> = names
                .iter()
                .enumerate()
                .map(|(index, name)| (name.clone(), at(index).map_or(0, |mark| mark.n)))
                .collect();
            let due = marks_moved
                .map(|moved| moved + MARKS_EVERY)
                .filter(|_| !pending.is_empty());
            let wait = wait_until(resting.due().into_iter().chain(due).min());

            let mut answer = stream.ask(Changes { cursors: asked, wait }).await?;
            self.health.speed(true);
            // Readings whose mark is still to come are answered again and again: then a pause, not a busy loop.
            let mut nothing_new = answer.values().any(|changes| !changes.readings.is_empty());
            for (name, cursor) in names.iter().zip(cursors) {
                let Some(mut changes) = answer.remove(name) else {
                    continue;
                };
                if let Some(mark) = changes.mark {
                    self.hapi_clock.observe(name, mark);
                }
                let seen = pending.get(name).map(|(_, mark)| *mark);
                let known = later(seen, cursor);
                changes.mark = later(changes.mark, seen);
                let moved = changes
                    .mark
                    .filter(|mark| known.is_none_or(|known| mark.n > known.n));
                if changes.readings.is_empty() && changes.previews.is_empty() {
                    if let Some(mark) = moved {
                        pending.insert(name.clone(), (cursor, mark));
                    }
                } else {
                    let merger = types
                        .entry(name.clone())
                        .or_insert_with(|| Merger::new(self.store.clone(), name.clone()));
                    pending.remove(name);
                    match self.apply(merger, cursor, changes).await {
                        Ok(applied) => nothing_new &= applied == 0,
                        // Of this type only; the views' database as a whole is asked at each turn, and then all wait.
                        Err(error) => {
                            merger.forget();
                            // It may have been a crash, before which they were seen.
                            pending.clear();
                            self.metrics.merge_failures.inc();
                            resting.add(name, &error);
                            nothing_new = false;
                        }
                    }
                }
                nothing_new &= moved.is_none();
            }
            if !pending.is_empty() && marks_moved.is_none_or(|moved| moved.elapsed() >= MARKS_EVERY) {
                let marks: Vec<_> = pending
                    .drain()
                    .map(|(name, (cursor, mark))| (name, cursor, mark))
                    .collect();
                self.store.apply_marks(&marks).await?;
                marks_moved = Some(Instant::now());
                self.applied.send_modify(|count| *count += 1);
            }
            if nothing_new {
                let pause = something_new.elapsed() / NOTHING_NEW_PART;
                tokio::time::sleep(pause.clamp(NOTHING_NEW[0], NOTHING_NEW[1])).await;
            } else {
                something_new = Instant::now();
            }
        }
    }

    /// Applies one type's part of an answer; returns how many changes were shown.
    async fn apply(
        &self,
        merger: &mut Merger,
        cursor: Cursor,
        changes: TypeChanges,
    ) -> Result<usize, MergeError> {
        let applying = Applying::of(merger.resource_type(), &changes.previews);
        applying.while_it(self.show(merger, cursor, changes)).await
    }

    async fn show(
        &self,
        merger: &mut Merger,
        cursor: Cursor,
        changes: TypeChanges,
    ) -> Result<usize, MergeError> {
        let received: Vec<DateTime<Utc>> = changes.previews.iter().map(|preview| preview.received).collect();
        let read: Vec<DateTime<Utc>> = changes.readings.iter().map(|reading| reading.as_of).collect();
        let mut shown = 0;
        if merger.begin(cursor, changes).await? == Stepped::Nothing {
            return Ok(0);
        }
        let mut read = read.iter();
        loop {
            let stepped = merger.commit(PAGE).await?;
            let (Stepped::Page(page) | Stepped::Last(page)) = stepped else {
                return Ok(shown);
            };
            shown += self.committed(page, read.by_ref().take(PAGE), &received);
            if let Stepped::Last(_) = stepped {
                return Ok(shown);
            }
        }
    }

    /// A page is committed: whoever waits looks again, and it is measured how long it took.
    fn committed<'a>(
        &self,
        page: AppliedPage,
        read: impl Iterator<Item = &'a DateTime<Utc>>,
        received: &[DateTime<Utc>],
    ) -> usize {
        self.applied.send_modify(|count| *count += 1);
        self.metrics.pages.inc();
        let seconds = |since: DateTime<Utc>, now: DateTime<Utc>| (now - since).as_seconds_f64();
        if page.readings > 0 {
            let now = self.hapi_clock.now();
            read.for_each(|as_of| self.metrics.visible(Event::Reading, seconds(*as_of, now)));
        }
        if page.previews > 0 {
            let now = self.hapi_clock.local();
            for at in received {
                self.metrics.visible(Event::Webhook, seconds(*at, now));
            }
        }
        for (event, count) in [(Event::Reading, page.readings), (Event::Webhook, page.previews)] {
            self.metrics
                .applied
                .get_or_create(&EventLabel { event })
                .inc_by(count as u64);
        }
        let shown = page.readings + page.previews;
        self.statistics.applied(shown);
        shown
    }
}

/// Types that are left alone for a while, since their changes could not be applied: until when, and how long that pause is.
#[derive(Default)]
struct Resting(HashMap<String, (Instant, Duration)>);

impl Resting {
    /// Of these types, those that do not rest.
    fn awake(&mut self, mut names: Vec<String>) -> Vec<String> {
        let now = Instant::now();
        self.0
            .retain(|name, (until, _)| names.contains(name) && until.elapsed() < STEADY);
        names.retain(|name| self.0.get(name).is_none_or(|(until, _)| *until <= now));
        names
    }

    /// When the next one is awake again.
    fn due(&self) -> Option<Instant> {
        let now = Instant::now();
        self.0
            .values()
            .map(|(until, _)| *until)
            .filter(|until| *until > now)
            .min()
    }

    fn add(&mut self, name: &str, error: &MergeError) {
        let last = self.0.get(name).map(|(_, pause)| *pause * 2);
        let pause = last.map_or(TYPE_BACK_OFF[0], |pause| pause.min(TYPE_BACK_OFF[1]));
        tracing::warn!(resource_type = name, reason = %error, pause_ms = pause.as_millis(), "merging of a type is interrupted");
        self.0.insert(name.to_owned(), (Instant::now() + pause, pause));
    }
}

/// How long an answer may wait, if something is due.
fn wait_until(due: Option<Instant>) -> TimeDelta {
    due.and_then(|due| TimeDelta::from_std(due.saturating_duration_since(Instant::now())).ok())
        .map_or(WAIT, |left| left.min(WAIT))
}

/// The later of two marks.
fn later(a: Option<Mark>, b: Option<Mark>) -> Option<Mark> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if a.n >= b.n { a } else { b }),
        (a, b) => a.or(b),
    }
}

/// The stream of answers, one at a time.
struct AnswerStream {
    requests: mpsc::Sender<proto::speed::ChangesRequest>,
    answers: Streaming<proto::speed::ChangesResponse>,
}

impl AnswerStream {
    async fn open(mut speed: SpeedServiceClient<Line>) -> Result<Self, MergeError> {
        let (requests, sent) = mpsc::channel(1);
        let opened = tokio::time::timeout(LATE, speed.changes(ReceiverStream::new(sent))).await;
        let answers = opened
            .map_err(|_| late())?
            .map_err(|status| source(&status))?
            .into_inner();
        Ok(Self { requests, answers })
    }

    /// One answer, by type.
    async fn ask(&mut self, changes: Changes) -> Result<HashMap<String, TypeChanges>, MergeError> {
        let patience = changes.wait.to_std().unwrap_or_default() + LATE;
        let request = proto::speed::ChangesRequest::from(&changes);
        self.requests
            .send(request)
            .await
            .map_err(|_| MergeError::Source("the stream has ended".into()))?;
        let mut answer: HashMap<String, TypeChanges> = HashMap::new();
        loop {
            let next = tokio::time::timeout(patience, self.answers.message())
                .await
                .map_err(|_| late())?;
            let part = next.map_err(|status| source(&status))?;
            let part = part.ok_or_else(|| MergeError::Source("the stream has ended".into()))?;
            match ChangesPart::try_from(part).map_err(|invalid| MergeError::Source(invalid.to_string()))? {
                ChangesPart::Readings(name, readings) => {
                    of(&mut answer, name).readings.extend(readings);
                }
                ChangesPart::Previews(name, previews) => {
                    of(&mut answer, name).previews.extend(previews);
                }
                ChangesPart::End(marks) => {
                    for (name, mark) in marks {
                        of(&mut answer, name).mark = mark;
                    }
                    return Ok(answer);
                }
            }
        }
    }
}

fn of(answer: &mut HashMap<String, TypeChanges>, name: String) -> &mut TypeChanges {
    answer.entry(name).or_default()
}

fn source(status: &tonic::Status) -> MergeError {
    MergeError::Source(format!("{:?}: {}", status.code(), status.message()))
}

fn late() -> MergeError {
    MergeError::Source("no answer came in time".into())
}

/// A client of `SpeedService` that takes answers of any size that the contract allows.
pub(crate) fn speed_client(line: Line) -> SpeedServiceClient<Line> {
    SpeedServiceClient::new(line)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}
