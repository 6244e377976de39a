//! Joining (rule 14): the last reading, all slices and the new views' appearance are one transaction under the type's lock. All that was ever
//! applied was committed to HAPI before that reading's snapshot: so nothing stays live, and a new view needs no live rows.

use std::time::{Duration, Instant};

use fhir_core::merge::Position;
use sqlx::AssertSqlSafe;
use tracing::warn;

use super::slices::{Published, set_newest};
use super::{Part, Run, SliceOutcome};
use crate::driver::is_lock_timeout;
use crate::error::during;
use crate::freshness::TypeRow;
use crate::registry::{bump_registry, bump_type, check_generation};
use crate::tables::{self, Table};
use crate::{StoreError, indexes, locks, transaction};

/// Live changes wait while a view joins, so the lock is asked for in short tries; a type that is never free for so long is a fault.
const LOCK_PATIENCE: Duration = Duration::from_secs(30);

/// Ids published by one set of statements: bounds their size.
const CHUNK: i64 = 2000;

impl Run {
    /// Join (rule 14), step 1: takes the type's lock in a transaction that stays open until [`Run::join`] or until the run is dropped. The
    /// last reading, `stage` and `stage_gone` come between the two. Takes the lock with a short time-out and tries again.
    pub async fn lock_for_join(&mut self) -> Result<(), StoreError> {
        let doing = during("taking the type's lock for a join");
        // What takes long comes before the lock.
        self.index().await?;
        self.mark_differences().await?;
        let deadline = Instant::now() + LOCK_PATIENCE;
        loop {
            transaction::begin(&mut self.connection, None)
                .await
                .map_err(doing)?;
            let timeout = format!("SET LOCAL lock_timeout = '{}'", locks::EXCLUSIVE_WAIT);
            tables::execute(&mut self.connection, timeout, "taking the type's lock for a join").await?;
            match locks::lock_type_raw(&mut self.connection, &self.views.resource_type).await {
                Ok(()) => break,
                Err(error) if is_lock_timeout(&error) && Instant::now() < deadline => {
                    transaction::rollback(&mut self.connection).await.map_err(doing)?;
                    tokio::time::sleep(locks::EXCLUSIVE_PAUSE).await;
                }
                Err(error) => return Err(doing(error)),
            }
        }
        tables::execute(
            &mut self.connection,
            "SET LOCAL lock_timeout = 0".into(),
            "taking the type's lock for a join",
        )
        .await?;
        let row = TypeRow::read(&mut self.connection, &self.views.resource_type).await?;
        check_generation(&self.views, &row)
    }

    /// Join, step 2: publishes all, makes the joining views active, moves the watermark, commits.
    pub async fn join(&mut self, position: &Position) -> Result<SliceOutcome, StoreError> {
        let doing = during("joining views");
        let row = TypeRow::read(&mut self.connection, &self.views.resource_type).await?;
        if position.n < row.newest {
            transaction::rollback(&mut self.connection).await.map_err(doing)?;
            return Ok(SliceOutcome::Fenced);
        }
        self.index().await?;
        self.mark_differences().await?;
        self.check_registered().await?;
        let published = Published {
            n: position.n,
            as_of: None,
        };
        loop {
            let picked = self.pick(CHUNK, false).await?;
            let Some(last) = picked.last() else { break };
            self.after.clone_from(&last.id);
            self.publish(&picked, published, &row).await?;
        }
        for index in 0..self.targets.len() {
            match self.targets[index].part {
                Part::Shown => {}
                Part::Joins => self.appear(index).await?,
                Part::Replaced => self.replace(index).await?,
            }
        }
        set_newest(&mut self.connection, &self.views.resource_type, position.n).await?;
        self.finish(position, published, &row).await?;
        if !self.live_ids().await?.is_empty() {
            return Err(StoreError::Inconsistent(
                "ids are live that the joining run has not read: the live ids must be read after the lock"
                    .into(),
            ));
        }
        if let Some(load) = &self.load {
            // Its tables are the views' now: no later run goes on with it.
            super::load::forget(&mut self.connection, load.token()).await?;
        }
        bump_type(&mut self.connection, &self.views.resource_type).await?;
        bump_registry(&mut self.connection).await?;
        transaction::commit(&mut self.connection).await.map_err(doing)?;
        self.finished = true;
        if self.targets.iter().any(|t| t.part == Part::Replaced)
            && let Err(error) = self.store.repair_public_views().await
        {
            warn!(%error, "a public view lacks new columns until the next run");
        }
        Ok(SliceOutcome::Finished)
    }

