//! Which of HAPI's schemas this is: found at start, by the columns that exist.

use std::collections::HashSet;

use sqlx::{Row as _, postgres::PgConnection};

use super::{HapiError, rights::TABLES};

/// What the tables of this HAPI have, and the pieces of SQL that follow from it.
#[derive(Debug, Clone)]
pub struct Schema {
    /// What differs from the newest schema known (8.8), for people.
    pub notes: Vec<String>,
    /// Logical id of `r`.
    pub(super) id: &'static str,
    /// Joins that [`Schema::id`] needs.
    pub(super) id_join: &'static str,
    /// Condition on `r`: its logical id is one of `$2`.
    pub(super) id_in: String,
    /// Columns of the version `v` that older schemas lack, with what stands for them.
    pub(super) text_vc: &'static str,
    pub(super) text_oid: &'static str,
    pub(super) request_id: &'static str,
    pub(super) source_uri: &'static str,
    /// Joins that the source needs.
    pub(super) source_join: &'static str,
    /// Condition on `r`, opening with AND: rows of the partition that was chosen.
    pub(super) partition: String,
}

/// Numeric logical ids among `$2`: those that a server assigned without writing them down.
const NUMERIC: &str = "(SELECT x::bigint FROM unnest($2::text[]) x WHERE x ~ '^[0-9]{1,18}$')";

impl Schema {
    /// Looks at the tables; `Refused` if they are not HAPI's, or cannot be read.
    pub(super) async fn find(connection: &mut PgConnection, partition: Partition) -> Result<Self, HapiError> {
        let columns = Columns::of(connection).await?;
        columns.require()?;
        let has = |table: &str, column: &str| columns.has(table, column);
        let mut notes = Vec::new();
        let (id, id_join, id_in) = columns.ids(&mut notes);
        let mut or_null = |column: &str, present: &'static str, absent: &'static str, note: &str| {
            if has("hfj_res_ver", column) {
                return present;
            }
            notes.push(format!("hfj_res_ver.{column} is missing: {note}"));
            absent
        };
        let text_vc = or_null(
            "res_text_vc",
            "v.res_text_vc",
            "NULL::text",
            "every body lies in a large object",
        );
        let text_oid = or_null("res_text", "v.res_text", "NULL::oid", "every body lies inline");
        let mut request_id = or_null(
            "request_id",
            "v.request_id",
            "NULL::text",
            "meta.source has no request id from there",
        );
        let mut source_uri = or_null(
            "source_uri",
            "v.source_uri",
            "NULL::text",
            "meta.source has no URI from there",
        );
        let mut source_join = "";
        if has("hfj_res_ver_prov", "request_id")
            && exists(connection, "SELECT EXISTS (SELECT 1 FROM hfj_res_ver_prov)").await?
        {
            notes.push(
                "hfj_res_ver_prov has rows (written before HAPI 6.8): meta.source is taken from there too"
                    .to_owned(),
            );
            source_join = " LEFT JOIN hfj_res_ver_prov p ON p.res_ver_pid = v.pid";
            request_id = if request_id == "v.request_id" {
                "coalesce(v.request_id, p.request_id)"
            } else {
                "p.request_id"
            };
            source_uri = if source_uri == "v.source_uri" {
                "coalesce(v.source_uri, p.source_uri)"
            } else {
                "p.source_uri"
            };
        }
        let partition = if has("hfj_resource", "partition_id") {
            partition_condition(connection, partition, has("hfj_partition", "part_id")).await?
        } else {
            String::new()
        };
        Ok(Self {
            notes,
            id,
            id_join,
            id_in,
            text_vc,
            text_oid,
            request_id,
            source_uri,
            source_join,
            partition,
        })
    }
}

/// The columns of HAPI's tables.
struct Columns(HashSet<(String, String)>);

impl Columns {
    async fn of(connection: &mut PgConnection) -> Result<Self, HapiError> {
        let rows = sqlx::query(
            "SELECT c.relname::text AS name, a.attname::text AS col, has_table_privilege(c.oid, 'SELECT') AS readable
             FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
             WHERE c.oid IN (SELECT to_regclass(name) FROM unnest($1::text[]) name)
               AND a.attnum > 0 AND NOT a.attisdropped",
        )
        .bind(&TABLES[..])
        .fetch_all(&mut *connection)
        .await
        .map_err(HapiError::of("looking at the schema"))?;
        let mut columns = HashSet::new();
        for row in &rows {
            let get = |i: &str| {
                row.try_get::<String, _>(i)
                    .map_err(HapiError::of("looking at the schema"))
            };
            let (table, column) = (get("name")?, get("col")?);
            if !row
                .try_get::<bool, _>("readable")
                .map_err(HapiError::of("looking at the schema"))?
            {
                return Err(HapiError::Refused(format!(
                    "the login of hapi.url may not read {table}: run deploy/sql/hapi-reader.sql for it in HAPI's database, or GRANT SELECT ON {table} TO it"
                )));
            }
            columns.insert((table, column));
        }
        Ok(Self(columns))
    }

    fn has(&self, table: &str, column: &str) -> bool {
        self.0.contains(&(table.to_owned(), column.to_owned()))
    }

