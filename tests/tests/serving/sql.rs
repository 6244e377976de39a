//! Questions in SQL: right answers, types, parameters, freshness, layers, bounds.

use std::time::Duration;

use anyhow::Context as _;
use api::proto::serving::{
    DegradationReason as Reason, FreshnessDemand, GetStatisticsRequest, Layers, QueryFooter, QueryHeader,
    ResourceVersion, SqlRequest, Value, ValueList, sql_response::Part, value::Kind,
};
use chrono::TimeDelta;
use e2e::ask::text;
use e2e::deadline;
use e2e::postgres::until_true;
use fhir_core::view::CompiledView;
use futures::StreamExt as _;
use serving_gateway::Config;
use sqlx::{Connection as _, PgConnection};
use tonic::Code;

use crate::fakes::PATIENCE;
use crate::fixture::{
    CONDITION, Fixture, Gateway, condition, join, join_type, mark, now, put, server, three,
};

/// A whole answer.
#[derive(Debug, Default)]
pub(crate) struct SqlAnswer {
    pub(crate) header: QueryHeader,
    pub(crate) rows: Vec<Vec<Option<Kind>>>,
    pub(crate) footer: QueryFooter,
    pub(crate) plan: String,
}

impl SqlAnswer {
    /// The rows as text, a line each.
    fn lines(&self) -> Vec<String> {
        let line = |row: &Vec<Option<Kind>>| {
            let cells = row.iter().map(|kind| text(&Value { kind: kind.clone() }));
            cells.collect::<Vec<_>>().join("|")
        };
        self.rows.iter().map(line).collect()
    }
}

impl Gateway {
    pub(crate) async fn sql(
        &self,
        request: impl tonic::IntoRequest<SqlRequest>,
    ) -> Result<SqlAnswer, tonic::Status> {
        let mut stream = self.client.clone().sql(request).await?.into_inner();
        let mut answer = SqlAnswer::default();
        let mut ended = false;
        while let Some(message) = stream.message().await? {
            match message.part {
                Some(Part::Header(header)) => answer.header = header,
                Some(Part::Rows(batch)) => answer.rows.extend(
                    batch
                        .rows
                        .into_iter()
                        .map(|row| row.values.into_iter().map(|value| value.kind).collect::<Vec<_>>()),
                ),
                Some(Part::Plan(plan)) => answer.plan = plan,
                Some(Part::Footer(footer)) => (answer.footer, ended) = (footer, true),
                None => {}
            }
        }
        assert!(ended, "an answer ends with its footer");
        Ok(answer)
    }
}

pub(crate) fn statement(text: &str) -> SqlRequest {
    SqlRequest {
        statement: text.into(),
        ..Default::default()
    }
}

fn value(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}

fn with(text: &str, values: &[Value]) -> SqlRequest {
    SqlRequest {
        parameters: values.to_vec(),
        ..statement(text)
    }
}

fn texts(values: &[&str]) -> Value {
    let values = values.iter().map(|text| value(Kind::Text((*text).into())));
    value(Kind::List(ValueList {
        values: values.collect(),
    }))
}

async fn lines(fixture: &Fixture, request: SqlRequest) -> Vec<String> {
    match fixture.gateway.sql(request.clone()).await {
        Ok(answer) => answer.lines(),
        Err(status) => panic!("{}: {status}", request.statement),
    }
}

async fn refused(fixture: &Fixture, request: SqlRequest, code: Code) -> String {
    let status = fixture
        .gateway
        .sql(request.clone())
        .await
        .expect_err(&request.statement);
    assert_eq!(status.code(), code, "{}: {status}", request.statement);
    status.message().to_owned()
}

