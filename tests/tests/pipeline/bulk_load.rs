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
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::stack::{Clients, shared};

/// Resources of the load, without `BULK_RESOURCES`: a hundred thousand take daemons that are not optimised a minute.
const RESOURCES: i64 = 50_000;

/// Transactions of it, each of more changes than a reading of the tail carries (`readings.max_changes`).
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_3_a_bulk_load_goes_through_the_batch_and_no_answer_promises_too_much() -> anyhow::Result<()> {
    let stack = shared().await?;
    let clients = Clients::of(&stack).await?;
    let endpoints = stack.endpoints()?;
    let resources = match std::env::var("BULK_RESOURCES") {
        Ok(text) => text.parse()?,
        Err(_) => RESOURCES,
    };
    clients.operator.put_view(&view()).await?;
    clients.operator.all_active(Duration::from_mins(1)).await?;
    let url = stack.servers.url_as("hapi", "hapi");
    let mut hapi = PgConnection::connect(&url).await?;

    let done = Arc::new(AtomicBool::new(false));
    let asking = tokio::spawn(ask_on(clients.asker.clone(), done.clone()));
    let writing = tokio::spawn(write_on(
        clients.fhir.clone(),
        clients.asker.clone(),
        done.clone(),
    ));
    let (begun, mut committed, most_held) = (Instant::now(), Vec::new(), AtomicUsize::new(0));
    let mut from = 0;
    while from < resources {
        let to = resources.min(from + MORE_THAN_A_READING);
        committed.push(load(&mut hapi, from, to).await?);
        most_held.fetch_max(held(&endpoints.redis).await?, Ordering::Relaxed);
        from = to;
    }
    let loaded = begun.elapsed();
    deadline::until("the whole load to be seen", LIMIT, || async {
        most_held.fetch_max(held(&endpoints.redis).await.ok()?, Ordering::Relaxed);
        (clients.asker.count(VIEW).await.ok()? == resources).then_some(())
    })
    .await?;
    let (visible, most_held) = (begun.elapsed(), most_held.into_inner());
    clients.catch_up().await?;
    done.store(true, Ordering::Relaxed);
    let (seen, mut beside) = (asking.await??, writing.await??);

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
    let verified = verify(&clients).await?;
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

    // The other tests compare all views with HAPI.
    clients.operator.drop_view(VIEW).await?;
    for table in ["hfj_res_ver", "hfj_resource"] {
        let sql = format!("DELETE FROM {table} WHERE res_id >= {FIRST_ROW}");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut hapi).await?;
    }
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
