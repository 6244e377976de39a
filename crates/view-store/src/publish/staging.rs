//! Staging: rows beside what is shown, by resource; and which of them differ from what the batch shows.

use std::collections::HashMap;
use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use super::{Part, Run, RunKind, Staged};
use crate::error::during;
use crate::insert::put_rows;
use crate::ledger::Failure;
use crate::tables::{self, Table};
use crate::{EvaluatedState, StoreError};

/// So few resources are found faster by reading all of them than by an index that must be made first.
const FEW: u64 = 1000;

impl Run {
    /// Stages states, replacing what was staged of the same ids.
    pub async fn stage(&mut self, states: &[EvaluatedState], how: Staged) -> Result<(), StoreError> {
        if states.is_empty() {
            return Ok(());
        }
        if how == Staged::Changed {
            self.index().await?;
        }
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
        let again: Vec<String> = sqlx::query_scalar("SELECT id FROM pg_temp.staged WHERE id = ANY ($1)")
            .bind(&ids)
            .fetch_all(&mut *transaction)
            .await
            .map_err(doing)?;
        if !again.is_empty() {
            for target in &mut self.targets {
                let sql = format!("DELETE FROM {} WHERE _rid = ANY ($1)", target.table);
                let deleted = sqlx::query(AssertSqlSafe(sql))
                    .bind(&again)
                    .execute(&mut *transaction)
                    .await
                    .map_err(doing)?;
                target.rows -= deleted.rows_affected().cast_signed();
            }
            sqlx::query("DELETE FROM pg_temp.failed WHERE id = ANY ($1)")
                .bind(&again)
                .execute(&mut *transaction)
                .await
                .map_err(doing)?;
        }
        sqlx::query(
            "INSERT INTO pg_temp.staged (id, version, updated, changed) \
             SELECT id, version, updated, $4 FROM unnest($1::text[], $2::bigint[], $3::timestamptz[]) s (id, version, updated) \
             ON CONFLICT (id) DO UPDATE SET version = excluded.version, updated = excluded.updated, \
                                            changed = staged.changed OR excluded.changed, differs = false",
        )
        .bind(&ids)
        .bind(states.iter().map(|s| s.version).collect::<Vec<_>>())
        .bind(states.iter().map(|s| s.last_updated).collect::<Vec<_>>())
        .bind(how == Staged::Changed)
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
        put_failures(&mut transaction, &failures).await?;
        transaction.commit().await.map_err(doing)?;
        self.staged += (ids.len() - again.len()) as u64;
        Ok(())
    }

    /// Full and join: ids that are shown (rows of any view, or in the ledger) but not staged are staged as gone, with clock `at` (rule 12).
    pub async fn stage_gone(&mut self, at: DateTime<Utc>) -> Result<(), StoreError> {
        let mut shown = String::from(
            "SELECT id FROM sqlonfhir_meta.ledger WHERE type = $1 UNION SELECT id FROM sqlonfhir_meta.error WHERE resource_type = $1",
        );
        for target in self.targets.iter().filter(|t| t.part != Part::Joins) {
            for table in Table::ALL {
                let _ = write!(shown, " UNION SELECT _rid FROM {}", table.of(&target.name));
            }
        }
        let sql = format!(
            "INSERT INTO pg_temp.staged (id, version, updated, changed) SELECT id, 0, $2, false FROM ({shown}) shown \
             WHERE NOT EXISTS (SELECT FROM pg_temp.staged s WHERE s.id = shown.id)"
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

    /// Indexes and statistics for the staged rows: after the load, since loading into an index costs more; and only where there are many, since
    /// an incremental run of a few resources must cost little. A joining view's base table gets its key in any case.
    pub(super) async fn index(&mut self) -> Result<(), StoreError> {
        let joins = self.targets.iter().any(|t| t.part == Part::Joins);
        if self.indexed || !(joins || self.staged >= FEW) {
            return Ok(());
        }
        self.indexed = true;
        for target in &self.targets {
            if target.part == Part::Joins {
                tables::index_base(&mut self.connection, &target.name).await?;
            } else {
                let sql = format!("CREATE INDEX ON {0} (_rid); ANALYZE {0}", target.table);
                tables::execute(&mut self.connection, sql, "indexing staged rows").await?;
            }
        }
        tables::execute(
            &mut self.connection,
            "ANALYZE pg_temp.staged".into(),
            "indexing staged rows",
        )
        .await
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
                format!(
                    "UPDATE pg_temp.staged s SET differs = true WHERE {only} NOT s.changed AND NOT s.differs AND s.id IN ( \
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

async fn put_failures(connection: &mut PgConnection, failures: &[Failure<'_>]) -> Result<(), StoreError> {
    if failures.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO pg_temp.failed (view, id, version, reason) SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[])",
    )
    .bind(failures.iter().map(|f| f.view).collect::<Vec<_>>())
    .bind(failures.iter().map(|f| f.id).collect::<Vec<_>>())
    .bind(failures.iter().map(|f| f.version).collect::<Vec<_>>())
    .bind(failures.iter().map(|f| f.reason).collect::<Vec<_>>())
    .execute(connection)
    .await
    .map_err(during("staging evaluation errors"))?;
    Ok(())
}
