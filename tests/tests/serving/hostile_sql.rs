//! Hostile texts: refused or harmless, whichever of the two guards is asked, and the database is as it was.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use e2e::postgres::Postgres;
use futures::StreamExt as _;
use serving_gateway::Config;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tonic::Code;
use view_store::sql::{SqlError, SqlLayer, SqlReader, SqlSelect, SqlSettings};

use crate::fixture::{Fixture, server, three};
use crate::hostile_texts::{FILE, Fate, texts};
use crate::sql::statement;

/// How long PostgreSQL may work on one of them.
const TIMEOUT: Duration = Duration::from_millis(250);
/// How long what is not hostile may be cut off all the same.
const PATIENCE: Duration = Duration::from_secs(20);

/// By when even a busy machine has ended what that is the bound of.
const ENDED: Duration = Duration::from_secs(20);

/// How many are run at once: most of them wait for the time-out.
const AT_ONCE: usize = 8;

/// Everything that a statement could have changed, as one text.
async fn state(server: &Postgres, url: &str) -> anyhow::Result<String> {
    let mut owner = PgConnection::connect(url).await?;
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace \
         WHERE relkind IN ('r', 'p', 'm', 'S') AND nspname !~ '^pg_' AND nspname <> 'information_schema' ORDER BY 1",
    )
    .fetch_all(&mut owner)
    .await?;
    let mut state = String::new();
    for table in tables {
        let rows = format!(
            "SELECT '{table}: ' || coalesce(string_agg(row(t.*)::text, ',' ORDER BY row(t.*)::text), '') FROM {table} t"
        );
        let rows: String = sqlx::query_scalar(AssertSqlSafe(rows))
            .fetch_one(&mut owner)
            .await?;
        state.push_str(&rows);
        state.push('\n');
    }
    // Definitions, rights, roles, settings, large objects, locks, prepared transactions.
    for what in [
        "SELECT string_agg(concat_ws(' ', oid::regclass, relkind, relowner, relacl, pg_get_viewdef(oid)), ',' ORDER BY oid) FROM pg_class \
         WHERE relnamespace::regnamespace::text !~ '^pg_(toast|temp)'",
        "SELECT string_agg(concat_ws(' ', nspname, nspowner, nspacl), ',' ORDER BY oid) FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp'",
        "SELECT string_agg(concat_ws(' ', oid::regprocedure, proacl, prosrc), ',' ORDER BY oid) FROM pg_proc WHERE pronamespace::regnamespace::text ~ 'sqlonfhir|public'",
        "SELECT string_agg(a::text, ',' ORDER BY oid) FROM pg_authid a",
        "SELECT string_agg(m::text, ',' ORDER BY m::text) FROM pg_auth_members m",
        "SELECT string_agg(s::text, ',' ORDER BY s::text) FROM pg_db_role_setting s",
        "SELECT string_agg(d::text, ',' ORDER BY oid) FROM (SELECT oid, datname, datdba, datacl FROM pg_database) d",
        "SELECT string_agg(concat_ws('=', name, setting), ',' ORDER BY name) FROM pg_settings WHERE source NOT IN ('session', 'client')",
        "SELECT string_agg(concat_ws(' ', extname, extversion), ',' ORDER BY extname) FROM pg_extension",
        "SELECT count(*)::text FROM pg_largeobject_metadata",
        "SELECT count(*)::text FROM pg_locks WHERE locktype = 'advisory' AND objid IN (1, 2) AND mode !~ 'Share' AND classid = 0",
        "SELECT count(*)::text FROM pg_prepared_xacts",
    ] {
        let value: Option<String> = sqlx::query_scalar(AssertSqlSafe(what.to_owned()))
            .fetch_one(&mut owner)
            .await?;
        state.push_str(&value.unwrap_or_default());
        state.push('\n');
    }
    let conf = std::fs::read_to_string(server.folder().join("data/postgresql.auto.conf"))?;
    let file = Path::new(FILE).try_exists()?;
    let _ = write!(state, "{conf}\n{file}");
    Ok(state)
}

/// A server of the test's own, and a gateway on it whose statements may not work for long.
async fn arrange() -> anyhow::Result<(Postgres, Fixture)> {
    let server = server().await?;
    server
        .execute(
            "postgres",
            "CREATE ROLE analyst LOGIN IN ROLE researchflow_reader",
        )
        .await?;
    let bounds = |config: &mut Config| {
        config.sql.timeout_seconds = TIMEOUT;
        config.sql.max_bytes = 1_000_000;
        config.sql.max_rows = 10_000;
        // Nothing that is merged changes the tables meanwhile.
        config.use_speed_layer = false;
    };
    let fixture = Fixture::on(&server, &three(), bounds).await?;
    Ok((server, fixture))
}

#[tokio::test]
async fn hostile_texts_are_refused_or_harmless() -> anyhow::Result<()> {
    let (server, fixture) = arrange().await?;
    let texts = texts();
    assert!(texts.len() >= 200, "{} texts", texts.len());
    let before = state(&server, &fixture.owner_url).await?;
    for (fate, text) in &texts {
        let start = Instant::now();
        let answered = tokio::time::timeout(ENDED, fixture.gateway.sql(statement(text))).await;
        let shown: String = text.chars().take(200).collect();
        let answered = answered.unwrap_or_else(|_| panic!("it goes on and on: {shown}"));
        assert!(start.elapsed() < ENDED, "{shown}");
        match (fate, answered) {
            (Fate::Refused, Ok(answer)) => panic!("answered with {} rows: {shown}", answer.rows.len()),
            (Fate::Harmless, Ok(_)) => {}
            (_, Err(status)) => {
                let bounds = [Code::ResourceExhausted, Code::DeadlineExceeded];
                let good = status.code() == Code::InvalidArgument
                    || (bounds.contains(&status.code()) && (*fate == Fate::Harmless || text.len() > 2_000));
                assert!(good, "{shown}: {status}");
                // Neither the text nor what PostgreSQL makes of it comes back.
                for quoted in ["passwd", "DROP", "Smith"] {
                    assert!(!status.message().contains(quoted), "{shown}: {status}");
                }
            }
        }
    }
    assert_eq!(state(&server, &fixture.owner_url).await?, before);
    // It is as ready as before.
    let count = fixture
        .gateway
        .sql(statement("SELECT count(*) FROM conditions"))
        .await?;
    assert_eq!(count.rows.len(), 1);
    Ok(())
}

