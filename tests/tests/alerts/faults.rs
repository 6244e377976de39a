//! The faults, each until its alert is told, and mended then. They come one after the other: what one brings about would hide another, as the routing has it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use api::proto::{batch::RefreshKind, serving::SqlRequest, speed::BackupRequest};
use chrono::TimeDelta;
use e2e::{
    ask::{self, Asker},
    deadline,
    fhir::http_client,
    ground::Ground,
    house::{SECRET, speed_client},
    operate::Operator,
    postgres::until_true,
    tables::{self, Version},
};
use serde_json::json;
use sqlx::{Connection as _, PgConnection, PgPool};
use tokio::task::JoinSet;
use view_store::{RunKind, StoreSettings, ViewStore};

use crate::watched::{SOON, Watched, audit_folder, certificate_of};

/// In all that patients hold, and in their ids; in no message.
pub(crate) const CANARY: &str = "kanarienvogel";

/// How many alerts the short form provokes.
pub(crate) const SOME: usize = 5;

/// A few, of each layer.
pub(crate) async fn some(watched: &mut Watched) -> anyhow::Result<()> {
    watched.told("ViewFilesLeftOut", "1 files").await?;
    watched.told("NoBackupOfTheSpeedLayer", "4h").await?;
    dead_letters(watched).await?;
    redis_not_durable(watched).await?;
    daemon_down(watched).await
}

/// All.
pub(crate) async fn all(watched: &mut Watched) -> anyhow::Result<()> {
    let operator = Operator::connect(&watched.batch.address("grpc")?).await?;
    operator.all_active(SOON).await?;
    let changes = Changes::start(watched.ground.hapi.clone());
    // There from the start on.
    watched.told("ViewFilesLeftOut", "1 files").await?;
    watched.told("NoBackupOfTheSpeedLayer", "4h").await?;
    watched.told("ReadReplicaNotAsked", "replica-1").await?;
    watched
        .told("CertificateEndsSoon", "speed-ingestor (grpc)")
        .await?;
    // A fault that is not told does not keep the others from being provoked.
    let mut untold = Vec::new();
    let mut note = |told: anyhow::Result<()>| untold.extend(told.err().map(|error| format!("{error:#}")));
    note(hapi_refuses(watched).await);
    note(merger_stuck(watched).await);
    note(calls_fail(watched).await);
    note(lines_are_cut(watched).await);
    note(run_that_hangs(watched, &changes).await);
    note(of_the_data(watched, &operator).await);
    note(subscription(watched).await);
    note(dead_letters(watched).await);
    note(redis_not_durable(watched).await);
    note(redis_nearly_full(watched).await);
    note(backups_fail(watched).await);
    note(certificate_is_no_certificate(watched).await);
    note(audit_cannot_be_written(watched).await);
    changes.stop().await?;
    note(replica_down(watched).await);
    note(daemon_down(watched).await);
    anyhow::ensure!(untold.is_empty(), "{}", untold.join("\n"));
    Ok(())
}

