//! What changes: a hundred observations that are always there, of which neighbours change in one transaction, and some that come and go; applied as the merger
//! does, and published as refreshes do.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use chrono::DateTime;
use e2e::deadline;
use e2e::postgres::{Auth, Postgres, Settings};
use fhir_core::resource::{Content, State};
use fhir_core::view::CompiledView;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use view_store::RunKind;

use crate::fixture::{Fixture, at, connect, database};

/// Password of the login `analyst`.
pub(super) const PASSWORD: &str = "of-an-analyst";

/// How many are always there.
pub(super) const STEADY: usize = 100;

/// How many come and go.
const COMERS: usize = 12;

/// Pairs that change in one transaction, at most.
const PAIRS: usize = 5;

/// How long a change may take to be applied, on however busy a machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// Changes that are applied beside a refresh.
const BESIDE: usize = 6;

/// Versions by id.
pub(super) type Versions = BTreeMap<String, i64>;

pub(super) struct World {
    fixture: Fixture,
    present: Mutex<Present>,
}

/// What HAPI would have.
struct Present {
    versions: Versions,
    /// Of these the version is a deletion.
    gone: BTreeMap<String, bool>,
    /// Number of the last reading.
    n: i64,
    dice: StdRng,
}

pub(super) fn steady(number: usize) -> String {
    format!("steady-{number:03}")
}

/// As psql prints it.
pub(super) fn row(id: &str, version: i64, part: i64) -> String {
    let issued = DateTime::from_timestamp(version, 0).unwrap_or_default();
    format!(
        "{id}|{version}|{part}|{}|{version}.{part}0|{}|{}|of {id}",
        parts(version),
        issued.format("%Y-%m-%d %H:%M:%S+00"),
        if version % 2 == 0 { "t" } else { "f" }
    )
}

fn parts(version: i64) -> i64 {
    1 + version % 3
}

/// Fails unless each resource has all rows of one version, once, neighbours have the same one, and none of the steady ones is missing.
pub(super) fn check<'a>(rows: impl Iterator<Item = &'a str>) -> anyhow::Result<Versions> {
    let mut by_id: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for row in rows {
        let id = row.split('|').next().unwrap_or_default();
        by_id.entry(id).or_default().push(row);
    }
    let mut versions = Versions::new();
    for (id, rows) in by_id {
        let version = rows[0].split('|').nth(1).and_then(|text| text.parse().ok());
        let version: i64 = version.with_context(|| format!("{} has no version", rows[0]))?;
        let expected: Vec<String> = (1..=parts(version))
            .map(|part| self::row(id, version, part))
            .collect();
        ensure!(rows == expected, "rows of {id}: {rows:?}");
        versions.insert(id.to_owned(), version);
    }
    for pair in 0..STEADY / 2 {
        let [one, other] = [0, 1].map(|more| versions.get(&steady(2 * pair + more)));
        ensure!(one.is_some(), "{} is missing", steady(2 * pair));
        ensure!(
            one == other,
            "half of a change: {} {one:?} {other:?}",
            steady(2 * pair)
        );
    }
    Ok(versions)
}

fn state(id: &str, version: i64, gone: bool) -> State {
    let components: Vec<String> = (1..=parts(version))
        .map(|part| {
            format!(r#"{{"code":{{"text":"{part}"}},"valueQuantity":{{"value":{version}.{part}0}}}}"#)
        })
        .collect();
    let status = if version % 2 == 0 { "final" } else { "preliminary" };
    let issued = DateTime::from_timestamp(version, 0).unwrap_or_default();
    let body = format!(
        r#"{{"resourceType":"Observation","id":"{id}","meta":{{"versionId":"{version}"}},"status":"{status}",
            "code":{{"text":"of {id}"}},"issued":"{}","valueInteger":{version},"component":[{}]}}"#,
        issued.format("%Y-%m-%dT%H:%M:%SZ"),
        components.join(",")
    );
    State {
        id: id.into(),
        version,
        last_updated: at(version),
        content: if gone {
            Content::Deleted
        } else {
            Content::Body(body.into_bytes())
        },
    }
}

const READINGS: &str = r#"{"resourceType": "ViewDefinition", "name": "readings", "resource": "Observation", "status": "active", "select": [
    {"column": [
        {"name": "id", "path": "getResourceKey()"},
        {"name": "version", "path": "value.ofType(integer)", "type": "integer"},
        {"name": "parts", "path": "component.count()", "type": "integer"},
        {"name": "issued", "path": "issued", "type": "instant"},
        {"name": "critical", "path": "status = 'final'", "type": "boolean"},
        {"name": "note", "path": "code.text"}]},
    {"forEach": "component", "column": [
        {"name": "part", "path": "code.text.toInteger()", "type": "integer"},
        {"name": "value", "path": "value.ofType(Quantity).value", "type": "decimal"}]}]}"#;

