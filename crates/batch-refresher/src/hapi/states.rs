//! From rows to states: text inline or in a large object, tombstones, what cannot be read.

use std::{collections::HashMap, io::Read as _};

use chrono::NaiveDateTime;
use fhir_core::resource::{Content, State};
use sqlx::{Connection as _, PgConnection, Row as _, postgres::PgRow, postgres::types::Oid};

use super::{
    Hapi, HapiError, Schema, Zone,
    body::{self, Columns},
};

/// A body may be this long once unpacked: PostgreSQL's own limit on a field.
const MAX_BODY: u64 = 1 << 30;

impl Schema {
    /// A query for the current states of resources: `condition` says which, over `r`.
    ///
    /// The current version is the one that `hfj_resource` names; if its row was expunged the next lower one counts, as in HAPI.
    pub(super) fn current_states(&self, condition: &str) -> String {
        let Self {
            id,
            id_join,
            text_vc,
            text_oid,
            request_id,
            source_uri,
            source_join,
            partition,
            ..
        } = self;
        format!(
            "SELECT {id} AS id, r.res_ver, r.res_updated, r.res_deleted_at IS NOT NULL AS deleted, v.res_ver AS found, v.res_encoding, {text_vc} AS text_vc,
                 CASE WHEN {text_vc} IS NULL THEN {text_oid} END AS text_oid, {request_id} AS request_id, {source_uri} AS source_uri,
                 CASE WHEN r.has_tags THEN ARRAY(SELECT t.tag_id FROM hfj_res_tag t WHERE t.res_id = r.res_id AND t.tag_id IS NOT NULL) END AS tags
             FROM hfj_resource r{id_join}
             LEFT JOIN LATERAL (SELECT * FROM hfj_res_ver x WHERE x.res_id = r.res_id AND x.res_ver <= r.res_ver ORDER BY x.res_ver DESC LIMIT 1) v ON true{source_join}
             WHERE {condition}{partition}"
        )
    }
}

/// A row of [`Schema::current_states`].
struct Current {
    id: String,
    version: i64,
    updated: NaiveDateTime,
    deleted: bool,
    found: Option<i64>,
    encoding: Option<String>,
    text: Option<String>,
    large_object: Option<Oid>,
    request_id: Option<String>,
    source_uri: Option<String>,
    tags: Vec<i64>,
}

impl Current {
    fn of(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: row.try_get("id")?,
            version: row.try_get("res_ver")?,
            updated: row.try_get("res_updated")?,
            deleted: row.try_get("deleted")?,
            found: row.try_get("found")?,
            encoding: row.try_get("res_encoding")?,
            text: row.try_get("text_vc")?,
            large_object: row.try_get("text_oid")?,
            request_id: row.try_get("request_id")?,
            source_uri: row.try_get("source_uri")?,
            tags: row.try_get::<Option<Vec<i64>>, _>("tags")?.unwrap_or_default(),
        })
    }

    fn is_tombstone(&self) -> bool {
        self.deleted || self.encoding.as_deref() == Some("DEL")
    }
}

impl Hapi {
    /// Turns rows into states, reading large objects and tags over the same connection, in its snapshot. A resource of which no version is left
    /// is none (HAPI does not find it either).
    pub(super) async fn states_of(
        &self,
        connection: &mut PgConnection,
        rows: Vec<PgRow>,
    ) -> Result<Vec<State>, HapiError> {
        let rows = rows
            .iter()
            .map(Current::of)
            .collect::<Result<Vec<_>, _>>()
            .map_err(HapiError::of("reading states"))?;
        let oids = rows
            .iter()
            .filter(|r| !r.is_tombstone() && r.text.is_none())
            .filter_map(|r| r.large_object)
            .collect();
        let objects = large_objects(connection, oids).await?;
        let tags = self
            .inner
            .tags
            .of(connection, rows.iter().flat_map(|r| &r.tags).copied().collect())
            .await?;
        let mut states = Vec::with_capacity(rows.len());
        for row in rows {
            let Some(found) = row.found else { continue };
            let at = self.inner.zone.instant(row.updated);
            let (version, content) = if row.is_tombstone() {
                (row.version, Content::Deleted)
            } else {
                let columns = Columns {
                    id: &row.id,
                    version: found,
                    last_updated: Zone::lexical(&at),
                    source_uri: row.source_uri.as_deref(),
                    request_id: row.request_id.as_deref(),
                    tags: row.tags.iter().filter_map(|id| tags.get(id).cloned()).collect(),
                };
                let content = match stored_text(&row, &objects)
                    .and_then(|text| body::compose(&text, &columns).map_err(|e| e.to_string()))
                {
                    Ok(body) => Content::Body(body),
                    Err(reason) => Content::Unreadable(reason),
                };
                (found, content)
            };
            states.push(State {
                id: row.id,
                version,
                last_updated: at.to_utc(),
                content,
            });
        }
        Ok(states)
    }
}