/// Changes that come without webhooks, a few a second.
struct Changes {
    stop: Arc<AtomicBool>,
    resting: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Changes {
    fn start(hapi: PgPool) -> Self {
        let (stop, resting) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let (stopped, rests) = (stop.clone(), resting.clone());
        let task = tokio::spawn(async move {
            for turn in 0_u64.. {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
                if rests.load(Ordering::Relaxed) {
                    continue;
                }
                let stored = json!({"resourceType": "Patient", "active": true, "name": [{"family": CANARY}]})
                    .to_string();
                write(
                    &hapi,
                    &format!("{CANARY}-{}", turn % 10),
                    &stored,
                    TimeDelta::zero(),
                )
                .await?;
            }
            anyhow::Ok(())
        });
        Self { stop, resting, task }
    }

    /// Whether there are none for a while.
    fn rest(&self, rest: bool) {
        self.resting.store(rest, Ordering::Relaxed);
    }

    async fn stop(self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await?
    }
}

/// Returns the version.
async fn write(hapi: &PgPool, id: &str, stored: &str, ago: TimeDelta) -> anyhow::Result<i64> {
    let mut transaction = hapi.begin().await?;
    let found = tables::find(&mut transaction, id).await?;
    let version = Version {
        resource_type: "Patient",
        id,
        version: found.map_or(1, |(_, version)| version + 1),
        updated: tables::now(&mut transaction).await? - ago,
        stored: Some(stored),
    };
    tables::write(&mut transaction, found.map(|(res_id, _)| res_id), &version).await?;
    transaction.commit().await?;
    Ok(version.version)
}

/// Resources that no view can be made of, clocks that differ, rows that were changed by hand, a comparison that does not come.
async fn of_the_data(watched: &mut Watched, operator: &Operator) -> anyhow::Result<()> {
    let hapi = &watched.ground.hapi;
    let two =
        json!({"resourceType": "Patient", "name": [{"family": CANARY}, {"family": CANARY}]}).to_string();
    write(hapi, "two-families", &two, TimeDelta::zero()).await?;
    watched
        .told("ResourcesCannotBeEvaluated", "patient_versions")
        .await?;

    let one = json!({"resourceType": "Patient", "name": [{"family": CANARY}]}).to_string();
    write(&watched.ground.hapi, "long-ago", &one, TimeDelta::seconds(84)).await?;
    watched.told("WatermarkMarginNearlyUsedUp", "").await?;

    let mut owner = PgConnection::connect(&watched.ground.url_as("refresher", "views")).await?;
    operator.refresh(&["Patient"], RefreshKind::Full).await?;
    let by_hand = "UPDATE sqlonfhir_base.patient_versions SET active = false WHERE id = 'long-ago'";
    sqlx::raw_sql(by_hand).execute(&mut owner).await?;
    operator.refresh(&["Patient"], RefreshKind::Full).await?;
    watched.told("ReconciliationFoundDifferences", "Patient").await?;

    // It was made three days ago, and none came since.
    let long_ago = "UPDATE sqlonfhir_meta.schedule SET reconciled_as_of = now() - interval '3 days 1 hour'";
    sqlx::raw_sql(long_ago).execute(&mut owner).await?;
    watched.told("NotReconciledForTwoDays", "3d").await?;
    Ok(())
}

/// HAPI says that it sends, and sends nothing; then it takes the Subscription away.
async fn subscription(watched: &mut Watched) -> anyhow::Result<()> {
    watched.told("SubscriptionSilent", "Patient").await?;
    let before = watched.slack.messages().len();
    watched.hapi_rest.refuses(true);
    watched.told("SubscriptionNotActive", "default").await?;
    watched.hapi_rest.refuses(false);
    watched.over("SubscriptionNotActive", before).await
}

async fn dead_letters(watched: &mut Watched) -> anyhow::Result<()> {
    let url = format!("http://{}/fhir/Patient/{CANARY}", watched.speed.address("http")?);
    let body = format!("{{\"resourceType\": \"{CANARY}\"");
    let client = http_client()?;
    // Views are known by then.
    deadline::until("a webhook to be refused", SOON, || async {
        let sent = client
            .put(&url)
            .bearer_auth(SECRET)
            .header("content-type", "application/fhir+json")
            .body(body.clone());
        sent.send()
            .await
            .ok()
            .filter(|answer| answer.status().is_client_error())
    })
    .await?;
    watched.told("DeadLetters", "").await?;
    Ok(())
}

async fn configure(watched: &Watched, key: &str, value: &str) -> anyhow::Result<()> {
    let mut redis = redis::Client::open(watched.ground.redis.url())?
        .get_multiplexed_async_connection()
        .await?;
    redis::cmd("CONFIG")
        .arg("SET")
        .arg(key)
        .arg(value)
        .query_async::<()>(&mut redis)
        .await?;
    Ok(())
}

async fn redis_not_durable(watched: &mut Watched) -> anyhow::Result<()> {
    let before = watched.slack.messages().len();
    configure(watched, "maxmemory-policy", "allkeys-lru").await?;
    watched.told("RedisNotDurable", "").await?;
    configure(watched, "maxmemory-policy", "noeviction").await?;
    watched.over("RedisNotDurable", before).await
}

/// Room for a little more than it holds: above nine tenths, below nineteen twentieths.
async fn redis_nearly_full(watched: &mut Watched) -> anyhow::Result<()> {
    let client = redis::Client::open(watched.ground.redis.url())?;
    let mut redis = client.get_multiplexed_async_connection().await?;
    let info: redis::InfoDict = redis::cmd("INFO").arg("memory").query_async(&mut redis).await?;
    let used: u64 = info.get("used_memory").unwrap_or_default();
    configure(watched, "maxmemory", &(used * 100 / 93).to_string()).await?;
    watched.told("RedisNearlyFull", "").await?;
    configure(watched, "maxmemory", "0").await
}

/// The place of backups is no folder any more.
async fn backups_fail(watched: &mut Watched) -> anyhow::Result<()> {
    let folder = watched.ground.folder().join("backups");
    std::fs::rename(&folder, folder.with_extension("away"))?;
    std::fs::write(&folder, "no folder")?;
    let mut client = speed_client(&watched.speed)?;
    for _ in 0..3 {
        let failed = client.backup(BackupRequest {}).await;
        anyhow::ensure!(failed.is_err(), "a backup was made into a file");
    }
    watched.told("BackupsFail", "").await?;
    Ok(())
}

/// What is exchanged for it is none.
async fn certificate_is_no_certificate(watched: &mut Watched) -> anyhow::Result<()> {
    std::fs::write(certificate_of(&watched.ground), "no certificate")?;
    watched
        .told("CertificateNotTaken", "speed-ingestor (grpc)")
        .await?;
    Ok(())
}

/// Its place is no folder any more: records wait, and at last there is no room for them.
async fn audit_cannot_be_written(watched: &mut Watched) -> anyhow::Result<()> {
    let folder = audit_folder(&watched.ground);
    std::fs::rename(&folder, folder.with_extension("away"))?;
    std::fs::write(&folder, "no folder")?;
    let asker = Asker::connect(&watched.serving.address("grpc")?).await?;
    let asking = tokio::spawn(async move {
        loop {
            let _answered_all_the_same = asker.ask(ask::count_of("patient_versions")).await;
        }
    });
    let told = async {
        watched.told("AuditFails", "serving-gateway").await?;
        watched.told("AuditLost", "serving-gateway").await
    };
    let told = told.await;
    asking.abort();
    told.map(drop)
}

/// Another replica has begun a run, and stands still in it: nothing fails, and nothing is published.
async fn run_that_hangs(watched: &mut Watched, changes: &Changes) -> anyhow::Result<()> {
    let before = watched.slack.messages().len();
    let settings = StoreSettings {
        url: watched.ground.url_as("refresher", "views"),
        max_connections: 2,
        skew: TimeDelta::seconds(1),
    };
    let store = ViewStore::connect(settings).await?;
    let run = deadline::until("a run of its own", SOON, || async {
        store
            .begin_run("Patient", RunKind::Incremental, false)
            .await
            .ok()
            .flatten()
    })
    .await?;
    // The others are changed again before their time is over.
    let once = json!({"resourceType": "Patient", "name": [{"family": CANARY}]}).to_string();
    write(&watched.ground.hapi, "held-for-long", &once, TimeDelta::zero()).await?;
    watched.told_after(before, "BatchIsOld", "Patient").await?;
    watched.told("ReadingsKeptPastTheirTime", "Patient").await?;
    // What no run publishes comes by the speed layer alone, and that is held up, too.
    let held_up = locked_views(watched, changes).await;
    drop(run);
    held_up?;
    watched.over("BatchIsOld", before).await
}

/// A person holds a lock on a view's table, again and again: what changes meanwhile cannot be applied, or late.
async fn locked_views(watched: &mut Watched, changes: &Changes) -> anyhow::Result<()> {
    changes.rest(true);
    let before = watched.slack.messages().len();
    let (url, hapi) = (
        watched.ground.url_as("refresher", "views"),
        watched.ground.hapi.clone(),
    );
    let locking = tokio::spawn(change_under_locks(url, hapi));
    let told = async {
        watched.told("MergeFails", "").await?;
        watched.told_after(before, "LiveChangesSlow", "").await
    };
    let told = told.await;
    if locking.is_finished() {
        // It never ends by itself but with an error.
        locking.await??;
    } else {
        locking.abort();
    }
    changes.rest(false);
    told.map(drop)
}

async fn change_under_locks(url: String, hapi: PgPool) -> anyhow::Result<()> {
    let mut person = PgConnection::connect(&url).await?;
    let lock = "BEGIN; LOCK TABLE sqlonfhir_live.patient_versions IN SHARE MODE";
    let stored = json!({"resourceType": "Patient", "name": [{"family": CANARY}]}).to_string();
    loop {
        sqlx::raw_sql(lock).execute(&mut person).await?;
        let version = write(&hapi, "under-a-lock", &stored, TimeDelta::zero()).await?;
        sqlx::raw_sql("SELECT pg_sleep(3); COMMIT")
            .execute(&mut person)
            .await?;
        let shown = format!(
            "SELECT count(*) > 0 FROM sqlonfhir_live.patient_versions WHERE _rid = 'under-a-lock' AND _version = {version}"
        );
        until_true(&url, &shown, SOON).await?;
    }
}

/// HAPI's PostgreSQL takes no connections of the refresher any more.
async fn hapi_refuses(watched: &mut Watched) -> anyhow::Result<()> {
    let before = watched.slack.messages().len();
    let postgres = &watched.ground.postgres;
    postgres
        .execute("hapi", "REVOKE CONNECT ON DATABASE hapi FROM refresher")
        .await?;
    end_sessions(&watched.ground, "usename = 'refresher' AND datname = 'hapi'").await?;
    watched.told("RefreshFailedTwice", "Patient").await?;
    watched.told("TailStuck", "").await?;
    watched
        .ground
        .postgres
        .execute("hapi", "GRANT CONNECT ON DATABASE hapi TO refresher")
        .await?;
    watched.over("TailStuck", before).await
}

async fn end_sessions(ground: &Ground, which: &str) -> anyhow::Result<()> {
    let end = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {which}");
    ground.postgres.execute("postgres", &end).await
}

/// A session has the mergers' lead, and does nothing.
async fn merger_stuck(watched: &mut Watched) -> anyhow::Result<()> {
    let before = watched.slack.messages().len();
    let settings = StoreSettings {
        url: watched.ground.url_as("gateway", "views"),
        max_connections: 2,
        skew: TimeDelta::seconds(1),
    };
    let mut lead = ViewStore::connect(settings).await?.merge_lead().await?;
    let own: &str = "application_name = 'researchflow merger' AND state = 'idle' AND query = 'SELECT 1'";
    let begun = std::time::Instant::now();
    while !lead.try_take().await? {
        end_sessions(&watched.ground, own).await?;
        anyhow::ensure!(begun.elapsed() < SOON, "the lead cannot be had");
    }
    let keeping = tokio::spawn(async move { lead.keep().await.to_string() });
    let told = watched.told("MergerStuck", "").await;
    anyhow::ensure!(!keeping.is_finished(), "the lead was lost: {}", keeping.await?);
    keeping.abort();
    told?;
    watched.over("MergerStuck", before).await
}

/// The login for statements gets no connection: they fail, and nothing else does.
async fn calls_fail(watched: &mut Watched) -> anyhow::Result<()> {
    watched
        .ground
        .postgres
        .execute("views", "ALTER ROLE analyst CONNECTION LIMIT 0")
        .await?;
    end_sessions(&watched.ground, "usename = 'analyst' AND datname = 'views'").await?;
    let client = Asker::connect(&watched.serving.address("grpc")?).await?.client;
    let url = format!("http://{}/$sql-run", watched.serving.address("http")?);
    let library = json!({"resourceType": "Parameters", "parameter": [{"name": "subjectResource", "resource": {
        "resourceType": "Library", "status": "active", "type": {"coding": [{"code": "sql-query"}]},
        "content": [{"contentType": "application/sql", "extension": [{
            "url": "http://hl7.org/fhir/uv/sql-on-fhir/StructureDefinition/sql-text", "valueString": "SELECT count(*) FROM patient_versions"}]}]}}]});
    // Each waits some seconds for its turn before it fails: one caller alone would fail too seldom for a rate.
    let mut asking = JoinSet::new();
    for _ in 0..12 {
        let (client, http) = (client.clone(), http_client()?);
        let request = http
            .post(&url)
            .header("content-type", "application/fhir+json")
            .body(library.to_string());
        asking.spawn(async move {
            loop {
                let statement = SqlRequest {
                    statement: "SELECT count(*) FROM patient_versions".to_owned(),
                    ..SqlRequest::default()
                };
                let _fails = client.clone().sql(statement).await;
                if let Some(request) = request.try_clone() {
                    let _fails = request.send().await;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
    }
    let told = async {
        watched.told("ErrorRate", "of gRPC calls fail").await?;
        watched.told("ErrorRate", "of HTTP requests fail").await
    };
    let told = told.await;
    asking.abort_all();
    watched
        .ground
        .postgres
        .execute("views", "ALTER ROLE analyst CONNECTION LIMIT -1")
        .await?;
    told.map(drop)
}

/// Of the network between a gateway and what it asks, one line after the other.
async fn lines_are_cut(watched: &mut Watched) -> anyhow::Result<()> {
    let before = watched.slack.messages().len();
    watched.to_speed.cut();
    watched.told("LayerUnreachable", "speed layer").await?;
    watched.to_speed.mend();
    watched.over("LayerUnreachable", before).await?;
    watched.to_batch.cut();
    watched.told("LayerUnreachable", "batch layer").await?;
    watched.to_batch.mend();
    let before = watched.slack.messages().len();
    watched.to_views.cut();
    watched.told("ViewsDatabaseAway", "").await?;
    watched.to_views.mend();
    watched.over("ViewsDatabaseAway", before).await
}

async fn replica_down(watched: &mut Watched) -> anyhow::Result<()> {
    watched.further_speed.kill9();
    watched.told("ReplicaDown", "A replica of speed-ingestor").await?;
    Ok(())
}

async fn daemon_down(watched: &mut Watched) -> anyhow::Result<()> {
    let before = watched.slack.messages().len();
    watched.further_speed.kill9();
    watched.speed.kill9();
    // Before Prometheus has asked for the first time there is none, either.
    watched
        .told_after(before, "DaemonDown", "No speed-ingestor is running")
        .await?;
    Ok(())
}
