//! A numbered reading of HAPI (rules 1 to 3).
//!
//! Clock and bound come first; then the number is drawn and the snapshot opened under the lock of the number's row, so that the order of
//! numbers is the order of snapshots, whichever replica reads.

use std::time::Duration;

use chrono::{DateTime, Utc};
use fhir_core::{merge::Position, resource::State};
use futures::{Stream, stream};
use view_store::{StoreError, ViewStore};

use crate::hapi::{Clock, Cost, FIRST_CHUNK, Hapi, HapiError, HapiSnapshot, Misdated, next_chunk};

/// Why a reading failed.
#[derive(Debug, thiserror::Error)]
pub enum ReadingError {
    /// HAPI's side.
    #[error(transparent)]
    Hapi(#[from] HapiError),
    /// The views' side.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A reading that has begun: clock and bound are read.
pub struct Reading {
    hapi: Hapi,
    clock: Clock,
}

/// A reading with its number and its snapshot.
pub struct OpenReading {
    n: i64,
    clock: Clock,
    types: Vec<TypeAtDraw>,
    snapshot: HapiSnapshot,
}

/// What the views' database held of a type when the number was drawn.
#[derive(Debug, Clone)]
pub struct TypeAtDraw {
    /// The type.
    pub resource_type: String,
    /// The batch's watermark.
    pub published: Option<Position>,
    /// Ids whose shown state is a preview.
    pub shown_previews: Vec<String>,
}

impl Reading {
    /// Reads the clock, then the oldest open transaction.
    pub async fn begin(hapi: &Hapi) -> Result<Self, HapiError> {
        Ok(Self {
            hapi: hapi.clone(),
            clock: hapi.clock().await?,
        })
    }

    /// Draws the number and opens the snapshot. The snapshot is used only after the number is durable.
    pub async fn open(self, store: &ViewStore, types: &[&str]) -> Result<OpenReading, ReadingError> {
        let Self { hapi, clock } = self;
        let (drawn, snapshot) = store
            .draw_number(types, async || hapi.snapshot().await.map_err(ReadingError::from))
            .await?;
        let types = types
            .iter()
            .zip(drawn.published.into_iter().zip(drawn.shown_previews))
            .map(|(t, (published, shown_previews))| TypeAtDraw {
                resource_type: (*t).to_owned(),
                published,
                shown_previews,
            })
            .collect();
        Ok(OpenReading {
            n: drawn.n,
            clock,
            types,
            snapshot,
        })
    }
}

impl OpenReading {
    /// The number.
    pub fn n(&self) -> i64 {
        self.n
    }

    /// T.
    pub fn as_of(&self) -> DateTime<Utc> {
        self.clock.as_of
    }

    /// What was known of the asked types when the number was drawn, in the asked order.
    pub fn types(&self) -> &[TypeAtDraw] {
        &self.types
    }

    /// Where the next reading goes on from.
    pub fn position(&self) -> Position {
        Position {
            n: self.n,
            as_of: self.clock.as_of,
            bound: self.clock.bound,
            xmin: self.snapshot.xmin,
            timeline: self.snapshot.timeline.clone(),
        }
    }

    /// What it has cost HAPI's PostgreSQL so far, but for tags and large objects, which are rarely read.
    pub fn cost(&self) -> Cost {
        self.snapshot.cost()
    }

    /// Each statement of this reading may take so long.
    pub async fn limit_statements(&mut self, limit: Duration) -> Result<(), HapiError> {
        self.snapshot.limit_statements(limit).await
    }

    /// Whether a position belongs to the timeline of this reading: after a restore transaction numbers are given again.
    pub fn goes_on_from(&self, position: &Position) -> bool {
        position.timeline == self.snapshot.timeline
    }

    /// Ids with a version that is visible now and may not have been at `since`; none dated before `floor`; at most `limit`.
    pub async fn changed_since(
        &mut self,
        resource_type: &str,
        since: &Position,
        floor: Option<DateTime<Utc>>,
        limit: Option<usize>,
    ) -> Result<Vec<String>, HapiError> {
        self.snapshot
            .changed_since(resource_type, since, floor, limit)
            .await
    }

    /// Among the newest versions those that [`changed_since`](Self::changed_since) does not find by their date.
    pub async fn misdated_since(
        &mut self,
        resource_type: &str,
        since: &Position,
    ) -> Result<Misdated, HapiError> {
        self.snapshot.misdated_since(resource_type, since).await
    }

    /// The current states of these ids in the order of the ids, each once, in chunks; an id that HAPI has no row of is gone at T.
    pub fn states<'a>(
        &'a mut self,
        resource_type: &'a str,
        mut ids: Vec<String>,
    ) -> impl Stream<Item = Result<Vec<State>, HapiError>> + Send + 'a {
        ids.sort_unstable();
        ids.dedup();
        let at = self.clock.as_of;
        stream::try_unfold(
            (&mut self.snapshot, ids, 0, FIRST_CHUNK),
            move |(snapshot, ids, from, chunk)| async move {
                if from >= ids.len() {
                    return Ok(None);
                }
                let to = (from + chunk).min(ids.len());
                let states = snapshot.states(resource_type, &ids[from..to], at).await?;
                let chunk = next_chunk(&states);
                Ok(Some((states, (snapshot, ids, to, chunk))))
            },
        )
    }
}
