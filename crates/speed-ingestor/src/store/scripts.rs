//! The Lua scripts: each step of the protocol that must be atomic in Redis.

use std::sync::LazyLock;

use redis::Script;

/// Files of `lua/`, one behind the other: the last one is the script, those before it define what it calls.
macro_rules! script {
    ($($file:literal),+) => {
        LazyLock::new(|| Script::new(concat!($(include_str!(concat!("lua/", $file, ".lua"))),+)))
    };
}

pub(super) static BEGIN: LazyLock<Script> = script!("life", "begin");
pub(super) static OFFER_READINGS: LazyLock<Script> = script!("life", "hold", "told", "offer_readings");
pub(super) static OFFER_PREVIEWS: LazyLock<Script> = script!("queue", "told", "offer_previews");
pub(super) static PUT_PREVIEW: LazyLock<Script> = script!("queue", "put_preview");
pub(super) static NOTE_DELETE: LazyLock<Script> = script!("note_delete");
pub(super) static SET_MARK: LazyLock<Script> = script!("life", "set_mark");
pub(super) static READ_CHANGES: LazyLock<Script> = script!("life", "read_changes");
pub(super) static HAS_CHANGES: LazyLock<Script> = script!("has_changes");
pub(super) static READ_BODIES: LazyLock<Script> = script!("life", "read_bodies");
pub(super) static READ_RECENT: LazyLock<Script> = script!("read_recent");
pub(super) static RELEASE: LazyLock<Script> = script!("release");
pub(super) static SHED: LazyLock<Script> = script!("shed");
pub(super) static UNCOVERED: LazyLock<Script> = script!("uncovered");
pub(super) static FLUSH: LazyLock<Script> = script!("life", "flush");
pub(super) static PUT_BACK: LazyLock<Script> = script!("life", "hold", "put_back");
pub(super) static LOCK: LazyLock<Script> = script!("lock");
pub(super) static UNLOCK: LazyLock<Script> = script!("unlock");
