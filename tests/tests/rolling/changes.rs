//! Writers in HAPI's place: each commits versions of resources of its own, and sends most of them as HAPI's webhook does.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use e2e::{
    fhir::http_client,
    house::SECRET,
    tables::{self, Version},
};
use serde_json::json;
use sqlx::PgPool;
use tokio::task::JoinSet;

/// Writers, and resources of each.
const WRITERS: u64 = 3;
const RESOURCES: u64 = 40;
/// Between two changes of a writer.
const PAUSE: Duration = Duration::from_millis(10);
/// HAPI gives a notification up after a minute.
const GIVEN_UP: Duration = Duration::from_mins(1);

/// What was committed.
#[derive(Debug, Default)]
pub(crate) struct Written {
    pub(crate) changes: u64,
    webhooks: u64,
    /// Webhooks that were not acknowledged at the first try. (HAPI tries again, and so does a writer.)
    pub(crate) failures: Vec<String>,
    /// Each resource that is there, as `id version`, by id.
    pub(crate) last: Vec<String>,
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (changes, webhooks, failed) = (self.changes, self.webhooks, self.failures.len());
        write!(
            f,
            "{changes} changes, {webhooks} webhooks, {failed} not taken at once"
        )
    }
}

/// Whoever writes.
pub(crate) struct Writers {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<anyhow::Result<(Written, BTreeMap<String, i64>)>>,
}

impl Writers {
    pub(crate) fn start(hapi: &PgPool, webhook: &str) -> anyhow::Result<Self> {
        let (stop, mut tasks) = (Arc::<AtomicBool>::default(), JoinSet::new());
        for number in 0..WRITERS {
            let writer = Writer {
                hapi: hapi.clone(),
                base: format!("http://{webhook}/fhir"),
                http: http_client()?,
                number,
                written: Written::default(),
                there: BTreeMap::new(),
            };
            tasks.spawn(writer.write(stop.clone()));
        }
        Ok(Self { stop, tasks })
    }

    pub(crate) async fn stop(mut self) -> anyhow::Result<Written> {
        self.stop.store(true, Ordering::Relaxed);
        let (mut all, mut there) = (Written::default(), BTreeMap::new());
        while let Some(ended) = self.tasks.join_next().await {
            let (written, resources) = ended??;
            all.changes += written.changes;
            all.webhooks += written.webhooks;
            all.failures.extend(written.failures);
            there.extend(resources);
        }
        all.last = there
            .iter()
            .map(|(id, version)| format!("{id} {version}"))
            .collect();
        Ok(all)
    }
}

struct Writer {
    hapi: PgPool,
    base: String,
    http: reqwest::Client,
    number: u64,
    written: Written,
    there: BTreeMap<String, i64>,
}

impl Writer {
    async fn write(mut self, stop: Arc<AtomicBool>) -> anyhow::Result<(Written, BTreeMap<String, i64>)> {
        let mut turn = 0;
        while !stop.load(Ordering::Relaxed) {
            turn += 1;
            let id = format!("w{}-{}", self.number, turn * 7 % RESOURCES);
            self.change(&id, turn).await?;
            tokio::time::sleep(PAUSE).await;
        }
        Ok((self.written, self.there))
    }

    async fn change(&mut self, id: &str, turn: u64) -> anyhow::Result<()> {
        let deleted = turn.is_multiple_of(11);
        let mut hapi = self.hapi.begin().await?;
        let found = tables::find(&mut hapi, id).await?;
        let (res_id, version) = (
            found.map(|(res_id, _)| res_id),
            found.map_or(1, |(_, version)| version + 1),
        );
        if deleted && res_id.is_none() {
            return Ok(());
        }
        let updated = tables::now(&mut hapi).await?;
        let stored = (!deleted).then_some(r#"{"resourceType":"Patient","active":true}"#);
        let written = Version {
            resource_type: "Patient",
            id,
            version,
            updated,
            stored,
        };
        tables::write(&mut hapi, res_id, &written).await?;
        hapi.commit().await?;
        self.written.changes += 1;
        if deleted {
            self.there.remove(id);
        } else {
            self.there.insert(id.to_owned(), version);
        }
        // Some are never told: the tail finds them.
        if turn.is_multiple_of(5) {
            return Ok(());
        }
        let url = format!("{}/Patient/{id}", self.base);
        let body = json!({
            "resourceType": "Patient", "id": id, "active": true,
            "meta": {"versionId": version.to_string(), "lastUpdated": updated.and_utc().to_rfc3339()},
        });
        let request = if deleted {
            self.http.delete(url)
        } else {
            self.http
                .put(url)
                .header("content-type", "application/fhir+json")
                .body(body.to_string())
        };
        self.deliver(request.bearer_auth(SECRET)).await
    }

    async fn deliver(&mut self, request: reqwest::RequestBuilder) -> anyhow::Result<()> {
        self.written.webhooks += 1;
        let begun = std::time::Instant::now();
        loop {
            let sent = request
                .try_clone()
                .ok_or_else(|| anyhow::anyhow!("a body that can be sent again"))?;
            let failed = match sent.send().await {
                Ok(answer) if answer.status().is_success() => return Ok(()),
                Ok(answer) => format!("{}: {}", answer.status(), answer.text().await.unwrap_or_default()),
                Err(error) => format!("{:#}", anyhow::Error::from(error)),
            };
            self.written.failures.push(format!("webhook: {failed}"));
            anyhow::ensure!(begun.elapsed() < GIVEN_UP, "a webhook is never taken: {failed}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}
