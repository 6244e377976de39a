//! What goes out to the merger (rule 8).

use api::speed::{Preview, Reading};
use fhir_core::merge::Position;
use redis::Value;

use super::{LIFE, Life, MARK, SavedReading, SpeedStore, StoreError, TypeKey, codec, scripts};

/// Ids that are asked for in one script.
pub(super) const IDS_A_PAGE: usize = 500;
/// About how many bytes of bodies a page holds; a larger body makes a page of its own.
const BYTES_A_PAGE: usize = 1024 * 1024;

/// As `read_changes.lua` gives it: life, mark, ids, previews, time.
type Answer = (String, String, Vec<String>, Vec<Vec<u8>>, (i64, i64));

/// The atomic part of an answer: the mark, which readings are later than the cursor, and the previews, which are taken by it.
#[derive(Debug)]
pub struct ChangesRead {
    /// The mark of the type.
    pub mark: Option<Position>,
    /// In the order in which they came, without those whose time is over.
    pub previews: Vec<Preview>,
    resource_type: String,
    life: Life,
    /// Sorted; those from `next` on are still to be fetched.
    ids: Vec<String>,
    next: usize,
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
            .key(self.type_key(TypeKey::PreviewSizes, resource_type))
            .arg(resource_type)
            .arg(cursor);
        let (life, mark, mut ids, previews, time): Answer =
            read.invoke_async(&mut self.reads.clone()).await?;
        ids.sort_unstable();
        let now = codec::redis_time(time)?;
        Ok(ChangesRead {
            mark: if mark.is_empty() {
                None
            } else {
                Some(codec::decode_position(&mark)?)
            },
            previews: previews
                .into_iter()
                .filter_map(|entry| codec::decode_preview(entry, now).transpose())
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
        Ok(Some(readings.into_iter().map(|saved| saved.reading).collect()))
    }

    /// The readings of these ids that fit into a page, and how many ids were looked at.
    pub(super) async fn bodies(
        &self,
        life: Option<&Life>,
        resource_type: &str,
        ids: &[String],
    ) -> Result<(Vec<SavedReading>, usize), StoreError> {
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
}
