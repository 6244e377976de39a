//! The ledger: what is shown of each id that is live, or that the last run published; and the records of shown states that cannot be evaluated.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use fhir_core::merge::{Entry, Layer};
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{PgConnection, Postgres};

use crate::StoreError;
use crate::error::during;
use crate::freshness::TypeRow;

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
            let layer = layer_of(&layer);
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

fn layer_of(text: &str) -> Layer {
    if text == "live" { Layer::Live } else { Layer::Batch }
}

/// The type's row, and the entry of an id, if it has one.
#[derive(sqlx::FromRow)]
struct TypeAndEntry {
    #[sqlx(flatten)]
    row: TypeRow,
    entry_id: Option<String>,
    entry_n: Option<i64>,
    entry_version: Option<i64>,
    entry_layer: Option<String>,
    entry_received: Option<DateTime<Utc>>,
}

impl TypeAndEntry {
    fn entry(self) -> Option<(String, Entry)> {
        let entry = Entry {
            n: self.entry_n?,
            version: self.entry_version?,
            layer: layer_of(&self.entry_layer?),
            received: self.entry_received,
        };
        Some((self.entry_id?, entry))
    }
}

/// The type's row as it is now, and the entries of these ids, by id.
pub(crate) async fn type_and_entries(
    connection: &mut PgConnection,
    resource_type: &str,
    ids: &[&str],
) -> Result<(TypeRow, HashMap<String, Entry>), StoreError> {
    let rows: Vec<TypeAndEntry> = sqlx::query_as(
        "SELECT t.*, l.id AS entry_id, l.n AS entry_n, l.version AS entry_version, l.layer AS entry_layer, l.received AS entry_received \
         FROM sqlonfhir_meta.resource_type t LEFT JOIN sqlonfhir_meta.ledger l ON l.type = t.type AND l.id = ANY ($2) WHERE t.type = $1",
    )
    .bind(resource_type)
    .bind(ids)
    .fetch_all(connection)
    .await
    .map_err(during("reading the ledger"))?;
    let row = rows.first().map(|first| first.row.clone()).unwrap_or_default();
    Ok((row, rows.into_iter().filter_map(TypeAndEntry::entry).collect()))
}

/// Replaces entries: with the parameters of [`bound`].
pub(crate) const PUT: &str = "INSERT INTO sqlonfhir_meta.ledger (type, id, n, version, layer, received) \
     SELECT $1, * FROM unnest($2::text[], $3::bigint[], $4::bigint[], $5::text[], $6::timestamptz[]) \
     ON CONFLICT (type, id) DO UPDATE SET n = excluded.n, version = excluded.version, layer = excluded.layer, received = excluded.received";

/// The ids among the parameters of [`PUT`].
pub(crate) const IDS: &str = "$2";

/// How many parameters [`PUT`] has.
pub(crate) const PARAMETERS: usize = 6;

/// Binds the parameters of [`PUT`].
pub(crate) fn bound<'q>(
    query: Query<'q, Postgres, PgArguments>,
    resource_type: &'q str,
    entries: &[(&'q str, &Entry)],
) -> Query<'q, Postgres, PgArguments> {
    let layer = |layer| if layer == Layer::Live { "live" } else { "batch" };
    query
        .bind(resource_type)
        .bind(entries.iter().map(|(id, _)| *id).collect::<Vec<_>>())
        .bind(entries.iter().map(|(_, e)| e.n).collect::<Vec<_>>())
        .bind(entries.iter().map(|(_, e)| e.version).collect::<Vec<_>>())
        .bind(entries.iter().map(|(_, e)| layer(e.layer)).collect::<Vec<_>>())
        .bind(entries.iter().map(|(_, e)| e.received).collect::<Vec<_>>())
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
    bound(sqlx::query(PUT), resource_type, entries)
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

/// What is shown of the ids among [`PUT`]'s parameters has changed: their records of the views go, whose names are parameter `names`.
pub(crate) fn forget_failures_sql(names: usize) -> String {
    format!("DELETE FROM sqlonfhir_meta.error WHERE view = ANY (${names}) AND id = ANY ({IDS})")
}

/// Records states that are shown, after those of the same ids before were forgotten.
pub(crate) async fn record_failures(
    connection: &mut PgConnection,
    resource_type: &str,
    failures: &[Failure<'_>],
) -> Result<(), StoreError> {
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
    .map_err(during("recording evaluation errors"))?;
    Ok(())
}
