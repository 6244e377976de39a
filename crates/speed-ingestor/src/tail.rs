//! The tail: reads HAPI's committed versions in rounds and offers them to the speed store (rule 5). Faster than HAPI's webhook, and complete.
//!
//! A round is a state machine: *begin* (the life of the store, the clock of HAPI), *snapshot* (the reading, from the later of the store's mark and
//! the batch's watermark), *write* (offers, as the states come), and last the mark. Each [`Tail::step`] is one of these, so a test can stop between
//! any two. A round writes no mark if the store's life has changed since it began: what it has offered may be lost.
//! Where a reading cannot promise anything (a capped window, a full refresh that must come first) its type gets no mark.

use std::future::Future;

use api::{
    ServiceError,
    batch::{TypeReading, TypedState},
    speed::Reading,
};
use chrono::{DateTime, TimeDelta, Utc};
use fhir_core::merge::{Mark, Position};

use crate::store::{Life, Offered, SpeedStore, StoreError};

/// Whoever reads HAPI: the batch layer over gRPC, or its parts themselves in a test.
pub trait ChangesReader: Send + Sync {
    /// A reading whose clock was read, and nothing else.
    type Begun: Send;
    /// A reading whose snapshot is open.
    type Opened: OpenedReading;

    /// Reads the clock and the oldest open transaction (rule 1).
    fn begin(&self) -> impl Future<Output = Result<Self::Begun, ServiceError>> + Send;

    /// Draws the number and opens the snapshot (rule 2); finds what has changed since the later, by number, of the given position and the batch's
    /// watermark. `window`: read no versions that are older than this. `None`: a full refresh must come first, for every type.
    fn open(
        &self,
        begun: Self::Begun,
        since: Vec<(String, Option<Position>)>,
        window: Option<TimeDelta>,
    ) -> impl Future<Output = Result<Option<Self::Opened>, ServiceError>> + Send;
}

/// Whoever reads HAPI again from where it was read before.
pub trait RereadsFrom: ChangesReader {
    /// Like [`open`](ChangesReader::open), but from the given positions even where the batch's watermark is later, and without a window.
    fn open_from(
        &self,
        begun: Self::Begun,
        since: Vec<(String, Position)>,
    ) -> impl Future<Output = Result<Option<Self::Opened>, ServiceError>> + Send;
}

/// A reading whose snapshot is open.
pub trait OpenedReading: Send {
    /// Its number and clock.
    fn mark(&self) -> Mark;

    /// The next part; the end comes once, as the last one.
    fn next(&mut self) -> impl Future<Output = Result<ReadingPart, ServiceError>> + Send;
}

/// A part of a reading.
#[derive(Debug)]
pub enum ReadingPart {
    /// Current states of what has changed.
    States(Vec<TypedState>),
    /// The reading is whole: what may be concluded for each type.
    End(Vec<TypeReading>),
}

/// Rounds, one step at a time.
pub struct Tail<R: ChangesReader> {
    phase: Phase<R>,
    covered: Vec<(String, i64)>,
}

enum Phase<R: ChangesReader> {
    Begin,
    Snapshot {
        life: Life,
        begun: R::Begun,
    },
    Write {
        life: Life,
        opened: R::Opened,
        /// The store is full. The round reads on to its end, which says what the batch has covered: that may leave, and makes room.
        full: Option<StoreError>,
    },
}

/// What a step did.
#[derive(Debug, PartialEq, Eq)]
pub enum Stepped {
    /// The clock was read.
    Begun,
    /// The snapshot is open.
    Opened(Mark),
    /// States were offered.
    Offered(Vec<(String, Offered)>),
    /// The round is over, its marks are set.
    Finished(Vec<TypeReading>),
    /// The round is over without a mark: a full refresh must come first.
    NothingToGoOnFrom,
}

