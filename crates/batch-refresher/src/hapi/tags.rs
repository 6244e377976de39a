//! Definitions of tags: few, never changed once written, asked for with every resource; so they are kept.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{PoisonError, RwLock},
};

use sqlx::{PgConnection, Row as _};

use super::{
    HapiError,
    body::{Tag, TagKind},
};

/// Definitions kept at most: installations that make a tag per request would else fill the memory.
const KEPT: usize = 50_000;

/// `hfj_tag_def`, as far as it was needed.
#[derive(Default)]
pub(super) struct TagDefinitions {
    known: RwLock<HashMap<i64, Tag>>,
}

impl TagDefinitions {
    /// The definitions of these ids, if all are kept.
    pub(super) fn known(&self, ids: impl Iterator<Item = i64>) -> Option<HashMap<i64, Tag>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let mut found = HashMap::new();
        for id in ids {
            if let Entry::Vacant(new) = found.entry(id) {
                new.insert(known.get(&id)?.clone());
            }
        }
        Some(found)
    }

    /// The definitions of these ids; one that HAPI has no row of is left out, as HAPI does.
    pub(super) async fn of(
        &self,
        connection: &mut PgConnection,
        mut ids: Vec<i64>,
    ) -> Result<HashMap<i64, Tag>, HapiError> {
        ids.sort_unstable();
        ids.dedup();
        let mut found = HashMap::with_capacity(ids.len());
        {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            ids.retain(|id| match known.get(id) {
                Some(tag) => {
                    found.insert(*id, tag.clone());
                    false
                }
                None => true,
            });
        }
        if ids.is_empty() {
            return Ok(found);
        }
        let rows = sqlx::query(
            "SELECT tag_id, tag_type, tag_system, tag_code, tag_display, to_jsonb(d)->>'tag_version' AS tag_version, tag_user_selected
             FROM hfj_tag_def d WHERE tag_id = ANY($1)",
        )
        .bind(&ids)
        .fetch_all(connection)
        .await
        .map_err(HapiError::of("reading tags"))?;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() + rows.len() > KEPT {
            known.clear();
        }
        for row in rows {
            let (id, tag) = definition(&row).map_err(HapiError::of("reading tags"))?;
            known.insert(id, tag.clone());
            found.insert(id, tag);
        }
        Ok(found)
    }
}

fn definition(row: &sqlx::postgres::PgRow) -> Result<(i64, Tag), sqlx::Error> {
    let kind = match row.try_get::<i32, _>("tag_type")? {
        1 => TagKind::Profile,
        2 => TagKind::Security,
        _ => TagKind::Tag,
    };
    let tag = Tag {
        system: row.try_get("tag_system")?,
        code: row.try_get("tag_code")?,
        display: row.try_get("tag_display")?,
        version: row.try_get("tag_version")?,
        user_selected: row.try_get("tag_user_selected")?,
        kind,
    };
    Ok((row.try_get("tag_id")?, tag))
}
