//! What the schedules of all replicas go by: the watermark, the last comparison of everything, and what was cancelled. None of them remembers anything
//! else, so a scheduled time is neither missed nor kept twice, whichever of them is there.

use chrono::{DateTime, Utc};

use crate::error::during;
use crate::{StoreError, ViewStore};

/// What a type has behind it. All times are those of HAPI's clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, sqlx::FromRow)]
pub struct ScheduleState {
    /// T of the watermark.
    pub published_as_of: Option<DateTime<Utc>>,
    /// When the last run that compared everything began.
    pub reconciled_as_of: Option<DateTime<Utc>>,
    /// Resources that it found to differ though nothing had told so; `None` where it had nothing to compare with.
    pub differences: Option<i64>,
    /// Refreshes up to here were cancelled.
    pub refresh_skipped: Option<DateTime<Utc>>,
    /// Reconciliations up to here were cancelled.
    pub reconciliation_skipped: Option<DateTime<Utc>>,
}

impl ViewStore {
    /// What a type has behind it; all `None` for one that was never seen.
    pub async fn schedule_state(&self, resource_type: &str) -> Result<ScheduleState, StoreError> {
        sqlx::query_as(
            "SELECT t.published_as_of, s.reconciled_as_of, s.differences, s.refresh_skipped, s.reconciliation_skipped \
             FROM (SELECT $1::text AS type) a LEFT JOIN sqlonfhir_meta.resource_type t USING (type) \
             LEFT JOIN sqlonfhir_meta.schedule s USING (type)",
        )
        .bind(resource_type)
        .fetch_one(&self.pool)
        .await
        .map_err(during("reading what was last done"))
    }

    /// A run that compared everything was published; it began at `as_of`.
    pub async fn note_reconciled(
        &self,
        resource_type: &str,
        as_of: DateTime<Utc>,
        differences: Option<u64>,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO sqlonfhir_meta.schedule AS s (type, reconciled_as_of, differences) VALUES ($1, $2, $3) \
             ON CONFLICT (type) DO UPDATE SET reconciled_as_of = excluded.reconciled_as_of, differences = excluded.differences \
             WHERE s.reconciled_as_of IS NULL OR s.reconciled_as_of < excluded.reconciled_as_of",
        )
        .bind(resource_type)
        .bind(as_of)
        .bind(differences.map(|n| i64::try_from(n).unwrap_or(i64::MAX)))
        .execute(&self.pool)
        .await
        .map(|_| ())
        .map_err(during("noting a reconciliation"))
    }

    /// Scheduled refreshes up to `until` were cancelled, and reconciliations too if so: no replica makes up for them.
    pub async fn skip_scheduled(
        &self,
        resource_type: &str,
        until: DateTime<Utc>,
        reconciliation_too: bool,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO sqlonfhir_meta.schedule AS s (type, refresh_skipped, reconciliation_skipped) VALUES ($1, $2, CASE WHEN $3 THEN $2 END) \
             ON CONFLICT (type) DO UPDATE SET refresh_skipped = greatest(s.refresh_skipped, excluded.refresh_skipped), \
                 reconciliation_skipped = greatest(s.reconciliation_skipped, excluded.reconciliation_skipped)",
        )
        .bind(resource_type)
        .bind(until)
        .bind(reconciliation_too)
        .execute(&self.pool)
        .await
        .map(|_| ())
        .map_err(during("noting what was cancelled"))
    }

    /// For each materialised view of a type: how many resources cannot be evaluated for it.
    pub async fn evaluation_errors(&self, resource_type: &str) -> Result<Vec<(String, i64)>, StoreError> {
        sqlx::query_as(
            "SELECT v.name, (SELECT count(*) FROM sqlonfhir_meta.error e WHERE e.view = v.name) FROM sqlonfhir_meta.view v \
             WHERE v.resource_type = $1 AND v.state IN ('active', 'stale') ORDER BY v.name",
        )
        .bind(resource_type)
        .fetch_all(&self.pool)
        .await
        .map_err(during("counting evaluation errors"))
    }
}