/// Why a step failed; the next one begins a new round.
#[derive(Debug, thiserror::Error)]
pub enum TailError {
    /// The speed store.
    #[error("the speed store: {0}")]
    Store(#[from] StoreError),
    /// The batch layer.
    #[error("the batch layer: {0}")]
    Read(#[from] ServiceError),
}

impl<R: ChangesReader> Default for Tail<R> {
    fn default() -> Self {
        Self {
            phase: Phase::Begin,
            covered: Vec::new(),
        }
    }
}

impl<R: ChangesReader> Tail<R> {
    /// Forgets the round under way.
    pub fn restart(&mut self) {
        self.phase = Phase::Begin;
    }

    /// Numbers of the batch's watermarks, by type, as the last reading that came to its end has said them; also of a round that failed.
    pub fn covered(&self) -> &[(String, i64)] {
        &self.covered
    }

    /// Whether the next step begins a round.
    pub fn is_between_rounds(&self) -> bool {
        matches!(self.phase, Phase::Begin)
    }

    /// One step. `resource_types` and `window` are those of the round whose snapshot this step opens; `now` is the time of receipt.
    pub async fn step(
        &mut self,
        reader: &R,
        store: &SpeedStore,
        resource_types: &[String],
        window: Option<TimeDelta>,
        now: DateTime<Utc>,
    ) -> Result<Stepped, TailError> {
        match std::mem::replace(&mut self.phase, Phase::Begin) {
            Phase::Begin => {}
            Phase::Snapshot { life, begun } => {
                if store.life().await? == life {
                    return self
                        .snapshot(reader, store, life, begun, resource_types, window)
                        .await;
                }
            }
            Phase::Write { life, opened, full } => {
                if let Some(stepped) = self.write(store, life, opened, full, now).await? {
                    return Ok(stepped);
                }
            }
        }
        // A new round; also where the store is in another life: what the round had written may be lost.
        let life = store.life().await?;
        let begun = reader.begin().await?;
        self.phase = Phase::Snapshot { life, begun };
        Ok(Stepped::Begun)
    }

    async fn snapshot(
        &mut self,
        reader: &R,
        store: &SpeedStore,
        life: Life,
        begun: R::Begun,
        resource_types: &[String],
        window: Option<TimeDelta>,
    ) -> Result<Stepped, TailError> {
        let marks = store.marks(resource_types).await?;
        let since = resource_types.iter().cloned().zip(marks).collect();
        let Some(opened) = reader.open(begun, since, window).await? else {
            return Ok(Stepped::NothingToGoOnFrom);
        };
        let mark = opened.mark();
        let full = None;
        self.phase = Phase::Write { life, opened, full };
        Ok(Stepped::Opened(mark))
    }

    /// `None`: the store is in another life.
    async fn write(
        &mut self,
        store: &SpeedStore,
        life: Life,
        mut opened: R::Opened,
        mut full: Option<StoreError>,
        now: DateTime<Utc>,
    ) -> Result<Option<Stepped>, TailError> {
        match opened.next().await? {
            ReadingPart::States(states) => {
                let Mark { n, as_of } = opened.mark();
                let mut offered = Vec::new();
                for (resource_type, readings) in by_type(states, n, as_of) {
                    if full.is_some() {
                        break;
                    }
                    match store
                        .offer_readings(Some(&life), &resource_type, &readings, now)
                        .await
                    {
                        Ok(Some(done)) => offered.push((resource_type, done)),
                        Ok(None) => return Ok(None),
                        Err(error @ StoreError::OutOfMemory(_)) => full = Some(error),
                        Err(error) => return Err(error.into()),
                    }
                }
                self.phase = Phase::Write { life, opened, full };
                Ok(Some(Stepped::Offered(offered)))
            }
            ReadingPart::End(types) => {
                self.covered = types
                    .iter()
                    .filter(|reading| reading.published_n > 0)
                    .map(|reading| (reading.resource_type.clone(), reading.published_n))
                    .collect();
                if let Some(error) = full {
                    return Err(error.into());
                }
                let marks: Vec<(&str, &Position)> = types
                    .iter()
                    .filter_map(|reading| Some((reading.resource_type.as_str(), reading.position.as_ref()?)))
                    .collect();
                let same_life = store.set_marks(&life, &marks).await?;
                Ok(same_life.then_some(Stepped::Finished(types)))
            }
        }
    }
}

/// Groups states by type, in the order in which the types first come.
pub(crate) fn by_type(states: Vec<TypedState>, n: i64, as_of: DateTime<Utc>) -> Vec<(String, Vec<Reading>)> {
    let mut grouped: Vec<(String, Vec<Reading>)> = Vec::new();
    for TypedState { resource_type, state } in states {
        let reading = Reading { state, n, as_of };
        match grouped.iter_mut().find(|(known, _)| *known == resource_type) {
            Some((_, readings)) => readings.push(reading),
            None => grouped.push((resource_type, vec![reading])),
        }
    }
    grouped
}
