//! The Lua scripts: each step of the protocol that must be atomic in Redis.

use std::sync::LazyLock;

use redis::Script;

/// A script that knows the life of Redis: `life.lua` stands before it.
macro_rules! in_a_life {
    ($file:literal) => {
        LazyLock::new(|| Script::new(concat!(include_str!("lua/life.lua"), include_str!($file))))
    };
}

/// A script that puts previews into their queue: `queue.lua` stands before it, and what webhooks have told, `told.lua`.
macro_rules! with_the_queue {
    ($file:literal) => {
        LazyLock::new(|| {
            Script::new(concat!(
                include_str!("lua/queue.lua"),
                include_str!("lua/told.lua"),
                include_str!($file)
            ))
        })
    };
}

/// One that holds readings, too: `hold.lua` and `told.lua` stand before it.
macro_rules! holds_in_a_life {
    ($file:literal) => {
        LazyLock::new(|| {
            Script::new(concat!(
                include_str!("lua/life.lua"),
                include_str!("lua/hold.lua"),
                include_str!("lua/told.lua"),
                include_str!($file)
            ))
        })
    };
}

macro_rules! script {
    ($file:literal) => {
        LazyLock::new(|| Script::new(include_str!($file)))
    };
}

pub(super) static BEGIN: LazyLock<Script> = in_a_life!("lua/begin.lua");
pub(super) static OFFER_READINGS: LazyLock<Script> = holds_in_a_life!("lua/offer_readings.lua");
pub(super) static OFFER_PREVIEWS: LazyLock<Script> = with_the_queue!("lua/offer_previews.lua");
pub(super) static PUT_PREVIEW: LazyLock<Script> = with_the_queue!("lua/put_preview.lua");
pub(super) static NOTE_DELETE: LazyLock<Script> = script!("lua/note_delete.lua");
pub(super) static SET_MARK: LazyLock<Script> = in_a_life!("lua/set_mark.lua");
pub(super) static READ_CHANGES: LazyLock<Script> = in_a_life!("lua/read_changes.lua");
pub(super) static HAS_CHANGES: LazyLock<Script> = script!("lua/has_changes.lua");
pub(super) static READ_BODIES: LazyLock<Script> = in_a_life!("lua/read_bodies.lua");
pub(super) static READ_RECENT: LazyLock<Script> = script!("lua/read_recent.lua");
pub(super) static RELEASE: LazyLock<Script> = script!("lua/release.lua");
pub(super) static SHED: LazyLock<Script> = script!("lua/shed.lua");
pub(super) static UNCOVERED: LazyLock<Script> = script!("lua/uncovered.lua");
pub(super) static FLUSH: LazyLock<Script> = in_a_life!("lua/flush.lua");
pub(super) static READ_SAVED: LazyLock<Script> = in_a_life!("lua/read_saved.lua");
pub(super) static PUT_BACK: LazyLock<Script> = holds_in_a_life!("lua/put_back.lua");
pub(super) static LOCK: LazyLock<Script> = script!("lua/lock.lua");
pub(super) static UNLOCK: LazyLock<Script> = script!("lua/unlock.lua");
