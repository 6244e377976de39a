//! A database with HAPI's tables, a writer that does as HAPI does, and the views' database beside it.

use anyhow::Context as _;
use batch_refresher::{
    hapi::{Hapi, HapiSettings, Partition, Zone},
    run::{Ranges, RefreshRun, RunSettings, Step},
};
use chrono::{NaiveDateTime, TimeDelta};
use e2e::{
    postgres::Postgres,
    tables::{self, Version},
};
use fhir_core::view::CompiledView;
use sqlx::{AssertSqlSafe, PgConnection, PgPool, Row as _};
use view_store::{RunKind, SlicePlan, StoreSettings, ViewStore};

pub(crate) use e2e::tables::now;

pub(crate) const PATIENT_VIEW: &str = r#"{
    "resourceType": "ViewDefinition", "name": "patient_names", "status": "active", "resource": "Patient",
    "select": [
        {"column": [{"name": "id", "path": "getResourceKey()", "type": "string"}, {"name": "gender", "path": "gender", "type": "code"}]},
        {"forEachOrNull": "name", "column": [{"name": "family", "path": "family", "type": "string"}]}
    ]}"#;

pub(crate) const ANOTHER_VIEW: &str = r#"{
    "resourceType": "ViewDefinition", "name": "patient_gender", "status": "active", "resource": "Patient",
    "select": [{"column": [{"name": "gender", "path": "gender", "type": "code"}]}]}"#;

pub(crate) struct Played {
    pub(crate) server: Postgres,
    pub(crate) writer: PgPool,
    pub(crate) views_url: String,
    pub(crate) store: ViewStore,
}

impl Played {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let server = Postgres::start().await?;
        let hapi = tables::create(&server).await?;
        let views_url = server.create_database("views").await?;
        let store = ViewStore::connect(StoreSettings {
            url: views_url.clone(),
            max_connections: 8,
            skew: TimeDelta::seconds(1),
        })
        .await?;
        store.migrate().await?;
        let writer = sqlx::postgres::PgPoolOptions::new()
            .max_connections(20)
            .connect(&hapi)
            .await?;
        Ok(Self {
            server,
            writer,
            views_url,
            store,
        })
    }

    pub(crate) fn settings(&self) -> HapiSettings {
        hapi_settings(self.server.url_as("source", "", "hapi"))
    }

    pub(crate) async fn hapi(&self) -> anyhow::Result<Hapi> {
        Ok(Hapi::connect(self.settings()).await?)
    }

    pub(crate) async fn put(&self, definition: &str) -> anyhow::Result<()> {
        let view = CompiledView::from_json(definition)?;
        self.store.put_view(&view, definition, false).await?;
        Ok(())
    }

    /// Runs until the watermark has moved.
    pub(crate) async fn refresh(&self, hapi: &Hapi, kind: RunKind) -> anyhow::Result<RunKind> {
        let settings = RunSettings {
            ranges: Ranges::Of(200),
            workers: 3,
            resume: true,
            slice: SlicePlan {
                resources: 500,
                unchanged_too: false,
            },
        };
        let run = RefreshRun::start(hapi, &self.store, "Patient", kind, settings).await?;
        let mut run = run.context("no other run is under way")?;
        let done = run.kind();
        loop {
            match run.step().await? {
                Step::More => {}
                Step::Finished => break,
                other => anyhow::bail!("the run ended: {other:?}"),
            }
        }
        run.end().await?;
        Ok(done)
    }

    /// Rows of a query in the views' database, as text.
    pub(crate) async fn shown(&self, query: &str) -> anyhow::Result<Vec<String>> {
        let pool = PgPool::connect(&self.views_url).await?;
        let sql = format!("SELECT t::text FROM ({query}) t");
        let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(&pool).await?;
        pool.close().await;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Rows of `patient_names`, sorted.
    pub(crate) async fn names(&self) -> anyhow::Result<Vec<String>> {
        self.shown("SELECT id, gender, family FROM sqlonfhir.patient_names ORDER BY id, family")
            .await
    }
}

/// How the role that reads connects.
pub(crate) fn hapi_settings(url: String) -> HapiSettings {
    HapiSettings {
        url,
        zone: Zone::UTC,
        margin: TimeDelta::seconds(90),
        partition: Partition::Only,
        max_connections: 8,
    }
}

/// Writes the next version of a patient as HAPI does; `None` deletes.
pub(crate) async fn write(
    connection: &mut PgConnection,
    id: &str,
    updated: NaiveDateTime,
    stored: Option<&str>,
) -> anyhow::Result<i64> {
    let (res_id, before) = tables::find(connection, id).await?.unzip();
    let version = before.unwrap_or(0) + 1;
    let written = Version {
        resource_type: "Patient",
        id,
        version,
        updated,
        stored,
    };
    tables::write(connection, res_id, &written).await?;
    Ok(version)
}

/// A stored patient.
pub(crate) fn patient(family: &str) -> String {
    format!(r#"{{"resourceType":"Patient","name":[{{"family":"{family}"}}],"gender":"female"}}"#)
}

impl Played {
    /// A transaction at a stroke.
    pub(crate) async fn write(&self, id: &str, stored: Option<&str>) -> anyhow::Result<i64> {
        let mut connection = self.writer.acquire().await?;
        let updated = now(&mut connection).await?;
        write(&mut connection, id, updated, stored).await
    }

    pub(crate) async fn execute(&self, sql: &str) -> anyhow::Result<()> {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
            .execute(&self.writer)
            .await?;
        Ok(())
    }
}
