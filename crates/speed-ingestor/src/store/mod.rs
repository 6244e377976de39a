//! The speed store: what HAPI has committed since the batch, in Redis. The only module that knows Redis.
//!
//! The tail offers readings and sets marks, webhooks offer previews, the merger takes changes, the batch's watermark lets readings leave. Each
//! step that must be atomic is a Lua script in `lua/`. Keys, after the prefix (`fhir:` by default); times are whole microseconds since 1970:
//!
//! | key | kind | holds |
//! | --- | --- | --- |
//! | `{type}:{id}` | hash | the latest reading: `n`, `as_of`, `version`, `last_updated`, `deleted` (0, 1), `body` (JSON with id and meta), `unreadable` (why), `received_at`; expires only once covered |
//! | `held:{type}` | sorted set | id by n, of readings that the batch has not covered: what the merger takes next |
//! | `covered:{type}` | sorted set | id by expiry (ms), of readings that the batch has covered: the first to go when memory is short |
//! | `recent:{type}` | sorted set | id by `last_updated`: what was written lately, without a scan of keys |
//! | `previews:{type}` | list | webhook bodies not yet merged, bounded: a line of id, version, `last_updated`, received, kind, the place in a trace if one is recorded, and the end of its time to live if it has one; then the body |
//! | `preview-bytes:{type}` | number | bytes in that list |
//! | `preview-sizes:{type}` | list | bytes of each of that list |
//! | `mark` | hash | type → the tail's last finished reading: n, `as_of`, bound, xmin, timeline |
//! | `layout` | string | the number of the layout of these keys ([`LAYOUT`]) |
//! | `life` | string | a token that is gone when the data are gone; with Redis' `run_id` it tells one life of the store from another |
//! | `told:{type}:{period}` | hash | id → version that a webhook has told, of five minutes, for ten: to count what the tail saw first, and previews of no use |
//! | `told-delete:{type}:{id}` | string | that a DELETE came, for ten minutes |
//! | `webhooks` | hash | type → when its last webhook was accepted, by whichever ingestor |
//! | `backup-lock` | string | who backs up or restores: a token, for a minute unless it is kept |
//! | `types` | set | resource types that views need, as last heard from the batch layer |
//! | `dead` | stream | what could not be accepted: reason, SHA-256 and size, never the body |
//!
//! Names of types begin with a capital letter, so the first key cannot meet the others. Promise: a reading is never replaced by an earlier
//! one; a mark lies behind the readings of its round in the append-only file; nothing expires that the batch has not covered.

mod changes;
mod codec;
mod connection;
mod error;
mod grouped;
mod health;
mod leaving;
mod lock;
mod offer;
mod recent;
mod saved;
mod scripts;

use std::time::Duration;

use chrono::TimeDelta;
use daemon::tls::{ClientPem, ClientTls};
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use tokio::sync::watch;

use connection::Connection;
use grouped::Grouped;

pub use changes::ChangesRead;
pub use error::StoreError;
pub use grouped::{Hold, Queued};
pub use health::{RedisHealth, TypeCounts};
pub use leaving::{Flushed, Released};
pub use lock::Lock;
pub use offer::Offered;
pub use recent::{Recent, RecentWalk};
pub use saved::{PutBack, SavedReading, Saving};

/// The layout that this release writes, and the latest that it reads. It goes up with a change that an earlier release would misread: that one then refuses to
/// work here. A change that it would not (a further key, a further field) leaves it as it is.
pub const LAYOUT: u32 = 1;

/// Key: the number of the layout.
const LAYOUT_KEY: &str = "layout";
/// Key: the token of the store's life.
const LIFE: &str = "life";
/// Key: the marks.
const MARK: &str = "mark";
/// Key: the types that views need.
const TYPES: &str = "types";
/// Key: when the last webhook of each type came.
const WEBHOOKS: &str = "webhooks";
/// Key: who backs up or restores.
const BACKUP_LOCK: &str = "backup-lock";
/// Key: what could not be accepted.
const DEAD: &str = "dead";

/// The kinds of keys that exist once for each type.
#[derive(Debug, Clone, Copy)]
enum TypeKey {
    Held,
    Covered,
    Recent,
    Previews,
    PreviewBytes,
    PreviewSizes,
    Told,
    ToldDelete,
}

impl TypeKey {
    fn name(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Covered => "covered",
            Self::Recent => "recent",
            Self::Previews => "previews",
            Self::PreviewBytes => "preview-bytes",
            Self::PreviewSizes => "preview-sizes",
            Self::Told => "told",
            Self::ToldDelete => "told-delete",
        }
    }
}

/// How keys are named.
#[derive(Debug, Clone)]
struct Keys {
    prefix: String,
}

