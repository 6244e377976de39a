//! A question as one statement: its pages while rows change, a view that changes under it, a connection that is lost, and whoever breaks off.

use std::collections::BTreeMap;
use std::time::Duration;

use e2e::deadline;
use fhir_core::resource::{Content, State};
use fhir_core::row::Cell;
use futures::{StreamExt as _, TryStreamExt as _};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use view_store::{Answer, Condition, OrderBy, Relation, RowKey, Select, StoreError};

use super::fixture::{Fixture, at, cells_of, deleted, everything, observation};

/// Rows that are walked over.
const RESOURCES: usize = 60;
/// How often they are.
const WALKS: usize = 40;

/// Few values, so that many rows are equal, and some without one.
fn state(id: &str, version: i64, dice: &mut StdRng) -> State {
    match dice.random_range(0..4) {
        0 => State {
            content: Content::Body(
                format!(r#"{{"resourceType":"Observation","id":"{id}","status":"final"}}"#).into_bytes(),
            ),
            ..observation(id, version, "1")
        },
        value => observation(id, version, &value.to_string()),
    }
}

/// Every order over these columns, each of them up or down or not at all.
fn orders() -> Vec<Vec<OrderBy>> {
    let mut orders = vec![Vec::new()];
    for column in ["value", "status", "id"] {
        let by = |descending| OrderBy {
            column: column.into(),
            descending,
        };
        let longer = |order: &Vec<OrderBy>| {
            [false, true].map(|descending| order.iter().cloned().chain([by(descending)]).collect())
        };
        orders = orders
            .iter()
            .flat_map(|order| [vec![order.clone()], longer(order).to_vec()].concat())
            .collect();
    }
    orders
}

#[tokio::test]
async fn law_1_a_row_that_stays_is_on_one_page_and_no_other_whatever_else_changes() -> anyhow::Result<()> {
    let mut dice = StdRng::seed_from_u64(11);
    let ids: Vec<String> = (0..RESOURCES).map(|number| format!("r{number:02}")).collect();
    let states: Vec<State> = ids.iter().map(|id| state(id, 1, &mut dice)).collect();
    let labs = Fixture::with_labs(&states).await?;
    let orders = orders();
    let (mut n, mut versions) = (1, BTreeMap::<String, i64>::new());
    for walk in 0..WALKS {
        let order = orders[dice.random_range(0..orders.len())].clone();
        let mut page = Select {
            order,
            with_keys: true,
            ..everything()
        };
        let before = labs.ask(&page).await?;
        let (mut seen, mut changed) = (Vec::new(), Vec::new());
        loop {
            page.limit = Some(1 + dice.random_range(0..9));
            let rows = labs.ask(&page).await?;
            let Some(last) = rows.last() else { break };
            page.after = last.key()?;
            seen.extend(keys(&rows)?);
            // Others come, go and move meanwhile.
            if dice.random_range(0..2) == 0 {
                let id = &ids[dice.random_range(0..ids.len())];
                let version = versions.entry(id.clone()).or_insert(1);
                (n, *version) = (n + 1, *version + 1);
                let change = match dice.random_range(0..3) {
                    0 => deleted(id, *version),
                    _ => state(id, *version, &mut dice),
                };
                labs.apply(n, &[change]).await?;
                changed.push(id.clone());
            }
        }
        let stayed = |keys: Vec<RowKey>| -> Vec<RowKey> {
            keys.into_iter()
                .filter(|key| !changed.contains(&key.id))
                .collect()
        };
        assert_eq!(
            stayed(seen),
            stayed(keys(&before)?),
            "walk {walk}: {:?}",
            page.order
        );
    }
    Ok(())
}

/// Changes that are applied while it is asked.
const CHANGES: i64 = 300;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_3_rows_and_freshness_of_one_statement_are_of_one_snapshot() -> anyhow::Result<()> {
    let labs = Fixture::with_labs(&[observation("a", 1, "1")]).await?;
    let view = labs.store.views().await?.remove(0);
    let columns = labs.views().await?.views[0].columns().to_vec();
    let (mut answers, mut seen) = (0, std::collections::BTreeSet::new());
    // The value is the number of the reading that the mark is moved to with it.
    let writing = async {
        for n in 2..=CHANGES {
            labs.apply(n, &[observation("a", n, &n.to_string())]).await?;
        }
        anyhow::Ok(())
    };
    let mut writing = std::pin::pin!(writing);
    loop {
        let reading = async {
            let asked = labs.store.ask(&view, &columns, &everything()).await?;
            let as_of = asked.freshness.merged();
            let rows = asked.rows.try_concat().await?;
            anyhow::Ok((as_of, cells_of(&rows)?))
        };
        tokio::select! {
            biased;
            written = &mut writing => {
                written?;
                break;
            }
            read = reading => {
                let (as_of, rows) = read?;
                assert_eq!(rows.len(), 1);
                let Cell::Decimal(value) = &rows[0][2] else {
                    anyhow::bail!("no value")
                };
                let n: i64 = value.parse()?;
                assert_eq!(as_of, Some(at(10 * n)), "value {n}");
                (answers, _) = (answers + 1, seen.insert(n));
            }
        }
    }
    println!("{answers} answers, of {} readings", seen.len());
    assert!(seen.len() > 10);
    Ok(())
}

#[tokio::test]
async fn values_of_places_may_hold_anything_that_a_row_holds() -> anyhow::Result<()> {
    let odd = ["'", "\"", "\\", "%", "🙂", "a b", "a\u{301}", ""];
    let mut states = Vec::new();
    for (number, text) in odd.iter().enumerate() {
        let id = format!("o{number}");
        let body = serde_json::json!({"resourceType": "Observation", "id": id, "status": text, "valueQuantity": {"value": 0.1}});
        states.push(State {
            content: Content::Body(body.to_string().into_bytes()),
            ..observation(&id, 1, "1")
        });
    }
    let labs = Fixture::with_labs(&states).await?;
    for descending in [false, true] {
        let mut page = Select {
            columns: vec!["id".into()],
            order: vec![OrderBy {
                column: "status".into(),
                descending,
            }],
            with_keys: true,
            ..everything()
        };
        let all = labs.ask(&page).await?;
        page.limit = Some(1);
        let mut seen = Vec::new();
        while let Some(row) = labs.ask(&page).await?.pop() {
            page.after = row.key()?;
            seen.push(row);
        }
        assert_eq!(keys(&seen)?, keys(&all)?);
        assert_eq!(cells_of(&seen)?, cells_of(&all)?);
    }
    Ok(())
}

#[tokio::test]
async fn a_question_over_a_definition_of_before_is_told_so_and_one_without_rows_has_its_freshness()
-> anyhow::Result<()> {
    let labs = Fixture::with_labs(&[observation("a", 1, "1")]).await?;
    let view = labs.store.views().await?.remove(0);
    let columns = labs.views().await?.views[0].columns().to_vec();
    let none = Select {
        limit: Some(0),
        ..everything()
    };
    let mut old = view.clone();
    old.hash = "0".repeat(64);
    for (asked, view, right) in [(&none, &view, true), (&everything(), &old, false)] {
        match labs.store.ask(view, &columns, asked).await {
            Ok(asked) => {
                assert!(right);
                assert_eq!(asked.freshness.merged(), Some(at(10)));
            }
            Err(StoreError::ViewsChanged { .. }) => assert!(!right),
            Err(error) => return Err(error.into()),
        }
    }
    labs.store.drop_view("labs").await?;
    assert!(matches!(
        labs.store.ask(&view, &columns, &everything()).await.err(),
        Some(StoreError::ViewsChanged { .. })
    ));
    Ok(())
}

#[tokio::test]
async fn a_table_that_is_rewritten_while_a_question_waits_for_it_is_seen_as_it_is_then() -> anyhow::Result<()>
{
    let labs = Fixture::with_labs(&[observation("a", 1, "1"), observation("b", 1, "2")]).await?;
    let some = Select {
        condition: Some(Condition::ResourceId(vec!["a".into(), "b".into()])),
        ..everything()
    };
    // Which waits for the lock too.
    let view = labs.store.views().await?.remove(0);
    let columns = labs.views().await?.views[0].columns().to_vec();
    let mut watcher = labs.connect().await?;
    let waiting = format!("SELECT count(*) {BACKENDS} AND wait_event_type = 'Lock'");
    for select in [everything(), some] {
        let mut other = labs.connect().await?;
        // A snapshot of before would see an empty table, and the registry as it is.
        sqlx::raw_sql(
            "BEGIN; LOCK TABLE sqlonfhir_base.labs IN ACCESS EXCLUSIVE MODE; CREATE TEMP TABLE kept AS SELECT * FROM sqlonfhir_base.labs; \
             TRUNCATE sqlonfhir_base.labs; INSERT INTO sqlonfhir_base.labs SELECT * FROM kept",
        )
        .execute(&mut other)
        .await?;
        let ((), asked) = tokio::try_join!(
            async {
                for_count(&mut watcher, &waiting, 1).await?;
                sqlx::raw_sql("COMMIT").execute(&mut other).await?;
                anyhow::Ok(())
            },
            async { anyhow::Ok(labs.store.ask(&view, &columns, &select).await?) }
        )?;
        let rows: Vec<Vec<Answer>> = asked.rows.try_collect().await?;
        assert_eq!(rows.iter().map(Vec::len).sum::<usize>(), 2);
    }
    Ok(())
}

/// Processes of the database that are asked by a view store.
const BACKENDS: &str =
    "FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'researchflow'";

#[tokio::test]
async fn lost_connections_cost_no_answer() -> anyhow::Result<()> {
    let labs = Fixture::with_labs(&[observation("a", 1, "1")]).await?;
    let view = labs.store.views().await?.remove(0);
    let columns = labs.views().await?.views[0].columns().to_vec();
    let mut other = labs.connect().await?;
    let kill = format!("SELECT count(pg_terminate_backend(pid)) {BACKENDS}");
    let mut killed = 0;
    for _ in 0..5 {
        let asked = labs.store.ask(&view, &columns, &everything()).await?;
        assert_eq!(asked.rows.count().await, 1);
        killed += sqlx::query_scalar::<_, i64>(AssertSqlSafe(kill.clone()))
            .fetch_one(&mut other)
            .await?;
    }
    assert!(killed > 0);
    Ok(())
}

#[tokio::test]
async fn whoever_breaks_off_ends_the_query_in_the_database() -> anyhow::Result<()> {
    let labs = Fixture::with_labs(&[observation("a", 1, "1")]).await?;
    let store = labs.store.clone();
    let view = store.views().await?.remove(0);
    let columns = labs.views().await?.views[0].columns().to_vec();
    let mut other = PgConnection::connect(&labs.url).await?;
    let mut lock = other.begin().await?;
    sqlx::raw_sql("LOCK TABLE sqlonfhir_base.labs IN ACCESS EXCLUSIVE MODE")
        .execute(&mut *lock)
        .await?;
    let asking = tokio::spawn(async move {
        let select = Select::all(Relation::Merged("labs".into()));
        store.ask(&view, &columns, &select).await.map(|_| ())
    });
    let waiting = format!("SELECT count(*) {BACKENDS} AND wait_event_type = 'Lock'");
    let mut watcher = labs.connect().await?;
    let mut until = async |count: i64| for_count(&mut watcher, &waiting, count).await;
    until(1).await?;
    asking.abort();
    until(0).await?;
    Ok(())
}

async fn for_count(watcher: &mut PgConnection, sql: &str, wanted: i64) -> anyhow::Result<()> {
    let watcher = tokio::sync::Mutex::new(watcher);
    deadline::until("queries to begin or end", Duration::from_secs(20), || async {
        let mut watcher = watcher.lock().await;
        let count: i64 = sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
            .fetch_one(&mut **watcher)
            .await
            .ok()?;
        (count == wanted).then_some(())
    })
    .await
}

fn keys(rows: &[Answer]) -> Result<Vec<RowKey>, StoreError> {
    rows.iter().filter_map(|row| row.key().transpose()).collect()
}
