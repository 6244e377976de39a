//! One at a time, over all ingestors that share a Redis.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use super::{BACKUP_LOCK, SpeedStore, StoreError, scripts};

/// How long a lock holds if it is not kept: whoever had it is gone then.
const HOLDS: Duration = Duration::from_mins(1);

/// The right to back up or restore. Keep it with [`SpeedStore::keep_lock`], and give it back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    token: String,
}

impl Lock {
    /// Tells this holder from any other.
    pub fn token(&self) -> &str {
        &self.token
    }
}

impl SpeedStore {
    /// Takes the right to back up or restore; `None` while somebody else has it.
    pub async fn take_lock(&self) -> Result<Option<Lock>, StoreError> {
        // Seeded anew by the system's random numbers.
        let lock = Lock {
            token: format!("{:016x}", RandomState::new().hash_one(std::process::id())),
        };
        Ok(self.keep_lock(&lock).await?.then_some(lock))
    }

    /// Keeps the right for another minute. False: it was not kept in time, and somebody else has it.
    pub async fn keep_lock(&self, lock: &Lock) -> Result<bool, StoreError> {
        let mut keep = scripts::LOCK.prepare_invoke();
        keep.key(self.key(BACKUP_LOCK))
            .arg(&lock.token)
            .arg(u64::try_from(HOLDS.as_millis()).unwrap_or(u64::MAX));
        Ok(keep.invoke_async::<u8>(&mut self.writes.clone()).await? == 1)
    }

    /// Gives the right back.
    pub async fn give_lock_back(&self, lock: &Lock) -> Result<(), StoreError> {
        let mut unlock = scripts::UNLOCK.prepare_invoke();
        unlock.key(self.key(BACKUP_LOCK)).arg(&lock.token);
        unlock.invoke_async::<u8>(&mut self.writes.clone()).await?;
        Ok(())
    }
}
