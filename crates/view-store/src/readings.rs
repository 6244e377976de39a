//! Numbers of readings: drawn under the lock of one row while the reading's snapshot is opened (rule 2).

use fhir_core::merge::Position;

use crate::error::during;
use crate::freshness::TypeRow;
use crate::{StoreError, ViewStore};

/// A number that was drawn, and what the views' database held of each asked type at that moment.
#[derive(Debug, Clone)]
pub struct Drawn {
    /// The number.
    pub n: i64,
    /// For each asked type, in the asked order: the batch's watermark (rule 5).
    pub published: Vec<Option<Position>>,
    /// For each asked type: ids whose shown state is a preview: every reading takes them in (rule 5).
    pub shown_previews: Vec<Vec<String>>,
}

/// Opening a snapshot takes milliseconds. A refresher that hangs there holds the row's lock, and so every other reading: it is ended.
const LIMIT_OPENING: &str =
    "SET LOCAL idle_in_transaction_session_timeout = '10s'; SET LOCAL synchronous_commit = on";

impl ViewStore {
    /// `BEGIN; UPDATE reading SET n = n + 1 RETURNING n; open().await; COMMIT` with a synchronous commit: what `open` returns (the snapshot) is given
    /// back, and may be used, only after the commit. If `open` fails the transaction is rolled back and the error returned.
    pub async fn draw_number<S, E, F>(&self, resource_types: &[&str], open: F) -> Result<(Drawn, S), E>
    where
        F: AsyncFnOnce() -> Result<S, E>,
        E: From<StoreError>,
    {
        let failed = |error| E::from(during("drawing a reading's number")(error));
        let mut transaction = self.begin().await?;
        sqlx::raw_sql(LIMIT_OPENING)
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        let n: i64 = sqlx::query_scalar("UPDATE sqlonfhir_meta.reading SET n = n + 1 RETURNING n")
            .fetch_one(&mut *transaction)
            .await
            .map_err(failed)?;
        let asked: Vec<String> = resource_types.iter().map(|&t| t.to_owned()).collect();
        let rows: Vec<TypeRow> = sqlx::query_as(TypeRow::SELECT_MANY)
            .bind(&asked)
            .fetch_all(&mut *transaction)
            .await
            .map_err(failed)?;
        let previews: Vec<(String, String)> = sqlx::query_as(
            "SELECT type, id FROM sqlonfhir_meta.ledger WHERE type = ANY ($1) AND received IS NOT NULL ORDER BY type, id",
        )
        .bind(&asked)
        .fetch_all(&mut *transaction)
        .await
        .map_err(failed)?;
        let snapshot = open().await?;
        transaction.commit().await.map_err(failed)?;

        let published = asked
            .iter()
            .map(|t| rows.iter().find(|r| r.is_of(t)).and_then(TypeRow::published))
            .collect();
        let shown_previews = asked
            .iter()
            .map(|t| {
                previews
                    .iter()
                    .filter(|(of, _)| of == t)
                    .map(|(_, id)| id.clone())
                    .collect()
            })
            .collect();
        Ok((
            Drawn {
                n,
                published,
                shown_previews,
            },
            snapshot,
        ))
    }

    /// Ids of the type that are live now (rule 11): read them after the snapshot was opened.
    pub async fn live_ids(&self, resource_type: &str) -> Result<Vec<String>, StoreError> {
        sqlx::query_scalar(LIVE_IDS)
            .bind(resource_type)
            .fetch_all(&self.pool)
            .await
            .map_err(during("reading the live ids"))
    }
}

/// Ids of a type that are live.
pub(crate) const LIVE_IDS: &str =
    "SELECT id FROM sqlonfhir_meta.ledger WHERE type = $1 AND layer = 'live' ORDER BY id";
