//! HAPI's side of a schedule: its tables, written by real transactions of a real PostgreSQL; only clock, activity and timeline are played.
//!
//! The code under test calls `clock_timestamp()`, `pg_stat_activity` and `pg_control_system()` by their plain names, and this database's search path
//! puts a schema with names of its own before PostgreSQL's.

use std::collections::HashMap;

use anyhow::Context as _;
use e2e::postgres::Postgres;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use super::model::State;

const TABLES: &str = "
    CREATE TABLE hfj_resource (res_id bigint PRIMARY KEY, partition_id int, res_deleted_at timestamp, has_tags boolean NOT NULL DEFAULT false,
        res_updated timestamp NOT NULL, fhir_id varchar(64), res_type varchar(40) NOT NULL, res_ver bigint NOT NULL);
    CREATE UNIQUE INDEX ON hfj_resource (res_type, fhir_id);
    CREATE TABLE hfj_res_ver (pid bigserial PRIMARY KEY, partition_id int, res_deleted_at timestamp, res_updated timestamp NOT NULL,
        res_encoding varchar(5) NOT NULL, request_id varchar(16), res_text oid, res_id bigint NOT NULL, res_text_vc text,
        res_type varchar(40) NOT NULL, res_ver bigint NOT NULL, source_uri varchar(768), UNIQUE (res_id, res_ver));
    CREATE INDEX ON hfj_res_ver (res_type, res_updated, res_id);
    CREATE TABLE hfj_res_tag (pid bigint PRIMARY KEY, tag_id bigint, res_id bigint);
    CREATE TABLE hfj_tag_def (tag_id bigint PRIMARY KEY, tag_code text, tag_display text, tag_system text, tag_type int NOT NULL,
        tag_user_selected boolean, tag_version text);

    CREATE SCHEMA played;
    CREATE SEQUENCE played.now;
    CREATE SEQUENCE played.timeline;
    CREATE TABLE played.activity (tx int PRIMARY KEY, start bigint NOT NULL);
    CREATE FUNCTION played.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS 'SELECT to_timestamp(last_value) FROM played.now';
    CREATE VIEW played.pg_stat_activity AS SELECT current_database() AS datname, 'client backend'::text AS backend_type,
        'hapi'::text AS application_name, 'active'::text AS state, to_timestamp(start) AS xact_start FROM played.activity;
    CREATE FUNCTION played.pg_control_system(OUT system_identifier bigint) LANGUAGE sql VOLATILE AS 'SELECT last_value FROM played.timeline';
";

pub(crate) struct PlayedHapi {
    url: String,
    control: PgConnection,
    open: HashMap<u8, PgConnection>,
    idle: Vec<PgConnection>,
}

impl PlayedHapi {
    pub(crate) async fn create(postgres: &Postgres) -> anyhow::Result<Self> {
        let url = postgres.create_database("hapi").await?;
        postgres.execute("hapi", TABLES).await?;
        postgres
            .execute(
                "hapi",
                "ALTER DATABASE hapi SET search_path = played, pg_catalog, public",
            )
            .await?;
        let control = PgConnection::connect(&url).await?;
        Ok(Self {
            url,
            control,
            open: HashMap::new(),
            idle: Vec::new(),
        })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// An empty HAPI on timeline 1.
    pub(crate) async fn reset(&mut self) -> anyhow::Result<()> {
        self.abort_all().await?;
        // Not TRUNCATE: every connection would have to plan all of its statements again.
        let sql = "DELETE FROM hfj_res_ver; DELETE FROM hfj_resource; DELETE FROM played.activity; SELECT setval('played.timeline', 1)";
        self.control(sql.into()).await
    }

    pub(crate) async fn set_clock(&mut self, now: i64) -> anyhow::Result<()> {
        self.control(format!("SELECT setval('played.now', {now})")).await
    }

    pub(crate) async fn begin(&mut self, tx: u8, start: i64) -> anyhow::Result<()> {
        let mut connection = match self.idle.pop() {
            Some(connection) => connection,
            None => PgConnection::connect(&self.url).await?,
        };
        execute(&mut connection, "BEGIN".into()).await?;
        self.open.insert(tx, connection);
        self.control(format!("INSERT INTO played.activity VALUES ({tx}, {start})"))
            .await
    }

    pub(crate) async fn write(&mut self, tx: u8, savepoint: bool, state: &State) -> anyhow::Result<()> {
        let mut sql = write(state);
        if savepoint {
            sql = format!("SAVEPOINT s; {sql}; RELEASE SAVEPOINT s");
        }
        let connection = self.open.get_mut(&tx).context("no such transaction")?;
        execute(connection, sql).await
    }

    pub(crate) async fn finish(&mut self, tx: u8, commit: bool) -> anyhow::Result<()> {
        let mut connection = self.open.remove(&tx).context("no such transaction")?;
        execute(&mut connection, if commit { "COMMIT" } else { "ROLLBACK" }.into()).await?;
        self.idle.push(connection);
        self.control(format!("DELETE FROM played.activity WHERE tx = {tx}"))
            .await
    }

    /// As after a restore from a backup: other rows, another timeline, no open transaction.
    pub(crate) async fn restore<'a>(
        &mut self,
        timeline: i64,
        rows: impl Iterator<Item = &'a State>,
    ) -> anyhow::Result<()> {
        self.abort_all().await?;
        let mut sql = format!(
            "TRUNCATE hfj_res_ver, hfj_resource, played.activity; SELECT setval('played.timeline', {timeline});"
        );
        for state in rows {
            sql.push_str(&write(state));
            sql.push(';');
        }
        self.control(sql).await
    }