/// The stored text, in HAPI's own order: inline wins, then the large object by its encoding.
fn stored_text<'a>(
    row: &'a Current,
    objects: &'a HashMap<u32, Result<Vec<u8>, String>>,
) -> Result<std::borrow::Cow<'a, str>, String> {
    use std::borrow::Cow;
    let encoding = row.encoding.as_deref().unwrap_or_default();
    if encoding == "ESR" {
        return Err("the text lies in an external store (encoding ESR), which is not read".to_owned());
    }
    if let Some(text) = &row.text {
        return Ok(Cow::Borrowed(text));
    }
    let bytes = match row.large_object.and_then(|oid| objects.get(&oid.0)) {
        Some(Ok(bytes)) => bytes,
        Some(Err(reason)) => return Err(reason.clone()),
        None => {
            return Err(format!(
                "the version has no text (encoding {})",
                known_encoding(encoding)
            ));
        }
    };
    let utf8 =
        |bytes: Vec<u8>| String::from_utf8(bytes).map_err(|_| "the large object is not UTF-8".to_owned());
    match encoding {
        "JSON" => utf8(bytes.clone()).map(Cow::Owned),
        "JSONC" => {
            let mut text = Vec::new();
            flate2::read::MultiGzDecoder::new(bytes.as_slice())
                .take(MAX_BODY)
                .read_to_end(&mut text)
                .map_err(|_| "the large object is not gzip (encoding JSONC)".to_owned())?;
            utf8(text).map(Cow::Owned)
        }
        other => Err(format!("the encoding {} is not known", known_encoding(other))),
    }
}

/// An encoding as a reason may name it: HAPI's own words only, whatever stands in the column.
fn known_encoding(encoding: &str) -> &str {
    if ["JSON", "JSONC", "DEL", "ESR", "XML"].contains(&encoding) {
        encoding
    } else {
        "of another kind"
    }
}

/// Reads large objects: all at once, and one by one where that fails, so that one that may not be read or is missing harms no other.
async fn large_objects(
    connection: &mut PgConnection,
    oids: Vec<Oid>,
) -> Result<HashMap<u32, Result<Vec<u8>, String>>, HapiError> {
    let mut found = HashMap::new();
    if oids.is_empty() {
        return Ok(found);
    }
    let mut attempt = connection
        .begin()
        .await
        .map_err(HapiError::of("reading large objects"))?;
    let rows = sqlx::query("SELECT o, lo_get(o) FROM unnest($1::oid[]) o")
        .bind(&oids)
        .fetch_all(&mut *attempt)
        .await;
    if let Ok(rows) = rows {
        for row in rows {
            let oid: Oid = row.try_get(0).map_err(HapiError::of("reading large objects"))?;
            found.insert(
                oid.0,
                Ok(row.try_get(1).map_err(HapiError::of("reading large objects"))?),
            );
        }
        attempt
            .commit()
            .await
            .map_err(HapiError::of("reading large objects"))?;
        return Ok(found);
    }
    attempt
        .rollback()
        .await
        .map_err(HapiError::of("reading large objects"))?;
    for oid in oids {
        let mut attempt = connection
            .begin()
            .await
            .map_err(HapiError::of("reading large objects"))?;
        match sqlx::query_scalar::<_, Vec<u8>>("SELECT lo_get($1)")
            .bind(oid)
            .fetch_one(&mut *attempt)
            .await
        {
            Ok(bytes) => {
                found.insert(oid.0, Ok(bytes));
                attempt
                    .commit()
                    .await
                    .map_err(HapiError::of("reading large objects"))?;
            }
            Err(sqlx::Error::Database(error)) => {
                let reason = match error.code().as_deref() {
                    Some("42501") => {
                        "the role may not read HAPI's large objects: GRANT SELECT ON LARGE OBJECT, or set lo_compat_privileges = on".to_owned()
                    }
                    Some("42704") => "the version's large object is missing".to_owned(),
                    code => format!("the version's large object cannot be read (SQLSTATE {})", code.unwrap_or_default()),
                };
                found.insert(oid.0, Err(reason));
                attempt
                    .rollback()
                    .await
                    .map_err(HapiError::of("reading large objects"))?;
            }
            Err(other) => return Err(HapiError::of("reading large objects")(other)),
        }
    }
    Ok(found)
}
