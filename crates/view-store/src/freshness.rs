//! How fresh a type's views are.

use chrono::{DateTime, Utc};
use fhir_core::merge::{Mark, Position};
use sqlx::{AssertSqlSafe, PgConnection};

use crate::driver::sqlstate;
use crate::error::during;
use crate::tables::Table;
use crate::{StoreError, TypeViews, ViewStore};

/// What the views' database knows of a type.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TypeState {
    /// The last mark applied: the mergers' cursor and `speed_as_of`.
    pub speed: Option<Mark>,
    /// The batch's watermark.
    pub published: Option<Position>,
    /// n of the newest run that has published a slice.
    pub newest: i64,
}

/// Freshness of a type, for answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TypeFreshness {
    /// T of the batch's watermark.
    pub batch_as_of: Option<DateTime<Utc>>,
    /// T of the last mark applied.
    pub speed_as_of: Option<DateTime<Utc>>,
}

impl TypeFreshness {
    /// `as_of` of merged answers: the later of the two.
    pub fn merged(&self) -> Option<DateTime<Utc>> {
        self.batch_as_of.max(self.speed_as_of)
    }
}

/// A row of `sqlonfhir_meta.resource_type`.
#[derive(Debug, Clone, Default, sqlx::FromRow)]
pub(crate) struct TypeRow {
    r#type: String,
    pub(crate) generation: i64,
    speed_n: Option<i64>,
    speed_as_of: Option<DateTime<Utc>>,
    published_n: Option<i64>,
    published_as_of: Option<DateTime<Utc>>,
    published_bound: Option<DateTime<Utc>>,
    published_xmin: Option<i64>,
    published_timeline: Option<String>,
    pub(crate) newest: i64,
}

impl TypeRow {
    pub(crate) const SELECT_MANY: &str = "SELECT * FROM sqlonfhir_meta.resource_type WHERE type = ANY ($1)";
    const SELECT_ONE: &str = "SELECT * FROM sqlonfhir_meta.resource_type WHERE type = $1";

    /// As it is now; that of a type never seen has `generation` 0.
    pub(crate) async fn read(connection: &mut PgConnection, resource_type: &str) -> Result<Self, StoreError> {
        let row: Option<Self> = sqlx::query_as(Self::SELECT_ONE)
            .bind(resource_type)
            .fetch_optional(connection)
            .await
            .map_err(during("reading a type's state"))?;
        Ok(row.unwrap_or_default())
    }

    pub(crate) fn is_of(&self, resource_type: &str) -> bool {
        self.r#type == resource_type
    }

    pub(crate) fn speed(&self) -> Option<Mark> {
        Some(Mark {
            n: self.speed_n?,
            as_of: self.speed_as_of?,
        })
    }

    pub(crate) fn published(&self) -> Option<Position> {
        Some(Position {
            n: self.published_n?,
            as_of: self.published_as_of?,
            bound: self.published_bound?,
            xmin: self.published_xmin?.cast_unsigned(),
            timeline: self.published_timeline.clone()?,
        })
    }

    pub(crate) fn published_n(&self) -> i64 {
        self.published_n.unwrap_or_default()
    }

    pub(crate) fn published_as_of(&self) -> Option<DateTime<Utc>> {
        self.published_as_of
    }

    pub(crate) fn freshness(&self) -> TypeFreshness {
        TypeFreshness {
            batch_as_of: self.published_as_of,
            speed_as_of: self.speed_as_of,
        }
    }
}

impl ViewStore {
    /// State of a type (all `None` and 0 for one that was never seen).
    pub async fn type_state(&self, resource_type: &str) -> Result<TypeState, StoreError> {
        let mut connection = self.pool.acquire().await.map_err(during("connecting"))?;
        let row = TypeRow::read(&mut connection, resource_type).await?;
        Ok(TypeState {
            speed: row.speed(),
            published: row.published(),
            newest: row.newest,
        })
    }

    /// The version that is known of a resource (ledger, else the hidden column of batch rows, else 0) and the type's freshness, in one snapshot (rule 15).
    pub async fn known_version(
        &self,
        resource_type: &str,
        id: &str,
    ) -> Result<(i64, TypeFreshness), StoreError> {
        self.pulse
            .unless_silent(self.known_version_now(resource_type, id))
            .await
    }

    async fn known_version_now(
        &self,
        resource_type: &str,
        id: &str,
    ) -> Result<(i64, TypeFreshness), StoreError> {
        let mut views = self.type_views(resource_type).await?;
        for _ in 0..3 {
            match self.known_version_in(&views, id).await {
                // A view was dropped in between: its table is gone.
                Err(error) if sqlstate(&error).as_deref() == Some("42P01") => {
                    views = self.type_views(resource_type).await?;
                }
                Err(error) => return Err(during("reading a known version")(error)),
                Ok(known) => return Ok(known),
            }
        }
        Err(StoreError::ViewsChanged {
            resource_type: resource_type.into(),
        })
    }

    /// One statement, so one snapshot.
    async fn known_version_in(
        &self,
        views: &TypeViews,
        id: &str,
    ) -> Result<(i64, TypeFreshness), sqlx::Error> {
        let mut candidates =
            vec!["(SELECT version FROM sqlonfhir_meta.ledger WHERE type = $1 AND id = $2)".to_owned()];
        candidates.extend(views.views.iter().map(|v| {
            format!(
                "(SELECT _version FROM {} WHERE _rid = $2 LIMIT 1)",
                Table::Base.of(v.name())
            )
        }));
        let sql = format!(
            "SELECT coalesce({}, 0::bigint), t.published_as_of, t.speed_as_of \
             FROM (SELECT) one LEFT JOIN sqlonfhir_meta.resource_type t ON t.type = $1",
            candidates.join(", ")
        );
        let (version, batch_as_of, speed_as_of): (i64, Option<DateTime<Utc>>, Option<DateTime<Utc>>) =
            sqlx::query_as(AssertSqlSafe(sql))
                .bind(&views.resource_type)
                .bind(id)
                .fetch_one(&self.pool)
                .await?;
        Ok((
            version,
            TypeFreshness {
                batch_as_of,
                speed_as_of,
            },
        ))
    }

    /// Number of live ids of each type.
    pub async fn live_counts(&self) -> Result<Vec<(String, i64)>, StoreError> {
        sqlx::query_as("SELECT type, count(*) FROM sqlonfhir_meta.ledger WHERE layer = 'live' GROUP BY type ORDER BY type")
            .fetch_all(&self.pool)
            .await
            .map_err(during("counting live ids"))
    }
}
