//! Slices (rules 11 and 13): each one transaction under the type's lock, with a synchronous commit.

use chrono::{DateTime, Utc};
use fhir_core::merge::{Entry, Layer, Position, live_stays};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, SqlSafeStr as _};

use super::{Run, RunKind, SliceOutcome, SlicePlan};
use crate::error::during;
use crate::freshness::TypeRow;
use crate::registry::check_generation;
use crate::tables::Table;
use crate::{StoreError, ledger, locks, transaction};

/// Nothing is waited for within a slice but PostgreSQL: a run that stands still in one must not keep the type's lock from the mergers.
const BEGIN_SLICE: &str = "BEGIN; SET LOCAL idle_in_transaction_session_timeout = '10s'";

/// A staged id that a slice takes.
#[derive(sqlx::FromRow)]
pub(super) struct Picked {
    pub(super) id: String,
    version: i64,
    to_publish: bool,
}

/// The reading that is published: number, and T; `None` under the type's lock (rule 14).
#[derive(Clone, Copy)]
pub(super) struct Published {
    pub(super) n: i64,
    pub(super) as_of: Option<DateTime<Utc>>,
}

impl Run {
    /// Publishes the next slice, or the last (rules 11 to 13), of the reading at `position`, in one transaction with a synchronous commit.
    pub async fn publish_slice(
        &mut self,
        position: &Position,
        plan: SlicePlan,
    ) -> Result<SliceOutcome, StoreError> {
        let doing = during("publishing a slice");
        self.index().await?;
        if !self.compared && self.kind != RunKind::Incremental {
            // From here on an older run is fenced off, so what the batch shows stands still while it is compared.
            if !self.claim(position).await? {
                return Ok(SliceOutcome::Fenced);
            }
            self.mark_differences().await?;
        }
        transaction::begin(&mut self.connection, Some(BEGIN_SLICE.into_sql_str()))
            .await
            .map_err(doing)?;
        let outcome = self.slice(position, plan).await;
        if let Ok(SliceOutcome::More | SliceOutcome::Finished) = outcome {
            transaction::commit(&mut self.connection).await.map_err(doing)?;
            self.finished = matches!(outcome, Ok(SliceOutcome::Finished));
        } else {
            transaction::rollback(&mut self.connection).await.map_err(doing)?;
        }
        outcome
    }

    async fn slice(&mut self, position: &Position, plan: SlicePlan) -> Result<SliceOutcome, StoreError> {
        locks::lock_type(&mut self.connection, &self.views.resource_type).await?;
        let row = TypeRow::read(&mut self.connection, &self.views.resource_type).await?;
        check_generation(&self.views, &row)?;
        if position.n < row.newest {
            return Ok(SliceOutcome::Fenced);
        }
        let limit = plan.resources.max(1);
        let mut picked = self.pick(limit + 1, plan.unchanged_too).await?;
        let more = i64::try_from(picked.len()).is_ok_and(|length| length > limit);
        picked.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        let published = Published {
            n: position.n,
            as_of: Some(position.as_of),
        };
        self.publish(&picked, published, &row).await?;
        set_newest(&mut self.connection, &self.views.resource_type, position.n).await?;
        if let Some(last) = picked.pop() {
            self.after = last.id;
        }
        if more {
            return Ok(SliceOutcome::More);
        }
        self.finish(position, published, &row).await?;
        Ok(SliceOutcome::Finished)
    }

    /// Sets `newest` ahead of the first slice. `false`: a newer run has published.
    async fn claim(&mut self, position: &Position) -> Result<bool, StoreError> {
        let doing = during("publishing a slice");
        let mut transaction = self.connection.begin().await.map_err(doing)?;
        locks::lock_type(&mut transaction, &self.views.resource_type).await?;
        let row = TypeRow::read(&mut transaction, &self.views.resource_type).await?;
        check_generation(&self.views, &row)?;
        if position.n < row.newest {
            return Ok(false);
        }
        set_newest(&mut transaction, &self.views.resource_type, position.n).await?;
        transaction.commit().await.map_err(doing)?;
        Ok(true)
    }

