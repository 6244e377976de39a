//! HAPI's database without a HAPI: its own tables, and versions written by SQL as HAPI writes them.

use std::sync::atomic::{AtomicI64, Ordering};

use chrono::NaiveDateTime;
use serde_json::json;
use sqlx::{PgConnection, PgPool};

use crate::postgres::Postgres;
use crate::rights;

/// HAPI's tables, as it makes them.
const SCHEMA: &str = include_str!("../fixtures/hapi-8.8.0.sql");

/// HAPI's row numbers: of all databases of this program, which does not matter.
static NEXT: AtomicI64 = AtomicI64::new(1);

/// Row numbers from here on begin above this: tables were filled by another program.
pub fn count_from(number: i64) {
    NEXT.fetch_max(number, Ordering::Relaxed);
}

/// A version of a resource.
#[derive(Debug, Clone, Copy)]
pub struct Version<'a> {
    /// Resource type.
    pub resource_type: &'a str,
    /// Its id.
    pub id: &'a str,
    /// The number that HAPI gives it.
    pub version: i64,
    /// HAPI's time for it, in the zone of its JVM.
    pub updated: NaiveDateTime,
    /// The body as it is stored, without id and meta; `None`: the version is a deletion.
    pub stored: Option<&'a str>,
}

/// Creates the database `hapi` with HAPI's tables, empty, and the role `source` that reads them, with no more rights than it needs; answers the superuser's URL.
pub async fn create(postgres: &Postgres) -> anyhow::Result<String> {
    let url = postgres.create_database("hapi").await?;
    postgres.execute("hapi", "CREATE ROLE source LOGIN").await?;
    postgres.execute("hapi", SCHEMA).await?;
    rights::run_sql(postgres, "hapi", "hapi-reader.sql", &[("reader", "source")])?;
    Ok(url)
}

/// Makes HAPI's tables as whoever is connected, whose they are then.
pub async fn make(connection: &mut PgConnection) -> anyhow::Result<()> {
    sqlx::raw_sql(SCHEMA).execute(connection).await?;
    Ok(())
}

/// Writes the first version of a resource, as of now.
pub async fn write_new(hapi: &PgPool, resource_type: &str, id: &str, stored: &str) -> anyhow::Result<()> {
    let mut connection = hapi.acquire().await?;
    let version = Version {
        resource_type,
        id,
        version: 1,
        updated: now(&mut connection).await?,
        stored: Some(stored),
    };
    write(&mut connection, None, &version).await
}

/// Writes a patient of whom nothing is told but the gender.
pub async fn write_patient(hapi: &PgPool, id: &str, gender: &str) -> anyhow::Result<()> {
    let stored = json!({"resourceType": "Patient", "gender": gender}).to_string();
    write_new(hapi, "Patient", id, &stored).await
}

/// The clock of HAPI's JVM.
pub async fn now(connection: &mut PgConnection) -> anyhow::Result<NaiveDateTime> {
    Ok(
        sqlx::query_scalar("SELECT date_trunc('milliseconds', clock_timestamp() AT TIME ZONE 'UTC')")
            .fetch_one(connection)
            .await?,
    )
}

/// HAPI's row number and the version of a resource that is or was there.
pub async fn find(connection: &mut PgConnection, id: &str) -> anyhow::Result<Option<(i64, i64)>> {
    Ok(
        sqlx::query_as("SELECT res_id, res_ver FROM hfj_resource WHERE fhir_id = $1")
            .bind(id)
            .fetch_optional(connection)
            .await?,
    )
}

/// Writes a version, of a new resource or (`res_id`) of one that is there.
pub async fn write(
    connection: &mut PgConnection,
    res_id: Option<i64>,
    version: &Version<'_>,
) -> anyhow::Result<()> {
    let Version {
        resource_type,
        id,
        version,
        updated,
        stored,
    } = *version;
    let res_id = if let Some(res_id) = res_id {
        sqlx::query("UPDATE hfj_resource SET res_ver = $2, res_updated = $3, res_deleted_at = CASE WHEN $4 THEN $3 END WHERE res_id = $1")
            .bind(res_id)
            .bind(version)
            .bind(updated)
            .bind(stored.is_none())
            .execute(&mut *connection)
            .await?;
        res_id
    } else {
        let res_id = NEXT.fetch_add(1, Ordering::Relaxed);
        sqlx::query(
            "INSERT INTO hfj_resource (res_id, fhir_id, res_type, res_ver, res_published, res_updated, res_version, has_tags, sp_has_links, \
             sp_coords_present, sp_date_present, sp_number_present, sp_quantity_nrml_present, sp_quantity_present, sp_string_present, \
             sp_token_present, sp_uri_present) \
             VALUES ($1, $2, $3, $4, $5, $5, 'R4', false, false, false, false, false, false, false, false, false, false)",
        )
        .bind(res_id)
        .bind(id)
        .bind(resource_type)
        .bind(version)
        .bind(updated)
        .execute(&mut *connection)
        .await?;
        res_id
    };
    sqlx::query(
        "INSERT INTO hfj_res_ver (pid, res_id, res_type, res_ver, res_published, res_updated, res_version, has_tags, res_encoding, res_text_vc, \
         res_deleted_at, request_id) VALUES ($1, $2, $3, $4, $5, $5, 'R4', false, $6, $7, CASE WHEN $7 IS NULL THEN $5 END, 'Rq1')",
    )
    .bind(NEXT.fetch_add(1, Ordering::Relaxed))
    .bind(res_id)
    .bind(resource_type)
    .bind(version)
    .bind(updated)
    .bind(if stored.is_some() { "JSON" } else { "DEL" })
    .bind(stored)
    .execute(connection)
    .await?;
    Ok(())
}
