//! Backups of the speed layer: compressed NDJSON in a bucket of S3 or in a folder, made on a schedule and on demand, put back by the law of versions.
//!
//! ```text
//! store ─pages─► pack (NDJSON, gzip, SHA-256) ─parts─► target: <name>/<Type>.ndjson.gz …, last <name>/manifest.json
//! store ◄─put_back─ unpack ◄─ranges─ target, once all sums are right;  then ◄─readings─ batch layer, since the backup's marks
//! ```
//!
//! **What is saved**: the readings of all types that views need, those that the batch has covered too, and each type's mark, which is read *before* the
//! readings: whatever was committed before its T is in the backup, or was handed to the batch. **What is not**: previews (a reading confirms each within a
//! tail round, so that in a backup they would only be hints that are out of date), dead letters, and what the ingestor learns anew by itself.
//!
//! **A backup is there once its manifest is**: that is written last, and deleted first. So an upload that was interrupted at any place leaves the older
//! backups as they were; what is left of it is cleared away after a day.
//!
//! **A restore never goes back**:
//! * A reading is put back unless one of a later number is held (rule 4), and the merger compares numbers besides (rule 7).
//! * Nothing is written before all objects have the SHA-256 of the manifest.
//! * Numbers tell which reading is later only within one views' database and one history of HAPI's. So a backup is refused whose marks are of another
//!   timeline, or whose numbers are higher than the tail's newest.
//! * **Marks are not restored.** A mark promises that everything before it is held *in this life of the store* (rule 5); the tail goes on from the batch's watermark,
//!   which is always right. The backup's marks serve another end: of what was committed after them and has been covered by the batch the tail reads
//!   nothing any more, and the reading put back would be shown as the latest. So a restore ends with one reading of HAPI *since the backup's marks*, which is
//!   offered like any other and sets no mark.
//! * What the batch has covered, and whose time to live is over, is not put back; all else is held as if it had just been offered, with the time of its receipt,
//!   and leaves by the batch's watermark (rule 6).
//!
//! One ingestor at a time backs up or restores, by a lock in Redis. Read in this order: [`format`], [`target`], [`write`](mod@write), [`restore`], [`schedule`].

mod catch_up;
mod error;
pub mod format;
mod known;
mod messages;
mod name;
pub mod restore;
pub mod schedule;
pub mod target;
pub mod write;

use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use daemon::Clock;
use tokio::{sync::OnceCell, time::Instant};

use crate::{
    measures::Measures,
    needed::Needed,
    rounds::{Rounds, TailState},
    store::{Lock, SpeedStore},
    tail::RereadsFrom,
};

pub use error::BackupError;
pub use name::BackupName;
pub use restore::{Restored, RestoredType};
pub use schedule::Schedule;
pub use target::{S3Settings, Target, TargetSettings};

use catch_up::{CatchUp, Reread};
use format::Manifest;

/// How often the lock is kept: it holds for a minute.
const KEEP_LOCK: std::time::Duration = std::time::Duration::from_secs(15);

/// Where backups go, when they come, how many are kept.
#[derive(Debug, Clone)]
pub struct BackupSettings {
    /// Where.
    pub target: TargetSettings,
    /// When.
    pub schedule: Schedule,
    /// Complete backups that are kept: the newest.
    pub keep: usize,
}

/// Makes, lists and restores backups. Cheap to clone.
#[derive(Clone)]
pub struct Backups(Arc<Parts>);

struct Parts {
    settings: BackupSettings,
    target: OnceCell<Target>,
    store: SpeedStore,
    needed: Needed,
    tail: TailState,
    batch: Box<dyn CatchUp>,
    measures: Measures,
    clock: Arc<dyn Clock>,
    last: Mutex<Last>,
}

/// What was last done.
#[derive(Debug, Clone, Default)]
pub struct Last {
    /// The newest complete backup, by whichever ingestor.
    pub backup: Option<Manifest>,
    /// How long it took, where it was this ingestor.
    pub seconds: f64,
    /// When the next one is due.
    pub next: Option<DateTime<Utc>>,
    /// Why the last try failed.
    pub error: Option<String>,
}

/// A complete backup as a list has it.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Its name.
    pub name: BackupName,
    /// What it holds; else what is wrong with its manifest.
    pub manifest: Result<Manifest, String>,
}

/// The lock, while something long is done under it.
struct Held<'a> {
    parts: &'a Parts,
    lock: Lock,
    kept: Instant,
}

impl Backups {
    /// Backups of what the rounds of the tail fill. Nothing is reached yet.
    pub fn new<R: RereadsFrom + Clone + 'static>(settings: BackupSettings, rounds: &Rounds<R>) -> Self {
        let Rounds {
            reader,
            store,
            needed,
            state,
            measures,
            clock,
            ..
        } = rounds;
        let reread = Reread {
            reader: reader.clone(),
            store: store.clone(),
            clock: clock.clone(),
        };
        Self(Arc::new(Parts {
            settings,
            target: OnceCell::new(),
            store: store.clone(),
            needed: needed.clone(),
            tail: state.clone(),
            batch: Box::new(reread),
            measures: measures.clone(),
            clock: clock.clone(),
            last: Mutex::default(),
        }))
    }

    /// Complete backups, newest first.
    pub async fn list(&self) -> Result<Vec<Listed>, BackupError> {
        let target = self.0.target().await?;
        let mut listed = Vec::new();
        for name in target.complete().await? {
            let manifest = match target.manifest(&name).await {
                Ok(Some(manifest)) => Ok(manifest),
                // Deleted meanwhile.
                Ok(None) => continue,
                Err(error @ (BackupError::Damaged { .. } | BackupError::Later(_))) => Err(error.to_string()),
                Err(error) => return Err(error),
            };
            listed.push(Listed { name, manifest });
        }
        Ok(listed)
    }

    /// What was last done.
    pub fn last(&self) -> Last {
        self.0.last().clone()
    }

    /// Where backups go.
    pub fn url(&self) -> &str {
        &self.0.settings.target.url
    }
}

impl Parts {
    async fn target(&self) -> Result<&Target, BackupError> {
        self.target
            .get_or_try_init(async || Target::open(&self.settings.target))
            .await
    }

    fn last(&self) -> std::sync::MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn lock(&self) -> Result<Held<'_>, BackupError> {
        let lock = self.store.take_lock().await?.ok_or(BackupError::Busy)?;
        Ok(Held {
            parts: self,
            lock,
            kept: Instant::now(),
        })
    }
}

impl Held<'_> {
    /// To be called again and again while something long is done.
    async fn keep(&mut self) -> Result<(), BackupError> {
        if self.kept.elapsed() >= KEEP_LOCK {
            self.keep_at_once().await?;
        }
        Ok(())
    }

    /// Before what nobody else may do at the same time.
    async fn keep_at_once(&mut self) -> Result<(), BackupError> {
        if !self.parts.store.keep_lock(&self.lock).await? {
            return Err(BackupError::Busy);
        }
        self.kept = Instant::now();
        Ok(())
    }

    /// To be called at the end; a lock that cannot be given back is over after a minute.
    async fn give_back(self) {
        if let Err(error) = self.parts.store.give_lock_back(&self.lock).await {
            tracing::warn!(%error, "the lock of backups cannot be given back: it holds for a minute");
        }
    }
}

impl std::fmt::Debug for Backups {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backups")
            .field("settings", &self.0.settings)
            .finish_non_exhaustive()
    }
}
