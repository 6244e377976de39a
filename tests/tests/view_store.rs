//! The view store on a real PostgreSQL: what readers see while live changes are applied, runs publish and views join.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use anyhow::Context as _;
use chrono::{DateTime, TimeDelta, Utc};
use e2e::postgres::Postgres;
use fhir_core::merge::{Mark, Position};
use fhir_core::resource::{Content, State};
use fhir_core::row::Cell;
use fhir_core::view::CompiledView;
use futures::TryStreamExt as _;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};
use view_store::{
    Condition, LastPage, Operator, OrderBy, PutOutcome, ReadingAt, ReceivedPreview, Relation, Run, RunKind,
    Select, SliceOutcome, SlicePlan, Staged, StoreError, StoreSettings, TypeViews, ViewState, ViewStore,
    evaluate,
};

const OBSERVATION: &str = "Observation";

const PLAN: SlicePlan = SlicePlan {
    resources: 2,
    unchanged_too: false,
};

/// A definition over Observation: an id, an exact number, codes as a collection, and what else is asked.
fn definition(name: &str, more: &str) -> String {
    format!(
        r#"{{"resourceType": "ViewDefinition", "name": "{name}", "resource": "Observation", "status": "active", "select": [{{"column": [
            {{"name": "id", "path": "getResourceKey()"}},
            {{"name": "status", "path": "status"}},
            {{"name": "value", "path": "value.ofType(Quantity).value", "type": "decimal"}},
            {{"name": "codes", "path": "code.coding.code", "collection": true}}{more}]}}]}}"#
    )
}

const WITH_UNIT: &str = r#", {"name": "unit", "path": "value.ofType(Quantity).unit"}"#;

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000 + second, 0).expect("a time")
}

fn observation(id: &str, version: i64, value: &str) -> State {
    let body = format!(
        r#"{{"resourceType":"Observation","id":"{id}","meta":{{"versionId":"{version}"}},"status":"final",
            "code":{{"coding":[{{"code":"a-{id}"}},{{"code":"b"}}]}},"valueQuantity":{{"value":{value},"unit":"mg"}}}}"#
    );
    State {
        id: id.into(),
        version,
        last_updated: at(version),
        content: Content::Body(body.into_bytes()),
    }
}

fn deleted(id: &str, version: i64) -> State {
    State {
        id: id.into(),
        version,
        last_updated: at(version),
        content: Content::Deleted,
    }
}

fn position(n: i64) -> Position {
    Position {
        n,
        as_of: at(10 * n),
        bound: at(10 * n - 90),
        xmin: 700 + n.unsigned_abs(),
        timeline: "7001/1".into(),
    }
}

fn mark(n: i64) -> Mark {
    Mark { n, as_of: at(10 * n) }
}

/// One server for the tests that run at the same time; it ends with the last of them.
async fn server() -> anyhow::Result<Arc<Postgres>> {
    static SHARED: tokio::sync::Mutex<Weak<Postgres>> = tokio::sync::Mutex::const_new(Weak::new());
    let mut shared = SHARED.lock().await;
    if let Some(server) = shared.upgrade() {
        return Ok(server);
    }
    let server = Arc::new(Postgres::start().await?);
    *shared = Arc::downgrade(&server);
    Ok(server)
}

/// A database of its own.
async fn database(server: &Postgres) -> anyhow::Result<(String, String)> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("views_{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let url = server.create_database(&name).await?;
    Ok((name, url))
}

struct Fixture {
    server: Arc<Postgres>,
    database: String,
    store: ViewStore,
    url: String,
}

impl Fixture {
    /// A migrated database without views.
    async fn empty() -> anyhow::Result<Self> {
        let server = server().await?;
        let (database, url) = database(&server).await?;
        let store = connect(&url).await?;
        store.migrate().await?;
        Ok(Self {
            server,
            database,
            store,
            url,
        })
    }

    /// With the view `labs`, materialised over these states by run 1.
    async fn with_labs(states: &[State]) -> anyhow::Result<Self> {
        let fixture = Self::empty().await?;
        fixture.put("labs", "").await?;
        fixture.join(1, states).await?;
        Ok(fixture)
    }

    async fn put(&self, name: &str, more: &str) -> Result<PutOutcome, StoreError> {
        let text = definition(name, more);
        self.store
            .put_view(
                &CompiledView::from_json(&text).expect("a valid definition"),
                &text,
                false,
            )
            .await
    }

    async fn views(&self) -> Result<TypeViews, StoreError> {
        self.store.type_views(OBSERVATION).await
    }

