//! The resources that a selection says, streamed in chunks out of one snapshot, through a cursor: large objects and tags are read over the same
//! connection in between.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use fhir_core::resource::State;
use futures::{Stream, TryStreamExt as _, stream};
use sqlx::{AssertSqlSafe, Postgres, Transaction};
use view_store::driver::begin;

use super::{
    Hapi, HapiError, Schema,
    schema::literal,
    snapshot::{FIRST_CHUNK, READ_ONLY, next_chunk},
};

impl Hapi {
    /// The resources that are not deleted and that `selection` says, the most recently updated first; one snapshot.
    pub fn select(
        &self,
        resource_type: &str,
        selection: &Selection,
    ) -> impl Stream<Item = Result<Vec<State>, HapiError>> + Send + use<> {
        let resource_type = literal(resource_type);
        let mut condition = format!("r.res_type = {resource_type} AND r.res_deleted_at IS NULL");
        let schema = &self.inner.schema;
        if !selection.ids.is_empty() {
            let _ = write!(
                condition,
                " AND {}",
                schema.id_among(&resource_type, &selection.ids)
            );
        }
        if !selection.patients.is_empty() {
            let patient = literal("Patient");
            let among = schema.id_among(&patient, &selection.patients);
            let _ = if resource_type == patient {
                write!(condition, " AND {among}")
            } else {
                write!(
                    condition,
                    " AND r.res_id IN (SELECT l.src_resource_id FROM hfj_res_link l WHERE l.target_resource_id IN \
                     (SELECT r.res_id FROM hfj_resource r{} WHERE r.res_type = {patient} AND {among}{}))",
                    schema.id_join, schema.partition
                )
            };
        }
        if let Some(since) = selection.since {
            // The clock may have been set back since: what this lets in too early is left out below.
            let face = self
                .inner
                .zone
                .floor(since, since)
                .format("%Y-%m-%dT%H:%M:%S%.6f");
            let _ = write!(condition, " AND r.res_updated >= '{face}'");
        }
        let mut order = " ORDER BY r.res_updated DESC, r.res_id DESC".to_owned();
        if let Some(limit) = selection.limit {
            let _ = write!(order, " LIMIT {limit}");
        }
        let since = selection.since;
        self.stream(&condition, &order).map_ok(move |mut states| {
            states.retain(|state| since.is_none_or(|since| state.last_updated >= since));
            states
        })
    }

    fn stream(
        &self,
        condition: &str,
        order: &str,
    ) -> impl Stream<Item = Result<Vec<State>, HapiError>> + Send + use<> {
        let query = self.inner.schema.current_states(condition);
        let declare = format!("DECLARE selection NO SCROLL CURSOR FOR {query}{order}");
        stream::try_unfold(
            Selecting::Begin {
                hapi: self.clone(),
                declare,
            },
            Selecting::next,
        )
    }
}

/// Which resources of a type.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Of these ids; empty means all.
    pub ids: Vec<String>,
    /// That refer to one of these patients (of the type Patient: these); empty means all.
    pub patients: Vec<String>,
    /// Updated at or after this.
    pub since: Option<DateTime<Utc>>,
    /// At most so many.
    pub limit: Option<i64>,
}

impl Schema {
    /// The condition on `r` that its logical id is one of these, as a query without parameters has it.
    fn id_among(&self, resource_type: &str, ids: &[String]) -> String {
        let ids: Vec<String> = ids.iter().map(|id| literal(id)).collect();
        let ids = format!("ARRAY[{}]::text[]", ids.join(","));
        let id_in = self.id_in.replace("$1", resource_type);
        // Each place is filled once: an id is never looked at for places.
        id_in.replace("$2::text[]", "$2").replace("$2", &ids)
    }
}

/// What is being read.
enum Selecting {
    Begin {
        hapi: Hapi,
        declare: String,
    },
    Open {
        hapi: Hapi,
        transaction: Transaction<'static, Postgres>,
        /// Resources that the next statement fetches.
        chunk: usize,
    },
}

impl Selecting {
    async fn next(self) -> Result<Option<(Vec<State>, Self)>, HapiError> {
        let (hapi, mut transaction, chunk) = match self {
            Self::Open {
                hapi,
                transaction,
                chunk,
            } => (hapi, transaction, chunk),
            Self::Begin { hapi, declare } => {
                let mut transaction = begin(&hapi.inner.pool, READ_ONLY)
                    .await
                    .map_err(HapiError::of("reading a selection"))?;
                // All of it will be fetched: plan for the end, not for the first rows.
                for sql in ["SET LOCAL cursor_tuple_fraction = 1.0".to_owned(), declare] {
                    sqlx::raw_sql(AssertSqlSafe(sql))
                        .execute(&mut *transaction)
                        .await
                        .map_err(HapiError::of("reading a selection"))?;
                }
                (hapi, transaction, FIRST_CHUNK)
            }
        };
        let rows = sqlx::query(AssertSqlSafe(format!("FETCH {chunk} FROM selection")))
            .persistent(false)
            .fetch_all(&mut *transaction)
            .await
            .map_err(HapiError::of("reading a selection"))?;
        if rows.is_empty() {
            transaction
                .rollback()
                .await
                .map_err(HapiError::of("reading a selection"))?;
            return Ok(None);
        }
        let states = hapi.states_of(&mut transaction, rows).await?;
        let chunk = next_chunk(&states);
        let open = Self::Open {
            hapi,
            transaction,
            chunk,
        };
        Ok(Some((states, open)))
    }
}