    /// A definition put or a view dropped meanwhile: what was loaded is of no use.
    async fn check_registered(&mut self) -> Result<(), StoreError> {
        let joining: Vec<&super::Target> = self.targets.iter().filter(|t| t.part != Part::Shown).collect();
        let registered: Vec<String> = sqlx::query_scalar(
            "SELECT v.name FROM sqlonfhir_meta.view v JOIN unnest($1::text[], $2::text[]) j (name, hash) ON j.name = v.name \
             AND j.hash = coalesce(v.pending_hash, v.hash) FOR UPDATE OF v",
        )
        .bind(joining.iter().map(|t| t.name.as_str()).collect::<Vec<_>>())
        .bind(joining.iter().map(|t| t.hash.as_str()).collect::<Vec<_>>())
        .fetch_all(&mut self.connection)
        .await
        .map_err(during("checking what is registered"))?;
        if registered.len() == joining.len() {
            Ok(())
        } else {
            Err(StoreError::ViewsChanged {
                resource_type: self.views.resource_type.clone(),
            })
        }
    }

    /// A new view: loaded already; its table becomes the base table, and now it is seen.
    async fn appear(&mut self, index: usize) -> Result<(), StoreError> {
        let view = self.views.views[index].clone();
        tables::make_of_staged(&mut self.connection, &view, &self.targets[index].table).await?;
        let columns: Vec<String> = view.columns().iter().map(|c| c.name.clone()).collect();
        tables::create_public_views(&mut self.connection, &view, &columns)
            .await
            .map_err(during("making the public views"))?;
        self.activate(index).await
    }

    /// A replaced definition: the rows change, the tables and public views stay, so that readers with an older snapshot see what they saw.
    async fn replace(&mut self, index: usize) -> Result<(), StoreError> {
        let target = &self.targets[index];
        let [base, live, shadowed] = Table::ALL.map(|table| table.of(&target.name));
        let (columns, staged) = (&target.columns, &target.table);
        let sql = format!(
            "DELETE FROM {base}; DELETE FROM {live}; DELETE FROM {shadowed}; \
             INSERT INTO {base} ({columns}) SELECT {columns} FROM {staged}"
        );
        tables::execute(&mut self.connection, sql, "replacing a view's rows").await?;
        indexes::add(&mut self.connection, &self.views.views[index]).await?;
        sqlx::query(
            "UPDATE sqlonfhir_meta.view SET definition = pending_definition, hash = pending_hash, url = pending_url, \
             pending_definition = NULL, pending_hash = NULL, public_outdated = true WHERE name = $1",
        )
        .bind(&self.targets[index].name)
        .execute(&mut self.connection)
        .await
        .map_err(during("replacing a definition"))?;
        self.activate(index).await
    }

    /// State, row count and evaluation errors of a view that has been loaded as a whole.
    async fn activate(&mut self, index: usize) -> Result<(), StoreError> {
        let doing = during("activating a view");
        let target = &self.targets[index];
        sqlx::query(
            "UPDATE sqlonfhir_meta.view SET state = 'active', reason = NULL, row_count = $2 WHERE name = $1",
        )
        .bind(&target.name)
        .bind(target.rows)
        .execute(&mut self.connection)
        .await
        .map_err(doing)?;
        sqlx::query("DELETE FROM sqlonfhir_meta.error WHERE view = $1")
            .bind(&target.name)
            .execute(&mut self.connection)
            .await
            .map_err(doing)?;
        let sql = format!(
            "INSERT INTO sqlonfhir_meta.error (view, resource_type, id, version, reason) \
             SELECT view, $2, id, version, reason FROM {} WHERE view = $1",
            self.stage.failed
        );
        sqlx::query(AssertSqlSafe(sql))
            .bind(&target.name)
            .bind(&self.views.resource_type)
            .execute(&mut self.connection)
            .await
            .map_err(doing)?;
        Ok(())
    }
}
