//! Runs of the batch: incremental, full and joining, while readers read and live changes come.

use std::time::Duration;

use anyhow::Context as _;
use e2e::deadline;
use e2e::staged::load;
use fhir_core::resource::State;
use fhir_core::row::Cell;
use fhir_core::view::CompiledView;
use sqlx::Connection as _;
use view_store::{PutOutcome, ReadingAt, RunKind, Select, SliceOutcome, SlicePlan, StoreError, ViewState};

use super::fixture::{
    Fixture, OBSERVATION, PLAN, WITH_UNIT, at, evaluated, everything, observation, position, rows, stage,
};

/// How long a server may take to notice that a session is gone.
const LIMIT: Duration = Duration::from_secs(20);

#[tokio::test]
async fn live_changes_during_a_run_stay_and_the_batch_rows_wait_behind_them() -> anyhow::Result<()> {
    let labs = Fixture::with_labs(&[observation("a", 1, "1"), observation("b", 1, "1")]).await?;
    let mut run = labs.begin(RunKind::Incremental).await?;
    stage(&mut run, &[observation("a", 2, "2"), observation("b", 2, "2")]).await?;
    assert_eq!(
        run.publish_slice(
            &position(2),
            SlicePlan {
                resources: 1,
                unchanged_too: false
            }
        )
        .await?,
        SliceOutcome::More
    );
    // Both become live by a later reading: `a` after its slice, `b` before it.
    labs.apply(3, &[observation("a", 3, "3"), observation("b", 3, "3")])
        .await?;
    assert_eq!(
        run.publish_slice(&position(2), PLAN).await?,
        SliceOutcome::Finished
    );
    assert_eq!(labs.merged().await?, "a=3 b=3");
    assert_eq!(labs.batch_only().await?, "a=2 b=2");
    assert_eq!(labs.store.live_ids(OBSERVATION).await?, ["a", "b"]);
    Ok(())
}

#[tokio::test]
async fn a_full_run_publishes_differences_and_takes_away_what_is_gone() -> anyhow::Result<()> {
    let labs = Fixture::with_labs(&[
        observation("a", 1, "1"),
        observation("b", 1, "1"),
        observation("c", 1, "1"),
    ])
    .await?;
    labs.apply(2, &[observation("d", 1, "1")]).await?;
    let mut damaged = labs.connect().await?;
    sqlx::raw_sql("UPDATE sqlonfhir_base.labs SET value = 1.0 WHERE id LIKE '%b'")
        .execute(&mut damaged)
        .await?;
    let mut run = labs.begin(RunKind::Full).await?;
    load(&mut run, &[observation("a", 1, "1"), observation("b", 1, "1")]).await?;
    run.stage_gone(at(30)).await?;
    while run.publish_slice(&position(3), PLAN).await? == SliceOutcome::More {}
    // Of four, `b` differed by its scale, `c` and `d` are gone; d is live, so it is published again by the last slice.
    assert_eq!(run.progress().0, 4);
    assert_eq!(labs.merged().await?, "a=1 b=1");
    assert_eq!(labs.layers().await?, (2, 0, 0));
    let ledger: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlonfhir_meta.ledger WHERE id = 'a'")
        .fetch_one(&mut damaged)
        .await?;
    assert_eq!(ledger, 0, "what does not differ is not published");
    Ok(())
}

