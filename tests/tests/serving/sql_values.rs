//! Values in questions in SQL, and in their answers.

use api::proto::serving::{SqlRequest, Value, ValueList, value::Kind};
use chrono::TimeDelta;
use tonic::Code;

use crate::fixture::{Fixture, now, three};
use crate::sql::{lines, refused, statement, texts, value, with};

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
    Ok(())
}

#[tokio::test]
async fn values_of_views_are_what_query_makes_of_them() -> anyhow::Result<()> {
    let fixture = Fixture::over(&three()).await?;
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
    Ok(())
}

#[tokio::test]
async fn names_are_bound_wherever_they_stand() -> anyhow::Result<()> {
    let fixture = Fixture::over(&three()).await?;
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
    Ok(())
}

/// Faults are told by the parameter, and never by its value.
#[tokio::test]
async fn values_that_do_not_fit_are_refused_and_not_quoted() -> anyhow::Result<()> {
    let fixture = Fixture::over(&three()).await?;
    let one = |kind| vec![value(kind)];
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