    /// What no release of HAPI is without.
    fn require(&self) -> Result<(), HapiError> {
        for (table, column) in [
            ("hfj_resource", "res_id"),
            ("hfj_resource", "res_type"),
            ("hfj_resource", "res_ver"),
            ("hfj_resource", "res_updated"),
            ("hfj_resource", "res_deleted_at"),
            ("hfj_res_ver", "res_id"),
            ("hfj_res_ver", "res_type"),
            ("hfj_res_ver", "res_ver"),
            ("hfj_res_ver", "res_updated"),
            ("hfj_res_ver", "res_encoding"),
            ("hfj_res_tag", "tag_id"),
            ("hfj_tag_def", "tag_type"),
        ] {
            if !self.has(table, column) {
                return Err(HapiError::Refused(format!(
                    "there is no {table}.{column} in this database: hapi.url must lead to HAPI's own database, after HAPI has made its tables, \
                     and its search_path to their schema"
                )));
            }
        }
        Ok(())
    }

    /// The logical id of `r`, the joins that it needs, and the condition that it is one of `$2`.
    fn ids(&self, notes: &mut Vec<String>) -> (&'static str, &'static str, String) {
        if self.has("hfj_resource", "fhir_id") {
            (
                "coalesce(r.fhir_id, r.res_id::text)",
                "",
                format!("(r.fhir_id = ANY($2) OR (r.fhir_id IS NULL AND r.res_id IN {NUMERIC}))"),
            )
        } else if self.has("hfj_forced_id", "forced_id") {
            notes.push(
                "hfj_resource.fhir_id is missing (before HAPI 6.8): ids are taken from hfj_forced_id"
                    .to_owned(),
            );
            (
                "coalesce(f.forced_id, r.res_id::text)",
                " LEFT JOIN hfj_forced_id f ON f.resource_pid = r.res_id",
                format!(
                    "(r.res_id IN (SELECT resource_pid FROM hfj_forced_id WHERE forced_id = ANY($2) AND resource_type = $1)
                      OR (f.forced_id IS NULL AND r.res_id IN {NUMERIC}))"
                ),
            )
        } else {
            notes.push(
                "there is neither hfj_resource.fhir_id nor hfj_forced_id: HAPI's row numbers are the ids"
                    .to_owned(),
            );
            ("r.res_id::text", "", format!("r.res_id IN {NUMERIC}"))
        }
    }
}

/// Which of HAPI's partitions is this installation's tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Partition {
    /// None chosen: right where HAPI keeps all in one; several with data are refused.
    #[default]
    Only,
    /// The one with this `partition_id`.
    Id(i32),
    /// HAPI's default partition, whose `partition_id` is null.
    Default,
}

async fn partition_condition(
    connection: &mut PgConnection,
    chosen: Partition,
    known: bool,
) -> Result<String, HapiError> {
    match chosen {
        Partition::Id(id) => return Ok(format!(" AND r.partition_id = {id}")),
        Partition::Default => return Ok(" AND r.partition_id IS NULL".to_owned()),
        Partition::Only => {}
    }
    // Without partitions their table is empty, and no scan is needed to know it.
    if !known {
        return Ok(String::new());
    }
    let ids: Vec<i32> = sqlx::query_scalar("SELECT part_id FROM hfj_partition ORDER BY part_id")
        .fetch_all(&mut *connection)
        .await
        .map_err(HapiError::of("looking at the partitions"))?;
    let mut with_data = Vec::new();
    for id in ids {
        if exists(
            connection,
            &format!("SELECT EXISTS (SELECT 1 FROM hfj_resource WHERE partition_id = {id})"),
        )
        .await?
        {
            with_data.push(id.to_string());
        }
    }
    if !with_data.is_empty()
        && exists(
            connection,
            "SELECT EXISTS (SELECT 1 FROM hfj_resource WHERE partition_id IS NULL)",
        )
        .await?
    {
        with_data.push("default".to_owned());
    }
    if with_data.len() > 1 {
        return Err(HapiError::Refused(format!(
            "HAPI holds several partitions ({}): choose the one of this installation by hapi.partition",
            with_data.join(", ")
        )));
    }
    Ok(String::new())
}

async fn exists(connection: &mut PgConnection, sql: &str) -> Result<bool, HapiError> {
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql.to_owned()))
        .fetch_one(connection)
        .await
        .map_err(HapiError::of("looking at the schema"))
}

/// A text as SQL has it: the queries of cursors and of COPY take no parameters.
pub(super) fn literal(text: &str) -> String {
    // A backslash means different things under different settings of the server, unless the form says so itself.
    let escaping = if text.contains('\\') { "E" } else { "" };
    format!(
        "{escaping}'{}'",
        text.replace('\\', "\\\\").replace('\'', "''").replace('\0', "")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_cannot_end_its_literal() {
        assert_eq!(literal("a-1"), "'a-1'");
        assert_eq!(literal("x' OR '1'='1"), "'x'' OR ''1''=''1'");
        assert_eq!(literal("\\' --"), "E'\\\\'' --'");
    }
}