    async fn abort_all(&mut self) -> anyhow::Result<()> {
        for (_, mut connection) in self.open.drain() {
            execute(&mut connection, "ROLLBACK".into()).await?;
            self.idle.push(connection);
        }
        Ok(())
    }

    async fn control(&mut self, sql: String) -> anyhow::Result<()> {
        execute(&mut self.control, sql).await
    }
}

/// What HAPI does to its tables for a new version, a deletion or an expunge.
fn write(state: &State) -> String {
    let State {
        id,
        version,
        updated,
        deleted,
        content,
        life,
    } = state;
    if *version == 0 {
        return format!(
            "DELETE FROM hfj_res_ver WHERE res_id = (SELECT res_id FROM hfj_resource WHERE fhir_id = '{id}');
             DELETE FROM hfj_resource WHERE fhir_id = '{id}'"
        );
    }
    let res_id = if life % 2 == 0 { *life } else { 1_000_000 + life };
    let at = format!("to_timestamp({updated}) AT TIME ZONE 'UTC'");
    let (deleted_at, encoding, text) = if *deleted {
        (at.clone(), "DEL", "NULL".to_owned())
    } else {
        ("NULL".to_owned(), "JSON", format!("'{}'", stored(*content)))
    };
    format!(
        "INSERT INTO hfj_resource (res_id, res_deleted_at, res_updated, fhir_id, res_type, res_ver)
         VALUES ({res_id}, {deleted_at}, {at}, '{id}', 'Patient', {version})
         ON CONFLICT (res_id) DO UPDATE SET res_deleted_at = excluded.res_deleted_at, res_updated = excluded.res_updated, res_ver = excluded.res_ver;
         INSERT INTO hfj_res_ver (res_deleted_at, res_updated, res_encoding, res_id, res_text_vc, res_type, res_ver)
         VALUES ({deleted_at}, {at}, '{encoding}', {res_id}, {text}, 'Patient', {version})"
    )
}

/// The stored body: in view A as many rows as `content` modulo 3, in view B as half of it modulo 2; their values are ten times `content`, counted up.
fn stored(content: i64) -> String {
    let rows = |name: &str, count: i64| {
        (0..count)
            .map(|n| format!(r#"{{"url":"urn:{name}","valueInteger":{}}}"#, content * 10 + n))
            .collect::<Vec<_>>()
            .join(",")
    };
    let rows: Vec<String> = [rows("a", content % 3), rows("b", content / 2 % 2)]
        .into_iter()
        .filter(|r| !r.is_empty())
        .collect();
    if rows.is_empty() {
        return r#"{"resourceType":"Patient"}"#.into();
    }
    format!(r#"{{"resourceType":"Patient","extension":[{}]}}"#, rows.join(","))
}

/// The body of a webhook.
pub(crate) fn delivered(state: &State) -> String {
    let at = at(state.updated).format("%Y-%m-%dT%H:%M:%S%.3f+00:00");
    let stored = stored(state.content);
    let rest = stored
        .strip_prefix(r#"{"resourceType":"Patient""#)
        .unwrap_or_default();
    format!(
        r#"{{"resourceType":"Patient","id":"{}","meta":{{"versionId":"{}","lastUpdated":"{at}"}}{rest}"#,
        state.id, state.version
    )
}

/// A time of the model.
pub(crate) fn at(seconds: i64) -> chrono::DateTime<chrono::Utc> {
    chrono::DateTime::from_timestamp(seconds, 0).unwrap_or_default()
}

async fn execute(connection: &mut PgConnection, sql: String) -> anyhow::Result<()> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await?;
    Ok(())
}
