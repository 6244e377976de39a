//! Every part is killed while HAPI is written to: nothing is missing afterwards, nothing doubled.

use std::time::Duration;

use e2e::fhir::Fhir;
use e2e::loading::load_patients;
use e2e::patients::Hospital;
use e2e::patients::changes::Change;
use tokio::sync::watch;

use crate::stack::{Clients, shared};

const WRITES: usize = 500;

/// Writes changes, and says after each how many there were.
async fn write(fhir: Fhir, hospital: Hospital, written: watch::Sender<usize>) -> anyhow::Result<()> {
    for (number, change) in hospital.changes(10).take(WRITES).enumerate() {
        match change {
            Change::Put(resource) => fhir.put(&resource).await?,
            Change::Delete { resource_type, id } => fhir.delete(&resource_type, &id).await?,
        };
        written.send_replace(number + 1);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_kill_9_of_each_daemon_and_of_redis_nothing_is_missing_and_nothing_doubled()
-> anyhow::Result<()> {
    let mut stack = shared().await?;
    let hospital = Hospital::new(5);
    let fhir = stack.servers.hapi.fhir()?;
    load_patients(&fhir, hospital, 10).await?;
    let (written, mut progress) = watch::channel(0);
    let writing = tokio::spawn(write(fhir, hospital, written));
    for round in 0..8 {
        // It ends before all is written only where a write fails.
        let due = progress.wait_for(|written| *written >= 30 + round * 55).await;
        if due.is_err() {
            break;
        }
        drop(due);
        match round % 4 {
            0 => stack.serving.restart().await?,
            1 => stack.speed.restart().await?,
            2 => stack.servers.redis.restart().await?,
            _ => stack.batch.restart().await?,
        }
    }
    writing.await??;
    let clients = Clients::of(&stack).await?;
    clients.operator.all_active(Duration::from_mins(1)).await?;
    clients.nothing_missing_nothing_doubled().await?;
    Ok(())
}