    /// The next staged ids in their order.
    pub(super) async fn pick(&mut self, limit: i64, unchanged_too: bool) -> Result<Vec<Picked>, StoreError> {
        let sql = format!(
            "SELECT id, version, changed OR differs AS to_publish FROM {} \
             WHERE id > $1 AND ($2 OR changed OR differs) ORDER BY id LIMIT $3",
            self.stage.ids
        );
        sqlx::query_as(AssertSqlSafe(sql))
            .bind(&self.after)
            .bind(unchanged_too)
            .bind(limit)
            .fetch_all(&mut self.connection)
            .await
            .map_err(during("picking a slice"))
    }

    /// Rule 11: each becomes the batch's state, and the shown one, unless what is live is later.
    pub(super) async fn publish(
        &mut self,
        picked: &[Picked],
        at: Published,
        row: &TypeRow,
    ) -> Result<(), StoreError> {
        let picked: Vec<&Picked> = picked.iter().filter(|p| p.to_publish).collect();
        if picked.is_empty() {
            return Ok(());
        }
        let doing = during("publishing rows");
        let resource_type = &self.views.resource_type;
        let ids: Vec<&str> = picked.iter().map(|p| p.id.as_str()).collect();
        let entries = ledger::entries(&mut self.connection, resource_type, &ids).await?;
        let (hidden, shown): (Vec<&Picked>, Vec<&Picked>) = picked.iter().partition(|p| {
            live_stays(
                entries.get(&p.id),
                row.published_n(),
                at.n,
                at.as_of,
                p.version,
                self.skew,
            )
        });
        let hidden_ids: Vec<&str> = hidden.iter().map(|p| p.id.as_str()).collect();
        let shown_ids: Vec<&str> = shown.iter().map(|p| p.id.as_str()).collect();

        for target in self.targets.iter().filter(|t| t.part == super::Part::Shown) {
            let [base, live, shadowed] = Table::ALL.map(|table| table.of(&target.name));
            let (columns, staged) = (&target.columns, &target.table);
            let delete = |from: &str| format!("DELETE FROM {from} WHERE _rid = ANY ($1)");
            let insert = |into: &str| {
                format!("INSERT INTO {into} ({columns}) SELECT {columns} FROM {staged} WHERE _rid = ANY ($1)")
            };
            let (mut batch_rows, mut changed) = (0, false);
            for (sql, ids, sign) in [
                (delete(&base), &ids, -1),
                (delete(&shadowed), &ids, -1),
                (delete(&live), &shown_ids, 0),
                (insert(&base), &shown_ids, 1),
                (insert(&shadowed), &hidden_ids, 1),
            ] {
                if !ids.is_empty() {
                    let done = sqlx::query(AssertSqlSafe(sql))
                        .bind(ids)
                        .execute(&mut self.connection)
                        .await
                        .map_err(doing)?;
                    batch_rows += sign * done.rows_affected().cast_signed();
                    changed |= sign != 0 && done.rows_affected() > 0;
                }
            }
            // Also where the number stays, if rows changed: it gives them another `batch_state`.
            if changed {
                sqlx::query(
                    "UPDATE sqlonfhir_meta.view SET row_count = coalesce(row_count, 0) + $2 WHERE name = $1",
                )
                .bind(&target.name)
                .bind(batch_rows)
                .execute(&mut self.connection)
                .await
                .map_err(doing)?;
            }
        }
        let entries: Vec<(&str, Entry)> = shown
            .iter()
            .map(|p| {
                (
                    p.id.as_str(),
                    Entry {
                        n: at.n,
                        version: p.version,
                        layer: Layer::Batch,
                        received: None,
                    },
                )
            })
            .collect();
        let entries: Vec<(&str, &Entry)> = entries.iter().map(|(id, entry)| (*id, entry)).collect();
        ledger::put(&mut self.connection, resource_type, &entries).await?;
        self.replace_failures("= ANY ($3)", &shown_ids).await?;
        self.published += ids.len() as u64;
        Ok(())
    }

