//! What a select answers, and that numbers keep their digits on every way.

use anyhow::Context as _;
use chrono::NaiveDate;
use fhir_core::column::{Column, ColumnKind};
use fhir_core::resource::State;
use fhir_core::row::Cell;
use fhir_core::view::CompiledView;
use futures::TryStreamExt as _;
use view_store::{Condition, Operator, OrderBy, Relation, Select, StoreError};

use super::fixture::{
    Fixture, OBSERVATION, at, cells_of, compare, definition, deleted, everything, observation,
};

#[tokio::test]
async fn numbers_keep_every_digit_and_their_scale() -> anyhow::Result<()> {
    let values = [
        "0",
        "1.50",
        "-0.0010",
        "123456789012345678901234567890.123456789",
        "1.20e3",
        "5E-7",
    ];
    let states: Vec<State> = values
        .iter()
        .enumerate()
        .map(|(i, v)| observation(&format!("n{i}"), 1, v))
        .collect();
    let labs = Fixture::with_labs(&states).await?;
    // As PostgreSQL itself reads the same text, on both paths.
    let expected: Vec<String> = {
        let mut connection = labs.connect().await?;
        let sql = "SELECT v::numeric::text FROM unnest($1::text[]) v";
        sqlx::query_scalar(sql)
            .bind(values)
            .fetch_all(&mut connection)
            .await?
    };
    let select = Select {
        columns: vec!["value".into()],
        order: vec![OrderBy {
            column: "id".into(),
            descending: false,
        }],
        ..everything()
    };
    let shown = |rows: Vec<Vec<Cell<'static>>>| -> Vec<String> {
        rows.into_iter()
            .map(|r| match &r[0] {
                Cell::Decimal(v) => v.to_string(),
                other => format!("{other:?}"),
            })
            .collect()
    };
    assert_eq!(shown(labs.select(&select).await?), expected);
    let again: Vec<State> = states.into_iter().map(|s| State { version: 2, ..s }).collect();
    labs.apply(2, &again).await?;
    assert_eq!(shown(labs.select(&select).await?), expected);
    assert_eq!(labs.layers().await?, (0, 6, 6));
    Ok(())
}

/// Five observations, the second of them live in a later version.
async fn five() -> anyhow::Result<Fixture> {
    let states: Vec<State> = (1..=5)
        .map(|i| observation(&format!("o{i}"), i, &format!("{i}.5")))
        .collect();
    let labs = Fixture::with_labs(&states).await?;
    labs.apply(
        2,
        &[State {
            last_updated: at(100),
            ..observation("o2", 7, "20.5")
        }],
    )
    .await?;
    Ok(labs)
}

