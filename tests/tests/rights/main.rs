//! Least rights: what each login may do is asked of PostgreSQL's catalogues, right by right, and tried; and everything works with no more.

use std::time::Duration;

use anyhow::Context as _;
use api::proto::batch::{RefreshKind, RunViewRequest, VerifyRequest, run_view_request::View};
use api::proto::serving::SqlRequest;
use e2e::ask::{Reader, rows_where};
use e2e::ground::Ground;
use e2e::house::{asker, versions_of};
use e2e::operate::Operator;
use e2e::process::Daemon;
use e2e::{rights, tables};
use sqlx::{Connection as _, PgConnection};
use tonic::Code;

/// By when a busy machine has done what takes milliseconds.
const SOON: Duration = Duration::from_secs(30);

/// What a login may do with these tables of HAPI's, and no others.
const HAPI: &[&str] = &[
    "CONNECT on the database hapi",
    // It owns the views' database.
    "CONNECT on the database views",
    "CREATE on the database views",
    "TEMPORARY on the database views",
    "the role pg_read_all_stats",
    "EXECUTE on pg_export_snapshot",
    "SELECT on public.hfj_forced_id",
    "SELECT on public.hfj_history_tag",
    "SELECT on public.hfj_partition",
    "SELECT on public.hfj_res_link",
    "SELECT on public.hfj_res_tag",
    "SELECT on public.hfj_res_ver",
    "SELECT on public.hfj_res_ver_prov",
    "SELECT on public.hfj_resource",
    "SELECT on public.hfj_tag_def",
];

const READER: &[&str] = &[
    "CONNECT on the database views",
    "the role researchflow_reader",
    "USAGE on the schema sqlonfhir",
    "USAGE on the schema sqlonfhir_batch",
    "SELECT on sqlonfhir.errors",
    "SELECT on sqlonfhir.freshness",
    "SELECT on sqlonfhir.patient_versions",
    "SELECT on sqlonfhir_batch.patient_versions",
    // It counts rows, for the view freshness; its schema is closed, so that it cannot be called by name.
    "EXECUTE on sqlonfhir_meta.live_rows(text)",
];

const MERGER: &[&str] = &[
    "CONNECT on the database views",
    // For rows that a question gives.
    "TEMPORARY on the database views",
    "the role researchflow_merger",
    "USAGE on the schema sqlonfhir",
    "USAGE on the schema sqlonfhir_base",
    "USAGE on the schema sqlonfhir_batch",
    "USAGE on the schema sqlonfhir_live",
    "USAGE on the schema sqlonfhir_meta",
    "USAGE on the schema sqlonfhir_shadowed",
    "SELECT on sqlonfhir.errors",
    "SELECT on sqlonfhir.freshness",
    "SELECT on sqlonfhir.patient_versions",
    "SELECT on sqlonfhir_batch.patient_versions",
    "SELECT on sqlonfhir_base.patient_versions",
    "DELETE on sqlonfhir_base.patient_versions",
    "SELECT on sqlonfhir_live.patient_versions",
    "INSERT on sqlonfhir_live.patient_versions",
    "DELETE on sqlonfhir_live.patient_versions",
    "SELECT on sqlonfhir_shadowed.patient_versions",
    "INSERT on sqlonfhir_shadowed.patient_versions",
    "SELECT on sqlonfhir_meta.error",
    "INSERT on sqlonfhir_meta.error",
    "UPDATE on sqlonfhir_meta.error",
    "DELETE on sqlonfhir_meta.error",
    "SELECT on sqlonfhir_meta.ledger",
    "INSERT on sqlonfhir_meta.ledger",
    "UPDATE on sqlonfhir_meta.ledger",
    "SELECT on sqlonfhir_meta.migration",
    "SELECT on sqlonfhir_meta.registry",
    "SELECT on sqlonfhir_meta.resource_type",
    "UPDATE on a column of sqlonfhir_meta.resource_type",
    "SELECT on sqlonfhir_meta.view",
    "EXECUTE on pg_advisory_lock",
    "EXECUTE on pg_advisory_lock_shared",
    "EXECUTE on pg_advisory_xact_lock",
    "EXECUTE on pg_advisory_xact_lock_shared",
    "EXECUTE on pg_try_advisory_lock",
    "EXECUTE on pg_try_advisory_lock_shared",
    "EXECUTE on pg_try_advisory_xact_lock",
    "EXECUTE on pg_try_advisory_xact_lock_shared",
    "EXECUTE on sqlonfhir_meta.live_rows(text)",
];

async fn holds(url: &str, expected: &[&str]) -> anyhow::Result<()> {
    let held = rights::held(&mut PgConnection::connect(url).await?).await?;
    let mut expected: Vec<String> = expected.iter().map(|right| (*right).to_owned()).collect();
    expected.sort();
    assert_eq!(held, expected);
    Ok(())
}