#[tokio::test]
async fn statements_are_answered_from_the_views() -> anyhow::Result<()> {
    let fixture = Fixture::over(&three()).await?;
    let all = |text: &'static str| lines(&fixture, statement(text));
    assert_eq!(
        all("SELECT patient_id, count(*), max(severity) FROM conditions GROUP BY 1 ORDER BY 1").await,
        ["Patient/p-1|2|10", "Patient/p-2|1|2.0"].map(|line| line.replace("Patient/", ""))
    );
    assert_eq!(
        all("WITH a AS (SELECT * FROM conditions WHERE code = '100') \
             SELECT c.id, row_number() OVER (ORDER BY c.id) FROM conditions c JOIN a USING (id); -- done")
        .await,
        ["c-1|1", "c-3|2"]
    );
    assert_eq!(
        all("SELECT c.id FROM conditions c ORDER BY c.severity DESC").await,
        ["c-2", "c-3", "c-1"]
    );
    assert_eq!(
        all("SELECT view, state FROM sqlonfhir.freshness").await,
        ["conditions|active"]
    );
    assert_eq!(all("VALUES (1, 'a'), (2, NULL)").await, ["1|a", "2|"]);
    // Two columns of one name, and none.
    assert_eq!(all("SELECT 1 AS a, 2 AS a").await, ["1|2"]);
    assert_eq!(all("SELECT FROM conditions").await, ["", "", ""]);
    // Aggregates of nothing, an empty answer: the columns are there all the same.
    let none = fixture
        .gateway
        .sql(statement("SELECT id, severity FROM conditions WHERE false"))
        .await?;
    let columns = none
        .header
        .columns
        .iter()
        .map(|c| (c.name.as_str(), c.sql_type.as_str()));
    assert_eq!(
        columns.collect::<Vec<_>>(),
        [("id", "text"), ("severity", "numeric")]
    );
    assert_eq!((none.rows.len(), none.footer.row_count), (0, 0));
    // A view that has come since.
    put(&fixture.owner, "later").await?;
    join(&fixture.owner, 9, &three()).await?;
    assert_eq!(all("SELECT count(*) FROM later").await, ["3"]);
    Ok(())
}

#[tokio::test]
async fn values_are_of_their_types() -> anyhow::Result<()> {
    let fixture = Fixture::over(&three()).await?;
    for (expression, sql_type, kind) in [
        ("true", "boolean", Some(Kind::Boolean(true))),
        ("7::smallint", "smallint", Some(Kind::Integer(7))),
        ("7", "integer", Some(Kind::Integer(7))),
        ("9000000000", "bigint", Some(Kind::Integer(9_000_000_000))),
        ("7.10", "numeric", Some(Kind::Decimal("7.10".into()))),
        ("'NaN'::numeric", "numeric", Some(Kind::Decimal("NaN".into()))),
        ("0.1::real", "real", Some(Kind::Decimal("0.1".into()))),
        (
            "1.5::float8",
            "double precision",
            Some(Kind::Decimal("1.5".into())),
        ),
        ("'Zoë'", "text", Some(Kind::Text("Zoë".into()))),
        (
            "'a'::varchar(9)",
            "character varying",
            Some(Kind::Text("a".into())),
        ),
        ("date '2026-01-31'", "date", Some(Kind::Text("2026-01-31".into()))),
        ("'infinity'::date", "date", Some(Kind::Text("infinity".into()))),
        (
            "time '24:00'",
            "time without time zone",
            Some(Kind::Text("24:00:00".into())),
        ),
        (
            "interval '1 day 2 hours'",
            "interval",
            Some(Kind::Text("P1DT2H".into())),
        ),
        (
            "'00000000-0000-0000-0000-000000000001'::uuid",
            "uuid",
            Some(Kind::Text("00000000-0000-0000-0000-000000000001".into())),
        ),
        (
            "'{\"a\": 1.10}'::jsonb",
            "jsonb",
            Some(Kind::Json("{\"a\": 1.10}".into())),
        ),
        (
            "'{\"a\":1.10}'::json",
            "json",
            Some(Kind::Json("{\"a\":1.10}".into())),
        ),
        ("'\\x00ff'::bytea", "bytea", Some(Kind::Text("\\x00ff".into()))),
        (
            "daterange('2026-01-01', NULL)",
            "daterange",
            Some(Kind::Text("[2026-01-01,)".into())),
        ),
        ("NULL", "text", None),
        ("row(1, 'a')", "record", Some(Kind::Text("(1,a)".into()))),
        (
            "ARRAY['a', NULL]",
            "text[]",
            Some(Kind::List(ValueList {
                values: vec![value(Kind::Text("a".into())), Value::default()],
            })),
        ),
        (
            "ARRAY[[1, 2], [3, 4]]",
            "integer[]",
            Some(Kind::List(ValueList {
                values: [[1, 2], [3, 4]]
                    .map(|row| {
                        value(Kind::List(ValueList {
                            values: row.map(|v| value(Kind::Integer(v))).to_vec(),
                        }))
                    })
                    .to_vec(),
            })),
        ),
        (
            "ARRAY['00000000-0000-0000-0000-000000000001'::uuid]",
            "uuid[]",
            Some(Kind::List(ValueList {
                values: vec![value(Kind::Text("00000000-0000-0000-0000-000000000001".into()))],
            })),
        ),
    ] {
        let answer = fixture
            .gateway
            .sql(statement(&format!("SELECT {expression} AS c")))
            .await?;
        assert_eq!(answer.rows, [[kind]], "{expression}");
        assert_eq!(answer.header.columns[0].sql_type, sql_type, "{expression}");
    }
    let at = fixture
        .gateway
        .sql(statement("SELECT '2026-01-31T00:00:00.5Z'::timestamptz"))
        .await?;
    assert!(matches!(&at.rows[0][0], Some(Kind::Timestamp(at)) if at.nanos == 500_000_000));
    // What the view's own columns are in Query's answers, they are here.
    let by_query = fixture.ask(crate::fixture::all()).await?;
    let by_sql = fixture.gateway.sql(statement("SELECT * FROM conditions")).await?;
    let sorted = |mut rows: Vec<Vec<Option<Kind>>>| {
        rows.sort_by_key(|row| format!("{row:?}"));
        rows
    };
    assert_eq!(sorted(by_sql.rows), sorted(by_query.rows));
    Ok(())
}

