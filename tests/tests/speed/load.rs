//! A load as HAPI makes it: versions are committed to its tables, then told to the webhook; some late, some in another order.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use chrono::NaiveDateTime;
use e2e::tables::{self, Version};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use reqwest::Client;
use sqlx::{PgConnection, PgPool};
use tokio::{sync::watch, task::JoinHandle};

use crate::kit::{SECRET, http};

const WRITERS: u64 = 4;
/// Each writer has its own patients.
const PATIENTS_A_WRITER: u32 = 12;
/// Between two writes of a writer, and two looks: the machine has other work to do than to be loaded.
pub(crate) const PAUSE: Duration = Duration::from_millis(5);

/// The ids of all patients.
pub(crate) fn ids() -> Vec<String> {
    let of = |writer| (0..PATIENTS_A_WRITER).map(move |number| format!("w{writer}-{number}"));
    (0..WRITERS).flat_map(of).collect()
}

/// Versions by id.
pub(crate) type Versions = BTreeMap<String, i64>;

/// What the writers have done.
#[derive(Clone)]
pub(crate) struct Written {
    /// How many versions were committed.
    count: watch::Sender<usize>,
    /// The highest version of each id whose webhook was acknowledged.
    acknowledged: Arc<Mutex<Versions>>,
}

/// Writers at work, until dropped.
pub(crate) struct Load {
    pub(crate) written: Written,
    stop: Arc<AtomicBool>,
    writers: Vec<JoinHandle<anyhow::Result<()>>>,
}

/// A committed version, and what is told of it.
struct Telling {
    id: String,
    version: i64,
    /// `None`: a deletion, whose request says no version.
    body: Option<String>,
}

struct Writer {
    hapi: PgPool,
    client: Client,
    webhook: String,
    written: Written,
    random: StdRng,
    /// HAPI's rows: number, version, alive.
    rows: BTreeMap<String, (i64, i64, bool)>,
    /// Webhooks that wait.
    late: Vec<Telling>,
    name: u64,
}

impl Written {
    /// Waits until so many versions more are committed.
    pub(crate) async fn more(&self, versions: usize) -> anyhow::Result<()> {
        let mut count = self.count.subscribe();
        let wanted = *count.borrow() + versions;
        tokio::time::timeout(Duration::from_secs(30), count.wait_for(|count| *count >= wanted))
            .await
            .context("the writers stand still")??;
        Ok(())
    }

    /// What was acknowledged so far.
    pub(crate) fn acknowledged(&self) -> Versions {
        self.acknowledged.lock().unwrap().clone()
    }
}

impl Load {
    /// Begins. `webhook`: `host:port`.
    pub(crate) fn begin(hapi: &PgPool, webhook: &str, seed: u64) -> Self {
        let written = Written {
            count: watch::Sender::new(0),
            acknowledged: Arc::default(),
        };
        let stop = Arc::new(AtomicBool::new(false));
        let client = http();
        let writers = (0..WRITERS).map(|name| {
            let mut writer = Writer {
                hapi: hapi.clone(),
                client: client.clone(),
                webhook: format!("http://{webhook}/fhir/Patient"),
                written: written.clone(),
                random: StdRng::seed_from_u64(seed * WRITERS + name),
                rows: BTreeMap::new(),
                late: Vec::new(),
                name,
            };
            let stop = stop.clone();
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    writer.turn().await?;
                    tokio::time::sleep(PAUSE).await;
                }
                Ok(())
            })
        });
        Self {
            writers: writers.collect(),
            written,
            stop,
        }
    }

    /// Ends it; fails if a writer has failed.
    pub(crate) async fn end(mut self) -> anyhow::Result<usize> {
        self.stop.store(true, Ordering::Relaxed);
        for writer in std::mem::take(&mut self.writers) {
            writer.await??;
        }
        Ok(*self.written.count.borrow())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.writers.iter().for_each(JoinHandle::abort);
    }
}

impl Writer {
    /// Commits a version, and tells of it, or of an earlier one, or of nothing yet.
    async fn turn(&mut self) -> anyhow::Result<()> {
        let telling = self.commit().await?;
        self.written.count.send_modify(|count| *count += 1);
        self.late.push(telling);
        while !self.late.is_empty() && (self.late.len() > 5 || self.random.random_bool(0.6)) {
            let which = self.random.random_range(0..self.late.len());
            let telling = self.late.swap_remove(which);
            self.tell(telling).await;
        }
        Ok(())
    }

    async fn commit(&mut self) -> anyhow::Result<Telling> {
        let id = format!(
            "w{}-{}",
            self.name,
            self.random.random_range(0..PATIENTS_A_WRITER)
        );
        let row = self.rows.get(&id).copied();
        let deletes = row.is_some_and(|(_, _, alive)| alive) && self.random.random_bool(0.15);
        let version = row.map_or(1, |(_, version, _)| version + 1);
        let stored =
            (!deletes).then(|| format!(r#"{{"resourceType":"Patient","multipleBirthInteger":{version}}}"#));
        let mut transaction = self.hapi.begin().await?;
        let updated = tables::now(&mut transaction).await?;
        let written = Version {
            resource_type: "Patient",
            id: &id,
            version,
            updated,
            stored: stored.as_deref(),
        };
        tables::write(&mut transaction, row.map(|(res_id, _, _)| res_id), &written).await?;
        let (res_id, _) = tables::find(&mut transaction, &id)
            .await?
            .context("it was written")?;
        transaction.commit().await?;
        self.rows.insert(id.clone(), (res_id, version, !deletes));
        let body = stored.map(|stored| delivered(&stored, &id, version, updated));
        Ok(Telling { id, version, body })
    }

    /// Only what is answered 2xx counts. HAPI would send the others again; here nobody does.
    async fn tell(&self, telling: Telling) {
        let url = format!("{}/{}", self.webhook, telling.id);
        let request = match telling.body {
            Some(body) => self.client.put(url).body(body),
            None => self.client.delete(url),
        };
        let request = request
            .bearer_auth(SECRET)
            .header("content-type", "application/fhir+json");
        if request
            .send()
            .await
            .is_ok_and(|answer| answer.status().is_success())
        {
            let mut acknowledged = self.written.acknowledged.lock().unwrap();
            let highest = acknowledged.entry(telling.id).or_default();
            *highest = telling.version.max(*highest);
        }
    }
}

/// The body of a webhook.
fn delivered(stored: &str, id: &str, version: i64, updated: NaiveDateTime) -> String {
    let at = updated.format("%Y-%m-%dT%H:%M:%S%.3f+00:00");
    let meta = format!(
        r#"{{"resourceType":"Patient","id":"{id}","meta":{{"versionId":"{version}","lastUpdated":"{at}"}},"#
    );
    stored.replace(r#"{"resourceType":"Patient","#, &meta)
}

/// What HAPI has: version, and whether it is alive.
pub(crate) async fn truth(connection: &mut PgConnection) -> anyhow::Result<BTreeMap<String, (i64, bool)>> {
    let rows: Vec<(String, i64, bool)> =
        sqlx::query_as("SELECT fhir_id::text, res_ver, res_deleted_at IS NULL FROM hfj_resource")
            .fetch_all(connection)
            .await?;
    Ok(rows
        .into_iter()
        .map(|(id, version, alive)| (id, (version, alive)))
        .collect())
}
