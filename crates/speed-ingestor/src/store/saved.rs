//! What a backup takes out, and puts back.

use api::speed::Reading;
use chrono::{DateTime, Utc};

use super::{
    LIFE, Life, SpeedStore, StoreError, TypeKey,
    changes::IDS_A_PAGE,
    offer::{fits, put_args},
    scripts,
};

/// A reading with all that the store knows of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedReading {
    /// The reading.
    pub reading: Reading,
    /// When it was received: its time to live is reckoned from there.
    pub received: DateTime<Utc>,
}

/// How far the readings of a type were taken out.
#[derive(Debug)]
pub struct Saving {
    resource_type: String,
    life: Life,
    /// Of Redis' scan; `None` when it is through.
    cursor: Option<u64>,
    ids: Vec<String>,
    next: usize,
}

/// What became of readings that were put back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PutBack {
    /// Held now.
    pub put_back: u64,
    /// One of a later number was held.
    pub later: u64,
}

impl SpeedStore {
    /// All readings of a type, covered ones too, in no order. What is there all the while is among them, in its state then or a later one; what comes
    /// meanwhile may be. Then ask for [`next_saved`](Self::next_saved).
    pub fn save(&self, life: &Life, resource_type: &str) -> Saving {
        Saving {
            resource_type: resource_type.to_owned(),
            life: life.clone(),
            cursor: Some(0),
            ids: Vec::new(),
            next: 0,
        }
    }

    /// The next page; it may be empty. `None` when all were given. [`StoreError::Restarted`] if the store is in another life: what was given then
    /// lacks what was lost.
    pub async fn next_saved(&self, saving: &mut Saving) -> Result<Option<Vec<SavedReading>>, StoreError> {
        if saving.next == saving.ids.len() {
            let Some(cursor) = saving.cursor else {
                return Ok(None);
            };
            let (cursor, found): (u64, Vec<(String, f64)>) = redis::cmd("ZSCAN")
                .arg(self.type_key(TypeKey::Recent, &saving.resource_type))
                .arg(cursor)
                .arg("COUNT")
                .arg(IDS_A_PAGE)
                .query_async(&mut self.reads.clone())
                .await?;
            saving.cursor = (cursor != 0).then_some(cursor);
            saving.ids = found.into_iter().map(|(id, _)| id).collect();
            saving.next = 0;
        }
        let rest = &saving.ids[saving.next..];
        if rest.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let page = &rest[..rest.len().min(IDS_A_PAGE)];
        let (readings, looked_at) = self
            .bodies(Some(&saving.life), &saving.resource_type, page)
            .await?;
        saving.next += looked_at;
        Ok(Some(readings))
    }

    /// Offers readings of a backup (rule 4): each is held unless it, or one of a later number, is. [`StoreError::Restarted`] if the store is in another
    /// life than `life`.
    pub async fn put_back(
        &self,
        life: &Life,
        resource_type: &str,
        saved: &[SavedReading],
    ) -> Result<PutBack, StoreError> {
        let mut sum = PutBack::default();
        let mut rest = saved;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(fits(rest.iter().map(|saved| &saved.reading)));
            rest = later;
            let mut offer = scripts::PUT_BACK.prepare_invoke();
            offer
                .key(self.key(LIFE))
                .key(self.type_key(TypeKey::Held, resource_type))
                .key(self.type_key(TypeKey::Recent, resource_type))
                .key(self.type_key(TypeKey::Covered, resource_type))
                .arg(&life.0)
                .arg(self.reading_prefix(resource_type));
            for SavedReading { reading, received } in now {
                put_args(&mut offer, reading);
                offer.arg(received.timestamp_micros());
            }
            let (same_life, put_back, later): (u8, u64, u64) =
                offer.invoke_async(&mut self.writes.clone()).await?;
            if same_life == 0 {
                return Err(StoreError::Restarted);
            }
            sum.put_back += put_back;
            sum.later += later;
        }
        self.notify();
        Ok(sum)
    }
}
