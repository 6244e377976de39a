//! Law 2 for questions: whatever is asked of a merged view, the answer is that of a plain table which holds what HAPI has now. Questions are drawn by chance,
//! each as a request and, by another way, as SQL over the plain table.

use std::fmt::Write as _;

use api::proto::serving::{
    ClearViewCacheRequest, Filter, FilterList, Operator, Order, QueryRequest, SearchParameter, filter,
    value::Kind,
};
use chrono::{DateTime, Utc};
use e2e::deadline;
use fhir_core::resource::{Content, State};
use fhir_core::view::CompiledView;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};

use crate::fakes::PATIENCE;
use crate::fixture::{CONDITION, Fixture, compare, join, mark, now, search};

const RESOURCES: usize = 60;
const ROUNDS: i64 = 4;
const QUESTIONS: usize = 40;

/// A row for each code of a condition.
const VIEW: &str = r#"{"resourceType": "ViewDefinition", "name": "codings", "resource": "Condition", "status": "active", "select": [
    {"column": [
        {"name": "id", "path": "getResourceKey()"},
        {"name": "patient_id", "path": "subject.getReferenceKey(Patient)"},
        {"name": "onset", "path": "onset.ofType(dateTime)"},
        {"name": "severity", "path": "extension('urn:severity').value.ofType(decimal).first()", "type": "decimal"}]},
    {"forEach": "code.coding", "column": [{"name": "code", "path": "code"}, {"name": "display", "path": "display"}]}]}"#;

const COLUMNS: [&str; 6] = ["id", "patient_id", "onset", "severity", "code", "display"];
const PATIENTS: [&str; 3] = ["p-1", "p-2", "p-3"];
const CODES: [&str; 4] = ["100", "200", "it's", "Δ%_\\"];
const DISPLAYS: [&str; 3] = ["Diabetes mellitus", "diabetes, gestational", "Asthma"];
const ONSETS: [&str; 3] = ["2019-12", "2020-01", "2020-11"];
const SEVERITIES: [&str; 4] = ["0.5", "1.50", "1.5", "10"];

/// What HAPI has of a condition.
#[derive(Debug, Clone)]
struct Condition {
    id: String,
    updated: DateTime<Utc>,
    patient: &'static str,
    onset: Option<&'static str>,
    severity: Option<&'static str>,
    codings: Vec<(&'static str, Option<&'static str>)>,
}

impl Condition {
    fn any(id: &str, random: &mut StdRng) -> Self {
        let mut some = |values: &[&'static str]| {
            (random.random_range(0..4) > 0).then(|| *values.choose(random).expect("values"))
        };
        let (onset, severity) = (some(&ONSETS), some(&SEVERITIES));
        let codings = (0..3)
            .filter_map(|_| Some((some(&CODES)?, some(&DISPLAYS))))
            .collect();
        Self {
            id: id.to_owned(),
            updated: now(),
            patient: PATIENTS.choose(random).expect("patients"),
            onset,
            severity,
            codings,
        }
    }

