//! The indexes that a view's table has after a refresh, so that what is compared with it gets equal ones.

use anyhow::ensure;
use sqlx::{Connection as _, PgConnection};

use crate::servers::Databases;

#[derive(sqlx::FromRow)]
pub(crate) struct Index {
    is_unique: bool,
    method: String,
    columns: String,
}

impl Index {
    /// The statement that makes an equal one on another table.
    pub(crate) fn on(&self, table: &str) -> String {
        let unique = if self.is_unique { "UNIQUE " } else { "" };
        format!(
            "CREATE {unique}INDEX ON {table} USING {} ({})",
            self.method, self.columns
        )
    }
}

/// Those of a view's base table, from the catalogue.
pub(crate) async fn indexes(databases: &Databases, view: &str) -> anyhow::Result<Vec<Index>> {
    let mut connection = PgConnection::connect(&databases.views).await?;
    let found: Vec<Index> = sqlx::query_as(
        "SELECT i.indisunique AS is_unique, m.amname::text AS method, \
           (SELECT string_agg(pg_get_indexdef(i.indexrelid, k, true) || coalesce((SELECT format(' COLLATE %I', collname) FROM pg_collation WHERE oid = i.indcollation[k - 1]), ''), ', ' ORDER BY k) FROM generate_series(1, i.indnkeyatts) k) AS columns \
         FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam \
         WHERE i.indrelid = ('sqlonfhir_base.' || quote_ident($1))::regclass ORDER BY 3",
    )
    .bind(view)
    .fetch_all(&mut connection)
    .await?;
    connection.close().await?;
    ensure!(!found.is_empty(), "the view's table has no index");
    Ok(found)
}