    async fn begin(&self, kind: RunKind) -> anyhow::Result<Run> {
        self.store
            .begin_run(OBSERVATION, kind)
            .await?
            .context("the type is free")
    }

    async fn join(&self, n: i64, states: &[State]) -> anyhow::Result<()> {
        let mut run = self.begin(RunKind::Join).await?;
        stage(&mut run, states, Staged::Loaded).await?;
        run.lock_for_join().await?;
        run.stage_gone(at(10 * n)).await?;
        let live = run.live_ids().await?;
        anyhow::ensure!(live.is_empty(), "these tests join while nothing is live");
        assert_eq!(run.join(&position(n)).await?, SliceOutcome::Finished);
        Ok(run.end().await?)
    }

    async fn publish(&self, kind: RunKind, n: i64, states: &[State]) -> anyhow::Result<()> {
        let mut run = self.begin(kind).await?;
        let how = if kind == RunKind::Incremental {
            Staged::Changed
        } else {
            Staged::Loaded
        };
        stage(&mut run, states, how).await?;
        if kind == RunKind::Full {
            run.stage_gone(at(10 * n)).await?;
        }
        while run.publish_slice(&position(n), PLAN).await? == SliceOutcome::More {}
        Ok(run.end().await?)
    }

    /// One answer of the speed store: readings of number `n`, and its mark.
    async fn apply(&self, n: i64, states: &[State]) -> anyhow::Result<usize> {
        let views = self.views().await?;
        let start = self.store.type_state(OBSERVATION).await?.speed;
        let readings: Vec<ReadingAt> = states
            .iter()
            .map(|s| ReadingAt {
                state: evaluate(&views, s),
                n,
                as_of: at(10 * n),
            })
            .collect();
        let last = LastPage {
            previews: vec![],
            mark: Some(mark(n)),
        };
        let page = self
            .store
            .apply_page(&views, start, &readings, Some(&last))
            .await?
            .context("the cursor has not moved")?;
        Ok(page.readings)
    }

    async fn preview(&self, state: &State, received: i64) -> anyhow::Result<usize> {
        let views = self.views().await?;
        let start = self.store.type_state(OBSERVATION).await?.speed;
        let previews = vec![ReceivedPreview {
            state: evaluate(&views, state),
            received: at(received),
        }];
        let last = LastPage { previews, mark: None };
        let page = self
            .store
            .apply_page(&views, start, &[], Some(&last))
            .await?
            .context("the cursor has not moved")?;
        Ok(page.previews)
    }

    async fn connect(&self) -> anyhow::Result<PgConnection> {
        Ok(PgConnection::connect(&self.url).await?)
    }

    /// `id=value` of each row, in order.
    async fn merged(&self) -> anyhow::Result<String> {
        rows(&mut self.connect().await?, "sqlonfhir.labs").await
    }

    async fn batch_only(&self) -> anyhow::Result<String> {
        rows(&mut self.connect().await?, "sqlonfhir_batch.labs").await
    }

    /// Rows in base, live and shadowed.
    async fn layers(&self) -> anyhow::Result<(i64, i64, i64)> {
        let sql = "SELECT (SELECT count(*) FROM sqlonfhir_base.labs), (SELECT count(*) FROM sqlonfhir_live.labs), \
                          (SELECT count(*) FROM sqlonfhir_shadowed.labs)";
        Ok(sqlx::query_as(sql).fetch_one(&mut self.connect().await?).await?)
    }

    async fn select(&self, select: &Select) -> Result<Vec<Vec<Cell<'static>>>, StoreError> {
        let mut snapshot = self.store.snapshot(Some("labs")).await?;
        let (_, answers) = snapshot.select(select).await?;
        Ok(answers.map_ok(|a| a.cells).try_collect().await?)
    }
}

async fn connect(url: &str) -> Result<ViewStore, StoreError> {
    ViewStore::connect(StoreSettings {
        url: url.into(),
        max_connections: 8,
        skew: TimeDelta::seconds(1),
    })
    .await
}

async fn stage(run: &mut Run, states: &[State], how: Staged) -> Result<(), StoreError> {
    let evaluated: Vec<_> = states.iter().map(|s| evaluate(run.views(), s)).collect();
    run.stage(&evaluated, how).await
}

async fn rows(connection: &mut PgConnection, view: &str) -> anyhow::Result<String> {
    let sql =
        format!("SELECT coalesce(string_agg(id || '=' || value, ' ' ORDER BY id, value), '') FROM {view}");
    Ok(sqlx::query_scalar(AssertSqlSafe(sql))
        .fetch_one(connection)
        .await?)
}

