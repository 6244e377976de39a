//! A worker of a load: takes range after range, each in one transaction (see [`Load`]).

use fhir_core::column::ColumnKind;
use sqlx::PgConnection;

use super::load::{Load, RangeBounds};
use super::staging::put_failures;
use crate::encode::oids;
use crate::error::during;
use crate::evaluated::LoadBatch;
use crate::insert::{COPY_ABOVE_BESIDE_OTHERS, Field, put_tuples, row_fields};
use crate::ledger::Failure;
use crate::tables::HIDDEN;
use crate::{StoreError, transaction};

/// Tuples that are kept before they are sent: a COPY costs the same whatever it brings.
const SEND: usize = 8 * 1024 * 1024;

/// The columns of the table of ids that a load fills, in the order of [`LoadBatch`]'s tuples.
fn id_fields() -> [Field<'static>; 4] {
    let [id, version, updated, _] = HIDDEN.each_ref().map(|hidden| hidden.oids);
    let fields = [
        ("id", id),
        ("version", version),
        ("updated", updated),
        ("changed", oids(ColumnKind::Boolean)),
    ];
    fields.map(|(name, oids)| Field {
        name: name.into(),
        oids,
        collection: None,
    })
}

/// Puts ranges into a load, one after the other. Dropping it gives the range back that it was at.
pub struct Loader {
    load: Load,
    connection: PgConnection,
    pending: LoadBatch,
    resources: u64,
    failed: u64,
    ordinal: Option<i32>,
}

impl Loader {
    pub(super) fn new(load: Load, connection: PgConnection) -> Self {
        Self {
            load,
            connection,
            pending: LoadBatch::default(),
            resources: 0,
            failed: 0,
            ordinal: None,
        }
    }

    /// The next range that nobody is at; `None` if there is none (now), or the load is gone.
    pub async fn next(&mut self) -> Result<Option<RangeBounds>, StoreError> {
        let doing = during("taking a range");
        transaction::begin(&mut self.connection, None)
            .await
            .map_err(doing)?;
        let range: Option<(i32, Option<i64>, Option<i64>)> = sqlx::query_as(
            "WITH load AS (SELECT token FROM sqlonfhir_meta.load WHERE token = $1 FOR SHARE) \
             SELECT ordinal, from_id, to_id FROM sqlonfhir_meta.load_range JOIN load USING (token) WHERE NOT done ORDER BY ordinal LIMIT 1 \
             FOR UPDATE OF load_range SKIP LOCKED",
        )
        .bind(self.load.token())
        .fetch_optional(&mut self.connection)
        .await
        .map_err(doing)?;
        let Some((ordinal, from, to)) = range else {
            transaction::rollback(&mut self.connection).await.map_err(doing)?;
            return Ok(None);
        };
        self.ordinal = Some(ordinal);
        (self.resources, self.failed) = (0, 0);
        Ok(Some((from, to)))
    }

    /// Takes rows of the range.
    pub async fn put(&mut self, batch: LoadBatch) -> Result<(), StoreError> {
        self.resources += batch.resources;
        self.failed += batch.failed;
        self.pending.append(batch);
        if self.pending.size() >= SEND {
            self.send().await?;
        }
        Ok(())
    }

    /// No range is left to be taken.
    pub async fn end(self) -> Result<(), StoreError> {
        self.load.give_back(self.connection).await
    }

    /// The range is done.
    pub async fn finish(&mut self) -> Result<(), StoreError> {
        let doing = during("finishing a range");
        self.send().await?;
        sqlx::query(
            "UPDATE sqlonfhir_meta.load_range SET done = true, resources = $3, failed = $4 WHERE token = $1 AND ordinal = $2",
        )
        .bind(self.load.token())
        .bind(self.ordinal.take())
        .bind(self.resources.cast_signed())
        .bind(self.failed.cast_signed())
        .execute(&mut self.connection)
        .await
        .map_err(doing)?;
        transaction::commit(&mut self.connection).await.map_err(doing)
    }

    async fn send(&mut self) -> Result<(), StoreError> {
        let batch = std::mem::take(&mut self.pending);
        let (stage, views) = (&self.load.stage, &self.load.views().views);
        let rows = self
            .load
            .tables
            .iter()
            .zip(views)
            .map(|(table, view)| (table, row_fields(view.columns())))
            .zip(&batch.tuples);
        let all = [((&stage.ids, id_fields().into()), &batch.ids)];
        for ((table, fields), tuples) in all.into_iter().chain(rows) {
            put_tuples(
                &mut self.connection,
                table,
                &fields,
                &[tuples],
                COPY_ABOVE_BESIDE_OTHERS,
            )
            .await?;
        }
        let name = |place: usize| views.get(place).map_or("", |view| view.name());
        let failures: Vec<_> = batch
            .failures
            .iter()
            .map(|(place, id, version, reason)| Failure {
                view: name(*place),
                id,
                version: *version,
                reason,
            })
            .collect();
        put_failures(&mut self.connection, stage, &failures).await
    }
}