    fn state(&self, version: i64) -> State {
        let codings: Vec<_> = self
            .codings
            .iter()
            .map(|(code, display)| serde_json::json!({"code": code, "display": display}))
            .collect();
        let body = serde_json::json!({
            "resourceType": "Condition", "id": self.id, "subject": {"reference": format!("Patient/{}", self.patient)},
            "onsetDateTime": self.onset, "code": {"coding": codings},
        });
        let mut body = body.to_string();
        if let Some(severity) = self.severity {
            // As it is written: a JSON library would drop the last zero.
            let member = format!(r#","extension":[{{"url":"urn:severity","valueDecimal":{severity}}}]}}"#);
            body.replace_range(body.len() - 1.., &member);
        }
        State {
            id: self.id.clone(),
            version,
            last_updated: self.updated,
            content: Content::Body(body.into_bytes()),
        }
    }
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A question in both forms.
struct Question {
    request: QueryRequest,
    conditions: Vec<String>,
}

fn value_of(column: &str, random: &mut StdRng) -> String {
    let values: &[&str] = match column {
        "patient_id" => &PATIENTS,
        "onset" => &ONSETS,
        "severity" => &SEVERITIES,
        "code" => &CODES,
        "display" => &DISPLAYS,
        _ => return format!("c-{:02}", random.random_range(0..RESOURCES)),
    };
    (*values.choose(random).expect("values")).to_owned()
}

fn filter_of(depth: usize, random: &mut StdRng) -> (Filter, String) {
    if depth > 0 && random.random_range(0..3) == 0 {
        let (first, first_sql) = filter_of(depth - 1, random);
        let (second, second_sql) = filter_of(depth - 1, random);
        let list = FilterList {
            filters: vec![first.clone(), second],
        };
        let (kind, sql) = match random.random_range(0..3) {
            0 => (
                filter::Filter::All(list),
                format!("({first_sql} AND {second_sql})"),
            ),
            1 => (
                filter::Filter::Any(list),
                format!("({first_sql} OR {second_sql})"),
            ),
            // Null counts as not holding.
            _ => (
                filter::Filter::Negation(Box::new(first)),
                format!("NOT coalesce({first_sql}, false)"),
            ),
        };
        return (Filter { filter: Some(kind) }, sql);
    }
    let column = *COLUMNS.choose(random).expect("columns");
    let value = value_of(column, random);
    let sql_value = if column == "severity" {
        value.clone()
    } else {
        literal(&value)
    };
    let operators = [
        (Operator::Equal, "="),
        (Operator::NotEqual, "<>"),
        (Operator::Less, "<"),
        (Operator::LessOrEqual, "<="),
        (Operator::Greater, ">"),
        (Operator::GreaterOrEqual, ">="),
    ];
    match random.random_range(0..10) {
        0 => (
            compare(column, Operator::IsNull, &[]),
            format!("{column} IS NULL"),
        ),
        1 => (
            compare(column, Operator::IsNotNull, &[]),
            format!("{column} IS NOT NULL"),
        ),
        2 if column != "severity" => {
            let pattern = format!("%{}", value.chars().last().filter(|c| *c != '\\').unwrap_or('_'));
            (
                compare(column, Operator::Like, &[&pattern]),
                format!("{column} LIKE {}", literal(&pattern)),
            )
        }
        3 => (
            compare(column, Operator::In, &[&value, &value]),
            format!("{column} IN ({sql_value})"),
        ),
        _ => {
            let (operator, sql) = operators.choose(random).expect("operators");
            (
                compare(column, *operator, &[&value]),
                format!("{column} {sql} {sql_value}"),
            )
        }
    }
}

fn search_of(random: &mut StdRng) -> (SearchParameter, String) {
    let (patient, code) = (value_of("patient_id", random), value_of("code", random));
    let onset = value_of("onset", random);
    match random.random_range(0..9) {
        0 => (
            search("patient", "", &[&patient]),
            format!("patient_id = {}", literal(&patient)),
        ),
        1 => (
            search("patient", "", &[&format!("Patient/{patient}"), "p-3"]),
            format!("patient_id IN ({}, 'p-3')", literal(&patient)),
        ),
        2 => (search("code", "", &[&code]), format!("code = {}", literal(&code))),
        3 => (
            search("code", "not", &[&code]),
            format!("id NOT IN (SELECT id FROM plain WHERE code = {})", literal(&code)),
        ),
        4 => (
            search("code", "text", &["DIABETES"]),
            "display ILIKE '%diabetes%'".to_owned(),
        ),
        5 => (
            search("_id", "", &["c-01", "c-07"]),
            "id IN ('c-01', 'c-07')".to_owned(),
        ),
        6 => (
            search("onset-date", "", &[&format!("ge{onset}")]),
            format!("onset >= {}", literal(&onset)),
        ),
        7 => (
            search("onset-date", "", &[&format!("lt{onset}")]),
            format!("onset < {}", literal(&onset)),
        ),
        _ => (
            search("onset-date", "missing", &["true"]),
            "onset IS NULL".to_owned(),
        ),
    }
}

fn question(updated: &[DateTime<Utc>], random: &mut StdRng) -> Question {
    let mut question = Question {
        request: QueryRequest {
            view: "codings".into(),
            ..Default::default()
        },
        conditions: vec!["true".to_owned()],
    };
    for _ in 0..random.random_range(0..3) {
        let (filter, sql) = filter_of(3, random);
        question.request.filters.push(filter);
        question.conditions.push(sql);
    }
    if random.random_range(0..3) == 0 {
        let (parameter, sql) = search_of(random);
        question.request.search.push(parameter);
        question.conditions.push(sql);
    }
    if random.random_range(0..5) == 0 {
        let since = updated.choose(random).expect("times");
        question.request.since = Some(api::time::timestamp(*since));
        question
            .conditions
            .push(format!("updated >= '{}'", since.to_rfc3339()));
    }
    for _ in 0..random.random_range(0..3) {
        question.request.order.push(Order {
            column: (*COLUMNS.choose(random).expect("columns")).to_owned(),
            descending: random.random_range(0..2) == 0,
        });
    }
    if random.random_range(0..3) == 0 {
        question.request.limit = random.random_range(1..40);
    }
    question
}

impl Question {
    /// The rows of the plain table, in order.
    async fn expected(&self, plain: &mut PgConnection) -> anyhow::Result<Vec<Vec<Option<String>>>> {
        let mut order: Vec<String> = self
            .request
            .order
            .iter()
            .map(|by| {
                let direction = if by.descending { "DESC" } else { "ASC" };
                format!("plain.{} {direction} NULLS LAST", by.column)
            })
            .collect();
        order.push("plain.id, number".to_owned());
        let limit = match self.request.limit {
            0 => String::new(),
            limit => format!("LIMIT {limit}"),
        };
        let sql = format!(
            "SELECT id, patient_id, onset, severity::text, code, display FROM plain WHERE {} ORDER BY {} {limit}",
            self.conditions.join(" AND "),
            order.join(", ")
        );
        let rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(plain).await?;
        let cells = |row: &sqlx::postgres::PgRow| (0..COLUMNS.len()).map(|i| row.try_get(i)).collect();
        Ok(rows.iter().map(cells).collect::<Result<_, _>>()?)
    }

    async fn asked(
        &self,
        fixture: &Fixture,
        request: QueryRequest,
    ) -> anyhow::Result<(Vec<Vec<Option<String>>>, String)> {
        let answer = fixture.ask(request).await?;
        let text = |value: &Option<Kind>| match value {
            None => None,
            Some(Kind::Text(text) | Kind::Decimal(text)) => Some(text.clone()),
            Some(other) => Some(format!("{other:?}")),
        };
        let rows: Vec<Vec<Option<String>>> = answer
            .rows
            .iter()
            .map(|row| row.iter().map(text).collect())
            .collect();
        let footer = answer.footer();
        assert_eq!(footer.row_count, footer.batch_rows + footer.speed_rows);
        assert_eq!(usize::try_from(footer.row_count)?, rows.len());
        Ok((rows, footer.next_page_token))
    }
}

/// The plain table anew.
async fn fill(plain: &mut PgConnection, hapi: &[Option<Condition>]) -> anyhow::Result<()> {
    let mut sql = "DROP TABLE IF EXISTS plain; CREATE TABLE plain (id text, number int, updated timestamptz, patient_id text, onset text, \
                   severity numeric, code text, display text);"
        .to_owned();
    let or_null = |text: Option<&str>| text.map_or_else(|| "NULL".to_owned(), literal);
    for condition in hapi.iter().flatten() {
        for (number, (code, display)) in condition.codings.iter().enumerate() {
            let _ = write!(
                sql,
                "INSERT INTO plain VALUES ({}, {number}, '{}', {}, {}, {}::numeric, {}, {});",
                literal(&condition.id),
                condition.updated.to_rfc3339(),
                literal(condition.patient),
                or_null(condition.onset),
                or_null(condition.severity),
                literal(code),
                or_null(*display)
            );
        }
    }
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(plain).await?;
    Ok(())
}

#[tokio::test]
async fn law_2_questions_over_a_merged_view_are_answered_as_over_a_plain_table_of_what_is()
-> anyhow::Result<()> {
    let random = &mut StdRng::seed_from_u64(7);
    let id = |number: usize| format!("c-{number:02}");
    let mut hapi: Vec<Option<Condition>> = (0..RESOURCES)
        .map(|number| (number % 4 > 0).then(|| Condition::any(&id(number), random)))
        .collect();
    let fixture = Fixture::over(&[]).await?;
    fixture
        .owner
        .put_view(&CompiledView::from_json(VIEW)?, VIEW, false)
        .await?;
    let states: Vec<State> = hapi
        .iter()
        .flatten()
        .map(|condition| condition.state(1))
        .collect();
    join(&fixture.owner, 2, &states).await?;
    // Until it knows that the view is materialised, the gateway would ask the batch layer.
    let mut client = fixture.gateway.client.clone();
    client.clear_view_cache(ClearViewCacheRequest::default()).await?;
    let mut plain = PgConnection::connect(&fixture.owner_url).await?;
    let mut compared = (0, 0);
    for round in 0..ROUNDS {
        // Live: created, changed, deleted.
        let mut changes = Vec::new();
        for (number, had) in hapi.iter_mut().enumerate() {
            if random.random_range(0..3) > 0 {
                continue;
            }
            *had = (random.random_range(0..3) > 0).then(|| Condition::any(&id(number), random));
            changes.push(match had {
                Some(condition) => condition.state(round + 2),
                None => State {
                    id: id(number),
                    version: round + 2,
                    last_updated: now(),
                    content: Content::Deleted,
                },
            });
        }
        let n = 10 + round;
        fixture.speed.round(CONDITION, changes, mark(n));
        deadline::until("the round is applied", PATIENCE, || async {
            let applied = fixture.owner.type_state(CONDITION).await.ok()?.speed?;
            (applied.n == n).then_some(())
        })
        .await?;
        fill(&mut plain, &hapi).await?;
        let updated: Vec<_> = hapi.iter().flatten().map(|condition| condition.updated).collect();
        for _ in 0..QUESTIONS {
            let question = question(&updated, random);
            let expected = question.expected(&mut plain).await?;
            let what = format!("{:?}\n{:?}", question.request, question.conditions);
            let in_order = !question.request.order.is_empty() || question.request.limit > 0;
            let (mut rows, _) = question.asked(&fixture, question.request.clone()).await?;
            let mut whole = expected.clone();
            if !in_order {
                rows.sort();
                whole.sort();
            }
            assert_eq!(rows, whole, "{what}");

            let count = QueryRequest {
                count_only: true,
                ..question.request.clone()
            };
            let counted = fixture.ask(count).await?.footer().row_count;
            assert_eq!(usize::try_from(counted)?, expected.len(), "{what}");

            let mut page = QueryRequest {
                page_size: random.random_range(3..30),
                ..question.request.clone()
            };
            let mut paged = Vec::new();
            loop {
                let (rows, next) = question.asked(&fixture, page.clone()).await?;
                assert!(i64::try_from(rows.len())? <= page.page_size, "{what}");
                paged.extend(rows);
                if next.is_empty() {
                    break;
                }
                page.page_token = next;
            }
            assert_eq!(paged, expected, "in pages: {what}");
            compared = (compared.0 + 1, compared.1 + expected.len());
        }
    }
    println!(
        "{} questions, {} rows: all as of the plain table",
        compared.0, compared.1
    );
    Ok(())
}