fn all(relation: Relation) -> Select {
    Select {
        relation,
        columns: vec![],
        condition: None,
        max_resources: None,
        order: vec![],
        limit: None,
        count_only: false,
    }
}

fn everything() -> Select {
    all(Relation::Merged("labs".into()))
}

fn compare(column: &str, operator: Operator, values: &[&str]) -> Condition {
    Condition::Compare {
        column: column.into(),
        operator,
        values: values.iter().map(ToString::to_string).collect(),
    }
}

#[tokio::test]
async fn law_1_the_latest_reading_wins_and_law_4_the_batch_takes_over() -> anyhow::Result<()> {
    let labs = Fixture::with_labs(&[observation("a", 1, "1.0"), observation("b", 1, "2.50")]).await?;
    assert_eq!(labs.merged().await?, "a=1.0 b=2.50");

    // An update, a deletion and a new one, by a reading.
    assert_eq!(
        labs.apply(
            2,
            &[
                observation("a", 2, "1.1"),
                deleted("b", 2),
                observation("c", 1, "3")
            ]
        )
        .await?,
        3
    );
    assert_eq!(labs.merged().await?, "a=1.1 c=3");
    assert_eq!(labs.batch_only().await?, "a=1.0 b=2.50");
    assert_eq!(labs.layers().await?, (0, 2, 2));
    assert_eq!(labs.store.known_version(OBSERVATION, "b").await?.0, 2);

    // Late and repeated: an older reading of a later version changes nothing, a later reading of an older version does (HAPI went back).
    assert_eq!(labs.apply(2, &[observation("a", 9, "9")]).await?, 0);
    assert_eq!(labs.apply(3, &[observation("a", 1, "1.05")]).await?, 1);
    assert_eq!(labs.merged().await?, "a=1.05 c=3");

    // The hand-over: nothing lives any more, the answer is the same.
    labs.publish(
        RunKind::Incremental,
        4,
        &[
            observation("a", 1, "1.05"),
            deleted("b", 2),
            observation("c", 1, "3"),
        ],
    )
    .await?;
    assert_eq!(labs.merged().await?, "a=1.05 c=3");
    assert_eq!(labs.batch_only().await?, "a=1.05 c=3");
    assert_eq!(labs.layers().await?, (2, 0, 0));
    let state = labs.store.type_state(OBSERVATION).await?;
    assert_eq!(
        (state.published, state.speed, state.newest),
        (Some(position(4)), Some(mark(3)), 4)
    );
    assert_eq!(labs.store.views().await?[0].row_count, Some(2));

    // What the batch has read is not outranked by what was read before.
    assert_eq!(labs.apply(4, &[observation("c", 1, "0")]).await?, 0);
    Ok(())
}

#[tokio::test]
async fn previews_are_shown_until_a_reading_confirms_or_corrects_them() -> anyhow::Result<()> {
    let labs = Fixture::with_labs(&[observation("a", 1, "1")]).await?;
    // Dated before all that the batch has read, and not higher: no.
    assert_eq!(labs.preview(&observation("a", 2, "2"), 5).await?, 0);
    let fresh = State {
        last_updated: at(30),
        ..observation("a", 2, "2")
    };
    assert_eq!(labs.preview(&fresh, 31).await?, 1);
    assert_eq!(labs.preview(&fresh, 32).await?, 0);
    assert_eq!(labs.merged().await?, "a=2");
    let (drawn, ()) = labs
        .store
        .draw_number::<(), StoreError, _>(&["Patient", OBSERVATION], async || Ok(()))
        .await?;
    assert_eq!(
        (drawn.n, drawn.shown_previews),
        (1, vec![vec![], vec!["a".to_owned()]])
    );
    assert_eq!(drawn.published, [None, Some(position(1))]);

    // A reading from before its receipt may not have seen it; one from after has.
    assert_eq!(labs.apply(2, &[observation("a", 1, "1")]).await?, 0);
    assert_eq!(labs.merged().await?, "a=2");
    assert_eq!(labs.apply(4, &[observation("a", 1, "1")]).await?, 1);
    assert_eq!(labs.merged().await?, "a=1");
    Ok(())
}

