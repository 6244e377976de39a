//! Questions in SQL: right answers, plans, errors; and what all tests of them ask with.

use api::proto::serving::{
    QueryFooter, QueryHeader, SqlRequest, Value, ValueList, sql_response::Part, value::Kind,
};
use e2e::ask::{rows_of, text};
use futures::StreamExt as _;
use tonic::Code;

use crate::fixture::{Fixture, Gateway, join, put, three};

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
    pub(crate) fn lines(&self) -> Vec<String> {
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
                    rows_of(&batch)?
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

pub(crate) fn value(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}

pub(crate) fn with(text: &str, values: &[Value]) -> SqlRequest {
    SqlRequest {
        parameters: values.to_vec(),
        ..statement(text)
    }
}

pub(crate) fn texts(values: &[&str]) -> Value {
    let values = values.iter().map(|text| value(Kind::Text((*text).into())));
    value(Kind::List(ValueList {
        values: values.collect(),
    }))
}

pub(crate) async fn lines(fixture: &Fixture, request: SqlRequest) -> Vec<String> {
    match fixture.gateway.sql(request.clone()).await {
        Ok(answer) => answer.lines(),
        Err(status) => panic!("{}: {status}", request.statement),
    }
}

pub(crate) async fn refused(fixture: &Fixture, request: SqlRequest, code: Code) -> String {
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
