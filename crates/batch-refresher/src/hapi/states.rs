//! From rows to states: text inline or in a large object, tombstones, what cannot be read.

use std::{borrow::Cow, collections::HashMap, io::Read as _};

use bytes::Bytes;
use chrono::NaiveDateTime;
use fhir_core::resource::{Content, State};
use sqlx::{
    AssertSqlSafe, Connection as _, PgConnection, Postgres, Row as _,
    postgres::{PgArguments, PgRow, types::Oid},
    query::Query,
};

use super::{
    Hapi, HapiError, Schema, Zone,
    body::{self, Columns, Tag},
    heads::{Head, Text},
};

/// A body may be this long once unpacked: PostgreSQL's own limit on a field.
const MAX_BODY: u64 = 1 << 30;

impl Schema {
    /// A query whose rows [`Current::of`] takes: number and time are those of `version` (`r` or `v`), `from` joins the versions, as `v`, to `r`.
    fn states(&self, version: &str, deleted: &str, tags: &str, from: &str, condition: &str) -> String {
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
            "SELECT {id} AS id, {version}.res_ver, {version}.res_updated, {deleted} AS deleted, v.res_ver AS found, v.res_encoding, {text_vc} AS text_vc,
                 CASE WHEN {text_vc} IS NULL THEN {text_oid} END AS text_oid, {request_id} AS request_id, {source_uri} AS source_uri, {tags} AS tags
             FROM hfj_resource r{id_join} {from}{source_join} WHERE {condition}{partition}"
        )
    }

    /// A query for the current states of resources: `condition` says which, over `r`.
    ///
    /// The current version is the one that `hfj_resource` names; if its row was expunged the next lower one counts, as in HAPI.
    pub(super) fn current_states(&self, condition: &str) -> String {
        let current = "LEFT JOIN LATERAL (SELECT * FROM hfj_res_ver x WHERE x.res_id = r.res_id AND x.res_ver <= r.res_ver ORDER BY x.res_ver DESC LIMIT 1) v ON true";
        self.states("r", "r.res_deleted_at IS NOT NULL", TAGS, current, condition)
    }

    /// A query for versions of resources of the type `$1`: those of the ids `$2` with the numbers `$3`, pair by pair.
    fn versions(&self) -> String {
        let condition = format!(
            "r.res_type = $1 AND {} AND ({}, v.res_ver) IN (SELECT * FROM unnest($2::text[], $3::bigint[]))",
            self.id_in, self.id
        );
        let all = "JOIN hfj_res_ver v ON v.res_id = r.res_id";
        // A version that deleted says so by its encoding.
        self.states("v", "false", VERSION_TAGS, all, &condition)
    }
}

/// Numbers of a version's tags. With its default tag storage (`VERSIONED`) HAPI keeps them by version; without a single such row all versions have the
/// resource's (`NON_VERSIONED`).
const VERSION_TAGS: &str = "CASE WHEN EXISTS (SELECT FROM hfj_history_tag) \
     THEN ARRAY(SELECT t.tag_id FROM hfj_history_tag t WHERE t.res_ver_pid = v.pid AND t.tag_id IS NOT NULL) \
     WHEN r.has_tags THEN ARRAY(SELECT t.tag_id FROM hfj_res_tag t WHERE t.res_id = r.res_id AND t.tag_id IS NOT NULL) END";

/// What of `meta` is put into bodies that are loaded, besides version and time: to look it up costs as much as the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetaRead {
    /// Tags, profiles, security labels.
    pub tags: bool,
    /// The source.
    pub source: bool,
}

impl MetaRead {
    /// As HAPI delivers it.
    pub const ALL: Self = Self {
        tags: true,
        source: true,
    };
}

/// Numbers of a resource's tags.
pub(super) const TAGS: &str = "CASE WHEN r.has_tags THEN ARRAY(SELECT t.tag_id FROM hfj_res_tag t WHERE t.res_id = r.res_id AND t.tag_id IS NOT NULL) END";