#[tokio::test]
async fn readings_and_previews_of_one_answer_are_applied_one_after_the_other() -> anyhow::Result<()> {
    let labs = Fixture::with_labs(&[]).await?;
    let views = labs.views().await?;
    let reading = ReadingAt {
        state: evaluate(&views, &observation("a", 1, "1")),
        n: 2,
        as_of: at(20),
    };
    let preview = |version: i64, value, received| ReceivedPreview {
        state: evaluate(
            &views,
            &State {
                last_updated: at(40 + version),
                ..observation("a", version, value)
            },
        ),
        received: at(received),
    };
    let previews = vec![preview(3, "3", 50), preview(2, "2", 51), preview(4, "4", 52)];
    let page = labs
        .store
        .apply_page(
            &views,
            None,
            &[reading],
            Some(&LastPage {
                previews,
                mark: Some(mark(2)),
            }),
        )
        .await?;
    let page = page.context("the cursor has not moved")?;
    assert_eq!((page.readings, page.previews), (1, 2));
    assert_eq!(labs.merged().await?, "a=4");
    let entry: (i64, i64, String, DateTime<Utc>) =
        sqlx::query_as("SELECT n, version, layer, received FROM sqlonfhir_meta.ledger")
            .fetch_one(&mut labs.connect().await?)
            .await?;
    assert_eq!(entry, (2, 4, "live".into(), at(52)));
    Ok(())
}

#[tokio::test]
async fn a_cursor_that_has_moved_is_not_moved_again() -> anyhow::Result<()> {
    let labs = Fixture::with_labs(&[]).await?;
    let views = labs.views().await?;
    let last = LastPage {
        previews: vec![],
        mark: Some(mark(2)),
    };
    assert!(
        labs.store
            .apply_page(&views, None, &[], Some(&last))
            .await?
            .is_some()
    );
    assert!(
        labs.store
            .apply_page(&views, None, &[], Some(&last))
            .await?
            .is_none()
    );
    labs.store
        .apply_marks(&[
            (OBSERVATION.into(), None, mark(9)),
            ("Patient".into(), None, mark(9)),
        ])
        .await?;
    assert_eq!(labs.store.type_state(OBSERVATION).await?.speed, Some(mark(2)));
    labs.store
        .apply_marks(&[(OBSERVATION.into(), Some(mark(2)), mark(9))])
        .await?;
    assert_eq!(labs.store.type_state(OBSERVATION).await?.speed, Some(mark(9)));
    Ok(())
}

