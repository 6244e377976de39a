//! Schema, tables and roles of this release. Several refreshers may start at once: a session lock lets one through at a time.

use std::time::{Duration, Instant};

use sqlx::migrate::{Migrate, MigrateError, Migration, Migrator};
use sqlx::{AssertSqlSafe, PgConnection};
use tracing::warn;

use crate::driver::{is_lock_timeout, sqlstate};
use crate::error::during;
use crate::tables::Table;
use crate::{StoreError, ViewStore, locks};

static MIGRATIONS: Migrator = sqlx::migrate!();

/// How long a migration tries to get its locks between what is being answered.
const PATIENCE: Duration = Duration::from_mins(1);

/// Where sqlx keeps what it has run.
const MIGRATIONS_TABLE: &str = "sqlonfhir_meta.migration";

/// Group roles: logins are made members of one of them.
const ROLES: [&str; 2] = ["researchflow_merger", "researchflow_reader"];

impl ViewStore {
    /// Brings schemas, tables and roles to this release's state. Needs the owner.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        // Own connection: the lock goes with it, however this ends.
        let mut connection = self.own_connection("researchflow migration").await?;
        locks::lock_migrations(&mut connection).await?;
        check_encoding(&mut connection).await?;
        create_roles(&mut connection).await?;
        run_migrations(&mut connection).await?;
        grant(&mut connection).await?;
        let_mergers_be_readers(&mut connection).await;
        Ok(())
    }
}

/// Whether the schema is of this release.
pub(crate) async fn check(connection: &mut PgConnection) -> Result<(), StoreError> {
    let what_to_do = "start batch-refresher of this release, which brings it up to date";
    let applied: Option<i64> =
        sqlx::query_scalar("SELECT max(version) FROM sqlonfhir_meta.migration WHERE success")
            .fetch_one(connection)
            .await
            .map_err(|error| {
                match sqlstate(&error).as_deref() {
        // No such schema or table.
        Some("3F000" | "42P01") => StoreError::NotMigrated(format!(
            "the views' database has no schema of ResearchFlow yet; {what_to_do}"
        )),
        Some("42501") => StoreError::NotMigrated(
            "this login may not see the schema of ResearchFlow; run: GRANT researchflow_merger TO <login>"
                .into(),
        ),
        _ => during("checking the schema")(error),
    }
            })?;
    let wanted = MIGRATIONS.iter().map(|m| m.version).max();
    if applied == wanted {
        return Ok(());
    }
    let number = |version: Option<i64>| version.unwrap_or_default();
    Err(StoreError::NotMigrated(format!(
        "the views' database is at migration {}, this release needs {}; {}",
        number(applied),
        number(wanted),
        if applied > wanted {
            "use the later release"
        } else {
            what_to_do
        }
    )))
}

/// Rows come in UTF-8; a database of another encoding would refuse some of them, and with them a whole COPY.
async fn check_encoding(connection: &mut PgConnection) -> Result<(), StoreError> {
    let encoding: String = sqlx::query_scalar("SELECT current_setting('server_encoding')")
        .fetch_one(connection)
        .await
        .map_err(during("checking the encoding"))?;
    if encoding == "UTF8" {
        return Ok(());
    }
    Err(StoreError::NotMigrated(format!(
        "the views' database is encoded in {encoding}; create one with: CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0"
    )))
}

async fn run_migrations(connection: &mut PgConnection) -> Result<(), StoreError> {
    sqlx::raw_sql("CREATE SCHEMA IF NOT EXISTS sqlonfhir_meta")
        .execute(&mut *connection)
        .await
        .map_err(|error| {
            if sqlstate(&error).as_deref() == Some("42501") {
                StoreError::NotMigrated(
                "this login may not create schemas in the views' database; run as its owner or a superuser: \
                 GRANT CREATE ON DATABASE <database> TO <login>"
                    .into(),
            )
            } else {
                during("creating the schema")(error)
            }
        })?;
    connection
        .ensure_migrations_table(MIGRATIONS_TABLE)
        .await
        .map_err(failed)?;
    let applied = connection
        .list_applied_migrations(MIGRATIONS_TABLE)
        .await
        .map_err(failed)?;
    if let Some(unknown) = applied.iter().find(|a| !MIGRATIONS.version_exists(a.version)) {
        return Err(StoreError::NotMigrated(format!(
            "the views' database has migration {} of a later release; use that release",
            unknown.version
        )));
    }
    for migration in MIGRATIONS.iter() {
        match applied.iter().find(|a| a.version == migration.version) {
            Some(done) if done.checksum != migration.checksum => {
                return Err(StoreError::NotMigrated(format!(
                    "migration {} was run with another content; this database belongs to another build",
                    migration.version
                )));
            }
            Some(_) => {}
            None => apply(connection, migration).await?,
        }
    }
    Ok(())
}

/// Under a short wait for locks, since what is asked meanwhile queues behind it: again and again, until what is being answered leaves room.
async fn apply(connection: &mut PgConnection, migration: &Migration) -> Result<(), StoreError> {
    let doing = during("migrating the schema");
    let short = format!("SET lock_timeout = '{}'", locks::EXCLUSIVE_WAIT);
    sqlx::raw_sql(AssertSqlSafe(short))
        .execute(&mut *connection)
        .await
        .map_err(&doing)?;
    let deadline = Instant::now() + PATIENCE;
    let applied = loop {
        match connection.apply(MIGRATIONS_TABLE, migration).await {
            Err(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _))
                if is_lock_timeout(&error) && Instant::now() < deadline =>
            {
                tokio::time::sleep(locks::EXCLUSIVE_PAUSE).await;
            }
            ended => break ended.map(drop).map_err(failed),
        }
    };
    sqlx::raw_sql("RESET lock_timeout")
        .execute(&mut *connection)
        .await
        .map_err(doing)?;
    applied
}