#[tokio::test]
async fn law_8_a_reader_never_sees_half_of_a_refresh_nor_of_a_join() -> anyhow::Result<()> {
    let old: Vec<State> = (0..20)
        .map(|i| observation(&format!("p{i:02}"), 1, "1"))
        .collect();
    let new: Vec<State> = (0..20)
        .map(|i| observation(&format!("p{i:02}"), 2, "2"))
        .collect();
    let labs = Fixture::with_labs(&old).await?;
    let mut reader = labs.connect().await?;
    let mut snapshot = reader.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ").await?;
    let before = rows(&mut snapshot, "sqlonfhir.labs").await?;

    let mut run = labs.begin(RunKind::Full).await?;
    load(&mut run, &new).await?;
    loop {
        let outcome = run
            .publish_slice(
                &position(2),
                SlicePlan {
                    resources: 3,
                    unchanged_too: false,
                },
            )
            .await?;
        assert_eq!(rows(&mut snapshot, "sqlonfhir.labs").await?, before);
        let doubled: i64 = sqlx::query_scalar("SELECT count(*) - count(DISTINCT id) FROM sqlonfhir.labs")
            .fetch_one(&mut labs.connect().await?)
            .await?;
        assert_eq!(doubled, 0);
        if outcome == SliceOutcome::Finished {
            break;
        }
    }
    run.end().await?;

    // A replaced definition and a new view join while the reader is still there.
    assert_eq!(labs.put("labs", WITH_UNIT).await?, PutOutcome::Replacing);
    assert_eq!(labs.put("labs_too", "").await?, PutOutcome::Created);
    assert!(labs.store.needs_join(OBSERVATION).await?);
    let joined = {
        let store = labs.store.clone();
        let states = new.clone();
        tokio::spawn(async move {
            let mut run = store
                .begin_run(OBSERVATION, RunKind::Join, false)
                .await?
                .context("the type is free")?;
            load(&mut run, &states).await?;
            run.lock_for_join().await?;
            run.stage_gone(at(30)).await?;
            run.join(&position(3)).await?;
            anyhow::Ok(run.end().await?)
        })
    };
    // Adding columns needs the reader to let go for a moment; until then it sees what it saw, and others are served.
    for _ in 0..5 {
        assert_eq!(rows(&mut snapshot, "sqlonfhir.labs").await?, before);
        assert_eq!(labs.merged().await?.matches("=2").count(), 20);
    }
    snapshot.rollback().await?;
    tokio::time::timeout(Duration::from_secs(30), joined).await???;
    let mut connection = labs.connect().await?;
    let units: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlonfhir.labs WHERE unit = 'mg'")
        .fetch_one(&mut connection)
        .await?;
    assert_eq!(units, 20);
    assert_eq!(
        rows(&mut connection, "sqlonfhir.labs_too").await?,
        labs.merged().await?
    );
    assert!(!labs.store.needs_join(OBSERVATION).await?);
    assert!(
        labs.store
            .views()
            .await?
            .iter()
            .all(|v| v.state == ViewState::Active && v.row_count == Some(20))
    );
    Ok(())
}

#[tokio::test]
async fn keys_and_tagged_columns_are_indexed_and_what_is_described_is_commented() -> anyhow::Result<()> {
    let labs = Fixture::with_labs(&[observation("a", 1, "1")]).await?;
    let mut connection = labs.connect().await?;
    let indexed = "SELECT string_agg(replace(schemaname, 'sqlonfhir_', '') || ' ' || substring(indexdef FROM '\\(.*'), ', ' ORDER BY schemaname, indexname) \
                   FROM pg_indexes WHERE tablename = 'labs' AND indexdef NOT LIKE '%\\_rid%'";
    let all: String = sqlx::query_scalar(indexed).fetch_one(&mut connection).await?;
    assert_eq!(all, "base (id), live (id), shadowed (id)");
    // A replacement brings one, and loses none.
    let tagged = r#", {"name": "unit", "path": "value.ofType(Quantity).unit", "description": "of the value", "tag": [{"name": "index", "value": "btree"}]}"#;
    assert_eq!(labs.put("labs", tagged).await?, PutOutcome::Replacing);
    labs.join(2, &[observation("a", 1, "1")]).await?;
    let all: String = sqlx::query_scalar(indexed).fetch_one(&mut connection).await?;
    assert_eq!(
        all,
        "base (id), base (unit), live (id), live (unit), shadowed (id), shadowed (unit)"
    );
    let comment: String = sqlx::query_scalar(
        "SELECT col_description('sqlonfhir.labs'::regclass, attnum) FROM pg_attribute WHERE attrelid = 'sqlonfhir.labs'::regclass AND attname = 'unit'",
    )
    .fetch_one(&mut connection)
    .await?;
    assert_eq!(comment, "of the value");
    // What an index cannot take is an error of its resource, not of the load.
    let long = |mut state: State| {
        if let fhir_core::resource::Content::Body(body) = &mut state.content {
            *body = String::from_utf8(body.clone())?
                .replace("\"mg\"", &format!("\"{}\"", "m".repeat(3000)))
                .into_bytes();
        }
        anyhow::Ok(state)
    };
    labs.publish(
        RunKind::Full,
        3,
        &[observation("a", 1, "1"), long(observation("long", 1, "1"))?],
    )
    .await?;
    assert_eq!(labs.merged().await?, "a=1");
    let reason: String = sqlx::query_scalar("SELECT reason FROM sqlonfhir.errors WHERE id = 'long'")
        .fetch_one(&mut connection)
        .await?;
    assert!(reason.contains("unit") && reason.contains("index"), "{reason}");
    Ok(())
}

