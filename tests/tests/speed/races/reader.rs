//! The batch layer's readings of the HAPI in memory: from the later of mark and watermark, with the previews that are shown.

use std::sync::{Arc, Mutex};

use api::{
    ServiceError,
    batch::{TypeReading, TypedState},
};
use chrono::TimeDelta;
use fhir_core::{
    merge::{Mark, Position},
    resource::State,
};
use speed_ingestor::tail::{ChangesReader, OpenedReading, ReadingPart};

use super::{
    PATIENT,
    hapi::{Hapi, moment},
    views::Views,
};

/// HAPI and the views, as readings need both.
pub(crate) struct World {
    pub(crate) now: i64,
    pub(crate) hapi: Hapi,
    pub(crate) views: Views,
}

/// Readings of the world.
pub(crate) struct Reader(pub(crate) Arc<Mutex<World>>);

pub(crate) struct Opened {
    mark: Mark,
    states: std::vec::IntoIter<State>,
    end: Option<TypeReading>,
}

impl ChangesReader for Reader {
    type Begun = (i64, i64);
    type Opened = Opened;

    async fn begin(&self) -> Result<(i64, i64), ServiceError> {
        let world = self.0.lock().unwrap();
        Ok(world.hapi.clock(world.now))
    }

    async fn open(
        &self,
        clock: (i64, i64),
        since: Vec<(String, Option<Position>)>,
        window: Option<TimeDelta>,
    ) -> Result<Option<Opened>, ServiceError> {
        let mut world = self.0.lock().unwrap();
        let World { now, hapi, views } = &mut *world;
        views.number += 1;
        let position = hapi.position(views.number, clock);
        // The later of the mark and the watermark.
        let held = since.into_iter().find_map(|(_, held)| held);
        let since = held.filter(|held| held.n > views.published.n);
        let since = since.unwrap_or_else(|| views.published.clone());
        let floor = window.map(|window| moment(*now, 0) - window);
        let mut ids = hapi.changed_since(&since, floor);
        ids.extend(views.shown_previews());
        let states: Vec<State> = ids.iter().map(|id| hapi.current(id, clock.0)).collect();
        Ok(Some(Opened {
            mark: Mark {
                n: position.n,
                as_of: position.as_of,
            },
            states: states.into_iter(),
            end: Some(TypeReading {
                resource_type: PATIENT.into(),
                position: floor.is_none_or(|floor| floor <= since.bound).then_some(position),
                full_refresh_needed: false,
                published_n: views.published.n,
                refresh_nudged: false,
            }),
        }))
    }
}

impl OpenedReading for Opened {
    fn mark(&self) -> Mark {
        self.mark
    }

    async fn next(&mut self) -> Result<ReadingPart, ServiceError> {
        Ok(match self.states.next() {
            Some(state) => ReadingPart::States(vec![TypedState {
                resource_type: PATIENT.into(),
                state,
            }]),
            None => ReadingPart::End(self.end.take().into_iter().collect()),
        })
    }
}