async fn version(ground: &Ground, id: &str, version: i64) -> anyhow::Result<()> {
    let mut hapi = ground.hapi.acquire().await?;
    let found = tables::find(&mut hapi, id).await?;
    let written = tables::Version {
        resource_type: "Patient",
        id,
        version,
        updated: tables::now(&mut hapi).await?,
        stored: Some(r#"{"resourceType":"Patient","active":true}"#),
    };
    tables::write(&mut hapi, found.map(|(res_id, _)| res_id), &written).await
}

/// Tables that HAPI has besides, and what else could be written in its database.
const BESIDES: &str = "CREATE TABLE hfj_search (pid bigint); CREATE TABLE hfj_spidx_string (sp_id bigint, sp_value_exact text); \
    CREATE SEQUENCE seq_resource_id; CREATE VIEW of_patients AS SELECT * FROM hfj_resource; SELECT lo_from_bytea(4711, 'x')";

#[tokio::test]
async fn hapis_tables_are_read_and_nothing_else_is_done_there() -> anyhow::Result<()> {
    let ground = Ground::start(&[versions_of("Patient", &[])]).await?;
    sqlx::raw_sql(BESIDES).execute(&ground.hapi).await?;
    version(&ground, "a", 1).await?;
    let (hapi, refresher) = (ground.url_as("hapi", "hapi"), ground.url_as("refresher", "hapi"));
    let expected: Vec<&str> = [HAPI, &["EXECUTE on lo_get"]].concat();
    holds(&refresher, &expected).await?;

    let mut deeds = rights::deeds_of_administrators();
    deeds.retain(|deed| !deed.contains("pg_export_snapshot"));
    deeds.extend(rights::deeds_on_relations(&hapi).await?);
    deeds.extend(
        [
            "SELECT * FROM hfj_search",
            "TABLE of_patients",
            "SELECT lo_get(4711)",
            "SELECT lo_put(4711, 0, 'y')",
            "SELECT lo_unlink(4711)",
        ]
        .map(str::to_owned),
    );
    assert_eq!(
        rights::not_refused(&refresher, &deeds).await?,
        Vec::<String>::new()
    );

    // With that it does all that it is asked for, and says nothing of its rights.
    let mut batch = ground.batch("a", &[]).await?;
    whole_layer(&batch).await?;
    assert_eq!(excess(&batch).await?, [Some(0), Some(0)]);
    assert!(!batch.log().contains("hapi-reader.sql"), "{}", batch.log());

    // What is granted beyond is told and counted; the script takes it away.
    sqlx::raw_sql("GRANT UPDATE (res_updated), INSERT ON hfj_resource TO refresher; GRANT SELECT ON hfj_search TO refresher; GRANT SELECT (sp_id) ON hfj_spidx_string TO refresher; GRANT USAGE ON seq_resource_id TO refresher")
        .execute(&ground.hapi)
        .await?;
    batch.restart().await?;
    let log = batch.log();
    let told = log
        .lines()
        .find(|line| line.contains("WARN") && line.contains("hapi-reader.sql"));
    let told = told.context("a warning")?;
    assert!(
        told.contains("writing to hfj_resource, writing to seq_resource_id"),
        "{told}"
    );
    assert!(
        log.contains("reading hfj_search, reading hfj_spidx_string"),
        "{log}"
    );
    assert_eq!(excess(&batch).await?, [Some(2), Some(2)]);
    ground
        .postgres
        .execute(
            "hapi",
            "ALTER ROLE refresher CREATEROLE; GRANT pg_write_all_data TO refresher",
        )
        .await?;
    batch.restart().await?;
    // By that role it may write to all of the database's ten tables more.
    assert!(excess(&batch).await?[0] > Some(10), "{:?}", excess(&batch).await?);
    ground
        .postgres
        .execute(
            "hapi",
            "ALTER ROLE refresher NOCREATEROLE; REVOKE pg_write_all_data FROM refresher",
        )
        .await?;
    rights::run_sql(
        &ground.postgres,
        "hapi",
        "hapi-reader.sql",
        &[("reader", "refresher"), ("hapi", "hapi")],
    )?;
    holds(&refresher, &expected).await?;
    batch.restart().await?;
    assert_eq!(excess(&batch).await?, [Some(0), Some(0)]);

    // A table that HAPI makes anew is granted as it is made.
    sqlx::raw_sql("DROP TABLE hfj_partition; CREATE TABLE hfj_partition (part_id integer NOT NULL); CREATE TABLE hfj_subscription_stats (pid bigint)")
        .execute(&ground.hapi)
        .await?;
    holds(&refresher, &expected).await?;

    // What is missing ends the start, with what to do.
    sqlx::raw_sql("REVOKE SELECT ON hfj_history_tag FROM refresher")
        .execute(&ground.hapi)
        .await?;
    let ended = format!("{:#}", batch.restart().await.expect_err("a right is missing"));
    assert!(ended.contains("ended early"), "{ended}");
    assert!(
        batch
            .log()
            .contains("may not read hfj_history_tag: run deploy/sql/hapi-reader.sql"),
        "{}",
        batch.log()
    );
    Ok(())
}

/// `researchflow_batch_hapi_excess_rights`, of writing and of reading.
async fn excess(batch: &Daemon) -> anyhow::Result<[Option<i64>; 2]> {
    let metrics = batch.metrics().await?;
    Ok(["Write", "Read"].map(|kind| {
        let name = format!("researchflow_batch_hapi_excess_rights{{kind=\"{kind}\"}} ");
        let line = metrics.lines().find_map(|line| line.strip_prefix(&name))?;
        line.parse().ok()
    }))
}

/// Everything that batch-refresher reads HAPI for. (The tests of the batch layer do the same with a login that has these rights, in depth.)
async fn whole_layer(batch: &Daemon) -> anyhow::Result<()> {
    let operator = Operator::connect(&batch.address("grpc")?).await?;
    operator.all_active(SOON).await?;
    for kind in [RefreshKind::Incremental, RefreshKind::Full] {
        operator.refresh(&["Patient"], kind).await?;
    }
    let mut client = operator.client.clone();
    let ran = RunViewRequest {
        view: Some(View::DefinitionJson(versions_of("Patient", &[]).to_string())),
        ..RunViewRequest::default()
    };
    let mut rows = client.run_view(ran).await?.into_inner();
    while rows.message().await?.is_some() {}
    let mut verified = client.verify(VerifyRequest::default()).await?.into_inner();
    while verified.message().await?.is_some() {}
    Ok(())
}

#[tokio::test]
async fn readers_and_mergers_do_what_they_are_for_and_nothing_else() -> anyhow::Result<()> {
    let ground = Ground::start(&[versions_of("Patient", &[])]).await?;
    version(&ground, "a", 1).await?;
    let batch = ground.batch("a", &[]).await?;
    let batch_grpc = batch.address("grpc")?;
    Operator::connect(&batch_grpc).await?.all_active(SOON).await?;
    let speed = ground.speed("a", &batch_grpc, &[]).await?;
    let serving = ground
        .serving("a", &batch_grpc, &speed.address("grpc")?, &[])
        .await?;
    let (gateway, analyst, owner) = (
        ground.url_as("gateway", "views"),
        ground.url_as("analyst", "views"),
        ground.url_as("refresher", "views"),
    );

    // A live change comes through all layers, and is seen by both logins that answer.
    let mut person = Reader::connect(&analyst).await?;
    version(&ground, "a", 2).await?;
    let shown = "SELECT version FROM sqlonfhir.patient_versions WHERE id = 'a'";
    person.until(shown, SOON, |version| version == Some("2")).await?;
    let asker = asker(&serving).await?;
    assert_eq!(
        asker
            .ask(rows_where("patient_versions", "id", "a"))
            .await?
            .text(0, "version"),
        "2"
    );
    assert_eq!(
        person
            .value("SELECT version FROM sqlonfhir_batch.patient_versions")
            .await?
            .as_deref(),
        Some("1")
    );
    assert_eq!(
        person
            .value("SELECT live_rows FROM sqlonfhir.freshness")
            .await?
            .as_deref(),
        Some("1")
    );

    holds(&analyst, READER).await?;
    holds(&gateway, MERGER).await?;

    let mut deeds = rights::deeds_of_administrators();
    deeds.extend(rights::deeds_on_relations(&owner).await?);
    for (schema, table) in hidden(&owner).await? {
        deeds.push(format!("SELECT 1 FROM {schema}.{table}"));
    }
    deeds.push("SELECT sqlonfhir_meta.live_rows('patient_versions')".to_owned());
    assert_eq!(rights::not_refused(&analyst, &deeds).await?, Vec::<String>::new());
    let settings: Vec<String> = sqlx::query_scalar(
        "SELECT format('SET %I = %L', name, setting) FROM pg_settings WHERE context NOT IN ('user', 'backend') AND name NOT LIKE 'plpgsql.%' ORDER BY 1",
    )
    .fetch_all(person.connection())
    .await?;
    assert!(settings.len() > 100, "{}", settings.len());
    assert_eq!(
        rights::not_refused(&analyst, &settings).await?,
        Vec::<String>::new()
    );

    // What others ask is not shown, and no other database is open.
    let texts = "SELECT count(*) FILTER (WHERE query <> '<insufficient privilege>') || ' of ' || count(*) FROM pg_stat_activity WHERE usename <> current_user";
    let texts = person.value(texts).await?.unwrap_or_default();
    assert!(texts.starts_with("0 of ") && texts != "0 of 0", "{texts}");
    for database in ["hapi", "postgres", "template1"] {
        let refused = PgConnection::connect(&ground.url_as("analyst", database)).await;
        let refused = refused
            .err()
            .with_context(|| format!("{database} is open"))?
            .to_string();
        assert!(refused.contains("permission denied for database"), "{refused}");
    }

    // The merger neither defines, publishes nor numbers.
    let foreign: Vec<String> = [
        "UPDATE sqlonfhir_meta.reading SET n = n + 1",
        "UPDATE sqlonfhir_meta.resource_type SET published_n = 99",
        "UPDATE sqlonfhir_meta.view SET state = 'error'",
        "DELETE FROM sqlonfhir_meta.ledger",
        "INSERT INTO sqlonfhir_meta.resource_type (type) VALUES ('Device')",
        "INSERT INTO sqlonfhir_base.patient_versions DEFAULT VALUES",
        "UPDATE sqlonfhir_base.patient_versions SET version = '9'",
        "DELETE FROM sqlonfhir_shadowed.patient_versions",
        "TRUNCATE sqlonfhir_live.patient_versions",
        "DROP VIEW sqlonfhir.patient_versions",
        "TABLE sqlonfhir_meta.load",
        "TABLE sqlonfhir_meta.schedule",
        "SET ROLE refresher",
        "SELECT lo_create(0)",
        "COPY (SELECT 1) TO PROGRAM 'true'",
    ]
    .map(str::to_owned)
    .into();
    assert_eq!(
        rights::not_refused(&gateway, &foreign).await?,
        Vec::<String>::new()
    );

    no_function_by_sql(&serving, &mut person).await
}

/// Tables of the schemas that readers have no business in.
async fn hidden(owner: &str) -> anyhow::Result<Vec<(String, String)>> {
    let mut owner = PgConnection::connect(owner).await?;
    Ok(sqlx::query_as(
        "SELECT nspname::text, quote_ident(relname) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace \
         WHERE relkind = 'r' AND nspname ~ '^sqlonfhir_(base|live|shadowed|meta|stage)$'",
    )
    .fetch_all(&mut owner)
    .await?)
}

/// Of PostgreSQL's functions none that does more than compute can be called by `Sql`, whatever the login may.
async fn no_function_by_sql(serving: &Daemon, person: &mut Reader) -> anyhow::Result<()> {
    let functions: Vec<(String, String)> = sqlx::query_as(
        "SELECT DISTINCT proname::text, array_to_string(array_fill('NULL'::text, ARRAY[pronargs::int]), ', ') FROM pg_catalog.pg_proc \
         WHERE provolatile = 'v' AND prokind = 'f' ORDER BY 1",
    )
    .fetch_all(person.connection())
    .await?;
    assert!(functions.len() > 200, "{}", functions.len());
    let mut client = asker(serving).await?.client;
    let mut called = Vec::new();
    for (name, arguments) in functions {
        let asked = SqlRequest {
            statement: format!("SELECT \"{name}\"({arguments})"),
            ..SqlRequest::default()
        };
        let refused = match client.sql(asked).await {
            Ok(mut answer) => answer.get_mut().message().await.err(),
            Err(status) => Some(status),
        };
        if refused.is_none_or(|status| status.code() != Code::InvalidArgument) {
            called.push(name);
        }
    }
    // Time and chance.
    assert_eq!(called, ["clock_timestamp", "gen_random_uuid", "random"]);
    Ok(())
}

/// What an earlier release granted beyond it is taken back at the start.
#[tokio::test]
async fn a_start_takes_back_what_mergers_need_not() -> anyhow::Result<()> {
    let ground = Ground::start(&[versions_of("Patient", &[])]).await?;
    let mut batch = ground.batch("a", &[]).await?;
    Operator::connect(&batch.address("grpc")?)
        .await?
        .all_active(SOON)
        .await?;
    let mut owner = PgConnection::connect(&ground.url_as("refresher", "views")).await?;
    let earlier = "GRANT ALL ON ALL TABLES IN SCHEMA sqlonfhir_base, sqlonfhir_live, sqlonfhir_shadowed, sqlonfhir_meta TO researchflow_merger";
    sqlx::raw_sql(earlier).execute(&mut owner).await?;
    batch.restart().await?;
    holds(&ground.url_as("gateway", "views"), MERGER).await
}
