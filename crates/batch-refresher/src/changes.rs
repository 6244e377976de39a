//! `ReadChanges`: one reading for the speed layer's tail (rules 1 to 3 and 5).
//!
//! For each type the reading goes on from the later of the caller's position and the batch's watermark, and takes in the ids whose shown state is a
//! preview. What it cannot promise it says: no position where the window was capped, where HAPI's database is another one, or where so much
//! has changed that a refresh is the better way.

use std::time::Duration;

use api::{
    MAX_MESSAGE_BYTES,
    batch::{ReadChanges, ReadChangesPart, TypeReading, TypedState},
};
use async_stream::try_stream;
use chrono::{DateTime, TimeDelta, Utc};
use fhir_core::{
    merge::Position,
    resource::{Content, State},
};
use futures::{Stream, StreamExt as _};
use tokio::time::Instant;
use view_store::{RunKind, ViewStore};

use crate::{
    hapi::{Hapi, HapiError, body_bytes},
    measures::Measures,
    messages::{MESSAGE, messages},
    reading::{OpenReading, Reading, ReadingError, TypeAtDraw},
    refresher::Refresher,
};

/// The largest body that a message can carry, with what else it holds.
const LARGEST_BODY: usize = MAX_MESSAGE_BYTES - MESSAGE;

/// How long a statement of a reading for others may take: a little longer than the tail waits for the next part of a sweep.
const STATEMENT_LIMIT: Duration = Duration::from_mins(5);

/// Makes readings for others.
#[derive(Clone)]
pub struct Changes {
    /// HAPI.
    pub hapi: Hapi,
    /// The views, which hold the number and the watermarks.
    pub store: ViewStore,
    /// Who is asked for a refresh where one must come first.
    pub refresher: Refresher,
    /// Changes of a type that a reading carries at most.
    pub max_changes: usize,
    /// Metrics.
    pub measures: Measures,
}

/// What a reading has to read of a type.
pub struct Plan {
    /// What may be concluded once the states of `ids` were handed on.
    pub reading: TypeReading,
    /// Ids whose current states are wanted.
    pub ids: Vec<String>,
}

impl Changes {
    /// One reading, streamed: header, states, footer. An error ends it without a footer: then nothing may be concluded.
    pub fn read(
        self,
        request: ReadChanges,
    ) -> impl Stream<Item = Result<ReadChangesPart, ReadingError>> + Send + 'static {
        let measures = self.measures.clone();
        self.parts(request).inspect(move |part| {
            if part.is_err() {
                measures.reading_failures.inc();
            }
        })
    }

    fn parts(
        self,
        request: ReadChanges,
    ) -> impl Stream<Item = Result<ReadChangesPart, ReadingError>> + Send + 'static {
        try_stream! {
            let begun = Instant::now();
            let types: Vec<&str> = request.since.iter().map(|(t, _)| t.as_str()).collect();
            let mut open = Reading::begin(&self.hapi).await?.open(&self.store, &types).await?;
            open.limit_statements(STATEMENT_LIMIT).await?;
            yield ReadChangesPart::Header { n: open.n(), as_of: open.as_of() };
            let floor = request.window.map(|window| floor(open.as_of(), window));
            let at_draw = open.types().to_vec();
            let mut readings = Vec::with_capacity(at_draw.len());
            for ((resource_type, held), drawn) in request.since.iter().zip(at_draw) {
                let (drawn, published_n) = going_on_from(drawn, held.as_ref(), request.from_here);
                let mut plan = plan(&mut open, held.clone(), drawn, floor, self.max_changes).await?;
                plan.reading.published_n = published_n;
                if plan.reading.full_refresh_needed || plan.reading.refresh_nudged {
                    self.refresher.nudge(resource_type, RunKind::Incremental);
                }
                let mut states = std::pin::pin!(open.states(resource_type, plan.ids));
                while let Some(chunk) = states.next().await {
                    let chunk = chunk?;
                    self.measures.reading_states.inc_by(chunk.len() as u64);
                    for states in messages(chunk.into_iter().map(carried), body_bytes) {
                        yield ReadChangesPart::States(
                            states.into_iter().map(|state| TypedState { resource_type: resource_type.clone(), state }).collect(),
                        );
                    }
                }
                readings.push(plan.reading);
            }
            self.measures.note_cost(open.cost());
            drop(open);
            self.measures.note_margin(&self.hapi);
            self.measures.readings.inc();
            self.measures.reading_duration.observe(begun.elapsed().as_secs_f64());
            yield ReadChangesPart::Footer(readings);
        }
    }
}

