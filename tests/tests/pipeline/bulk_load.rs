//! A bulk load while everything runs: it goes through the batch, not through Redis, and no answer promises what it does not hold.
//!
//! HAPI itself writes some hundred versions a second here, so the load is written by SQL into its tables, as HAPI would write it, in few large
//! transactions. That no webhook tells of it is no help.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use api::proto::batch::VerifyRequest;
use e2e::ask::{Asker, count_of, rows_where};
use e2e::deadline;
use e2e::fhir::Fhir;
use e2e::stack::Stack;
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::stack::{Clients, shared};

/// Transactions of the load, without `BULK_RESOURCES`.
const TRANSACTIONS: i64 = 2;

/// Resources of each: more than a reading of the tail carries (`readings.max_changes`).
const MORE_THAN_A_READING: i64 = 25_000;

/// Row numbers that HAPI will not come to.
const FIRST_ROW: i64 = 1 << 40;

const LIMIT: Duration = Duration::from_mins(5);

const VIEW: &str = "bulk_basics";

fn view() -> serde_json::Value {
    json!({
        "resourceType": "ViewDefinition", "name": VIEW, "status": "active", "resource": "Basic",
        "select": [{"column": [{"name": "id", "path": "getResourceKey()"}, {"name": "text", "path": "code.text"}]}],
    })
}

/// A transaction of the load: when it had committed, by the clock of HAPI's PostgreSQL, and how many resources there are with it.
struct Committed {
    at: f64,
    resources: i64,
}

/// The statement writes the resources of these numbers as HAPI does, dated now.
async fn load(hapi: &mut PgConnection, from: i64, to: i64) -> anyhow::Result<Committed> {
    const HAPIS_CLOCK: &str = "date_trunc('milliseconds', clock_timestamp() AT TIME ZONE 'UTC')";
    let numbers = format!("generate_series({from}::bigint, {}::bigint) n", to - 1);
    let row = format!("{FIRST_ROW} + n");
    let sql = format!(
        "INSERT INTO hfj_resource (res_id, fhir_id, res_type, res_ver, res_published, res_updated, res_version, has_tags, sp_has_links, \
         sp_coords_present, sp_date_present, sp_number_present, sp_quantity_nrml_present, sp_quantity_present, sp_string_present, \
         sp_token_present, sp_uri_present) \
         SELECT {row}, 'bulk-' || n, 'Basic', 1, now.at, now.at, 'R4', false, false, false, false, false, false, false, false, false, false \
         FROM {numbers}, (SELECT {HAPIS_CLOCK} AS at) now; \
         INSERT INTO hfj_res_ver (pid, res_id, res_type, res_ver, res_published, res_updated, res_version, has_tags, res_encoding, res_text_vc) \
         SELECT {row}, {row}, 'Basic', 1, r.res_updated, r.res_updated, 'R4', false, 'JSON', \
                '{{\"resourceType\":\"Basic\",\"code\":{{\"text\":\"number ' || n || '\"}}}}' \
         FROM {numbers} JOIN hfj_resource r ON r.res_id = {row}"
    );
    let mut transaction = hapi.begin().await?;
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    let at = sqlx::query_scalar("SELECT extract(epoch FROM clock_timestamp())::float8")
        .fetch_one(hapi)
        .await?;
    Ok(Committed { at, resources: to })
}

/// What an answer promises and holds.
struct Seen {
    as_of: f64,
    rows: i64,
}

