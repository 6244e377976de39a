//! The batch layer's readings of the HAPI in memory: from the later of mark and watermark, with the previews that are shown.

use std::sync::{Arc, Mutex};

use api::{ServiceError, batch::TypeReading};
use chrono::TimeDelta;
use e2e::whole::Whole;
use fhir_core::{
    merge::{Mark, Position},
    resource::State,
};
use speed_ingestor::tail::ChangesReader;

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

impl ChangesReader for Reader {
    type Begun = (i64, i64);
    type Opened = Whole;

    async fn begin(&self) -> Result<(i64, i64), ServiceError> {
        let world = self.0.lock().unwrap();
        Ok(world.hapi.clock(world.now))
    }

    async fn open(
        &self,
        clock: (i64, i64),
        since: Vec<(String, Option<Position>)>,
        window: Option<TimeDelta>,
    ) -> Result<Option<Whole>, ServiceError> {
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
        Ok(Some(Whole {
            resource_type: PATIENT,
            mark: Mark {
                n: position.n,
                as_of: position.as_of,
            },
            states: states.into_iter(),
            end: vec![TypeReading {
                resource_type: PATIENT.into(),
                position: floor.is_none_or(|floor| floor <= since.bound).then_some(position),
                full_refresh_needed: false,
                published_n: views.published.n,
                refresh_nudged: false,
            }],
        }))
    }
}