#[tokio::test]
async fn parameters_are_bound_and_never_part_of_the_text() -> anyhow::Result<()> {
    let fixture = Fixture::over(&three()).await?;
    let ask = |text: &'static str, values: Vec<Value>| lines(&fixture, with(text, &values));
    let one = |kind| vec![value(kind)];
    let evil = "x' OR '1'='1'; DROP VIEW sqlonfhir.conditions; --";
    assert_eq!(ask("SELECT $1", one(Kind::Text(evil.into()))).await, [evil]);
    assert!(
        ask(
            "SELECT id FROM conditions WHERE code = $1",
            one(Kind::Text(evil.into()))
        )
        .await
        .is_empty()
    );
    let code = || one(Kind::Text("200".into()));
    assert_eq!(
        ask("SELECT id FROM conditions WHERE code = $1", code()).await,
        ["c-2"]
    );
    // A text is of the type that its place asks for; the others are of their own.
    for (text, kind) in [
        (
            "SELECT id FROM conditions WHERE severity > $1",
            Kind::Text("5".into()),
        ),
        ("SELECT id FROM conditions WHERE severity > $1", Kind::Integer(5)),
        (
            "SELECT id FROM conditions WHERE severity > $1",
            Kind::Decimal("5.00".into()),
        ),
        (
            "SELECT id FROM conditions WHERE date '2026-01-02' > $1 AND code = '200'",
            Kind::Text("2026-01-01".into()),
        ),
        (
            "SELECT id FROM conditions WHERE (code = '200') = $1",
            Kind::Boolean(true),
        ),
        (
            "SELECT id FROM conditions WHERE date '2026-01-02' - $1 = '2026-01-01' AND code = '200'",
            Kind::Integer(1),
        ),
        (
            "SELECT id FROM conditions WHERE '{\"a\": 1}'::jsonb @> $1 AND code = '200'",
            Kind::Json("{\"a\": 1}".into()),
        ),
        (
            "SELECT id FROM conditions ORDER BY severity DESC LIMIT $1",
            Kind::Integer(1),
        ),
        (
            "SELECT id FROM conditions WHERE code = '200' AND now() > $1",
            Kind::Timestamp(api::time::timestamp(now() - TimeDelta::days(1))),
        ),
    ] {
        assert_eq!(ask(text, one(kind)).await, ["c-2"], "{text}");
    }
    assert_eq!(
        ask(
            "SELECT id FROM conditions WHERE code = ANY ($1) ORDER BY 1",
            vec![texts(&["100", "x"])]
        )
        .await,
        ["c-1", "c-3"]
    );
    let numbers = value(Kind::List(ValueList {
        values: vec![value(Kind::Integer(2)), Value::default()],
    }));
    assert_eq!(
        ask(
            "SELECT id FROM conditions WHERE severity = ANY ($1)",
            vec![numbers]
        )
        .await,
        ["c-3"]
    );
    assert_eq!(
        ask("SELECT cardinality($1::int[])", vec![texts(&["1", "2"])]).await,
        ["2"]
    );
    assert_eq!(
        ask(
            "SELECT coalesce($1, 'none'), $2::int",
            vec![Value::default(), value(Kind::Text("7".into()))]
        )
        .await,
        ["none|7"]
    );

    // By name; a name is bound wherever it stands, and only where it is a parameter.
    let named = |text: &str, names: &[(&str, Kind)]| SqlRequest {
        named_parameters: names
            .iter()
            .map(|(name, kind)| ((*name).into(), value(kind.clone())))
            .collect(),
        ..statement(text)
    };
    let both = [
        ("code", Kind::Text("100".into())),
        ("Least", Kind::Decimal("1.9".into())),
    ];
    assert_eq!(
        lines(
            &fixture,
            named(
                "SELECT id, ':code', severity::text /* :x */ FROM conditions WHERE code=:code AND severity>:Least OR code=:code AND severity>:Least",
                &both
            )
        )
        .await,
        ["c-3|:code|2.0"]
    );
    let error = refused(
        &fixture,
        named("SELECT :code, :other", &both[..1]),
        Code::InvalidArgument,
    )
    .await;
    assert!(
        error.starts_with("statement: at character 15 (line 1, column 15)"),
        "{error}"
    );
    let error = refused(&fixture, named("SELECT :code", &both), Code::InvalidArgument).await;
    assert!(error.contains("Least"), "{error}");

    // Faults are told by the parameter, and never by its value.
    for (text, values) in [
        ("SELECT $1::int", one(Kind::Text("Smith".into()))),
        (
            "SELECT id FROM conditions WHERE severity > $1",
            one(Kind::Text("Smith".into())),
        ),
        (
            "SELECT id FROM conditions WHERE severity > $1",
            one(Kind::Decimal("Smith".into())),
        ),
        ("SELECT $1", one(Kind::Json("Smith".into()))),
        ("SELECT $1, $2", one(Kind::Text("Smith".into()))),
        ("SELECT 'Smith'", one(Kind::Text("Smith".into()))),
        ("SELECT $1", one(Kind::Text("Smith\0".into()))),
        ("SELECT $1 IS NULL, 'Smith'::int", one(Kind::Text("Smith".into()))),
    ] {
        let error = refused(&fixture, with(text, &values), Code::InvalidArgument).await;
        assert!(!error.contains("Smith"), "{error}");
    }
    Ok(())
}

