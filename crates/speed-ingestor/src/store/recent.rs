//! What was written lately, in pages: readings, and previews that no merger has taken.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};

use api::speed::Preview;
use chrono::{DateTime, Utc};
use fhir_core::resource::State;

use super::changes::IDS_A_PAGE;
use super::{SpeedStore, StoreError, TypeKey, codec, scripts};

/// A state of a resource that was written lately.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recent {
    /// The state.
    pub state: State,
    /// A webhook's body, not yet confirmed by a reading.
    pub preview: bool,
}

/// A walk over what was written lately; [`SpeedStore::next_recent`] gives its pages. Holds the previews, which are bounded, then a page of readings, and
/// a number for each id that was given.
#[derive(Debug)]
pub struct RecentWalk {
    resource_type: String,
    since: DateTime<Utc>,
    /// The first page.
    previews: Vec<Recent>,
    /// Ids whose bodies are still to be fetched.
    ids: Vec<String>,
    /// Where the last page of ids ended: an id, and its `lastUpdated` as Redis writes it.
    last: Option<(String, String)>,
    over: bool,
    given: Given,
}

/// Ids that were given. A reading that comes while the walk goes on moves its id to the end, where it would be given again. Of a million ids, two
/// have the same number once in thirty million walks.
#[derive(Debug, Default)]
struct Given {
    keys: RandomState,
    numbers: HashSet<u64>,
}

impl Given {
    /// False: it was given before.
    fn is_new(&mut self, id: &str) -> bool {
        self.numbers.insert(self.keys.hash_one(id))
    }
}

impl SpeedStore {
    /// Begins a walk over the resources with a `lastUpdated` at or after `since`: of each the later of reading and preview by version, a reading where both are
    /// the same. Deletions are among them.
    pub async fn walk_recent(
        &self,
        resource_type: &str,
        since: DateTime<Utc>,
    ) -> Result<RecentWalk, StoreError> {
        let (time, queued): ((i64, i64), Vec<Vec<u8>>) = redis::pipe()
            .cmd("TIME")
            .lrange(self.type_key(TypeKey::Previews, resource_type), 0, -1)
            .query_async(&mut self.reads.clone())
            .await?;
        let now = codec::redis_time(time)?;
        let mut latest: HashMap<String, State> = HashMap::new();
        for entry in queued {
            let Some(Preview { state, .. }) = codec::decode_preview(entry, now)? else {
                continue;
            };
            let known = latest.get(&state.id);
            if state.last_updated >= since && known.is_none_or(|known| known.version < state.version) {
                latest.insert(state.id.clone(), state);
            }
        }
        let mut latest: Vec<State> = latest.into_values().collect();
        let mut previews = Vec::new();
        while !latest.is_empty() {
            let page = latest.split_off(latest.len().saturating_sub(IDS_A_PAGE));
            let held = self.held_versions(resource_type, &page).await?;
            let later = page
                .into_iter()
                .zip(held)
                .filter(|(state, held)| held.is_none_or(|held| state.version > held));
            previews.extend(later.map(|(state, _)| Recent { state, preview: true }));
        }
        let mut given = Given::default();
        previews.retain(|recent| given.is_new(&recent.state.id));
        Ok(RecentWalk {
            resource_type: resource_type.to_owned(),
            since,
            previews,
            ids: Vec::new(),
            last: None,
            over: false,
            given,
        })
    }

    /// The next page, in no order; `None` when all were given. What has left meanwhile is left out, so a page may be empty. No resource is given twice, nor
    /// passed over because it changes meanwhile: it is given as it was or as it has become.
    pub async fn next_recent(&self, walk: &mut RecentWalk) -> Result<Option<Vec<Recent>>, StoreError> {
        if !walk.previews.is_empty() {
            return Ok(Some(std::mem::take(&mut walk.previews)));
        }
        if walk.ids.is_empty() {
            self.next_ids(walk).await?;
        }
        if walk.ids.is_empty() {
            return Ok(None);
        }
        let (readings, looked_at) = self.bodies(None, &walk.resource_type, &walk.ids).await?;
        walk.ids.drain(..looked_at);
        let mut page = Vec::with_capacity(readings.len());
        for state in readings.into_iter().map(|saved| saved.reading.state) {
            // It may have moved back since its id was read: to before `since` too.
            if state.last_updated >= walk.since && walk.given.is_new(&state.id) {
                page.push(Recent {
                    state,
                    preview: false,
                });
            }
        }
        Ok(Some(page))
    }

    async fn next_ids(&self, walk: &mut RecentWalk) -> Result<(), StoreError> {
        if walk.over {
            return Ok(());
        }
        let (last, at) = walk.last.as_ref().map_or(("", ""), |(id, at)| (id, at));
        let mut read = scripts::READ_RECENT.prepare_invoke();
        read.key(self.type_key(TypeKey::Recent, &walk.resource_type))
            .arg(walk.since.timestamp_micros())
            .arg(last)
            .arg(at)
            .arg(IDS_A_PAGE);
        let mut page: Vec<(String, String)> = read.invoke_async(&mut self.reads.clone()).await?;
        walk.over = page.len() < IDS_A_PAGE;
        walk.ids = page.iter().map(|(id, _)| id.clone()).collect();
        walk.last = page.pop();
        Ok(())
    }

    /// The versions of the readings that are held of these resources.
    async fn held_versions(
        &self,
        resource_type: &str,
        states: &[State],
    ) -> Result<Vec<Option<i64>>, StoreError> {
        let prefix = self.reading_prefix(resource_type);
        let mut pipe = redis::pipe();
        for state in states {
            pipe.hget(format!("{prefix}{}", state.id), "version");
        }
        Ok(pipe.query_async(&mut self.reads.clone()).await?)
    }
}