const CRITICAL: &str = r#"{"resourceType": "ViewDefinition", "name": "critical", "resource": "Observation", "status": "active",
    "where": [{"path": "status = 'final'"}], "select": [{"column": [
        {"name": "id", "path": "getResourceKey()"},
        {"name": "version", "path": "value.ofType(integer)", "type": "integer"}]}]}"#;

impl World {
    /// A server of its own that asks for passwords, both views, and the login `analyst`.
    pub(super) async fn new() -> anyhow::Result<Self> {
        let settings = Settings {
            auth: Auth::Scram,
            ..Settings::default()
        };
        let server = Arc::new(Postgres::start_with(settings).await?);
        let (database, url) = database(&server).await?;
        let store = connect(&url).await?;
        store.migrate().await?;
        for text in [READINGS, CRITICAL] {
            store
                .put_view(&CompiledView::from_json(text)?, text, false)
                .await?;
        }
        let analyst = format!("CREATE ROLE analyst LOGIN PASSWORD '{PASSWORD}' IN ROLE researchflow_reader");
        server.execute(&database, &analyst).await?;
        let fixture = Fixture {
            server,
            database,
            store,
            url,
        };
        let versions: Versions = (0..STEADY).map(|number| (steady(number), 1)).collect();
        let first: Vec<State> = versions.keys().map(|id| state(id, 1, false)).collect();
        fixture.join(1, &first).await?;
        Ok(Self {
            fixture,
            present: Mutex::new(Present {
                versions,
                gone: BTreeMap::new(),
                n: 1,
                dice: StdRng::seed_from_u64(7),
            }),
        })
    }

    /// How a reader logs in.
    pub(super) fn reader_url(&self) -> String {
        self.fixture
            .server
            .url_as("analyst", PASSWORD, &self.fixture.database)
    }

    /// The same for JDBC, which takes the login apart.
    pub(super) fn jdbc_url(&self) -> String {
        let Fixture { server, database, .. } = &self.fixture;
        format!("jdbc:postgresql://127.0.0.1:{}/{database}", server.port())
    }

    /// Changes come until this is dropped: live ones, beside refreshes of either kind.
    pub(super) async fn change(&self) -> anyhow::Result<()> {
        let mut round = 0;
        loop {
            round += 1;
            let kind = if round % 4 == 0 {
                RunKind::Full
            } else {
                RunKind::Incremental
            };
            let (n, present) = self.reading();
            let present: Vec<State> = present
                .into_iter()
                // A full run finds for itself what is gone.
                .filter(|state| kind == RunKind::Incremental || state.content != Content::Deleted)
                .collect();
            let publishing = self.fixture.publish(kind, n, &present);
            let applying = async {
                for _ in 0..BESIDE {
                    let (n, changed) = self.step();
                    // Whoever waits for the type's lock for long gives up and comes again, as the merger does.
                    deadline::until_ok("the change to be applied", PATIENCE, || {
                        self.fixture.apply(n, &changed)
                    })
                    .await?;
                }
                anyhow::Ok(())
            };
            tokio::try_join!(publishing, applying)?;
        }
    }

    /// A reading of all that there is, and of what is gone.
    fn reading(&self) -> (i64, Vec<State>) {
        let mut present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        present.n += 1;
        let gone = |id: &String| present.gone.get(id).copied().unwrap_or_default();
        let states = present.versions.iter();
        let states = states
            .map(|(id, version)| state(id, *version, gone(id)))
            .collect();
        (present.n, states)
    }

    /// Some pairs change, and a comer comes or goes: in one reading, which is applied in one transaction.
    fn step(&self) -> (i64, Vec<State>) {
        let mut present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        let Present {
            versions,
            gone,
            n,
            dice,
        } = &mut *present;
        *n += 1;
        let mut changed = BTreeMap::new();
        for _ in 0..dice.random_range(1..=PAIRS) {
            let pair = dice.random_range(0..STEADY / 2);
            for id in [steady(2 * pair), steady(2 * pair + 1)] {
                changed.insert(id, false);
            }
        }
        let comer = format!("comer-{:02}", dice.random_range(0..COMERS));
        let goes = versions.contains_key(&comer) && !gone.get(&comer).copied().unwrap_or_default();
        changed.insert(comer, goes);
        let mut states = Vec::new();
        for (id, goes) in changed {
            let version = versions.entry(id.clone()).or_default();
            *version += 1;
            states.push(state(&id, *version, goes));
            gone.insert(id, goes);
        }
        (*n, states)
    }
}