    /// The records of these ids (an SQL condition over `id` with `$3`) become the staged ones, in the views that are shown.
    async fn replace_failures(&mut self, which: &str, ids: &[&str]) -> Result<(), StoreError> {
        let doing = during("recording evaluation errors");
        let (names, failed) = (self.shown_names(), &self.stage.failed);
        let delete = format!(
            "DELETE FROM sqlonfhir_meta.error e WHERE resource_type = $1 AND view = ANY ($2) AND id {which} \
             AND NOT EXISTS (SELECT FROM {failed} f WHERE f.view = e.view AND f.id = e.id)"
        );
        let insert = format!(
            "INSERT INTO sqlonfhir_meta.error AS e (view, resource_type, id, version, reason) \
             SELECT view, $1, id, version, reason FROM {failed} WHERE view = ANY ($2) AND id {which} \
             ON CONFLICT (view, id) DO UPDATE SET version = excluded.version, reason = excluded.reason, at = clock_timestamp() \
             WHERE (e.version, e.reason) IS DISTINCT FROM (excluded.version, excluded.reason)"
        );
        for sql in [delete, insert] {
            sqlx::query(AssertSqlSafe(sql))
                .bind(&self.views.resource_type)
                .bind(&names)
                .bind(ids)
                .execute(&mut self.connection)
                .await
                .map_err(doing)?;
        }
        Ok(())
    }

    /// Rule 13: what is live now and was staged is published once more, the watermark moves, entries of earlier runs go.
    pub(super) async fn finish(
        &mut self,
        position: &Position,
        at: Published,
        row: &TypeRow,
    ) -> Result<(), StoreError> {
        let doing = during("finishing a run");
        // Whatever a full run has not loaded HAPI did not have: a preview that became live meanwhile may be of what was taken back.
        let unstaged_too = self.kind != RunKind::Incremental;
        let sql = format!(
            "SELECT l.id, coalesce(s.version, 0) AS version, true AS to_publish \
             FROM sqlonfhir_meta.ledger l LEFT JOIN {} s USING (id) \
             WHERE l.type = $1 AND l.layer = 'live' AND ($2 OR s.id IS NOT NULL) ORDER BY l.id",
            self.stage.ids
        );
        let live: Vec<Picked> = sqlx::query_as(AssertSqlSafe(sql))
            .bind(&self.views.resource_type)
            .bind(unstaged_too)
            .fetch_all(&mut self.connection)
            .await
            .map_err(doing)?;
        self.publish(&live, at, row).await?;
        if self.kind != RunKind::Incremental {
            // Without a difference in rows nothing was published, but a state without rows may have a reason now, or none any more.
            let settled = format!(
                "IN (SELECT id FROM {}) AND id <> ALL ($3) AND id NOT IN \
                 (SELECT id FROM sqlonfhir_meta.ledger WHERE type = $1 AND layer = 'live')",
                self.stage.ids
            );
            self.replace_failures(&settled, &[]).await?;
        }
        sqlx::query(
            "UPDATE sqlonfhir_meta.resource_type SET published_n = $2, published_as_of = $3, published_bound = $4, published_xmin = $5, \
             published_timeline = $6 WHERE type = $1",
        )
        .bind(&self.views.resource_type)
        .bind(position.n)
        .bind(position.as_of)
        .bind(position.bound)
        .bind(position.xmin.cast_signed())
        .bind(&position.timeline)
        .execute(&mut self.connection)
        .await
        .map_err(doing)?;
        sqlx::query("DELETE FROM sqlonfhir_meta.ledger WHERE type = $1 AND layer = 'batch' AND n < $2")
            .bind(&self.views.resource_type)
            .bind(position.n)
            .execute(&mut self.connection)
            .await
            .map_err(doing)?;
        Ok(())
    }
}

/// The fence: an older run ends at its next slice.
pub(super) async fn set_newest(
    connection: &mut PgConnection,
    resource_type: &str,
    n: i64,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE sqlonfhir_meta.resource_type SET newest = $2 WHERE type = $1")
        .bind(resource_type)
        .bind(n)
        .execute(connection)
        .await
        .map_err(during("setting the newest run"))?;
    Ok(())
}