#[tokio::test]
async fn a_joining_view_is_not_seen_before_and_its_loader_may_die() -> anyhow::Result<()> {
    let labs = Fixture::with_labs(&[observation("a", 1, "1")]).await?;
    labs.put("later", WITH_UNIT).await?;
    let before = labs.views().await?.generation;
    {
        let mut run = labs.begin(RunKind::Join).await?;
        assert_eq!(run.views().views.len(), 2);
        load(&mut run, &[observation("a", 1, "1"), observation("left", 1, "1")]).await?;
        assert!(
            labs.store
                .begin_run(OBSERVATION, RunKind::Incremental, false)
                .await?
                .is_none(),
            "one run of a type at a time"
        );
        assert!(matches!(
            labs.store.snapshot(Some("later")).await.err(),
            None | Some(StoreError::UnknownView { .. })
        ));
        assert_eq!(labs.views().await?.views.len(), 1);
        run.lock_for_join().await?;
    }
    // The dead run's session ends a moment later, and with it its locks.
    let run = deadline::until("the dead run's lock", LIMIT, || async {
        labs.store
            .begin_run(OBSERVATION, RunKind::Join, false)
            .await
            .ok()
            .flatten()
    })
    .await?;
    run.end().await?;
    let later = [observation("a", 2, "2")];
    deadline::until_ok("the dead run's transaction to end", LIMIT, || {
        labs.apply(2, &later)
    })
    .await?;
    labs.publish(RunKind::Incremental, 3, &[observation("a", 2, "2")])
        .await?;

    labs.join(4, &[observation("a", 2, "2")]).await?;
    let mut connection = labs.connect().await?;
    assert_eq!(rows(&mut connection, "sqlonfhir.later").await?, "a=2");
    assert_eq!(labs.views().await?.generation, before + 1);
    Ok(())
}

#[tokio::test]
async fn law_7_a_view_that_cannot_join_says_why_whether_it_is_new_or_replaced() -> anyhow::Result<()> {
    let labs = Fixture::with_labs(&[observation("a", 1, "1")]).await?;
    labs.put("kept", "").await?;
    labs.join(2, &[observation("a", 1, "1")]).await?;
    assert_eq!(labs.put("labs", WITH_UNIT).await?, PutOutcome::Replacing);
    assert_eq!(labs.put("new", "").await?, PutOutcome::Created);
    labs.store.fail_joining(OBSERVATION, "for this reason").await?;
    let told = async || -> anyhow::Result<Vec<(String, ViewState, Option<String>)>> {
        let views = labs.store.views().await?;
        Ok(views.into_iter().map(|v| (v.name, v.state, v.reason)).collect())
    };
    let reason = Some("for this reason".to_owned());
    let failed = [
        ("kept".to_owned(), ViewState::Active, None),
        ("labs".to_owned(), ViewState::Stale, reason.clone()),
        ("new".to_owned(), ViewState::Error, reason),
    ];
    assert_eq!(told().await?, failed);
    assert_eq!(
        labs.merged().await?,
        "a=1",
        "the rows of the definition before are shown"
    );
    // The same failure again is no change that watchers need to hear of.
    let generation = labs.store.registry_generation().await?;
    labs.store.fail_joining(OBSERVATION, "for this reason").await?;
    assert_eq!(labs.store.registry_generation().await?, generation);

    labs.join(3, &[observation("a", 1, "1")]).await?;
    assert!(
        told()
            .await?
            .iter()
            .all(|(_, state, reason)| *state == ViewState::Active && reason.is_none())
    );
    Ok(())
}

#[tokio::test]
async fn an_older_run_is_fenced_off_by_its_number() -> anyhow::Result<()> {
    let labs = Fixture::with_labs(&[observation("a", 1, "1"), observation("b", 1, "1")]).await?;
    let mut old = labs.begin(RunKind::Incremental).await?;
    stage(&mut old, &[observation("a", 2, "2"), observation("b", 2, "2")]).await?;
    assert_eq!(
        old.publish_slice(
            &position(2),
            SlicePlan {
                resources: 1,
                unchanged_too: false
            }
        )
        .await?,
        SliceOutcome::More
    );
    // A newer run has published: as if this one's session had lost the run lock.
    let mut connection = labs.connect().await?;
    sqlx::raw_sql("UPDATE sqlonfhir_meta.resource_type SET newest = 3")
        .execute(&mut connection)
        .await?;
    assert_eq!(old.publish_slice(&position(2), PLAN).await?, SliceOutcome::Fenced);
    assert_eq!(labs.merged().await?, "a=2 b=1");
    assert_eq!(
        labs.store.type_state(OBSERVATION).await?.published,
        Some(position(1))
    );
    Ok(())
}

