//! From a checked statement to an answer that has begun, at one server: rows and freshness of one snapshot, and the first row, until which another server can be asked.

use api::{Code, ServiceError, sql::SqlQuestion};
use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use view_store::sql::{Prepared, SqlColumn, SqlError, SqlLayer, SqlRow, SqlSelect};

use super::{Sql, errors::sql_error, freshness, no_hidden_calls, statement::Statement};
use crate::{errors::store_error, freshness::AnswerFreshness, reads::Route, shared::Core};

/// An answer that has begun: its first row is there, or that there is none.
pub(super) struct Begun {
    pub(super) columns: Vec<SqlColumn>,
    pub(super) freshness: AnswerFreshness,
    pub(super) rows: BoxStream<'static, Result<SqlRow, SqlError>>,
    /// Where it was asked for instead of rows.
    pub(super) plan: Option<String>,
}

/// Why it has not.
pub(super) enum NotBegun {
    Failed(ServiceError),
    /// The statement does not fit the definitions of the server.
    Refused(ServiceError),
}

impl From<ServiceError> for NotBegun {
    fn from(error: ServiceError) -> Self {
        Self::Failed(error)
    }
}

/// What is asked of a server.
pub(super) struct Asking<'a> {
    pub(super) core: &'a Core,
    pub(super) sql: &'a Sql,
    pub(super) question: &'a SqlQuestion,
    pub(super) statement: &'a Statement,
    pub(super) layer: SqlLayer,
    pub(super) views: &'a [String],
    /// Rows that are wanted at most.
    pub(super) asked: i64,
}

impl Asking<'_> {
    /// Asks the server whose turn it is.
    pub(super) async fn at(&self, route: &Route) -> Result<Begun, NotBegun> {
        let Self {
            core,
            sql,
            question,
            statement,
            views,
            ..
        } = *self;
        let failed = |error: SqlError| {
            // Classes of names and types: a replica may have the definition of before.
            let by_definition =
                matches!(&error, SqlError::Refused { sqlstate, .. } if sqlstate.starts_with("42"));
            let error = sql_error(error, &sql.limits, question, |at| statement.original(at));
            if by_definition {
                NotBegun::Refused(error)
            } else {
                NotBegun::Failed(error)
            }
        };
        let server = route.server();
        let reader = route.sql().ok_or_else(|| {
            ServiceError::new(Code::Unavailable, "statements cannot be read at this server")
        })?;
        let opened = reader.snapshot(self.layer, views).await;
        if matches!(opened, Err(SqlError::ViewGone)) && server.is_primary() {
            core.catalog.clear();
        }
        let mut snapshot = opened.map_err(failed)?;
        let mut freshness = freshness(core, question, views, &mut snapshot).await?;
        core.reads.tell(&server, &mut freshness);
        if question.freshness.not_before.is_some() {
            freshness.shown_until(route.shown_until().await.map_err(store_error)?);
        }
        if !views.is_empty() {
            freshness.meets(question.freshness.max_staleness)?;
        }
        no_hidden_calls(sql, question, statement, &mut snapshot).await?;
        let select = SqlSelect {
            text: statement.text.clone(),
            places: statement.places.clone(),
            arguments: statement.arguments.clone(),
            // One more tells whether there are more.
            limit: self.asked.saturating_add(1),
        };
        let prepared: Prepared = snapshot.prepare(&select).await.map_err(failed)?;
        let columns = prepared.columns().to_vec();
        if question.explain {
            let plan = Some(snapshot.plan(prepared).await.map_err(failed)?);
            let rows = stream::empty().boxed();
            return Ok(Begun {
                columns,
                freshness,
                rows,
                plan,
            });
        }
        let mut rows = snapshot.into_rows(prepared);
        // Until it is there, another server can be asked.
        let first = rows.next().await.transpose().map_err(failed)?;
        let rows = stream::iter(first.map(Ok)).chain(server.rows(rows)).boxed();
        Ok(Begun {
            columns,
            freshness,
            rows,
            plan: None,
        })
    }
}
