//! Databases and logins as an operator makes them (`deploy/compose/databases.sh`), and what a login may do: asked of PostgreSQL's catalogues, right by right, so that what a
//! test did not think of is found, too.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

use crate::postgres::{self, Postgres};
use crate::server;
use crate::stack::project_folder;

/// Makes the databases `hapi` and `views` and the logins `hapi`, `refresher`, `gateway` and `analyst`, all with this password, by the very script that operators run.
pub fn create_databases(postgres: &Postgres, password: &str) -> anyhow::Result<()> {
    let deploy = project_folder().join("deploy");
    let mut command = Command::new("sh");
    command
        .arg(deploy.join("compose/databases.sh"))
        .envs(administrator(postgres)?)
        .env("RESEARCHFLOW_SQL", deploy.join("sql"));
    for login in ["HAPI_DB", "REFRESHER", "GATEWAY", "ANALYST"] {
        command.env(format!("{login}_PASSWORD"), password);
    }
    server::run(&mut command).context("the databases cannot be made")?;
    Ok(())
}

/// Runs a file of `deploy/sql` in a database, with psql's variables, as an administrator does.
pub fn run_sql(
    postgres: &Postgres,
    database: &str,
    file: &str,
    variables: &[(&str, &str)],
) -> anyhow::Result<()> {
    let mut command = Command::new(psql()?);
    command
        .args(["--no-psqlrc", "--quiet", "--dbname", database, "--file"])
        .arg(project_folder().join("deploy/sql").join(file))
        .envs(administrator(postgres)?);
    for (name, value) in variables {
        command.arg(format!("--set={name}={value}"));
    }
    server::run(&mut command).with_context(|| format!("{file} fails"))?;
    Ok(())
}

/// Runs a dump over a connection URL.
pub fn run_dump(url: &str, file: &Path) -> anyhow::Result<()> {
    let mut command = Command::new(psql()?);
    command
        .args([
            "--no-psqlrc",
            "--quiet",
            "--set=ON_ERROR_STOP=1",
            "--single-transaction",
            url,
            "--file",
        ])
        .arg(file);
    server::run(&mut command).context("the dump cannot be restored")?;
    Ok(())
}

fn psql() -> anyhow::Result<PathBuf> {
    server::find_program("psql", &[postgres::binaries()?], "postgresql-client")
}

