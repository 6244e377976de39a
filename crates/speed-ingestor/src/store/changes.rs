//! What goes out: changes for the merger (rule 8), and what was written lately.

use std::collections::HashMap;

use api::speed::{Preview, Reading};
use chrono::{DateTime, Utc};
use fhir_core::{merge::Position, resource::State};
use redis::Value;

use super::{LIFE, Life, MARK, SpeedStore, StoreError, TypeKey, codec, scripts};

/// Ids that are asked for in one script.
const IDS_A_PAGE: usize = 500;
/// About how many bytes of bodies a page holds; a larger body makes a page of its own.
const BYTES_A_PAGE: usize = 1024 * 1024;

/// The atomic part of an answer: the mark, which readings are later than the cursor, and the previews, which are taken by it.
#[derive(Debug)]
pub struct ChangesRead {
    /// The mark of the type.
    pub mark: Option<Position>,
    /// In the order in which they came.
    pub previews: Vec<Preview>,
    resource_type: String,
    life: Life,
    /// Sorted; those from `next` on are still to be fetched.
    ids: Vec<String>,
    next: usize,
}

/// A state of a resource that was written lately.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recent {
    /// The state.
    pub state: State,
    /// A webhook's body, not yet confirmed by a reading.
    pub preview: bool,
}

impl SpeedStore {
    /// Whether [`read_changes`](Self::read_changes) would give anything.
    pub async fn has_changes(&self, resource_type: &str, cursor: i64) -> Result<bool, StoreError> {
        let mut ask = scripts::HAS_CHANGES.prepare_invoke();
        ask.key(self.key(MARK))
            .key(self.type_key(TypeKey::Held, resource_type))
            .key(self.type_key(TypeKey::Previews, resource_type))
            .arg(resource_type)
            .arg(cursor);
        Ok(ask.invoke_async::<u8>(&mut self.reads.clone()).await? == 1)
    }

    /// Mark, ids held with n above the cursor and previews, in one script; the previews are taken. Then ask for [`next_readings`](Self::next_readings).
    pub async fn read_changes(&self, resource_type: &str, cursor: i64) -> Result<ChangesRead, StoreError> {
        let mut read = scripts::READ_CHANGES.prepare_invoke();
        read.key(self.key(LIFE))
            .key(self.key(MARK))
            .key(self.type_key(TypeKey::Held, resource_type))
            .key(self.type_key(TypeKey::Previews, resource_type))
            .key(self.type_key(TypeKey::PreviewBytes, resource_type))
            .arg(resource_type)
            .arg(cursor);
        let (life, mark, mut ids, previews): (String, String, Vec<String>, Vec<Vec<u8>>) =
            read.invoke_async(&mut self.reads.clone()).await?;
        ids.sort_unstable();
        Ok(ChangesRead {
            mark: if mark.is_empty() {
                None
            } else {
                Some(codec::decode_position(&mark)?)
            },
            previews: previews
                .into_iter()
                .map(codec::decode_preview)
                .collect::<Result<_, _>>()?,
            resource_type: resource_type.to_owned(),
            life: Life(life),
            ids,
            next: 0,
        })
    }

    /// The next page of readings, in the order of their ids; `None` when all were given. One that has left meanwhile is left out, so a page may be
    /// empty. [`StoreError::Restarted`] if the store is in another life: the answer must be asked for again.
    pub async fn next_readings(&self, read: &mut ChangesRead) -> Result<Option<Vec<Reading>>, StoreError> {
        let rest = &read.ids[read.next..];
        if rest.is_empty() {
            return Ok(None);
        }
        let (readings, looked_at) = self
            .bodies(
                Some(&read.life),
                &read.resource_type,
                &rest[..rest.len().min(IDS_A_PAGE)],
            )
            .await?;
        read.next += looked_at;
        Ok(Some(readings))
    }

    /// The readings of these ids that fit into a page, and how many ids were looked at.
    async fn bodies(
        &self,
        life: Option<&Life>,
        resource_type: &str,
        ids: &[String],
    ) -> Result<(Vec<Reading>, usize), StoreError> {
        let mut ask = scripts::READ_BODIES.prepare_invoke();
        ask.key(self.key(LIFE))
            .arg(life.map_or("", |life| &life.0))
            .arg(self.reading_prefix(resource_type))
            .arg(BYTES_A_PAGE)
            .arg(ids);
        let page: Vec<Value> = ask.invoke_async(&mut self.reads.clone()).await?;
        let (Some(Value::Int(1)), looked_at) = (page.first(), page.len().saturating_sub(1)) else {
            return Err(StoreError::Restarted);
        };
        let mut readings = Vec::with_capacity(looked_at);
        for (id, fields) in ids.iter().zip(page.into_iter().skip(1)) {
            let fields: Option<codec::Fields> =
                redis::from_redis_value(fields).map_err(|_| StoreError::Corrupt("readings"))?;
            if let Some(mut fields) = fields {
                readings.push(codec::reading(id.clone(), &mut fields)?);
            }
        }
        Ok((readings, looked_at))
    }

    /// Resources with a `lastUpdated` at or after `since`, newest first, at most `limit`: the later of reading and preview by version, a reading where both
    /// are the same. Deletions are among them.
    pub async fn scan_recent(
        &self,
        resource_type: &str,
        since: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<Recent>, StoreError> {
        let mut pipe = redis::pipe();
        pipe.cmd("ZREVRANGEBYSCORE")
            .arg(self.type_key(TypeKey::Recent, resource_type))
            .arg("+inf")
            .arg(since.timestamp_micros())
            .arg("LIMIT")
            .arg(0)
            .arg(limit)
            .lrange(self.type_key(TypeKey::Previews, resource_type), 0, -1);
        let (ids, queued): (Vec<String>, Vec<Vec<u8>>) = pipe.query_async(&mut self.reads.clone()).await?;

        let mut found: HashMap<String, Recent> = HashMap::new();
        for entry in queued {
            let Preview { state, .. } = codec::decode_preview(entry)?;
            if state.last_updated >= since
                && found
                    .get(&state.id)
                    .is_none_or(|known| known.state.version < state.version)
            {
                found.insert(state.id.clone(), Recent { state, preview: true });
            }
        }
        // Of an id with a preview the reading is needed too, even if it is older than `since`.
        let mut asked = ids;
        let known: std::collections::HashSet<&String> = asked.iter().collect();
        let more: Vec<String> = found.keys().filter(|id| !known.contains(id)).cloned().collect();
        asked.extend(more);
        let mut rest = asked.as_slice();
        while !rest.is_empty() {
            let (readings, looked_at) = self
                .bodies(None, resource_type, &rest[..rest.len().min(IDS_A_PAGE)])
                .await?;
            rest = &rest[looked_at..];
            for Reading { state, .. } in readings {
                match found.get(&state.id) {
                    Some(preview) if preview.state.version > state.version => {}
                    _ if state.last_updated < since => {
                        found.remove(&state.id);
                    }
                    _ => {
                        found.insert(
                            state.id.clone(),
                            Recent {
                                state,
                                preview: false,
                            },
                        );
                    }
                }
            }
        }
        let mut recent: Vec<Recent> = found.into_values().collect();
        recent.sort_by(|a, b| (b.state.last_updated, &a.state.id).cmp(&(a.state.last_updated, &b.state.id)));
        recent.truncate(limit);
        Ok(recent)
    }
}
