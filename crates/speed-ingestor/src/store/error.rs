//! What can go wrong with the speed store, as its callers need to know it.

use api::{Code, ServiceError};
use daemon::tls::TlsError;

/// An error of the speed store. Never holds content.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// Redis cannot be reached, is loading, or does not answer in time: try again.
    #[error("redis cannot be reached or does not answer")]
    Unavailable(#[source] redis::RedisError),
    /// `maxmemory` is reached: nothing can be taken until covered readings have left.
    #[error("redis is out of memory: maxmemory is reached")]
    OutOfMemory(#[source] redis::RedisError),
    /// Redis was restarted or emptied while an answer was being read: ask again.
    #[error("redis was restarted or emptied meanwhile")]
    Restarted,
    /// It is in the memory of Redis, and not on its disk in time.
    #[error("redis did not bring its append-only file to the disk in time")]
    NotSynced,
    /// This process is stopping: what was to be stored was not.
    #[error("the service is stopping")]
    Stopping,
    /// Redis answers, but refuses: rights, a wrong type under one of our keys, a bug.
    #[error("redis refuses a command (code {})", .0.code().unwrap_or("none"))]
    Refused(#[source] redis::RedisError),
    /// A later release has written here.
    #[error(
        "redis holds data in the layout {0} of a later release, and this one knows none beyond {known}: use that release, or let it `Flush` all types before it is stopped (HAPI's \
         database has everything); live changes and webhooks wait meanwhile", known = super::LAYOUT
    )]
    LaterLayout(String),
    /// A key holds what this service does not write there.
    #[error(
        "a key of the {0} does not hold what this service writes: another program uses the same key prefix?"
    )]
    Corrupt(&'static str),
    /// The address of Redis cannot be used. (The address is not shown: it may hold a password.)
    #[error("redis.url is not an address such as redis://127.0.0.1:6379/0")]
    Address,
    /// A file of `[redis.tls]` cannot be used.
    #[error("redis.tls.{0}")]
    Tls(#[source] TlsError),
    /// `redis.wait_for_disk` is set, and this Redis has no `WAITAOF`.
    #[error("redis.wait_for_disk needs Redis 7.2 or newer with appendonly yes, this is {0}")]
    CannotWait(String),
    /// Settings of Redis that can lose what was acknowledged.
    #[error("redis can lose acknowledged data: {}; or allow it with redis.allow_volatile = true", .0.join("; "))]
    Volatile(Vec<String>),
    /// Redis' clock is too far from ours: readings expire by its clock.
    #[error(
        "the clock of redis is {0}, so what is kept for a time may be gone before it: synchronise both machines' clocks with NTP; or allow it with redis.allow_volatile = true"
    )]
    ClocksApart(String),
}

impl From<redis::RedisError> for StoreError {
    fn from(error: redis::RedisError) -> Self {
        use redis::{ErrorKind, ServerErrorKind};
        if error.code() == Some("OOM") {
            return Self::OutOfMemory(error);
        }
        if error.code() == Some("LAYOUT") {
            return Self::LaterLayout(error.detail().unwrap_or("of no number").to_owned());
        }
        let passing = error.is_io_error()
            || error.is_timeout()
            || error.is_connection_dropped()
            || error.is_connection_refusal()
            || matches!(
                error.kind(),
                ErrorKind::Io
                    | ErrorKind::Server(
                        ServerErrorKind::BusyLoading
                            | ServerErrorKind::TryAgain
                            | ServerErrorKind::MasterDown
                            | ServerErrorKind::ReadOnly
                    )
            )
            || matches!(error.code(), Some("MISCONF" | "BUSY"));
        if passing {
            Self::Unavailable(error)
        } else {
            Self::Refused(error)
        }
    }
}

impl From<StoreError> for ServiceError {
    fn from(error: StoreError) -> Self {
        let code = match &error {
            StoreError::Unavailable(_)
            | StoreError::OutOfMemory(_)
            | StoreError::Restarted
            | StoreError::NotSynced
            | StoreError::Stopping => Code::Unavailable,
            StoreError::Volatile(_)
            | StoreError::LaterLayout(_)
            | StoreError::CannotWait(_)
            | StoreError::ClocksApart(_)
            | StoreError::Address
            | StoreError::Tls(_) => Code::Precondition,
            StoreError::Refused(_) | StoreError::Corrupt(_) => return Self::internal(&error),
        };
        Self::new(code, error.to_string())
    }
}
