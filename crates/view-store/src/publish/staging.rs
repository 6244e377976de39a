//! Staging: rows beside what is shown, by resource; and which of them differ from what the batch shows.

use std::collections::HashMap;
use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use super::indexing::{self, Filled};
use super::load::{Load, Stage};
use super::{Part, Run, RunKind};
use crate::error::during;
use crate::insert::put_rows;
use crate::ledger::Failure;
use crate::tables::{self, Table};
use crate::{EvaluatedState, StoreError};

/// So few resources are found faster by reading all of them than by an index that must be made first.
const FEW: u64 = 1000;

impl Run {
    /// Stages states that a reading says have changed, replacing what was staged of the same ids: they are published even if no row differs
    /// (rule 12).
    pub async fn stage(&mut self, states: &[EvaluatedState]) -> Result<(), StoreError> {
        if states.is_empty() {
            return Ok(());
        }
        self.index().await?;
        let stage = &self.stage;
        // Of an id that comes twice the last state counts.
        let last: HashMap<&str, usize> = states
            .iter()
            .enumerate()
            .map(|(i, s)| (s.id.as_str(), i))
            .collect();
        let states: Vec<&EvaluatedState> = states
            .iter()
            .enumerate()
            .filter(|(i, s)| last.get(s.id.as_str()) == Some(i))
            .map(|(_, s)| s)
            .collect();
        let ids: Vec<&str> = states.iter().map(|s| s.id.as_str()).collect();

        let doing = during("staging rows");
        let mut transaction = self.connection.begin().await.map_err(doing)?;
        let again: Vec<String> = sqlx::query_scalar(AssertSqlSafe(format!(
            "SELECT id FROM {} WHERE id = ANY ($1)",
            stage.ids
        )))
        .bind(&ids)
        .fetch_all(&mut *transaction)
        .await
        .map_err(doing)?;
        // What a load brought may stand in the tables of rows without standing among the ids.
        let replaced: Vec<&str> = if self.load.is_some() {
            ids.clone()
        } else {
            again.iter().map(String::as_str).collect()
        };
        if !replaced.is_empty() {
            for target in &mut self.targets {
                let sql = format!("DELETE FROM {} WHERE _rid = ANY ($1)", target.table);
                let deleted = sqlx::query(AssertSqlSafe(sql))
                    .bind(&replaced)
                    .execute(&mut *transaction)
                    .await
                    .map_err(doing)?;
                target.rows -= deleted.rows_affected().cast_signed();
            }
            let sql = format!("DELETE FROM {} WHERE id = ANY ($1)", stage.failed);
            sqlx::query(AssertSqlSafe(sql))
                .bind(&replaced)
                .execute(&mut *transaction)
                .await
                .map_err(doing)?;
        }
        let sql = format!(
            "INSERT INTO {} AS s (id, version, updated, changed) \
             SELECT id, version, updated, true FROM unnest($1::text[], $2::bigint[], $3::timestamptz[]) n (id, version, updated) \
             ON CONFLICT (id) DO UPDATE SET version = excluded.version, updated = excluded.updated, changed = true, differs = false",
            stage.ids
        );
        sqlx::query(AssertSqlSafe(sql))
            .bind(&ids)
            .bind(states.iter().map(|s| s.version).collect::<Vec<_>>())
            .bind(states.iter().map(|s| s.last_updated).collect::<Vec<_>>())
            .execute(&mut *transaction)
            .await
            .map_err(doing)?;
        let mut failures = Vec::new();
        for (index, target) in self.targets.iter_mut().enumerate() {
            let columns = self.views.views[index].columns();
            let tuples: Vec<&[u8]> = states.iter().map(|s| s.rows_in(index)).collect();
            target.rows += put_rows(&mut transaction, &target.table, columns, &tuples)
                .await?
                .cast_signed();
            failures.extend(states.iter().filter_map(|s| s.failure_in(index, &target.name)));
        }
        put_failures(&mut transaction, stage, &failures).await?;
        transaction.commit().await.map_err(doing)?;
        self.staged += (ids.len() - again.len()) as u64;
        Ok(())
    }

    /// Full and join: ids that are shown (rows of any view, or in the ledger) but not staged are staged as gone, with clock `at` (rule 12).
    pub async fn stage_gone(&mut self, at: DateTime<Utc>) -> Result<(), StoreError> {
        if !self.load.as_ref().is_some_and(Load::with_ids) {
            return Ok(());
        }
        let mut shown = String::from(
            "SELECT id FROM sqlonfhir_meta.ledger WHERE type = $1 UNION SELECT id FROM sqlonfhir_meta.error WHERE resource_type = $1",
        );
        for target in self.targets.iter().filter(|t| t.part != Part::Joins) {
            for table in Table::ALL {
                let _ = write!(shown, " UNION SELECT _rid FROM {}", table.of(&target.name));
            }
        }
        let ids = &self.stage.ids;
        let sql = format!(
            "INSERT INTO {ids} (id, version, updated, changed) SELECT id, 0, $2, false FROM ({shown}) shown \
             WHERE NOT EXISTS (SELECT FROM {ids} s WHERE s.id = shown.id)"
        );
        let gone = sqlx::query(AssertSqlSafe(sql))
            .bind(&self.views.resource_type)
            .bind(at)
            .execute(&mut self.connection)
            .await
            .map_err(during("staging what is gone"))?;
        self.staged += gone.rows_affected();
        if self.compared {
            self.compare("s.version = 0 AND").await?;
        }
        Ok(())
    }

