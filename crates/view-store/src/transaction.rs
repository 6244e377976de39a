//! Transactions that outlive the function which begins them: sqlx's guard borrows its connection, so a run or a snapshot that owns its
//! connection begins and ends them by hand. Sqlx keeps count of them, so `Connection::begin` within makes a savepoint.

use sqlx::postgres::PgTransactionManager;
use sqlx::{AssertSqlSafe, PgConnection, SqlSafeStr as _, SqlStr};
use sqlx_core::transaction::TransactionManager;

pub(crate) async fn begin(connection: &mut PgConnection, sql: Option<SqlStr>) -> Result<(), sqlx::Error> {
    PgTransactionManager::begin(connection, sql).await
}

/// One that only reads, in which all statements see one snapshot. It is taken once these tables (separated by commas) are locked: a table that is replaced or dropped
/// meanwhile is seen as it is then, or not at all, where an older snapshot would see an empty one.
pub(crate) async fn begin_reading(connection: &mut PgConnection, tables: &str) -> Result<(), sqlx::Error> {
    let sql =
        format!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; LOCK TABLE {tables} IN ACCESS SHARE MODE");
    begin(connection, Some(AssertSqlSafe(sql).into_sql_str())).await
}

pub(crate) async fn commit(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    PgTransactionManager::commit(connection).await
}

pub(crate) async fn rollback(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    PgTransactionManager::rollback(connection).await
}

/// Queues a rollback for the connection's next use: for `Drop`.
pub(crate) fn start_rollback(connection: &mut PgConnection) {
    PgTransactionManager::start_rollback(connection);
}