/// The ids of answers whose first column they are.
fn ids(rows: &[Vec<Cell<'static>>]) -> String {
    let id = |row: &Vec<Cell<'static>>| match &row[0] {
        Cell::Text(id) => id.to_string(),
        other => format!("{other:?}"),
    };
    rows.iter().map(id).collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn selects_answer_conditions_of_every_kind() -> anyhow::Result<()> {
    let labs = five().await?;
    let by_id = vec![OrderBy {
        column: "id".into(),
        descending: false,
    }];
    for (condition, expected) in [
        (
            compare("value", Operator::GreaterOrEqual, &["3.50"]),
            "o2 o3 o4 o5",
        ),
        (compare("codes", Operator::Equal, &["a-o4"]), "o4"),
        (compare("codes", Operator::ContainsText, &["A-O5"]), "o5"),
        (compare("id", Operator::Like, &["o%"]), "o1 o2 o3 o4 o5"),
        (compare("id", Operator::ContainsText, &["%"]), ""),
        (compare("id", Operator::In, &["o1", "o9"]), "o1"),
        (compare("id", Operator::In, &[]), ""),
        (compare("status", Operator::NotEqual, &["final"]), ""),
        (
            Condition::Not(Box::new(compare("value", Operator::Less, &["4"]))),
            "o2 o4 o5",
        ),
        (Condition::All(vec![]), "o1 o2 o3 o4 o5"),
        (
            Condition::Any(vec![
                Condition::ResourceId(vec!["o3".into()]),
                Condition::UpdatedSince(at(5)),
            ]),
            "o2 o3 o5",
        ),
        (compare("value", Operator::IsNull, &[]), ""),
    ] {
        let select = Select {
            columns: vec!["id".into()],
            condition: Some(condition.clone()),
            order: by_id.clone(),
            ..everything()
        };
        assert_eq!(ids(&labs.select(&select).await?), expected, "{condition:?}");
        let count = Select {
            count_only: true,
            ..select
        };
        let expected = i64::try_from(expected.split_whitespace().count())?;
        assert_eq!(
            labs.select(&count).await?,
            [[Cell::BigInt(expected)]],
            "{condition:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn selects_order_limit_and_choose_the_layer() -> anyhow::Result<()> {
    let labs = five().await?;
    let latest = Select {
        max_resources: Some(2),
        ..everything()
    };
    assert_eq!(ids(&labs.select(&latest).await?), "o2 o5");
    let page = Select {
        order: vec![OrderBy {
            column: "value".into(),
            descending: true,
        }],
        limit: Some(2),
        ..everything()
    };
    assert_eq!(ids(&labs.select(&page).await?), "o2 o5");
    let batch = Select {
        order: page.order.clone(),
        ..Select::all(Relation::Batch("labs".into()))
    };
    assert_eq!(ids(&labs.select(&batch).await?), "o5 o4 o3 o2 o1");

    Ok(())
}

#[tokio::test]
async fn selects_that_cannot_be_answered_say_what_there_is_and_not_the_value() -> anyhow::Result<()> {
    let labs = five().await?;
    let refused = Select {
        condition: Some(compare("value", Operator::Equal, &["secret"])),
        ..everything()
    };
    assert!(
        matches!(labs.select(&refused).await, Err(StoreError::InvalidSelect(text)) if text == "a value for column value is not a valid numeric")
    );
    let unknown = Select {
        columns: vec!["valeu".into()],
        ..everything()
    };
    assert!(
        matches!(labs.select(&unknown).await, Err(StoreError::InvalidSelect(text)) if text.contains("value, codes"))
    );
    assert!(
        matches!(labs.store.snapshot(Some("lab")).await.err(), Some(StoreError::UnknownView { known, .. }) if known == ["labs"])
    );
    Ok(())
}

#[tokio::test]
async fn law_3_rows_and_freshness_come_from_one_snapshot() -> anyhow::Result<()> {
    let labs = Fixture::with_labs(
        &(0..500)
            .map(|i| observation(&format!("o{i}"), 1, "1"))
            .collect::<Vec<_>>(),
    )
    .await?;
    let mut snapshot = labs.store.snapshot(Some("labs")).await?;
    let before = snapshot.freshness(OBSERVATION).await?;
    labs.apply(2, &[deleted("o1", 2)]).await?;
    {
        let (_, answers) = snapshot.select(&everything()).await?;
        assert_eq!(answers.try_concat().await?.len(), 500);
    }
    assert_eq!(snapshot.freshness(OBSERVATION).await?, before);
    assert_eq!(before.merged(), Some(at(10)));
    // Dropped in the middle of its rows: the pool is none the worse.
    for _ in 0..20 {
        let mut snapshot = labs.store.snapshot(Some("labs")).await?;
        let (_, mut answers) = snapshot.select(&everything()).await?;
        assert!(answers.try_next().await?.is_some());
    }
    let mut after = labs.store.snapshot(Some("labs")).await?;
    assert_eq!(after.freshness(OBSERVATION).await?.merged(), Some(at(20)));
    Ok(())
}

#[tokio::test]
async fn given_rows_are_asked_like_those_of_a_table() -> anyhow::Result<()> {
    let labs = Fixture::empty().await?;
    let view = CompiledView::from_json(&definition("labs", ""))?;
    let mut tuples = Vec::new();
    for (id, value) in [("x", "1.50"), ("y", "2")] {
        let row = [
            Cell::Text(id.into()),
            Cell::Text("final".into()),
            Cell::Decimal(value.into()),
            Cell::List(vec![Cell::Text("c".into()), Cell::Text(id.into())]),
        ];
        tuples.extend(view_store::encode_rows(
            view.columns(),
            id,
            1,
            at(0),
            [row.as_slice()],
        )?);
    }
    let mut snapshot = labs.store.snapshot(None).await?;
    let given = Relation::Given {
        columns: view.columns().to_vec(),
        tuples,
    };
    let select = Select {
        condition: Some(compare("codes", Operator::Equal, &["x"])),
        ..Select::all(given)
    };
    let (columns, answers) = snapshot.select(&select).await?;
    assert_eq!(columns.len(), 4);
    let answers = cells_of(&answers.try_concat().await?)?;
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0][2], Cell::Decimal("1.50".into()));
    Ok(())
}

#[tokio::test]
async fn values_of_every_kind_come_back_alone_and_in_collections() -> anyhow::Result<()> {
    let labs = Fixture::empty().await?;
    let day = NaiveDate::from_ymd_opt(1899, 12, 31).context("a day")?;
    let moment = day.and_hms_micro_opt(23, 59, 59, 123_456).context("a time")?;
    let values = [
        (ColumnKind::Boolean, Cell::Boolean(false)),
        (ColumnKind::Integer, Cell::Integer(-5)),
        (ColumnKind::BigInt, Cell::BigInt(i64::MIN)),
        (ColumnKind::Decimal, Cell::Decimal("-6.20".into())),
        (
            ColumnKind::DecimalOf {
                precision: 6,
                scale: 2,
            },
            Cell::Decimal("1234.50".into()),
        ),
        (
            ColumnKind::Text,
            Cell::Text("Łódź 🙂 \"quoted\\\", {NULL}\n".into()),
        ),
        (ColumnKind::TimestampTz, Cell::TimestampTz(moment.and_utc())),
        (ColumnKind::Timestamp, Cell::Timestamp(moment)),
        (ColumnKind::Date, Cell::Date(day)),
        (ColumnKind::Time, Cell::Time(moment.time())),
        (ColumnKind::Double, Cell::Double(0.1)),
        (ColumnKind::Json, Cell::Json(r#"{"a": "b\"c"}"#.into())),
    ];
    let column = |(index, (kind, _)): (usize, &(ColumnKind, Cell<'static>))| {
        let name = format!("c{index}");
        [false, true].map(|collection| Column {
            collection,
            ..Column::new(format!("{name}_{collection}"), *kind)
        })
    };
    let columns: Vec<Column> = values.iter().enumerate().flat_map(column).collect();
    let row: Vec<Cell<'static>> = values
        .iter()
        .flat_map(|(_, v)| [v.clone(), Cell::List(vec![v.clone(), Cell::Null, v.clone()])])
        .collect();
    let empty: Vec<Cell<'static>> = values
        .iter()
        .flat_map(|_| [Cell::Null, Cell::List(vec![])])
        .collect();
    let tuples = view_store::encode_rows(&columns, "x", 1, at(0), [row.as_slice(), empty.as_slice()])?;
    let mut snapshot = labs.store.snapshot(None).await?;
    let (_, answers) = snapshot
        .select(&Select::all(Relation::Given { columns, tuples }))
        .await?;
    assert_eq!(cells_of(&answers.try_concat().await?)?, [row, empty]);
    Ok(())
}