/// The check left out: what is left are a reader's rights, a read-only transaction that is rolled back, and a time-out. Once by a login that is a reader, and
/// once by the gateway's own in the role of a reader.
#[tokio::test]
async fn hostile_texts_do_no_harm_where_they_are_not_checked() -> anyhow::Result<()> {
    let (server, fixture) = arrange().await?;
    let before = state(&server, &fixture.owner_url).await?;
    let mut readers = Vec::new();
    let database = fixture.owner_url.rsplit('/').next().unwrap_or_default();
    for (login, set_role) in [("analyst", false), ("gateway", true)] {
        let reader = SqlReader::new(SqlSettings {
            url: server.url_as(login, "", database),
            set_role,
            max_connections: u32::try_from(AT_ONCE)?,
            timeout: TIMEOUT,
            max_bytes: 1_000_000,
        })?;
        // A text with a NUL is none for the protocol.
        let texts = texts()
            .into_iter()
            .map(|(_, text)| text)
            .filter(|text| !text.contains('\0'));
        let both = texts.flat_map(|text| {
            // One large value would come here as it stands: it is the select around a statement that keeps it back.
            let large = text.contains("000000)") || text.contains("000000s");
            [false, true]
                .into_iter()
                .skip(usize::from(large))
                .map(move |wrapped| (text.clone(), wrapped))
        });
        let outcomes: Vec<bool> = futures::stream::iter(both)
            .map(|(text, wrapped)| {
                let reader = &reader;
                async move {
                    let shown: String = text.chars().take(200).collect();
                    let ended = tokio::time::timeout(ENDED, unchecked(reader, &text, wrapped)).await;
                    let Ok(outcome) = ended else {
                        panic!("it goes on and on: {shown}")
                    };
                    if let Err(SqlError::NotAReader(what)) = outcome {
                        panic!("{login}: {what}: {shown}");
                    }
                    outcome.is_ok()
                }
            })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        let run = outcomes.iter().filter(|run| **run).count();
        let refused = outcomes.len() - run;
        assert!(run > 50 && refused > 200, "{run} ran, {refused} were refused");
        // What a text has left in its session, whoever comes next does not find.
        let mut snapshot = reader.snapshot(SqlLayer::Merged, &["conditions".into()]).await?;
        assert_eq!(snapshot.freshness(&["conditions".into()]).await?.len(), 1);
        let refused = snapshot
            .run_unchecked("DELETE FROM sqlonfhir_base.conditions")
            .await;
        assert!(matches!(refused, Err(SqlError::Refused { sqlstate, .. }) if sqlstate == "42501"));
        // Each guard is there by itself: a division by zero where it is not.
        let begun = Instant::now();
        for guard in [
            "current_setting('transaction_read_only') = 'on'",
            "current_setting('transaction_isolation') = 'repeatable read'",
            "current_setting('statement_timeout') = '250ms'",
            "current_setting('standard_conforming_strings') = 'on'",
            "current_setting('search_path') = 'sqlonfhir, pg_temp'",
            "NOT has_schema_privilege('sqlonfhir_base', 'USAGE')",
            "pg_has_role('researchflow_reader', 'MEMBER') AND NOT pg_has_role('researchflow_merger', 'USAGE')",
        ] {
            let holds = loop {
                let mut snapshot = reader.snapshot(SqlLayer::Merged, &[]).await?;
                let guarded = format!("SELECT 1 / ({guard})::int");
                match snapshot.run_unchecked(&guarded).await {
                    // A machine that is busy needs longer than the texts are given.
                    Err(SqlError::TimedOut) if begun.elapsed() < PATIENCE => {}
                    holds => break holds,
                }
            };
            assert!(holds.is_ok(), "{login}: {guard}: {holds:?}");
        }
        // What is too large does not come here at all.
        let large = unchecked(&reader, "SELECT repeat('x', 5000000)", true).await;
        assert!(matches!(large, Err(SqlError::ValueTooLarge)), "{large:?}");
        // Not closed before the state is looked at: what they hold would go with them.
        readers.push(reader);
    }
    assert_eq!(state(&server, &fixture.owner_url).await?, before);
    Ok(())
}

/// As it stands, or as statements are run.
async fn unchecked(reader: &SqlReader, text: &str, wrapped: bool) -> Result<(), SqlError> {
    let mut snapshot = reader.snapshot(SqlLayer::Merged, &[]).await?;
    if !wrapped {
        return snapshot.run_unchecked(text).await.map(|_| ());
    }
    let select = SqlSelect {
        text: text.to_owned(),
        places: Vec::new(),
        arguments: Vec::new(),
        limit: 10_001,
    };
    let prepared = snapshot.prepare(&select).await?;
    let mut rows = snapshot.rows(prepared);
    while let Some(row) = rows.next().await {
        row?;
    }
    Ok(())
}
