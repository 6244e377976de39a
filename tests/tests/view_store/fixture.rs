//! A database with the view `labs`, and the deeds of batch and speed layer upon it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};

use anyhow::Context as _;
use chrono::{DateTime, TimeDelta, Utc};
use e2e::postgres::Postgres;
use e2e::staged::load;
use fhir_core::merge::{Mark, Position};
use fhir_core::resource::{Content, State};
use fhir_core::row::Cell;
use fhir_core::view::CompiledView;
use futures::TryStreamExt as _;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use view_store::{
    Answer, Condition, EvaluatedState, LastPage, Operator, PutOutcome, ReadingAt, ReceivedPreview, Relation,
    Run, RunKind, Select, SliceOutcome, SlicePlan, StoreError, StoreSettings, TypeViews, ViewStore, evaluate,
};

pub(super) const OBSERVATION: &str = "Observation";

pub(super) const PLAN: SlicePlan = SlicePlan {
    resources: 2,
    unchanged_too: false,
};

/// A definition over Observation: an id, an exact number, codes as a collection, and what else is asked.
pub(super) fn definition(name: &str, more: &str) -> String {
    format!(
        r#"{{"resourceType": "ViewDefinition", "name": "{name}", "resource": "Observation", "status": "active", "select": [{{"column": [
            {{"name": "id", "path": "getResourceKey()"}},
            {{"name": "status", "path": "status"}},
            {{"name": "value", "path": "value.ofType(Quantity).value", "type": "decimal"}},
            {{"name": "codes", "path": "code.coding.code", "collection": true}}{more}]}}]}}"#
    )
}

pub(super) const WITH_UNIT: &str = r#", {"name": "unit", "path": "value.ofType(Quantity).unit"}"#;

pub(super) fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000 + second, 0).expect("a time")
}