/// A row of [`Schema::current_states`].
pub(super) struct Current {
    pub(super) id: String,
    version: i64,
    updated: NaiveDateTime,
    deleted: bool,
    pub(super) found: Option<i64>,
    encoding: Encoding,
    text: Option<Bytes>,
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
            encoding: Encoding::of(row.try_get::<Option<&str>, _>("res_encoding")?),
            text: row.try_get::<Option<String>, _>("text_vc")?.map(Bytes::from),
            large_object: row.try_get("text_oid")?,
            request_id: row.try_get("request_id")?,
            source_uri: row.try_get("source_uri")?,
            tags: row.try_get::<Option<Vec<i64>>, _>("tags")?.unwrap_or_default(),
        })
    }

    /// The current version of a resource, with its text as it was received.
    pub(super) fn inline(head: Head, text: Text) -> Self {
        Self {
            id: head.id,
            version: head.version,
            updated: head.updated,
            deleted: false,
            found: Some(head.version),
            encoding: Encoding::Json,
            text: Some(text.body),
            large_object: None,
            request_id: text.request_id,
            source_uri: text.source_uri,
            tags: head.tags,
        }
    }

    fn is_tombstone(&self) -> bool {
        self.deleted || self.encoding == Encoding::Tombstone
    }
}

/// `hfj_res_ver.res_encoding` (HAPI's `ResourceEncodingEnum`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Json,
    CompressedJson,
    Tombstone,
    External,
    /// HAPI's own word, or none, that a reason may name.
    Other(&'static str),
}

impl Encoding {
    fn of(name: Option<&str>) -> Self {
        match name {
            Some("JSON") => Self::Json,
            Some("JSONC") => Self::CompressedJson,
            Some("DEL") => Self::Tombstone,
            Some("ESR") => Self::External,
            Some("XML") => Self::Other("XML"),
            _ => Self::Other("of another kind"),
        }
    }

    /// As a reason may name it: never what stands in the column.
    fn name(self) -> &'static str {
        match self {
            Self::Json => "JSON",
            Self::CompressedJson => "JSONC",
            Self::Tombstone => "DEL",
            Self::External => "ESR",
            Self::Other(name) => name,
        }
    }
}

/// Rows with all that they refer to: what is left to do needs no database.
pub struct Fetched {
    rows: Vec<Current>,
    objects: HashMap<u32, Result<Vec<u8>, String>>,
    tags: HashMap<i64, Tag>,
    zone: Zone,
}

