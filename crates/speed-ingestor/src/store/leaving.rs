//! What leaves: readings that the batch has covered (rule 6, law 4), and all of a type on demand.

use chrono::{DateTime, Utc};

use super::{LIFE, MARK, SpeedStore, StoreError, TypeKey, WEBHOOKS, scripts};

/// Readings that one script lets go: it holds up Redis for a few milliseconds.
const READINGS_A_SCRIPT: usize = 1_000;
/// How far the count of uncovered readings looks.
const UNCOVERED_LOOKED_AT: usize = 10_000;

/// What a release did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Released {
    /// Covered by the batch: they have an expiry now.
    pub covered: u64,
    /// Their time had come.
    pub expired: u64,
}

/// What a flush has forgotten.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flushed {
    /// Readings.
    pub readings: u64,
    /// Previews.
    pub previews: u64,
}

impl SpeedStore {
    /// Readings up to the number of the batch's watermark may leave (rule 6): they no longer are held, and expire when their time to live, reckoned from
    /// their receipt, is over. All others stay, whatever their age.
    pub async fn release(
        &self,
        resource_type: &str,
        published_n: i64,
        now: DateTime<Utc>,
    ) -> Result<Released, StoreError> {
        let mut released = Released::default();
        loop {
            let mut release = scripts::RELEASE.prepare_invoke();
            release
                .key(self.type_key(TypeKey::Held, resource_type))
                .key(self.type_key(TypeKey::Covered, resource_type))
                .key(self.type_key(TypeKey::Recent, resource_type))
                .arg(self.reading_prefix(resource_type))
                .arg(published_n)
                .arg(now.timestamp_millis())
                .arg(self.settings.time_to_live.num_milliseconds())
                .arg(READINGS_A_SCRIPT);
            let (covered, expired): (u64, u64) = release.invoke_async(&mut self.writes.clone()).await?;
            released.covered += covered;
            released.expired += expired;
            if covered.max(expired) < READINGS_A_SCRIPT as u64 {
                return Ok(released);
            }
        }
    }

    /// Memory is short: lets covered readings of a type go before their time, all of them. Returns how many went.
    pub async fn shed(&self, resource_type: &str) -> Result<u64, StoreError> {
        let mut shed = 0;
        loop {
            let mut ask = scripts::SHED.prepare_invoke();
            ask.key(self.type_key(TypeKey::Covered, resource_type))
                .key(self.type_key(TypeKey::Recent, resource_type))
                .arg(self.reading_prefix(resource_type))
                .arg(READINGS_A_SCRIPT);
            let went: u64 = ask.invoke_async(&mut self.writes.clone()).await?;
            shed += went;
            if went < READINGS_A_SCRIPT as u64 {
                return Ok(shed);
            }
        }
    }

    /// Memory is short, and nothing is covered: previews go, as readings stand in for them. Returns how many went.
    pub async fn drop_previews(&self, resource_type: &str) -> Result<u64, StoreError> {
        let keys = [TypeKey::Previews, TypeKey::PreviewBytes, TypeKey::PreviewSizes]
            .map(|kind| self.type_key(kind, resource_type));
        let mut pipe = redis::pipe();
        pipe.atomic().llen(&keys[0]).del(&keys).ignore();
        let (dropped,) = pipe.query_async(&mut self.writes.clone()).await?;
        Ok(dropped)
    }

    /// Forgets what is held of types that no view needs any more, or that were taken before it was known which are needed.
    pub async fn forget_others(&self, needed: &[String]) -> Result<Flushed, StoreError> {
        let mut others = self.kept_types().await?;
        others.extend(self.last_webhooks().await?.into_iter().map(|(of, _)| of));
        others.sort();
        others.dedup();
        others.retain(|known| !needed.contains(known));
        if others.is_empty() {
            return Ok(Flushed::default());
        }
        let flushed = self.flush(&others).await?;
        redis::cmd("HDEL")
            .arg(self.key(WEBHOOKS))
            .arg(&others)
            .query_async::<()>(&mut self.writes.clone())
            .await?;
        Ok(flushed)
    }

    /// How many readings are kept past their time to live because the batch has not covered them; 10,000 stands for that many or more.
    pub async fn uncovered_kept(&self, resource_type: &str, now: DateTime<Utc>) -> Result<u64, StoreError> {
        let mut count = scripts::UNCOVERED.prepare_invoke();
        count
            .key(self.type_key(TypeKey::Held, resource_type))
            .arg(self.reading_prefix(resource_type))
            .arg((now - self.settings.time_to_live).timestamp_micros())
            .arg(UNCOVERED_LOOKED_AT);
        Ok(count.invoke_async(&mut self.reads.clone()).await?)
    }

    /// Forgets all that is held of these types, marks too; the tail reads it again from the batch's watermark on.
    pub async fn flush(&self, resource_types: &[String]) -> Result<Flushed, StoreError> {
        let mut flushed = Flushed::default();
        for resource_type in resource_types {
            let mut flush = scripts::FLUSH.prepare_invoke();
            flush.key(self.key(LIFE)).key(self.key(MARK));
            for kind in [
                TypeKey::Held,
                TypeKey::Recent,
                TypeKey::Covered,
                TypeKey::Previews,
                TypeKey::PreviewBytes,
                TypeKey::PreviewSizes,
            ] {
                flush.key(self.type_key(kind, resource_type));
            }
            flush.arg(resource_type).arg(self.reading_prefix(resource_type));
            let (readings, previews): (u64, u64) = flush.invoke_async(&mut self.writes.clone()).await?;
            flushed.readings += readings;
            flushed.previews += previews;
        }
        self.notify();
        Ok(flushed)
    }
}