pub(super) fn observation(id: &str, version: i64, value: &str) -> State {
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

pub(super) fn deleted(id: &str, version: i64) -> State {
    State {
        id: id.into(),
        version,
        last_updated: at(version),
        content: Content::Deleted,
    }
}

pub(super) fn position(n: i64) -> Position {
    Position {
        n,
        as_of: at(10 * n),
        bound: at(10 * n - 90),
        xmin: 700 + n.unsigned_abs(),
        timeline: "7001/1".into(),
    }
}

pub(super) fn mark(n: i64) -> Mark {
    Mark { n, as_of: at(10 * n) }
}

/// One server for the tests that run at the same time; it ends with the last of them.
pub(super) async fn server() -> anyhow::Result<Arc<Postgres>> {
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
pub(super) async fn database(server: &Postgres) -> anyhow::Result<(String, String)> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("views_{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let url = server.create_database(&name).await?;
    Ok((name, url))
}

pub(super) struct Fixture {
    pub(super) server: Arc<Postgres>,
    pub(super) database: String,
    pub(super) store: ViewStore,
    pub(super) url: String,
}

impl Fixture {
    /// A migrated database without views.
    pub(super) async fn empty() -> anyhow::Result<Self> {
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
    pub(super) async fn with_labs(states: &[State]) -> anyhow::Result<Self> {
        let fixture = Self::empty().await?;
        fixture.put("labs", "").await?;
        fixture.join(1, states).await?;
        Ok(fixture)
    }

    pub(super) async fn put(&self, name: &str, more: &str) -> Result<PutOutcome, StoreError> {
        let text = definition(name, more);
        self.store
            .put_view(
                &CompiledView::from_json(&text).expect("a valid definition"),
                &text,
                false,
            )
            .await
    }

    pub(super) async fn views(&self) -> Result<TypeViews, StoreError> {
        self.store.type_views(OBSERVATION).await
    }

    pub(super) async fn begin(&self, kind: RunKind) -> anyhow::Result<Run> {
        self.store
            .begin_run(OBSERVATION, kind, false)
            .await?
            .context("the type is free")
    }

    pub(super) async fn join(&self, n: i64, states: &[State]) -> anyhow::Result<()> {
        let mut run = self.begin(RunKind::Join).await?;
        load(&mut run, states).await?;
        run.lock_for_join().await?;
        run.stage_gone(at(10 * n)).await?;
        let live = run.live_ids().await?;
        anyhow::ensure!(live.is_empty(), "these tests join while nothing is live");
        assert_eq!(run.join(&position(n)).await?, SliceOutcome::Finished);
        Ok(run.end().await?)
    }

    pub(super) async fn publish(&self, kind: RunKind, n: i64, states: &[State]) -> anyhow::Result<()> {
        let mut run = self.begin(kind).await?;
        if kind == RunKind::Incremental {
            stage(&mut run, states).await?;
        } else {
            load(&mut run, states).await?;
        }
        if kind == RunKind::Full {
            run.stage_gone(at(10 * n)).await?;
        }
        while run.publish_slice(&position(n), PLAN).await? == SliceOutcome::More {}
        Ok(run.end().await?)
    }

    /// One answer of the speed store: readings of number `n`, and its mark.
    pub(super) async fn apply(&self, n: i64, states: &[State]) -> anyhow::Result<usize> {
        let views = self.views().await?;
        let start = self.store.type_state(OBSERVATION).await?.speed;
        let readings: Vec<ReadingAt> = evaluate(&views, states)
            .into_iter()
            .map(|state| ReadingAt {
                state,
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

    pub(super) async fn preview(&self, state: &State, received: i64) -> anyhow::Result<usize> {
        let views = self.views().await?;
        let start = self.store.type_state(OBSERVATION).await?.speed;
        let previews = evaluate(&views, [state])
            .into_iter()
            .map(|state| ReceivedPreview {
                state,
                received: at(received),
            })
            .collect();
        let last = LastPage { previews, mark: None };
        let page = self
            .store
            .apply_page(&views, start, &[], Some(&last))
            .await?
            .context("the cursor has not moved")?;
        Ok(page.previews)
    }

    pub(super) async fn connect(&self) -> anyhow::Result<PgConnection> {
        Ok(PgConnection::connect(&self.url).await?)
    }

    /// `id=value` of each row, in order.
    pub(super) async fn merged(&self) -> anyhow::Result<String> {
        rows(&mut self.connect().await?, "sqlonfhir.labs").await
    }

    pub(super) async fn batch_only(&self) -> anyhow::Result<String> {
        rows(&mut self.connect().await?, "sqlonfhir_batch.labs").await
    }

    /// Rows in base, live and shadowed.
    pub(super) async fn layers(&self) -> anyhow::Result<(i64, i64, i64)> {
        let sql = "SELECT (SELECT count(*) FROM sqlonfhir_base.labs), (SELECT count(*) FROM sqlonfhir_live.labs), \
                          (SELECT count(*) FROM sqlonfhir_shadowed.labs)";
        Ok(sqlx::query_as(sql).fetch_one(&mut self.connect().await?).await?)
    }

    /// In a snapshot, and as one statement: they agree.
    pub(super) async fn select(&self, select: &Select) -> Result<Vec<Vec<Cell<'static>>>, StoreError> {
        let asked = self.ask(select).await;
        let mut snapshot = self.store.snapshot(Some("labs")).await?;
        let (_, answers) = snapshot.select(select).await?;
        let cells = cells_of(&answers.try_concat().await?)?;
        let asked = cells_of(&asked?)?;
        assert_eq!(cells, asked);
        Ok(cells)
    }

    /// As one statement.
    pub(super) async fn ask(&self, select: &Select) -> Result<Vec<Answer>, StoreError> {
        let views = self.store.views().await?;
        let view = views.iter().find(|view| view.name == "labs").expect("labs");
        let compiled = CompiledView::from_json(&view.definition).expect("a view");
        let asked = self.store.ask(view, compiled.columns(), select).await?;
        let mut snapshot = self.store.snapshot(Some("labs")).await?;
        assert_eq!(asked.freshness, snapshot.freshness(&view.resource_type).await?);
        asked.rows.try_concat().await
    }
}

/// The cells of each.
pub(super) fn cells_of(answers: &[Answer]) -> Result<Vec<Vec<Cell<'static>>>, StoreError> {
    let cells_of = |answer: &Answer| answer.cells().map(|cell| Ok(cell?.to_owned())).collect();
    answers.iter().map(cells_of).collect()
}

pub(super) async fn connect(url: &str) -> Result<ViewStore, StoreError> {
    ViewStore::connect(StoreSettings {
        url: url.into(),
        max_connections: 8,
        skew: TimeDelta::seconds(1),
    })
    .await
}

pub(super) async fn stage(run: &mut Run, states: &[State]) -> Result<(), StoreError> {
    let evaluated = evaluate(run.views(), states);
    run.stage(&evaluated).await
}

pub(super) async fn rows(connection: &mut PgConnection, view: &str) -> anyhow::Result<String> {
    let sql =
        format!("SELECT coalesce(string_agg(id || '=' || value, ' ' ORDER BY id, value), '') FROM {view}");
    Ok(sqlx::query_scalar(AssertSqlSafe(sql))
        .fetch_one(connection)
        .await?)
}

pub(super) fn everything() -> Select {
    Select::all(Relation::Merged("labs".into()))
}

pub(super) fn compare(column: &str, operator: Operator, values: &[&str]) -> Condition {
    Condition::Compare {
        column: column.into(),
        operator,
        values: values.iter().map(ToString::to_string).collect(),
    }
}

/// One state, evaluated for all views of its type.
pub(super) fn evaluated(views: &TypeViews, state: &State) -> EvaluatedState {
    evaluate(views, [state]).remove(0)
}