#[tokio::test]
async fn live_changes_during_a_run_stay_and_the_batch_rows_wait_behind_them() -> anyhow::Result<()> {
    let labs = Fixture::with_labs(&[observation("a", 1, "1"), observation("b", 1, "1")]).await?;
    let mut run = labs.begin(RunKind::Incremental).await?;
    stage(
        &mut run,
        &[observation("a", 2, "2"), observation("b", 2, "2")],
        Staged::Changed,
    )
    .await?;
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
    stage(
        &mut run,
        &[observation("a", 1, "1"), observation("b", 1, "1")],
        Staged::Loaded,
    )
    .await?;
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
    stage(&mut run, &new, Staged::Loaded).await?;
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
                .begin_run(OBSERVATION, RunKind::Join)
                .await?
                .context("the type is free")?;
            stage(&mut run, &states, Staged::Loaded).await?;
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
async fn a_joining_view_is_not_seen_before_and_its_loader_may_die() -> anyhow::Result<()> {
    let labs = Fixture::with_labs(&[observation("a", 1, "1")]).await?;
    labs.put("later", WITH_UNIT).await?;
    let before = labs.views().await?.generation;
    {
        let mut run = labs.begin(RunKind::Join).await?;
        assert_eq!(run.views().views.len(), 2);
        stage(
            &mut run,
            &[observation("a", 1, "1"), observation("left", 1, "1")],
            Staged::Loaded,
        )
        .await?;
        assert!(
            labs.store
                .begin_run(OBSERVATION, RunKind::Incremental)
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
    let run = e2e_wait(async || {
        labs.store
            .begin_run(OBSERVATION, RunKind::Join)
            .await
            .ok()
            .flatten()
    })
    .await?;
    run.end().await?;
    e2e_wait(async || labs.apply(2, &[observation("a", 2, "2")]).await.ok()).await?;
    labs.publish(RunKind::Incremental, 3, &[observation("a", 2, "2")])
        .await?;

    labs.join(4, &[observation("a", 2, "2")]).await?;
    let mut connection = labs.connect().await?;
    assert_eq!(rows(&mut connection, "sqlonfhir.later").await?, "a=2");
    assert_eq!(labs.views().await?.generation, before + 1);
    Ok(())
}

/// Asks until there is an answer.
async fn e2e_wait<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> anyhow::Result<T> {
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(answer) = ask().await {
            return Ok(answer);
        }
        anyhow::ensure!(std::time::Instant::now() < deadline, "no answer in time");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn an_older_run_is_fenced_off_by_its_number() -> anyhow::Result<()> {
    let labs = Fixture::with_labs(&[observation("a", 1, "1"), observation("b", 1, "1")]).await?;
    let mut old = labs.begin(RunKind::Incremental).await?;
    stage(
        &mut old,
        &[observation("a", 2, "2"), observation("b", 2, "2")],
        Staged::Changed,
    )
    .await?;
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
async fn whoever_writes_rows_of_other_views_than_the_types_is_refused() -> anyhow::Result<()> {
    let labs = Fixture::with_labs(&[observation("a", 1, "1")]).await?;
    labs.put("gone", "").await?;
    labs.join(2, &[observation("a", 1, "1")]).await?;
    let views = labs.views().await?;
    let mut run = labs.begin(RunKind::Incremental).await?;
    stage(&mut run, &[observation("a", 2, "2")], Staged::Changed).await?;
    labs.store.drop_view("gone").await?;
    let refused = labs
        .store
        .apply_page(
            &views,
            None,
            &[],
            Some(&LastPage {
                previews: vec![],
                mark: Some(mark(3)),
            }),
        )
        .await;
    assert!(matches!(refused, Err(StoreError::ViewsChanged { .. })));
    assert!(matches!(
        run.publish_slice(&position(3), PLAN).await,
        Err(StoreError::ViewsChanged { .. })
    ));
    assert!(
        matches!(labs.store.drop_view("gone").await, Err(StoreError::UnknownView { known, .. }) if known == "labs")
    );
    Ok(())
}

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

#[tokio::test]
async fn law_7_what_cannot_be_evaluated_is_recorded_and_cleared() -> anyhow::Result<()> {
    let labs = Fixture::with_labs(&[observation("a", 1, "1"), observation("b", 1, "1e200000")]).await?;
    let errors = || async {
        let mut connection = labs.connect().await?;
        let sql = "SELECT coalesce(string_agg(view || ' ' || id || ' ' || version, ', ' ORDER BY id), '') FROM sqlonfhir.errors";
        anyhow::Ok(
            sqlx::query_scalar::<_, String>(sql)
                .fetch_one(&mut connection)
                .await?,
        )
    };
    assert_eq!(errors().await?, "labs b 1");
    assert_eq!(labs.merged().await?, "a=1");
    labs.apply(2, &[observation("b", 2, "2"), observation("a", 2, "1e-99999")])
        .await?;
    assert_eq!(errors().await?, "labs a 2");
    assert_eq!(labs.merged().await?, "b=2");
    labs.publish(
        RunKind::Incremental,
        3,
        &[observation("b", 2, "2"), observation("a", 2, "1e-99999")],
    )
    .await?;
    assert_eq!(errors().await?, "labs a 2");
    assert_eq!(labs.store.views().await?[0].error_count, 1);
    // A full run settles what no difference in rows tells.
    sqlx::raw_sql("DELETE FROM sqlonfhir_meta.error")
        .execute(&mut labs.connect().await?)
        .await?;
    labs.publish(
        RunKind::Full,
        4,
        &[observation("b", 2, "2"), observation("a", 2, "1e-99999")],
    )
    .await?;
    assert_eq!(errors().await?, "labs a 2");
    Ok(())
}

#[tokio::test]
async fn selects_answer_conditions_of_every_kind() -> anyhow::Result<()> {
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
    let ids = |rows: Vec<Vec<Cell<'static>>>| -> String {
        rows.iter()
            .map(|r| {
                if let Cell::Text(id) = &r[0] {
                    id.to_string()
                } else {
                    String::new()
                }
            })
            .collect::<Vec<_>>()
            .join(" ")
    };
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
        assert_eq!(ids(labs.select(&select).await?), expected, "{condition:?}");
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
    let latest = Select {
        max_resources: Some(2),
        ..everything()
    };
    assert_eq!(ids(labs.select(&latest).await?), "o2 o5");
    let page = Select {
        order: vec![OrderBy {
            column: "value".into(),
            descending: true,
        }],
        limit: Some(2),
        ..everything()
    };
    assert_eq!(ids(labs.select(&page).await?), "o2 o5");
    let batch = Select {
        order: page.order.clone(),
        ..all(Relation::Batch("labs".into()))
    };
    assert_eq!(ids(labs.select(&batch).await?), "o5 o4 o3 o2 o1");

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
        matches!(labs.store.snapshot(Some("lab")).await.err(), Some(StoreError::UnknownView { known, .. }) if known == "labs")
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
        assert_eq!(answers.try_collect::<Vec<_>>().await?.len(), 500);
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
        ..all(given)
    };
    let (columns, answers) = snapshot.select(&select).await?;
    assert_eq!(columns.len(), 4);
    let answers: Vec<_> = answers.try_collect().await?;
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0].cells[2], Cell::Decimal("1.50".into()));
    Ok(())
}

#[tokio::test]
async fn a_definition_that_drops_or_retypes_columns_needs_force() -> anyhow::Result<()> {
    let labs = Fixture::with_labs(&[observation("a", 1, "1")]).await?;
    assert_eq!(labs.put("labs", "").await?, PutOutcome::Unchanged);
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
async fn roles_hold_the_least_rights() -> anyhow::Result<()> {
    let labs = Fixture::with_labs(&[observation("a", 1, "1")]).await?;
    labs.server
        .execute(
            &labs.database,
            "CREATE ROLE analyst LOGIN PASSWORD 'analyst' IN ROLE researchflow_reader;
             CREATE ROLE gateway LOGIN PASSWORD 'gateway' IN ROLE researchflow_merger",
        )
        .await?;
    let login = |name: &str| {
        let address = labs.url.rsplit('@').next().unwrap_or_default();
        format!(
            "postgres://{name}:{name}@{}",
            address.strip_prefix("postgres://").unwrap_or(address)
        )
    };
    let mut analyst = PgConnection::connect(&login("analyst")).await?;
    assert_eq!(rows(&mut analyst, "sqlonfhir.labs").await?, "a=1");
    assert_eq!(rows(&mut analyst, "sqlonfhir_batch.labs").await?, "a=1");
    let freshness = sqlx::query("TABLE sqlonfhir.freshness")
        .fetch_one(&mut analyst)
        .await?;
    assert_eq!(freshness.get::<String, _>("view"), "labs");
    assert_eq!(freshness.get::<Option<DateTime<Utc>>, _>("as_of"), Some(at(10)));
    assert_eq!(
        (
            freshness.get::<Option<i64>, _>("batch_rows"),
            freshness.get::<Option<i64>, _>("live_rows")
        ),
        (Some(1), Some(0))
    );
    for forbidden in [
        "TABLE sqlonfhir_base.labs",
        "TABLE sqlonfhir_live.labs",
        "TABLE sqlonfhir_meta.ledger",
        "DELETE FROM sqlonfhir.labs",
        "SELECT sqlonfhir_meta.live_rows('labs')",
    ] {
        let refused = sqlx::raw_sql(forbidden)
            .execute(&mut analyst)
            .await
            .expect_err("forbidden");
        assert!(
            refused.to_string().contains("permission denied")
                || refused.to_string().contains("cannot delete"),
            "{forbidden}: {refused}"
        );
    }

    // The gateway applies and answers, but changes no definition and draws no number.
    let gateway = connect(&login("gateway")).await?;
    gateway.check().await?;
    let fixture = Fixture {
        store: gateway,
        ..labs
    };
    assert_eq!(fixture.apply(2, &[observation("a", 2, "2")]).await?, 1);
    assert_eq!(fixture.select(&everything()).await?.len(), 1);
    drop(fixture.store.snapshot(None).await?);
    assert!(fixture.put("more", "").await.is_err());
    assert!(
        fixture
            .store
            .draw_number::<(), StoreError, _>(&[], async || Ok(()))
            .await
            .is_err()
    );
    Ok(())
}

#[tokio::test]
async fn refreshers_may_start_at_once_and_a_missing_schema_says_what_to_do() -> anyhow::Result<()> {
    let server = Postgres::start().await?;
    let url = server.create_database("views").await?;
    let store = connect(&url).await?;
    assert!(
        matches!(store.check().await, Err(StoreError::NotMigrated(text)) if text.contains("batch-refresher"))
    );
    let others = [connect(&url).await?, connect(&url).await?];
    let (first, second, third) = tokio::join!(store.migrate(), others[0].migrate(), others[1].migrate());
    first.and(second).and(third)?;
    store.check().await?;
    let wrong = connect("postgres://nobody:a-secret@127.0.0.1:1/views")
        .await
        .err()
        .context("nobody listens there")?;
    assert!(!wrong.to_string().contains("a-secret"));
    Ok(())
}