    /// Ids that no load has written down, though something of them is known: what became of them must be read.
    pub async fn known_ids(&mut self) -> Result<Vec<String>, StoreError> {
        if self.load.as_ref().is_none_or(Load::with_ids) {
            return self.live_ids().await;
        }
        sqlx::query_scalar(
            "SELECT id FROM sqlonfhir_meta.ledger WHERE type = $1 UNION SELECT id FROM sqlonfhir_meta.error WHERE resource_type = $1",
        )
        .bind(&self.views.resource_type)
        .fetch_all(&mut self.connection)
        .await
        .map_err(during("reading the known ids"))
    }

    /// All ranges are in: keys, statistics and counts of what was loaded.
    pub async fn finish_load(&mut self) -> Result<(), StoreError> {
        let doing = during("indexing what was loaded");
        let Some(load) = self.load.clone() else {
            return Ok(());
        };
        self.staged = load.done().await?;
        let targets = self.targets.iter().zip(&self.views.views);
        let mut tables: Vec<Filled> = targets
            .map(|(target, view)| Filled::of_rows(&target.table, view, target.part == Part::Joins))
            .collect();
        tables.push(Filled::of_ids(&self.stage.ids));
        let beside = (self.staged >= FEW).then_some(&load);
        let twice = indexing::index(&tables, &mut self.connection, beside).await?;
        if !twice.is_empty() {
            // Expunged and created again between two ranges: both were loaded. The catch-up reads it, for it has changed since the first reading.
            let deletes: Vec<String> = self
                .all_tables()
                .map(|(table, id)| format!("DELETE FROM {table} WHERE {id} = ANY ($1)"))
                .collect();
            for sql in deletes {
                sqlx::query(AssertSqlSafe(sql))
                    .bind(&twice)
                    .execute(&mut self.connection)
                    .await
                    .map_err(doing)?;
            }
            return Box::pin(self.finish_load()).await;
        }
        for target in &mut self.targets {
            let sql = format!("SELECT count(*) FROM {}", target.table);
            target.rows = sqlx::query_scalar(AssertSqlSafe(sql))
                .fetch_one(&mut self.connection)
                .await
                .map_err(doing)?;
        }
        self.indexed = true;
        Ok(())
    }

    /// Tables that are staged in, each with the column of the resource's id.
    fn all_tables(&self) -> impl Iterator<Item = (&str, &'static str)> {
        let rows = self.targets.iter().map(|t| (t.table.as_str(), "_rid"));
        rows.chain([
            (self.stage.ids.as_str(), "id"),
            (self.stage.failed.as_str(), "id"),
        ])
    }

    /// Indexes and statistics for the rows that an incremental run has staged, where there are many: a run of a few resources must cost little.
    pub(super) async fn index(&mut self) -> Result<(), StoreError> {
        if self.indexed || self.staged < FEW {
            return Ok(());
        }
        self.indexed = true;
        let mut ddl = format!("ANALYZE {};", self.stage.ids);
        for target in &self.targets {
            let _ = write!(ddl, "CREATE INDEX ON {0} (_rid); ANALYZE {0};", target.table);
        }
        tables::execute(&mut self.connection, ddl, "indexing staged rows").await
    }

    /// Marks the staged states whose rows differ from what the batch shows, byte by byte (a number's scale counts). Without the type's
    /// lock: only a run changes what the batch shows (applying moves it between two tables in one transaction).
    pub(super) async fn mark_differences(&mut self) -> Result<(), StoreError> {
        if self.kind == RunKind::Incremental || std::mem::replace(&mut self.compared, true) {
            return Ok(());
        }
        self.compare("").await
    }

    async fn compare(&mut self, only: &str) -> Result<(), StoreError> {
        let doing = during("comparing staged rows");
        let statements: Vec<String> = self
            .targets
            .iter()
            .filter(|t| t.part == Part::Shown)
            .map(|target| {
                let [base, _, shadowed] = Table::ALL.map(|table| table.of(&target.name));
                let (columns, staged) = (&target.columns, &target.table);
                let ids = &self.stage.ids;
                format!(
                    "UPDATE {ids} s SET differs = true WHERE {only} NOT s.changed AND NOT s.differs AND s.id IN ( \
                       SELECT coalesce(b._rid, r._rid) \
                       FROM (SELECT {columns} FROM {base} UNION ALL SELECT {columns} FROM {shadowed}) b \
                       FULL JOIN (SELECT {columns} FROM {staged}) r ON b._rid = r._rid AND b._row = r._row \
                       WHERE (b *<> r) IS NOT FALSE)"
                )
            })
            .collect();
        for sql in statements {
            sqlx::query(AssertSqlSafe(sql))
                .execute(&mut self.connection)
                .await
                .map_err(doing)?;
        }
        Ok(())
    }
}

pub(super) async fn put_failures(
    connection: &mut PgConnection,
    stage: &Stage,
    failures: &[Failure<'_>],
) -> Result<(), StoreError> {
    if failures.is_empty() {
        return Ok(());
    }
    let sql = format!(
        "INSERT INTO {} (view, id, version, reason) SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[])",
        stage.failed
    );
    sqlx::query(AssertSqlSafe(sql))
        .bind(failures.iter().map(|f| f.view).collect::<Vec<_>>())
        .bind(failures.iter().map(|f| f.id).collect::<Vec<_>>())
        .bind(failures.iter().map(|f| f.version).collect::<Vec<_>>())
        .bind(failures.iter().map(|f| f.reason).collect::<Vec<_>>())
        .execute(connection)
        .await
        .map_err(during("staging evaluation errors"))?;
    Ok(())
}
