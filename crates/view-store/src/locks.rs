//! Advisory locks: one per resource type for every transaction that changes rows or the ledger, one per type for the run of the batch.

use std::time::{Duration, Instant};

use sqlx::PgConnection;

use crate::StoreError;
use crate::error::during;

/// Lock classes: the first key of PostgreSQL's two-key advisory locks. Any numbers that others do not use.
#[derive(Debug, Clone, Copy)]
#[repr(i32)]
enum Class {
    /// Held by each transaction that changes a type's rows, ledger or marks.
    Type = 0x5246_0001,
    /// Held by a session while it runs the batch of a type.
    Run = 0x5246_0002,
    /// Held by each transaction that changes the registry of views, and by migrations.
    Registry = 0x5246_0003,
    /// Held by the session of the merger that is at work.
    Lead = 0x5246_0004,
    /// Held by the session of the run that a load belongs to; of the one-key locks, with the load's token.
    Load = 0x5246_0005,
}

/// What may wait for an exclusive lock that readers stand in the way of waits no longer than this, since new readers queue behind it.
pub(crate) const EXCLUSIVE_WAIT: &str = "30ms";

/// What a merger waits for a type's lock, or for a table: slices of a run are over sooner, and while a view joins the other types go on.
pub(crate) const MERGER_WAIT: &str = "200ms";

/// A merger that stands still (its process is stopped, its machine is gone) keeps the lead, or a type's lock, no longer than this: PostgreSQL ends a session that has said
/// nothing for so long. One that is alive says something every [`MERGER_SAYS`].
pub(crate) const MERGER_LEASE: &str = "2s";

/// See [`MERGER_LEASE`]: four times within it.
pub(crate) const MERGER_SAYS: Duration = Duration::from_millis(500);

/// How long to try again before giving up with a transient error.
pub(crate) const EXCLUSIVE_PATIENCE: Duration = Duration::from_secs(10);

/// Pause between two tries: long enough that readers in the queue get through.
pub(crate) const EXCLUSIVE_PAUSE: Duration = Duration::from_millis(20);

/// A deadline for tries that need an exclusive lock.
pub(crate) fn patience() -> Instant {
    Instant::now() + EXCLUSIVE_PATIENCE
}

/// The type's lock, until the transaction ends.
pub(crate) async fn lock_type(connection: &mut PgConnection, resource_type: &str) -> Result<(), StoreError> {
    lock_type_raw(connection, resource_type)
        .await
        .map_err(during("taking the type's lock"))
}

/// [`lock_type`] as a statement without parameters, to go in one message with others.
pub(crate) fn lock_type_sql(resource_type: &str) -> String {
    format!(
        "SELECT pg_advisory_xact_lock({}, {})",
        Class::Type as i32,
        key(resource_type)
    )
}

/// [`lock_type`] with the driver's error, for callers that set `lock_timeout`.
pub(crate) async fn lock_type_raw(
    connection: &mut PgConnection,
    resource_type: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_advisory_xact_lock($1, $2)")
        .bind(Class::Type as i32)
        .bind(key(resource_type))
        .execute(connection)
        .await
        .map(|_| ())
}

/// Takes the type's run lock for the session, if nobody has it.
pub(crate) async fn try_lock_run(
    connection: &mut PgConnection,
    resource_type: &str,
) -> Result<bool, StoreError> {
    sqlx::query_scalar("SELECT pg_try_advisory_lock($1, $2)")
        .bind(Class::Run as i32)
        .bind(key(resource_type))
        .fetch_one(connection)
        .await
        .map_err(during("taking the run lock"))
}

/// Takes a load for the session, if it is nobody's.
pub(crate) async fn try_lock_load(connection: &mut PgConnection, token: i64) -> Result<bool, StoreError> {
    sqlx::query_scalar("SELECT pg_try_advisory_lock($1)")
        .bind(load_key(token))
        .fetch_one(connection)
        .await
        .map_err(during("taking a load"))
}

/// Gives a load back.
pub(crate) async fn unlock_load(connection: &mut PgConnection, token: i64) -> Result<(), StoreError> {
    sqlx::query("SELECT pg_advisory_unlock($1)")
        .bind(load_key(token))
        .execute(connection)
        .await
        .map_err(during("giving a load back"))?;
    Ok(())
}

/// Locks of one key: tokens are counted, so they stay below 2^32 for as long as anyone lives.
fn load_key(token: i64) -> i64 {
    (i64::from(Class::Load as i32) << 32) | (token & 0xffff_ffff)
}

/// Takes the mergers' lead for the session, if nobody has it.
pub(crate) async fn try_lock_lead(connection: &mut PgConnection) -> Result<bool, StoreError> {
    sqlx::query_scalar("SELECT pg_try_advisory_lock($1, 0)")
        .bind(Class::Lead as i32)
        .fetch_one(connection)
        .await
        .map_err(during("taking the lead"))
}

/// The registry's lock, until the transaction ends.
pub(crate) async fn lock_registry(connection: &mut PgConnection) -> Result<(), StoreError> {
    sqlx::query("SELECT pg_advisory_xact_lock($1, 0)")
        .bind(Class::Registry as i32)
        .execute(connection)
        .await
        .map_err(during("taking the registry's lock"))?;
    Ok(())
}

/// The lock of migrations, for the session.
pub(crate) async fn lock_migrations(connection: &mut PgConnection) -> Result<(), StoreError> {
    sqlx::query("SELECT pg_advisory_lock($1, 1)")
        .bind(Class::Registry as i32)
        .execute(connection)
        .await
        .map_err(during("taking the lock of migrations"))?;
    Ok(())
}

/// Second key: FNV-1a of the type's name. Two types with one key would only wait for each other; several are taken in the order of their keys.
pub(crate) fn key(resource_type: &str) -> i32 {
    let hash = resource_type.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    hash.cast_signed()
}
