//! The ledger: what is shown of each id that is live, or that the last run published; and the records of shown states that cannot be evaluated.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use fhir_core::merge::{Entry, Layer};
use sqlx::PgConnection;

use crate::StoreError;
use crate::error::during;

/// The entries of these ids, by id.
pub(crate) async fn entries(
    connection: &mut PgConnection,
    resource_type: &str,
    ids: &[&str],
) -> Result<HashMap<String, Entry>, StoreError> {
    type Row = (String, i64, i64, String, Option<DateTime<Utc>>);
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT id, n, version, layer, received FROM sqlonfhir_meta.ledger WHERE type = $1 AND id = ANY ($2)",
    )
    .bind(resource_type)
    .bind(ids)
    .fetch_all(connection)
    .await
    .map_err(during("reading the ledger"))?;
    Ok(rows
        .into_iter()
        .map(|(id, n, version, layer, received)| {
            let layer = if layer == "live" {
                Layer::Live
            } else {
                Layer::Batch
            };
            (
                id,
                Entry {
                    n,
                    version,
                    layer,
                    received,
                },
            )
        })
        .collect())
}

/// Replaces the entries of these ids.
pub(crate) async fn put(
    connection: &mut PgConnection,
    resource_type: &str,
    entries: &[(&str, &Entry)],
) -> Result<(), StoreError> {
    if entries.is_empty() {
        return Ok(());
    }
    let layer = |layer| if layer == Layer::Live { "live" } else { "batch" };
    sqlx::query(
        "INSERT INTO sqlonfhir_meta.ledger (type, id, n, version, layer, received) \
         SELECT $1, * FROM unnest($2::text[], $3::bigint[], $4::bigint[], $5::text[], $6::timestamptz[]) \
         ON CONFLICT (type, id) DO UPDATE SET n = excluded.n, version = excluded.version, layer = excluded.layer, received = excluded.received",
    )
    .bind(resource_type)
    .bind(entries.iter().map(|(id, _)| *id).collect::<Vec<_>>())
    .bind(entries.iter().map(|(_, e)| e.n).collect::<Vec<_>>())
    .bind(entries.iter().map(|(_, e)| e.version).collect::<Vec<_>>())
    .bind(entries.iter().map(|(_, e)| layer(e.layer)).collect::<Vec<_>>())
    .bind(entries.iter().map(|(_, e)| e.received).collect::<Vec<_>>())
    .execute(connection)
    .await
    .map_err(during("writing the ledger"))?;
    Ok(())
}

/// A shown state that cannot be evaluated for a view.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Failure<'a> {
    pub(crate) view: &'a str,
    pub(crate) id: &'a str,
    pub(crate) version: i64,
    pub(crate) reason: &'a str,
}

/// What is shown of these ids has changed: their records go, and `failures` are recorded.
pub(crate) async fn replace_failures(
    connection: &mut PgConnection,
    resource_type: &str,
    views: &[&str],
    ids: &[&str],
    failures: &[Failure<'_>],
) -> Result<(), StoreError> {
    let doing = during("recording evaluation errors");
    sqlx::query("DELETE FROM sqlonfhir_meta.error WHERE view = ANY ($1) AND id = ANY ($2)")
        .bind(views)
        .bind(ids)
        .execute(&mut *connection)
        .await
        .map_err(doing)?;
    if failures.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO sqlonfhir_meta.error (view, resource_type, id, version, reason) \
         SELECT v, $1, id, version, reason FROM unnest($2::text[], $3::text[], $4::bigint[], $5::text[]) f (v, id, version, reason) \
         ON CONFLICT (view, id) DO UPDATE SET version = excluded.version, reason = excluded.reason, at = clock_timestamp()",
    )
    .bind(resource_type)
    .bind(failures.iter().map(|f| f.view).collect::<Vec<_>>())
    .bind(failures.iter().map(|f| f.id).collect::<Vec<_>>())
    .bind(failures.iter().map(|f| f.version).collect::<Vec<_>>())
    .bind(failures.iter().map(|f| f.reason).collect::<Vec<_>>())
    .execute(connection)
    .await
    .map_err(doing)?;
    Ok(())
}