#[tokio::test]
async fn rows_and_freshness_are_of_one_snapshot_and_of_the_layers_asked() -> anyhow::Result<()> {
    let fixture = Fixture::over(&three()).await?;
    put(&fixture.owner, "others").await?;
    join(&fixture.owner, 2, &three()).await?;
    let changed = condition("c-1", 2, "p-1", "101", "changed", "1");
    fixture.speed.round(CONDITION, vec![changed], mark(5));
    let code_of = "SELECT a.code, b.code FROM conditions a JOIN others b USING (id) WHERE id = 'c-1'";
    let merged = deadline::until("the change is merged", PATIENCE, || async {
        let answer = fixture.gateway.sql(statement(code_of)).await.ok()?;
        (answer.lines() == ["101|101"]).then_some(answer)
    })
    .await?;
    let freshness = merged.header.freshness.expect("freshness");
    assert!(freshness.speed_as_of.is_some() && freshness.as_of == freshness.speed_as_of);
    assert!(freshness.batch_as_of.is_some() && freshness.staleness.is_some());
    assert_eq!(freshness.view_state, "active");

    let demand = |layers: Layers| FreshnessDemand {
        layers: layers.into(),
        ..Default::default()
    };
    let of = |text: &str, demand: FreshnessDemand| SqlRequest {
        freshness: Some(demand),
        ..statement(text)
    };
    let batch = fixture.gateway.sql(of(code_of, demand(Layers::Batch))).await?;
    assert_eq!(batch.lines(), ["100|100"]);
    let freshness = batch.header.freshness.expect("freshness");
    assert!(freshness.speed_as_of.is_none() && freshness.as_of == freshness.batch_as_of);
    let reasons = freshness.degradations.iter().map(|one| one.reason());
    assert!(reasons.into_iter().any(|reason| reason == Reason::SpeedLayerOff));
    let qualified = "SELECT code FROM sqlonfhir_batch.conditions WHERE id = 'c-1'";
    assert_eq!(
        fixture
            .gateway
            .sql(of(qualified, demand(Layers::Batch)))
            .await?
            .lines(),
        ["100"]
    );
    refused(&fixture, statement(qualified), Code::InvalidArgument).await;
    refused(
        &fixture,
        of("SELECT * FROM sqlonfhir.conditions", demand(Layers::Batch)),
        Code::InvalidArgument,
    )
    .await;

    // As fresh as the least fresh view that it names: of another type no mark was applied.
    let text = r#"{"resourceType": "ViewDefinition", "name": "patients", "resource": "Patient", "status": "active",
        "select": [{"column": [{"name": "id", "path": "getResourceKey()"}]}]}"#;
    fixture
        .owner
        .put_view(&CompiledView::from_json(text)?, text, false)
        .await?;
    join_type(&fixture.owner, "Patient", 3, &[]).await?;
    let as_of = async |text: &str| -> anyhow::Result<_> {
        let freshness = fixture
            .gateway
            .sql(statement(text))
            .await?
            .header
            .freshness
            .context("freshness")?;
        Ok((
            freshness.as_of.context("as_of")?.seconds,
            freshness.speed_as_of.is_some(),
        ))
    };
    let (patients, conditions) = (as_of("TABLE patients").await?, as_of("TABLE conditions").await?);
    let both = as_of("SELECT * FROM conditions CROSS JOIN patients").await?;
    assert!(
        patients.0 + 5 < conditions.0 && conditions.1 && !patients.1,
        "{patients:?} {conditions:?}"
    );
    assert_eq!(both, patients);

    // Read your own write, through the pull.
    fixture.speed.at_pull(
        CONDITION,
        vec![condition("c-3", 4, "p-2", "104", "pulled", "1")],
        6,
    );
    let at_least = FreshnessDemand {
        at_least: vec![ResourceVersion {
            resource_type: CONDITION.into(),
            id: "c-3".into(),
            version: 4,
        }],
        ..Default::default()
    };
    let pulled = fixture
        .gateway
        .sql(of("SELECT code FROM conditions WHERE id = 'c-3'", at_least))
        .await?;
    assert_eq!(pulled.lines(), ["104"]);

    // Served or refused, never silently older; what names no view cannot be too old.
    let within = |span| FreshnessDemand {
        max_staleness: Some(api::time::duration(span)),
        layers: Layers::Batch.into(),
        ..Default::default()
    };
    refused(
        &fixture,
        of("SELECT 1 FROM conditions", within(TimeDelta::seconds(2))),
        Code::FailedPrecondition,
    )
    .await;
    fixture
        .gateway
        .sql(of("SELECT 1 FROM conditions", within(TimeDelta::hours(1))))
        .await?;
    let none = fixture
        .gateway
        .sql(of("SELECT 1", within(TimeDelta::zero())))
        .await?;
    assert!(none.header.freshness.expect("freshness").as_of.is_none());

    let statistics = fixture
        .gateway
        .client
        .clone()
        .get_statistics(GetStatisticsRequest {})
        .await?
        .into_inner();
    let of_view = |name: &str| {
        statistics
            .views
            .iter()
            .find(|view| view.view == name)
            .map_or(0, |view| view.queries)
    };
    assert!(of_view("others") >= 2 && of_view("conditions") > of_view("others"));
    assert!(statistics.speed_layer_queries < statistics.total_queries && statistics.raw_queries == 0);
    Ok(())
}