#[tokio::test]
async fn a_definition_that_drops_or_retypes_columns_needs_force() -> anyhow::Result<()> {
    let labs = Fixture::with_labs(&[observation("a", 1, "1")]).await?;
    assert_eq!(labs.put("labs", "").await?, PutOutcome::Unchanged);
    let values = Select {
        columns: vec!["value".into()],
        ..everything()
    };
    assert_eq!(labs.select(&values).await?.len(), 1);
    let narrow = r#"{"resourceType":"ViewDefinition","name":"labs","resource":"Observation","status":"active",
                     "select":[{"column":[{"name":"id","path":"getResourceKey()"},{"name":"value","path":"status"}]}]}"#;
    let compiled = CompiledView::from_json(narrow)?;
    let refused = labs
        .store
        .put_view(&compiled, narrow, false)
        .await
        .expect_err("columns go");
    let message = refused.to_string();
    assert!(
        message.contains("column status is dropped") && message.contains("from numeric to text"),
        "{message}"
    );
    assert_eq!(labs.merged().await?, "a=1");
    assert_eq!(
        labs.store.put_view(&compiled, narrow, true).await?,
        PutOutcome::Created
    );
    assert!(labs.views().await?.views.is_empty());
    labs.join(2, &[observation("a", 1, "1")]).await?;
    assert_eq!(labs.merged().await?, "a=final");
    // The same question as before, over a connection that knows it, now has another type.
    assert_eq!(labs.select(&values).await?, [[Cell::Text("final".into())]]);

    // Users' own views keep a view from being dropped.
    let mut connection = labs.connect().await?;
    sqlx::raw_sql("CREATE VIEW public.mine AS SELECT * FROM sqlonfhir.labs")
        .execute(&mut connection)
        .await?;
    assert!(matches!(
        labs.store.drop_view("labs").await,
        Err(StoreError::Incompatible(_))
    ));
    Ok(())
}

#[tokio::test]
async fn live_changes_wait_while_a_view_joins_and_are_evaluated_again_for_it() -> anyhow::Result<()> {
    let labs = Fixture::with_labs(&[observation("a", 1, "1")]).await?;
    let views = labs.views().await?;
    assert_eq!(labs.put("labs_too", "").await?, PutOutcome::Created);
    let mut run = labs.begin(RunKind::Join).await?;
    load(&mut run, &[observation("a", 1, "1")]).await?;
    run.lock_for_join().await?;

    // The merger comes between the last reading and the join: what it would write the new view would never have.
    let page = {
        let (store, views) = (labs.store.clone(), views.clone());
        tokio::spawn(async move {
            let reading = ReadingAt {
                state: evaluated(&views, &observation("b", 1, "2")),
                n: 9,
                as_of: at(9),
            };
            store.apply_page(&views, None, &[reading], None).await
        })
    };
    let waiting = "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted \
                   AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))";
    e2e::postgres::until_true(&labs.url, waiting, Duration::from_secs(10)).await?;
    assert!(!page.is_finished());
    run.stage_gone(at(3)).await?;
    assert_eq!(run.join(&position(3)).await?, SliceOutcome::Finished);
    run.end().await?;

    let refused = tokio::time::timeout(Duration::from_secs(10), page).await??;
    assert!(
        matches!(refused, Err(StoreError::ViewsChanged { .. })),
        "{refused:?}"
    );
    let views = labs.views().await?;
    let reading = ReadingAt {
        state: evaluated(&views, &observation("b", 1, "2")),
        n: 9,
        as_of: at(9),
    };
    assert!(
        labs.store
            .apply_page(&views, None, &[reading], None)
            .await?
            .is_some()
    );
    let mut connection = labs.connect().await?;
    assert_eq!(
        rows(&mut connection, "sqlonfhir.labs_too").await?,
        rows(&mut connection, "sqlonfhir.labs").await?
    );
    Ok(())
}