/// What an open reading has to read of a type (rules 3 and 5): what has changed since the later of the position that the tail holds and the batch's
/// watermark, and the ids whose shown state is a preview. No versions dated before `floor`; at most `max_changes`.
pub async fn plan(
    open: &mut OpenReading,
    held: Option<Position>,
    drawn: TypeAtDraw,
    floor: Option<DateTime<Utc>>,
    max_changes: usize,
) -> Result<Plan, HapiError> {
    let TypeAtDraw {
        resource_type,
        published,
        shown_previews,
    } = drawn;
    let mut reading = TypeReading {
        resource_type,
        position: None,
        full_refresh_needed: false,
        published_n: published.as_ref().map_or(0, |p| p.n),
        refresh_nudged: false,
    };
    let Some(since) = later(held, published).filter(|since| open.goes_on_from(since)) else {
        reading.full_refresh_needed = true;
        return Ok(Plan {
            reading,
            ids: Vec::new(),
        });
    };
    let mut ids = open
        .changed_since(&reading.resource_type, &since, floor, Some(max_changes + 1))
        .await?;
    if ids.len() > max_changes {
        reading.refresh_nudged = true;
        return Ok(Plan {
            reading,
            ids: Vec::new(),
        });
    }
    // A window that begins later than the bound has left out what an open transaction may still have committed: it promises nothing.
    if floor.is_none_or(|floor| floor <= since.bound) {
        reading.position = Some(open.position());
    }
    ids.extend(shown_previews);
    Ok(Plan { reading, ids })
}

/// Without its watermark, if the reading is to go on from the caller's position whatever the batch has covered since; and the number of the watermark.
fn going_on_from(mut drawn: TypeAtDraw, held: Option<&Position>, from_here: bool) -> (TypeAtDraw, i64) {
    let published_n = drawn.published.as_ref().map_or(0, |published| published.n);
    if from_here && held.is_some() {
        drawn.published = None;
    }
    (drawn, published_n)
}

/// No version is dated before it. A window may be of any length; nothing was written before 1970.
fn floor(as_of: DateTime<Utc>, window: TimeDelta) -> DateTime<Utc> {
    as_of
        .checked_sub_signed(window)
        .map_or(DateTime::UNIX_EPOCH, |floor| floor.max(DateTime::UNIX_EPOCH))
}

/// A state that no message can carry is said to be so: the reading goes on.
fn carried(mut state: State) -> State {
    if body_bytes(&state) > LARGEST_BODY {
        state.content = Content::Unreadable("its body is larger than a message may be".to_owned());
    }
    state
}

/// The later of two positions, by number.
fn later(a: Option<Position>, b: Option<Position>) -> Option<Position> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if b.n > a.n { b } else { a }),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(n: i64) -> Position {
        let at = "2026-11-22T10:00:00Z".parse().unwrap();
        Position {
            n,
            as_of: at,
            bound: at,
            xmin: 1,
            timeline: "t".into(),
        }
    }

    #[test]
    fn a_state_that_is_too_large_for_a_message_goes_without_its_body() {
        let state = |bytes: usize| State {
            content: Content::Body(vec![b' '; bytes]),
            ..State::gone("a", DateTime::UNIX_EPOCH)
        };
        assert_eq!(carried(state(LARGEST_BODY)), state(LARGEST_BODY));
        let cut = carried(state(LARGEST_BODY + 1));
        assert!(matches!(cut.content, Content::Unreadable(_)));
    }

    #[test]
    fn a_window_may_be_of_any_length() {
        let now = "2026-11-22T10:00:00Z".parse().unwrap();
        assert_eq!(floor(now, TimeDelta::hours(10)), now - TimeDelta::hours(10));
        assert_eq!(floor(now, TimeDelta::MAX), DateTime::UNIX_EPOCH);
        assert_eq!(floor(now, TimeDelta::days(365_000)), DateTime::UNIX_EPOCH);
    }

    #[test]
    fn what_was_covered_is_read_again_only_where_that_is_asked_for() {
        let drawn = || TypeAtDraw {
            resource_type: "Patient".into(),
            published: Some(position(5)),
            shown_previews: Vec::new(),
        };
        let since = |held: Option<Position>, from_here: bool| {
            let (drawn, published_n) = going_on_from(drawn(), held.as_ref(), from_here);
            assert_eq!(published_n, 5);
            later(held, drawn.published).map(|since| since.n)
        };
        assert_eq!(since(Some(position(3)), false), Some(5));
        assert_eq!(since(Some(position(3)), true), Some(3));
        assert_eq!(since(None, true), Some(5));
    }

    #[test]
    fn a_reading_goes_on_from_the_later_position() {
        assert_eq!(later(None, None), None);
        assert_eq!(later(Some(position(3)), None).unwrap().n, 3);
        assert_eq!(later(Some(position(3)), Some(position(5))).unwrap().n, 5);
        assert_eq!(later(Some(position(7)), Some(position(5))).unwrap().n, 7);
    }
}