/// psql's variables for the superuser, and a PATH in which it is found.
fn administrator(postgres: &Postgres) -> anyhow::Result<Vec<(String, String)>> {
    let psql = psql()?;
    let folder = psql.parent().context("psql lies in no folder")?;
    let path = std::env::var("PATH").unwrap_or_default();
    Ok([
        ("PATH", format!("{}:{path}", folder.display())),
        ("PGHOST", "127.0.0.1".to_owned()),
        ("PGUSER", "postgres".to_owned()),
        ("PGPORT", postgres.port().to_string()),
        ("PGPASSWORD", postgres::SUPERUSER_PASSWORD.to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into())
}

/// Everything that a login may do in a database, as lines; beyond what every login may by PostgreSQL's own defaults on its own catalogues (reading them, and calling functions
/// that leave nothing behind).
pub async fn held(login: &mut PgConnection) -> anyhow::Result<Vec<String>> {
    let mut held = Vec::new();
    for (what, sql) in QUESTIONS {
        let found: Vec<String> = sqlx::query_scalar(*sql)
            .fetch_all(&mut *login)
            .await
            .with_context(|| format!("asking for rights on {what}"))?;
        held.extend(found);
    }
    let volatile: Vec<String> = sqlx::query_scalar(
        "SELECT DISTINCT proname::text FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace AND provolatile = 'v' \
         AND has_function_privilege(oid, 'EXECUTE') ORDER BY 1",
    )
    .fetch_all(login)
    .await?;
    let harmful = volatile.into_iter().filter(|name| !is_harmless(name));
    held.extend(harmful.map(|name| format!("EXECUTE on {name}")));
    held.sort();
    held.dedup();
    Ok(held)
}

/// Of each kind of object, the rights of the present login.
const QUESTIONS: &[(&str, &str)] = &[
    (
        "itself",
        "SELECT 'the attribute ' || attribute FROM pg_roles r, LATERAL (VALUES (rolsuper, 'SUPERUSER'), (rolcreaterole, 'CREATEROLE'), (rolcreatedb, 'CREATEDB'), \
         (rolreplication, 'REPLICATION'), (rolbypassrls, 'BYPASSRLS')) a (has, attribute) WHERE rolname = current_user AND has",
    ),
    (
        "roles",
        "SELECT 'the role ' || rolname FROM pg_roles WHERE pg_has_role(current_user, oid, 'MEMBER') AND rolname <> current_user",
    ),
    (
        "databases",
        "SELECT format('%s on the database %s', p, datname) FROM pg_database, unnest(ARRAY['CONNECT', 'CREATE', 'TEMPORARY']) p \
         WHERE datallowconn AND has_database_privilege(oid, p)",
    ),
    (
        "schemas",
        "SELECT format('%s on the schema %s', p, nspname) FROM pg_namespace, unnest(ARRAY['CREATE', 'USAGE']) p WHERE has_schema_privilege(oid, p) \
         AND NOT (p = 'USAGE' AND nspname IN ('pg_catalog', 'information_schema', 'public'))",
    ),
    // pg_settings may be written to by everyone: that is SET.
    (
        "tables",
        "SELECT format('%s on %s.%s', p, nspname, relname) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace, \
         unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) p WHERE relkind IN ('r', 'p', 'v', 'm', 'f') \
         AND has_table_privilege(c.oid, p) AND NOT (nspname IN ('pg_catalog', 'information_schema') AND p = 'SELECT') AND NOT (relname = 'pg_settings' AND p = 'UPDATE')",
    ),
    (
        "columns",
        "SELECT format('%s on a column of %s.%s', p, nspname, relname) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace, \
         unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'REFERENCES']) p WHERE relkind IN ('r', 'p', 'v', 'm', 'f') AND has_any_column_privilege(c.oid, p) \
         AND NOT has_table_privilege(c.oid, p) AND nspname NOT IN ('pg_catalog', 'information_schema')",
    ),
    (
        "sequences",
        "SELECT format('%s on %s.%s', p, nspname, relname) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace, unnest(ARRAY['SELECT', 'USAGE', 'UPDATE']) p \
         WHERE relkind = 'S' AND has_sequence_privilege(c.oid, p)",
    ),
    (
        "owned objects",
        "SELECT 'owning ' || oid::regclass FROM pg_class WHERE pg_has_role(current_user, relowner, 'MEMBER') AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S') \
         UNION ALL SELECT 'owning ' || oid::regprocedure FROM pg_proc WHERE pg_has_role(current_user, proowner, 'MEMBER') \
         UNION ALL SELECT 'owning the schema ' || nspname FROM pg_namespace WHERE pg_has_role(current_user, nspowner, 'MEMBER') \
         UNION ALL SELECT 'owning the large object ' || oid FROM pg_largeobject_metadata WHERE pg_has_role(current_user, lomowner, 'MEMBER')",
    ),
    (
        "functions that are not PostgreSQL's",
        "SELECT 'EXECUTE on ' || p.oid::regprocedure FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace \
         WHERE nspname NOT IN ('pg_catalog', 'information_schema') AND has_function_privilege(p.oid, 'EXECUTE') AND prorettype <> 'event_trigger'::regtype",
    ),
    (
        "functions with the rights of another",
        "SELECT 'EXECUTE on ' || oid::regprocedure FROM pg_proc WHERE prosecdef AND has_function_privilege(oid, 'EXECUTE')",
    ),
    // A function in SQL or a procedural language needs a schema to be made in; DO needs none.
    (
        "languages",
        "SELECT 'USAGE on the language ' || lanname FROM pg_language WHERE has_language_privilege(oid, 'USAGE') AND laninline <> 0",
    ),
    (
        "tablespaces, foreign data and large objects",
        "SELECT 'CREATE on the tablespace ' || spcname FROM pg_tablespace WHERE has_tablespace_privilege(oid, 'CREATE') \
         UNION ALL SELECT 'USAGE on the wrapper ' || fdwname FROM pg_foreign_data_wrapper WHERE has_foreign_data_wrapper_privilege(oid, 'USAGE') \
         UNION ALL SELECT 'USAGE on the server ' || srvname FROM pg_foreign_server WHERE has_server_privilege(oid, 'USAGE') \
         UNION ALL SELECT 'a large object' FROM pg_largeobject_metadata WHERE EXISTS (SELECT FROM aclexplode(lomacl) \
             WHERE grantee = 0 OR pg_has_role(current_user, grantee, 'MEMBER')) \
         UNION ALL SELECT 'every large object' WHERE current_setting('lo_compat_privileges')::boolean",
    ),
];

/// Functions that change from call to call, or have an effect, and that everyone may call; why each is no harm.
fn is_harmless(name: &str) -> bool {
    const BY_PREFIX: &[&str] = &[
        // For triggers, types, indexes, languages: PostgreSQL calls them, and refuses a call by hand.
        "RI_FKey_",
        "plpgsql_",
        "tsvector_update_trigger",
        "dsnowball_",
        "binary_upgrade_",
        // Figures.
        "pg_stat_",
        "pg_current_wal_",
        "pg_last_",
        "pg_is_",
        "pg_get_",
        "pg_control_",
        "pg_collation_",
        "pg_database_",
        "pg_xact_",
        "pg_partition_",
        "pg_relation_",
        "pg_table_",
        "pg_tablespace_",
        "pg_total_",
        "pg_indexes_",
        "pg_jit_",
        "pg_prepared_",
        "pg_blocking_",
        "pg_safe_",
        "pg_lock_status",
        "pg_notification_queue_usage",
        "pg_sequence_last_value",
        "pg_isolation_test_",
        "pg_available_",
        "pg_ls_",
        "pg_numa_",
        // Only with the attribute REPLICATION.
        "pg_create_",
        "pg_copy_",
        "pg_drop_replication_slot",
        "pg_logical_slot_",
        "pg_replication_slot_",
        "pg_sync_replication_slots",
        // Only with the rights of the owner of the index, sequence or table, which are asked for besides.
        "brin_",
        "gin_clean_",
        "currval",
        "lastval",
        "nextval",
        "setval",
        "currtid2",
        // Only of sessions of one's own login.
        "pg_cancel_backend",
        "pg_terminate_backend",
        // What one's own locks are let go by.
        "pg_advisory_unlock",
        // Time and chance.
        "clock_timestamp",
        "timeofday",
        "random",
        "setseed",
        "gen_random_uuid",
        "uuidv",
        "pg_sleep",
        // A query, with one's own rights, in another form.
        "query_to_xml",
        "cursor_to_xml",
        "ts_stat",
        "ts_rewrite",
        // As SET.
        "set_config",
        "txid_status",
        "current_query",
    ];
    const WHOLE: &[&str] = &[
        // Handlers, and what PostgreSQL calls.
        "amvalidate",
        "bernoulli",
        "system",
        "brinhandler",
        "bthandler",
        "ginhandler",
        "gisthandler",
        "hashhandler",
        "spghandler",
        "heap_tableam_handler",
        "suppress_redundant_updates_trigger",
        "unique_key_recheck",
        // Refused in SQL by what they check themselves: a superuser, a mode of the server, an extension's script.
        "pg_extension_config_dump",
        "pg_import_system_collations",
        "pg_nextoid",
        "pg_read_file_old",
        "pg_rotate_logfile_old",
        "pg_stop_making_pinned_objects",
    ];
    BY_PREFIX.iter().any(|prefix| name.starts_with(prefix)) || WHOLE.contains(&name)
}

/// By which PostgreSQL refuses: no right; a setting that may not be changed; a view that takes no writes.
const REFUSALS: [&str; 3] = ["42501", "55P02", "55000"];

/// Tries statements as a login; answers those that were not refused, undone again.
pub async fn not_refused(url: &str, statements: &[String]) -> anyhow::Result<Vec<String>> {
    let mut connection = PgConnection::connect(url).await?;
    let mut done = Vec::new();
    for statement in statements {
        connection.execute("BEGIN").await?;
        let tried = sqlx::raw_sql(AssertSqlSafe(statement.clone()))
            .execute(&mut connection)
            .await;
        // Only a refusal is one: what fails for another reason was not tried.
        let code = tried
            .as_ref()
            .err()
            .and_then(|error| error.as_database_error()?.code());
        let is_refused = code.is_some_and(|code| REFUSALS.contains(&code.as_ref()));
        if !is_refused {
            done.push(statement.clone());
        }
        connection.execute("ROLLBACK").await?;
    }
    Ok(done)
}

/// What nobody but an administrator should get done, whatever is in the database.
pub fn deeds_of_administrators() -> Vec<String> {
    [
        "CREATE TABLE public.mine (x int)",
        "CREATE TEMPORARY TABLE mine (x int)",
        "CREATE TEMPORARY VIEW mine AS SELECT 1",
        "SELECT 1 AS x INTO TEMPORARY mine",
        "CREATE SCHEMA mine",
        "CREATE FUNCTION public.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE FUNCTION pg_temp.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE TYPE public.mine AS (x int)",
        "CREATE SEQUENCE public.mine",
        "CREATE EXTENSION pg_trgm",
        "CREATE ROLE mine",
        "CREATE PUBLICATION mine FOR ALL TABLES",
        "DO $$ BEGIN PERFORM 1; END $$",
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "COPY (SELECT 1) TO '/tmp/mine'",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT pg_read_binary_file('PG_VERSION')",
        "SELECT pg_ls_dir('.')",
        "SELECT pg_stat_file('PG_VERSION')",
        "SELECT lo_create(0)",
        "SELECT lo_from_bytea(0, 'x')",
        "SELECT lo_import('/etc/passwd')",
        "SELECT pg_advisory_lock(1)",
        "SELECT pg_try_advisory_lock(1, 2)",
        "SELECT pg_advisory_xact_lock_shared(1)",
        "SELECT pg_notify('a', 'b')",
        "SELECT pg_export_snapshot()",
        "SELECT pg_logical_emit_message(true, 'a', 'b')",
        "SELECT pg_create_restore_point('a')",
        "SELECT pg_switch_wal()",
        "SELECT pg_reload_conf()",
        "SELECT pg_rotate_logfile()",
        "SELECT pg_stat_reset()",
        "SELECT pg_create_physical_replication_slot('a')",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename <> current_user LIMIT 1",
        "SELECT rolpassword FROM pg_authid",
        "SELECT * FROM pg_largeobject LIMIT 1",
        "SELECT * FROM pg_hba_file_rules",
        "SELECT * FROM pg_statistic LIMIT 1",
        "SELECT umoptions FROM pg_user_mapping",
        "SET SESSION AUTHORIZATION postgres",
        "SET ROLE postgres",
        "SET ROLE pg_write_server_files",
        "SET ROLE hapi",
        "SET ROLE gateway",
        "SET ROLE researchflow_merger",
        "SET session_replication_role = replica",
        "SET lo_compat_privileges = on",
        "SET log_statement = 'none'",
        "SET session_preload_libraries = 'x'",
        "SET temp_file_limit = -1",
        "ALTER ROLE gateway PASSWORD 'x'",
        "ALTER ROLE hapi PASSWORD 'x'",
        "GRANT researchflow_merger TO analyst",
        "GRANT pg_monitor TO current_user",
        "LOCK TABLE pg_catalog.pg_class IN ACCESS EXCLUSIVE MODE",
    ]
    .map(str::to_owned)
    .into()
}

/// Every way to change, or to keep others from, the tables and views of some schemas; by name, as their owner sees them.
pub async fn deeds_on_relations(owner_url: &str) -> anyhow::Result<Vec<String>> {
    let mut owner = PgConnection::connect(owner_url).await?;
    let relations: Vec<(String, String, String)> = sqlx::query_as(
        "SELECT c.oid::regclass::text, c.relkind::text, quote_ident(attname) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace \
         JOIN pg_attribute a ON attrelid = c.oid AND attnum = 1 \
         WHERE relkind IN ('r', 'p', 'v', 'm', 'S') AND nspname !~ '^pg_' AND nspname <> 'information_schema' ORDER BY 1",
    )
    .fetch_all(&mut owner)
    .await?;
    anyhow::ensure!(!relations.is_empty(), "there is nothing to try");
    let mut deeds = Vec::new();
    for (name, kind, column) in relations {
        if kind == "S" {
            deeds.push(format!("SELECT nextval('{name}')"));
            deeds.push(format!("SELECT setval('{name}', 1)"));
            continue;
        }
        deeds.extend([
            format!("INSERT INTO {name} DEFAULT VALUES"),
            format!("UPDATE {name} SET {column} = {column}"),
            format!("DELETE FROM {name}"),
            format!("SELECT 1 FROM {name} FOR UPDATE"),
            format!("COMMENT ON COLUMN {name}.{column} IS 'x'"),
        ]);
        if kind == "v" {
            deeds.push(format!("DROP VIEW {name}"));
            deeds.push(format!("ALTER VIEW {name} OWNER TO CURRENT_USER"));
        } else {
            deeds.extend([
                format!("TRUNCATE {name}"),
                format!("ALTER TABLE {name} ADD COLUMN mine int"),
                format!("DROP TABLE {name}"),
                format!("CREATE INDEX ON {name} ({column})"),
                format!("CREATE TRIGGER mine BEFORE INSERT ON {name} FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()"),
                format!("CREATE POLICY mine ON {name}"),
            ]);
        }
        deeds.push(format!("LOCK TABLE {name} IN ROW EXCLUSIVE MODE"));
    }
    Ok(deeds)
}