/// Asks all the time how many there are.
async fn ask_on(asker: Asker, done: Arc<AtomicBool>) -> anyhow::Result<Vec<Seen>> {
    let mut seen = Vec::new();
    while !done.load(Ordering::Relaxed) {
        let answer = asker.ask(count_of(VIEW)).await?;
        if let Some(as_of) = answer.freshness.as_of {
            #[expect(clippy::cast_precision_loss, reason = "seconds of this century")]
            let as_of = as_of.seconds as f64 + f64::from(as_of.nanos) / 1e9;
            seen.push(Seen {
                as_of,
                rows: answer.footer.row_count,
            });
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(seen)
}

/// Writes patients through HAPI, one after the other, and how long each took to be seen.
async fn write_on(fhir: Fhir, asker: Asker, done: Arc<AtomicBool>) -> anyhow::Result<Vec<Duration>> {
    let mut taken = Vec::new();
    while !done.load(Ordering::Relaxed) {
        let id = format!("beside-bulk-{}", taken.len());
        fhir.put(&json!({"resourceType": "Patient", "id": id, "gender": "other"}))
            .await?;
        let written = Instant::now();
        let query = rows_where("patient_simple", "id", &id);
        let (_, seen) = asker
            .until(&query, LIMIT, |answer| answer.footer.row_count == 1)
            .await?;
        taken.push(seen.saturating_duration_since(written));
    }
    Ok(taken)
}

/// Bodies of the load that Redis holds.
async fn held(redis: &str) -> anyhow::Result<usize> {
    let mut connection = redis::Client::open(redis)?
        .get_multiplexed_async_connection()
        .await?;
    let keys: Vec<String> = redis::cmd("KEYS")
        .arg("*fhir:Basic:bulk-*")
        .query_async(&mut connection)
        .await?;
    Ok(keys.len())
}

/// What came of the load: what is judged, and what is told.
struct Outcome {
    resources: i64,
    committed: Vec<Committed>,
    seen: Vec<Seen>,
    /// How long each patient took that was written beside it.
    beside: Vec<Duration>,
    most_held: usize,
    loaded: Duration,
    visible: Duration,
    verified: (i64, i64),
}

/// Loads, while everybody asks and writes.
async fn run(stack: &Stack, clients: &Clients, hapi: &mut PgConnection) -> anyhow::Result<Outcome> {
    let transactions = match std::env::var("BULK_RESOURCES") {
        Ok(text) => (text.parse::<i64>()? + MORE_THAN_A_READING - 1) / MORE_THAN_A_READING,
        Err(_) => TRANSACTIONS,
    };
    let resources = transactions * MORE_THAN_A_READING;
    clients.operator.put_view(&view()).await?;
    clients.operator.all_active(Duration::from_mins(1)).await?;
    let redis = stack.endpoints()?.redis;

    let done = Arc::new(AtomicBool::new(false));
    let asking = tokio::spawn(ask_on(clients.asker.clone(), done.clone()));
    let writing = tokio::spawn(write_on(
        clients.fhir.clone(),
        clients.asker.clone(),
        done.clone(),
    ));
    let (begun, mut committed, most_held) = (Instant::now(), Vec::new(), AtomicUsize::new(0));
    for transaction in 0..transactions {
        let from = transaction * MORE_THAN_A_READING;
        committed.push(load(hapi, from, from + MORE_THAN_A_READING).await?);
        most_held.fetch_max(held(&redis).await?, Ordering::Relaxed);
    }
    let loaded = begun.elapsed();
    deadline::until("the whole load to be seen", LIMIT, || async {
        most_held.fetch_max(held(&redis).await.ok()?, Ordering::Relaxed);
        (clients.asker.count(VIEW).await.ok()? == resources).then_some(())
    })
    .await?;
    let visible = begun.elapsed();
    clients.catch_up().await?;
    done.store(true, Ordering::Relaxed);
    Ok(Outcome {
        resources,
        committed,
        seen: asking.await??,
        beside: writing.await??,
        most_held: most_held.into_inner(),
        loaded,
        visible,
        verified: verify(clients).await?,
    })
}

/// The other tests compare all views with HAPI.
async fn clean_up(clients: &Clients, hapi: &mut PgConnection) -> anyhow::Result<()> {
    if clients.views().await?.iter().any(|name| name == VIEW) {
        clients.operator.drop_view(VIEW).await?;
    }
    for table in ["hfj_res_ver", "hfj_resource"] {
        let sql = format!("DELETE FROM {table} WHERE res_id >= {FIRST_ROW}");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *hapi).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_3_a_bulk_load_goes_through_the_batch_and_no_answer_promises_too_much() -> anyhow::Result<()> {
    let stack = shared().await?;
    let clients = Clients::of(&stack).await?;
    let mut hapi = PgConnection::connect(&stack.servers.url_as("hapi", "hapi")).await?;
    let outcome = run(&stack, &clients, &mut hapi).await;
    clean_up(&clients, &mut hapi).await?;
    let Outcome {
        resources,
        committed,
        seen,
        mut beside,
        most_held,
        loaded,
        visible,
        verified,
    } = outcome?;

    for answer in &seen {
        let promised = committed
            .iter()
            .take_while(|committed| committed.at < answer.as_of)
            .last();
        let promised = promised.map_or(0, |committed| committed.resources);
        assert!(
            answer.rows >= promised,
            "an answer promises {promised} resources and has {}",
            answer.rows
        );
    }
    let all_were_promised = committed
        .last()
        .is_some_and(|last| seen.iter().any(|answer| answer.as_of > last.at));
    assert!(all_were_promised, "no answer promises the whole load");
    assert_eq!(verified, (resources, 0), "compared, and different");
    assert!(
        most_held < 1_000,
        "{most_held} of {resources} bodies went through Redis"
    );
    beside.sort();
    println!(
        "{resources} resources in {} transactions were written in {loaded:.1?} and seen {visible:.1?} after the beginning; {} answers meanwhile, none promised too \
         much; {most_held} bodies in Redis; {} patients beside them were seen after {:.0?} (median), {:.0?} (longest)",
        committed.len(),
        seen.len(),
        beside.len(),
        beside.get(beside.len() / 2).copied().unwrap_or_default(),
        beside.last().copied().unwrap_or_default(),
    );
    Ok(())
}

/// Resources that were compared, and differences.
async fn verify(clients: &Clients) -> anyhow::Result<(i64, i64)> {
    let request = VerifyRequest {
        views: vec![VIEW.to_owned()],
        sample: 1.0,
    };
    let mut stream = clients
        .operator
        .client
        .clone()
        .verify(request)
        .await?
        .into_inner();
    let mut last = (0, 0);
    while let Some(message) = stream.message().await? {
        last = (message.resources_compared, message.differences_found);
    }
    Ok(last)
}