#[tokio::test]
async fn bounds_are_told_by_the_setting_that_they_meet() -> anyhow::Result<()> {
    let bounds = |config: &mut Config| {
        config.sql.max_rows = 1_000;
        config.sql.max_bytes = 200_000;
        config.sql.max_statement_bytes = 2_000;
        config.sql.timeout_seconds = Duration::from_millis(700);
        config.sql.max_connections = 2;
    };
    let fixture = Fixture::with_settings(&three(), bounds).await?;
    let numbers = |n: i64| statement(&format!("SELECT n FROM generate_series(1, {n}) n"));
    assert_eq!(fixture.gateway.sql(numbers(1_000)).await?.footer.row_count, 1_000);
    let error = refused(&fixture, numbers(1_001), Code::ResourceExhausted).await;
    assert!(error.contains("sql.max_rows"), "{error}");
    let limited = |n: i64, limit: i64| SqlRequest { limit, ..numbers(n) };
    let part = fixture.gateway.sql(limited(1_000_000, 7)).await?;
    assert_eq!(
        (part.rows.len(), part.footer.row_count, part.footer.truncated),
        (7, 7, true)
    );
    let whole = fixture.gateway.sql(limited(7, 7)).await?;
    assert_eq!((whole.footer.row_count, whole.footer.truncated), (7, false));

    let large = |rows: i64| format!("SELECT string_agg(md5(n::text), '') FROM generate_series(1, {rows}) n");
    assert_eq!(fixture.gateway.sql(statement(&large(5_000))).await?.rows.len(), 1);
    for too_large in [
        // One value, which PostgreSQL keeps back; several values; in an array, and in a type that comes as text.
        large(10_000),
        "SELECT md5(n::text), md5(n::text), md5(n::text), md5(n::text), md5(n::text), md5(n::text) FROM generate_series(1, 1000) n".into(),
        "SELECT array_agg(md5(n::text)) FROM generate_series(1, 10000) n".into(),
        "SELECT row(1, array_agg(n)) FROM generate_series(1, 100000) n".into(),
    ] {
        let error = refused(&fixture, statement(&too_large), Code::ResourceExhausted).await;
        assert!(error.contains("sql.max_bytes"), "{error}");
    }
    let error = refused(
        &fixture,
        statement(&format!("SELECT 1 -- {}", "x".repeat(2_000))),
        Code::ResourceExhausted,
    )
    .await;
    assert!(error.contains("sql.max_statement_bytes"), "{error}");

    let endless =
        "WITH RECURSIVE t(n) AS (SELECT 1::bigint UNION ALL SELECT n + 1 FROM t) SELECT count(*) FROM t";
    let error = refused(&fixture, statement(endless), Code::DeadlineExceeded).await;
    assert!(error.contains("sql.timeout_seconds (0.7 s)"), "{error}");
    // What was refused has left nothing behind: there are two connections.
    for _ in 0..5 {
        assert_eq!(
            lines(&fixture, statement("SELECT count(*) FROM conditions")).await,
            ["3"]
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_statement_ends_when_its_caller_goes() -> anyhow::Result<()> {
    let fixture = Fixture::over(&three()).await?;
    let running = "SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = 'researchflow sql' AND state = 'active' \
                   AND datname = current_database() AND query LIKE '%the one that is left%'";
    // One that works and sends nothing, and one that sends more than is taken.
    for text in [
        "WITH RECURSIVE t(n) AS (SELECT 1::bigint UNION ALL SELECT n + 1 FROM t) SELECT count(*) /* the one that is left */ FROM t",
        "SELECT /* the one that is left */ md5(n::text), md5(n::text), md5(n::text), md5(n::text) FROM generate_series(1, 1000000) n",
    ] {
        let mut client = fixture.gateway.client.clone();
        let asked = tokio::spawn(async move {
            let mut stream = client.sql(statement(text)).await?.into_inner();
            let _header = stream.message().await?;
            let _first = stream.message().await?;
            // It is not read on.
            std::future::pending::<()>().await;
            Ok::<_, tonic::Status>(())
        });
        until_true(&fixture.owner_url, running, PATIENCE).await?;
        asked.abort();
        let ended = format!("SELECT NOT ({running})").replace("SELECT NOT (SELECT", "SELECT NOT (SELECT");
        until_true(&fixture.owner_url, &ended, PATIENCE).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_plan_is_told_and_nothing_is_run() -> anyhow::Result<()> {
    let fixture = Fixture::over(&three()).await?;
    let explain = |text: &str, values: &[Value]| SqlRequest {
        explain: true,
        ..with(text, values)
    };
    let answer = fixture
        .gateway
        .sql(explain(
            "SELECT id FROM conditions WHERE severity > $1",
            &[value(Kind::Text("5".into()))],
        ))
        .await?;
    let plan: serde_json::Value = serde_json::from_str(&answer.plan)?;
    assert!(plan[0]["Plan"]["Node Type"].is_string() && answer.rows.is_empty());
    assert!(plan[0].get("Execution Time").is_none(), "nothing was run");
    assert_eq!(answer.header.columns[0].name, "id");
    // What would fail when it is run does not fail.
    fixture
        .gateway
        .sql(explain("SELECT 1 / (severity - severity) FROM conditions", &[]))
        .await?;
    refused(
        &fixture,
        explain("SELECT pg_sleep(1)", &[]),
        Code::InvalidArgument,
    )
    .await;
    refused(
        &fixture,
        explain("EXPLAIN ANALYZE SELECT 1", &[]),
        Code::InvalidArgument,
    )
    .await;
    Ok(())
}

#[tokio::test]
async fn errors_point_at_their_place_and_quote_nothing() -> anyhow::Result<()> {
    let fixture = Fixture::over(&three()).await?;
    for (text, place, what) in [
        (
            "SELECT 'Smith' FRM conditions WHERE x",
            "at character 20 (line 1, column 20)",
            "syntax error",
        ),
        (
            "SELECT id\n FROM conditions\n WHERE \"Smith\" = 1",
            "at character 35 (line 3, column 8)",
            "no such column",
        ),
        (
            "SELECT 'é', nme FROM conditions",
            "at character 13 (line 1, column 13)",
            "no such column",
        ),
        (
            "SELECT id + 1 FROM conditions",
            "at character 11 (line 1, column 11)",
            "casts",
        ),
        (
            "SELECT id, count(*) FROM conditions",
            "at character 8 (line 1, column 8)",
            "GROUP BY",
        ),
        (
            "SELECT * FROM condition WHERE 'Smith' = 'x'",
            "at character 15 (line 1, column 15)",
            "there are: conditions",
        ),
        (
            "SELECT 'Smith'::date",
            "at character 8 (line 1, column 8)",
            "not a value of the type",
        ),
        (
            "SELECT upper(label), pg_sleep(1) FROM conditions",
            "at character 22 (line 1, column 22)",
            "pg_sleep",
        ),
        (
            "SELECT c.pg_sleep FROM generate_series(1, 2) c",
            "at character 8 (line 1, column 8)",
            "function",
        ),
        ("SELECT (SELECT label FROM conditions)", "", "LIMIT 1"),
        (
            "SELECT 1 / (severity - severity) FROM conditions",
            "",
            "division by zero",
        ),
        ("SELECT label::int FROM conditions", "", "not a value of the type"),
        (
            "SELECT 'Smith",
            "at character 8 (line 1, column 8)",
            "does not end",
        ),
        (
            "SELECT abs('Smith', 2)",
            "at character 8 (line 1, column 8)",
            "no such function",
        ),
    ] {
        let error = refused(&fixture, statement(text), Code::InvalidArgument).await;
        assert!(
            error.starts_with("statement: ") && error.contains(place) && error.contains(what),
            "{text}: {error}"
        );
        for value in ["Smith", "Diabetes", "Asthma"] {
            assert!(!error.contains(value), "{text}: {error}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_login_for_statements_must_be_a_readers_and_sql_can_be_switched_off() -> anyhow::Result<()> {
    let server = server().await?;
    server
        .execute(
            "postgres",
            "CREATE ROLE analyst LOGIN IN ROLE researchflow_reader; CREATE ROLE nobody LOGIN; \
             CREATE ROLE files LOGIN IN ROLE researchflow_reader, pg_read_server_files",
        )
        .await?;
    let settings = |login: &'static str| {
        let url = server.url_as(login, "", "views_of_logins");
        move |config: &mut Config| config.sql.url = daemon::Secret::new(&url)
    };
    let url = server.create_database("views_of_logins").await?;
    let fixture =
        Fixture::on_database(&server, "views_of_logins", &url, &three(), settings("analyst")).await?;
    assert_eq!(
        lines(&fixture, statement("SELECT count(*) FROM conditions")).await,
        ["3"]
    );
    for login in ["gateway", "nobody", "files", "postgres"] {
        let gateway = fixture.another_with(settings(login)).await?;
        let error = gateway.sql(statement("SELECT 1")).await.expect_err(login);
        assert_eq!(error.code(), Code::FailedPrecondition, "{login}: {error}");
        assert!(error.message().contains("sql.url"), "{error}");
    }
    // The gateway's own login takes on the role of a reader, unless it may not.
    let gateway = fixture.another_with(|_| {}).await?;
    assert_eq!(
        gateway
            .sql(statement("SELECT count(*) FROM conditions"))
            .await?
            .lines(),
        ["3"]
    );
    let mut owner = PgConnection::connect(&fixture.owner_url).await?;
    sqlx::raw_sql("REVOKE researchflow_reader FROM researchflow_merger")
        .execute(&mut owner)
        .await?;
    let gateway = fixture.another_with(|_| {}).await?;
    let error = gateway.sql(statement("SELECT 1")).await.expect_err("no role");
    assert!(error.message().contains("GRANT researchflow_reader"), "{error}");
    sqlx::raw_sql("GRANT researchflow_reader TO researchflow_merger")
        .execute(&mut owner)
        .await?;

    let gateway = fixture.another_with(|config| config.sql.enabled = false).await?;
    let error = gateway.sql(statement("SELECT 1")).await.expect_err("off");
    assert_eq!(error.code(), Code::FailedPrecondition);
    Ok(())
}

#[tokio::test]
async fn statements_run_beside_each_other_and_stream_with_back_pressure() -> anyhow::Result<()> {
    let fixture = Fixture::over(&three()).await?;
    let many = futures::stream::iter(0..60)
        .map(|n: i64| {
            let gateway = &fixture.gateway;
            async move {
                let text = format!(
                    "SELECT sum(n) + {n}, (SELECT count(*) FROM conditions) FROM generate_series(1, 1000) n"
                );
                gateway
                    .sql(statement(&text))
                    .await
                    .map(|answer| answer.lines() == [format!("{}|3", 500_500 + n)])
            }
        })
        .buffer_unordered(20)
        .collect::<Vec<_>>()
        .await;
    for answer in many {
        assert!(answer?);
    }
    let all = fixture
        .gateway
        .sql(statement(
            "SELECT n, md5(n::text) FROM generate_series(1, 100000) n",
        ))
        .await?;
    assert_eq!((all.rows.len(), all.footer.row_count), (100_000, 100_000));
    Ok(())
}