impl Keys {
    fn named(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// The key of a kind that exists once for each type.
    fn of_type(&self, kind: TypeKey, resource_type: &str) -> String {
        format!("{}{}:{resource_type}", self.prefix, kind.name())
    }

    /// What the keys of a type's readings begin with.
    fn of_readings(&self, resource_type: &str) -> String {
        format!("{}{resource_type}:", self.prefix)
    }
}

/// How the store is reached and bounded.
#[derive(Clone)]
pub struct StoreSettings {
    /// `redis://[user:password@]host:port/db`
    pub url: String,
    /// Begins every key.
    pub key_prefix: String,
    /// How long a covered reading stays, from its receipt.
    pub time_to_live: TimeDelta,
    /// Most previews waiting, of a type.
    pub max_previews: u32,
    /// Most bytes of previews waiting, of a type.
    pub max_preview_bytes: u64,
    /// Whether a preview is acknowledged only once Redis has it on its disk (`WAITAOF`).
    pub wait_for_disk: bool,
    /// How long Redis may take to be connected to.
    pub connect_timeout: Duration,
    /// How long Redis may take to answer.
    pub response_timeout: Duration,
    /// How it is reached by `rediss://`; the files are read when the store is opened.
    pub tls: ClientTls,
}

/// One life of the store: what was written in it may be lost in another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life(String);

/// The speed store. Cheap to clone.
#[derive(Clone)]
pub struct SpeedStore {
    /// For what is small and urgent: webhooks, the tail.
    writes: Connection,
    /// For answers that may be large, so that no webhook waits behind one.
    reads: Connection,
    previews: Grouped,
    keys: Keys,
    settings: StoreSettings,
    changed: watch::Sender<u64>,
}

impl SpeedStore {
    /// Prepares the connections; they are made when first used, and made again whenever Redis has been away. Needs a tokio runtime.
    pub fn open(settings: StoreSettings) -> Result<Self, StoreError> {
        Self::over(settings, watch::Sender::new(0))
    }

    fn over(settings: StoreSettings, changed: watch::Sender<u64>) -> Result<Self, StoreError> {
        // Nagle's algorithm stays on (the driver's default): with many requests under way Redis reads more at once, and takes a fifth more of them (measured).
        let client = client(&settings)?;
        // A caller that waits gets its answer at once when Redis is down; the next one tries again.
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(0)
            .set_connection_timeout(Some(settings.connect_timeout))
            .set_response_timeout(Some(settings.response_timeout));
        let connection = || {
            let manager = ConnectionManager::new_lazy_with_config(client.clone(), config.clone());
            manager.map(Connection).map_err(|_| StoreError::Address)
        };
        let (writes, reads) = (connection()?, connection()?);
        let keys = Keys {
            prefix: settings.key_prefix.clone(),
        };
        Ok(Self {
            previews: Grouped::begin(connection()?, keys.clone(), &settings, changed.clone()),
            writes,
            reads,
            keys,
            settings,
            changed,
        })
    }

    /// The same store over connections of their own, which the runtime of whoever calls drives.
    pub fn on_this_runtime(&self) -> Result<Self, StoreError> {
        Self::over(self.settings.clone(), self.changed.clone())
    }

    /// Changes whenever something was offered or a mark was set through this value or its clones.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The life that the store is in now. `StoreError::LaterLayout` if a later release has written here.
    pub async fn life(&self) -> Result<Life, StoreError> {
        let mut begin = scripts::BEGIN.prepare_invoke();
        Ok(Life(
            begin
                .key(self.key(LIFE))
                .key(self.key(LAYOUT_KEY))
                .arg(LAYOUT)
                .invoke_async(&mut self.writes.clone())
                .await?,
        ))
    }

    /// How long a covered reading stays; no preview has a longer time to live.
    pub fn time_to_live(&self) -> TimeDelta {
        self.settings.time_to_live
    }

    fn notify(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    fn key(&self, name: &str) -> String {
        self.keys.named(name)
    }

    fn type_key(&self, kind: TypeKey, resource_type: &str) -> String {
        self.keys.of_type(kind, resource_type)
    }

    fn reading_prefix(&self, resource_type: &str) -> String {
        self.keys.of_readings(resource_type)
    }
}

impl std::fmt::Debug for SpeedStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SpeedStore")
            .field("key_prefix", &self.settings.key_prefix)
            .finish_non_exhaustive()
    }
}

fn client(settings: &StoreSettings) -> Result<redis::Client, StoreError> {
    let url = settings.url.as_str();
    let client = if settings.tls.is_set() {
        let ClientPem { ca, pair } = settings.tls.pem().map_err(StoreError::Tls)?;
        let client_tls = pair.map(|(client_cert, client_key)| redis::ClientTlsConfig {
            client_cert,
            client_key,
        });
        let certificates = redis::TlsCertificates {
            client_tls,
            root_cert: ca,
        };
        redis::Client::build_with_tls(url, certificates)
    } else {
        redis::Client::open(url)
    };
    client.map_err(|_| StoreError::Address)
}

/// Whether a text is an address of Redis.
pub fn is_address(url: &str) -> bool {
    redis::Client::open(url).is_ok()
}