fn failed(error: MigrateError) -> StoreError {
    match error {
        MigrateError::Execute(e) | MigrateError::ExecuteMigration(e, _) => during("migrating the schema")(e),
        other => StoreError::NotMigrated(format!("the schema could not be migrated: {other}")),
    }
}

async fn create_roles(connection: &mut PgConnection) -> Result<(), StoreError> {
    for role in ROLES {
        let exists: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)")
            .bind(role)
            .fetch_one(&mut *connection)
            .await
            .map_err(during("looking for roles"))?;
        if exists {
            continue;
        }
        match sqlx::raw_sql(AssertSqlSafe(format!("CREATE ROLE {role} NOLOGIN")))
            .execute(&mut *connection)
            .await
        {
            Ok(_) => limit_idle_readers(connection, role).await,
            Err(error) => match sqlstate(&error).as_deref() {
                // Roles belong to the whole cluster: another database's refresher was faster.
                Some("42710" | "23505") => {}
                Some("42501") => {
                    return Err(StoreError::NotMigrated(format!(
                        "the role {role} is missing and this login may not create roles; run as a superuser: {}",
                        ROLES.map(|r| format!("CREATE ROLE {r} NOLOGIN")).join("; ")
                    )));
                }
                _ => return Err(during("creating roles")(error)),
            },
        }
    }
    Ok(())
}

/// A gateway answers statements of callers in the role of a reader: for that its login must be a member of it. A login of their own makes it needless, so
/// that an owner without the right to grant it is no reason to stop.
async fn let_mergers_be_readers(connection: &mut PgConnection) {
    let grant = "GRANT researchflow_reader TO researchflow_merger";
    if sqlx::raw_sql(grant).execute(connection).await.is_err() {
        warn!(
            "gateways cannot take on the role of a reader for Sql: set sql.url, or run as a superuser: {grant}"
        );
    }
}

/// A forgotten transaction of a reader keeps old rows alive. PostgreSQL does not hand settings of a group on to its members: this holds
/// for sessions of the role itself, and shows the operator what to set for logins.
async fn limit_idle_readers(connection: &mut PgConnection, role: &str) {
    if role != "researchflow_reader" {
        return;
    }
    let set = "ALTER ROLE researchflow_reader SET idle_in_transaction_session_timeout = '5min'";
    if sqlx::raw_sql(set).execute(connection).await.is_err() {
        warn!(
            "readers' idle transactions are not limited: this login may not alter the role researchflow_reader"
        );
    }
}

/// All rights, again at every start: so a restored or half-granted database comes right by itself. New views' tables are granted when made.
async fn grant(connection: &mut PgConnection) -> Result<(), StoreError> {
    // What an earlier release granted beyond this goes first: nobody sees it gone before the rest is there, for it is one transaction.
    let on_rows = Table::ALL.map(|table| {
        let (rights, schema) = (table.merger_rights(), table.schema());
        format!("GRANT {rights} ON ALL TABLES IN SCHEMA {schema} TO researchflow_merger;")
    });
    let on_rows = on_rows.concat();
    let sql = format!(
        "REVOKE ALL ON ALL TABLES IN SCHEMA sqlonfhir_meta, sqlonfhir_base, sqlonfhir_live, sqlonfhir_shadowed, sqlonfhir_stage FROM researchflow_merger;
         GRANT USAGE ON SCHEMA sqlonfhir, sqlonfhir_batch TO researchflow_reader, researchflow_merger;
         GRANT SELECT ON ALL TABLES IN SCHEMA sqlonfhir, sqlonfhir_batch TO researchflow_reader, researchflow_merger;
         GRANT EXECUTE ON FUNCTION sqlonfhir_meta.live_rows(text) TO researchflow_reader, researchflow_merger;
         GRANT USAGE ON SCHEMA sqlonfhir_base, sqlonfhir_live, sqlonfhir_shadowed, sqlonfhir_meta TO researchflow_merger;
         {on_rows}
         GRANT SELECT ON sqlonfhir_meta.migration, sqlonfhir_meta.registry, sqlonfhir_meta.view, sqlonfhir_meta.resource_type, sqlonfhir_meta.ledger,
             sqlonfhir_meta.error TO researchflow_merger;
         GRANT INSERT, UPDATE ON sqlonfhir_meta.ledger TO researchflow_merger;
         GRANT INSERT, UPDATE, DELETE ON sqlonfhir_meta.error TO researchflow_merger;
         GRANT UPDATE (speed_n, speed_as_of) ON sqlonfhir_meta.resource_type TO researchflow_merger;
         DO $$ BEGIN EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO researchflow_merger', current_database()); END $$;"
    );
    let patience = locks::patience();
    loop {
        match sqlx::raw_sql(AssertSqlSafe(sql.clone()))
            .execute(&mut *connection)
            .await
        {
            Ok(_) => return Ok(()),
            // "tuple concurrently updated": another replica makes or changes one of these tables at this very moment.
            Err(error) if sqlstate(&error).as_deref() == Some("XX000") && Instant::now() < patience => {
                tokio::time::sleep(locks::EXCLUSIVE_PAUSE).await;
            }
            Err(error) => return Err(during("granting rights")(error)),
        }
    }
}