impl Fetched {
    /// How many resources; fewer states come of them where no version is left.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Bytes that were read of bodies, as they are stored.
    pub(super) fn bytes(&self) -> usize {
        let inline = self
            .rows
            .iter()
            .filter_map(|row| row.text.as_ref())
            .map(Bytes::len);
        let objects = self.objects.values().flatten().map(Vec::len);
        inline.chain(objects).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The states, with bodies as HAPI delivers them. A resource of which no version is left is none (HAPI does not find it either).
    pub fn states(self) -> Vec<State> {
        let mut states = Vec::with_capacity(self.rows.len());
        for row in self.rows {
            let Some(found) = row.found else { continue };
            let at = self.zone.instant(row.updated);
            let (version, content) = if row.is_tombstone() {
                (row.version, Content::Deleted)
            } else {
                let columns = Columns {
                    id: &row.id,
                    version: found,
                    last_updated: Zone::lexical(&at),
                    source_uri: row.source_uri.as_deref(),
                    request_id: row.request_id.as_deref(),
                    tags: row
                        .tags
                        .iter()
                        .filter_map(|id| self.tags.get(id).cloned())
                        .collect(),
                };
                let content = match stored_text(&row, &self.objects)
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
        states
    }
}

impl Hapi {
    /// The current rows of resources by their ids; none of one that HAPI has no row of.
    pub(super) async fn current(
        &self,
        connection: &mut PgConnection,
        resource_type: &str,
        ids: &[String],
    ) -> Result<Vec<Current>, HapiError> {
        let schema = &self.inner.schema;
        let sql = schema.current_states(&format!("r.res_type = $1 AND {}", schema.id_in));
        let query = sqlx::query(AssertSqlSafe(sql)).bind(resource_type).bind(ids);
        fetch(query, connection).await
    }

    /// Rows of versions by ids and numbers; none of one that HAPI does not have.
    pub(super) async fn versions(
        &self,
        connection: &mut PgConnection,
        resource_type: &str,
        wanted: &[(String, i64)],
    ) -> Result<Vec<Current>, HapiError> {
        let (ids, numbers): (Vec<&str>, Vec<i64>) =
            wanted.iter().map(|(id, number)| (id.as_str(), *number)).unzip();
        let query = sqlx::query(AssertSqlSafe(self.inner.schema.versions()))
            .bind(resource_type)
            .bind(ids)
            .bind(numbers);
        fetch(query, connection).await
    }

    /// Turns rows into states, reading large objects and tags over the same connection, in its snapshot.
    pub(super) async fn states_of(
        &self,
        connection: &mut PgConnection,
        rows: Vec<PgRow>,
    ) -> Result<Vec<State>, HapiError> {
        Ok(self.complete(connection, rows_of(&rows)?).await?.states())
    }

    /// Reads what rows refer to: large objects, and definitions of tags.
    pub(super) async fn complete(
        &self,
        connection: &mut PgConnection,
        rows: Vec<Current>,
    ) -> Result<Fetched, HapiError> {
        let objects = large_objects(connection, large_objects_of(&rows)).await?;
        let tags = self
            .inner
            .tags
            .of(connection, rows.iter().flat_map(|r| &r.tags).copied().collect())
            .await?;
        Ok(Fetched {
            rows,
            objects,
            tags,
            zone: self.inner.zone,
        })
    }

    /// Rows that refer to nothing that has to be read first; else they are given back.
    pub(super) fn complete_already(&self, rows: Vec<Current>) -> Result<Fetched, Vec<Current>> {
        let ids = rows.iter().flat_map(|r| &r.tags).copied();
        match self.inner.tags.known(ids) {
            Some(tags) if large_objects_of(&rows).is_empty() => Ok(Fetched {
                rows,
                objects: HashMap::new(),
                tags,
                zone: self.inner.zone,
            }),
            _ => Err(rows),
        }
    }
}

async fn fetch(
    query: Query<'_, Postgres, PgArguments>,
    connection: &mut PgConnection,
) -> Result<Vec<Current>, HapiError> {
    let rows = query
        .fetch_all(connection)
        .await
        .map_err(HapiError::of("reading states"))?;
    rows_of(&rows)
}

fn rows_of(rows: &[PgRow]) -> Result<Vec<Current>, HapiError> {
    let rows: Result<_, _> = rows.iter().map(Current::of).collect();
    rows.map_err(HapiError::of("reading states"))
}

fn large_objects_of(rows: &[Current]) -> Vec<Oid> {
    rows.iter()
        .filter(|r| !r.is_tombstone() && r.text.is_none())
        .filter_map(|r| r.large_object)
        .collect()
}

/// The stored text, in HAPI's own order: inline wins, then the large object by its encoding.
fn stored_text<'a>(
    row: &'a Current,
    objects: &'a HashMap<u32, Result<Vec<u8>, String>>,
) -> Result<Cow<'a, [u8]>, String> {
    if row.encoding == Encoding::External {
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
                row.encoding.name()
            ));
        }
    };
    let utf8 = |bytes: Vec<u8>| match String::from_utf8(bytes) {
        Ok(text) => Ok(text.into_bytes()),
        Err(_) => Err("the large object is not UTF-8".to_owned()),
    };
    match row.encoding {
        Encoding::Json => utf8(bytes.clone()).map(Cow::Owned),
        Encoding::CompressedJson => {
            let mut text = Vec::new();
            flate2::read::MultiGzDecoder::new(bytes.as_slice())
                .take(MAX_BODY)
                .read_to_end(&mut text)
                .map_err(|_| "the large object is not gzip (encoding JSONC)".to_owned())?;
            utf8(text).map(Cow::Owned)
        }
        other => Err(format!("the encoding {} is not known", other.name())),
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
