//! Sends what waits, for as long as the daemon runs. What HAPI does not take now is sent again, later and later; what it will never take is told, counted and
//! passed over, so that it does not keep the others.

use std::{sync::Arc, time::Duration};

use daemon::Shutdown;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::{
    event,
    hapi::{Hapi, HapiError},
    spool::{Next, Spool},
};
use crate::{
    metrics::{AuditMetrics, SinkLabel},
    record::Record,
};

const LABEL: SinkLabel = SinkLabel { sink: "fhir" };
/// Events of a Bundle: HAPI takes one in a transaction of its own.
const TOGETHER: usize = 50;
/// How soon, and how late at last, what was not taken is sent again.
const SOON: Duration = Duration::from_secs(1);
const LATE: Duration = Duration::from_mins(1);
/// How often it is looked without being told.
const LOOK: Duration = Duration::from_secs(5);

pub(crate) struct Sender {
    hapi: Hapi,
    spool: Spool,
    told: Arc<Notify>,
    metrics: AuditMetrics,
    machine: String,
    together: usize,
}

impl Sender {
    pub(crate) fn new(hapi: Hapi, spool: Spool, told: Arc<Notify>, metrics: AuditMetrics) -> Self {
        metrics.begin(LABEL.sink);
        let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let machine = Some(machine.trim().to_owned()).filter(|name| !name.is_empty());
        Self {
            hapi,
            spool,
            told,
            metrics,
            machine: machine.unwrap_or_else(|| "unknown".to_owned()),
            together: TOGETHER,
        }
    }

    pub(crate) async fn run(mut self, shutdown: Shutdown) {
        let mut pause = SOON;
        let mut failing = false;
        loop {
            match self.step().await {
                Ok(0) => {
                    pause = SOON;
                    let told = tokio::time::timeout(LOOK, self.told.notified());
                    if shutdown.unless_stopped(told).await.is_none() {
                        return;
                    }
                }
                Ok(_) => {
                    pause = SOON;
                    if std::mem::take(&mut failing) {
                        tracing::info!("HAPI takes AuditEvents again");
                    }
                    if shutdown.is_stopping() {
                        // What is left waits in the folder.
                        return;
                    }
                }
                Err(error) => {
                    self.metrics.failures.get_or_create(&LABEL).inc();
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%error, "AuditEvents cannot be sent to HAPI, and wait");
                    }
                    if !shutdown.sleep(pause).await {
                        return;
                    }
                    pause = (pause * 2).min(LATE);
                }
            }
        }
    }

    /// Sends a Bundle; 0 if there was none to send.
    async fn step(&mut self) -> Result<usize, HapiError> {
        let unreadable = |_| HapiError::Away("the folder of what waits cannot be read or written");
        let next = self.spool.next(self.together).map_err(unreadable)?;
        self.tell_waiting();
        if next.lines.is_empty() {
            return Ok(0);
        }
        match self.hapi.take(bundle(&next, &self.machine).to_string()).await {
            Ok(()) => {
                self.metrics
                    .records
                    .get_or_create(&LABEL)
                    .inc_by(next.lines.len() as u64);
                self.together = (self.together * 2).min(TOGETHER);
            }
            Err(error @ HapiError::Refused(_)) if next.lines.len() == 1 => {
                self.metrics.lost.get_or_create(&LABEL).inc();
                tracing::error!(%error, "an AuditEvent is not taken by HAPI, and is left out there");
            }
            Err(error @ HapiError::Refused(_)) => {
                // One of them is at fault: it is found by sending each alone.
                tracing::debug!(%error, "a Bundle of AuditEvents is refused");
                self.together = 1;
                return Ok(1);
            }
            Err(error) => return Err(error),
        }
        let count = next.lines.len();
        self.spool.sent(&next, count).map_err(unreadable)?;
        self.tell_waiting();
        Ok(count)
    }

    fn tell_waiting(&self) {
        self.metrics
            .pending
            .get_or_create(&LABEL)
            .set(self.spool.waiting());
    }
}

fn bundle(next: &Next, machine: &str) -> Value {
    let records = next
        .lines
        .iter()
        .filter_map(|line| serde_json::from_str::<Record>(line).ok());
    let entries: Vec<Value> = records
        .map(|record| {
            let event = event::of(&record, machine);
            let url = format!("AuditEvent/{}", event["id"].as_str().unwrap_or_default());
            json!({"resource": event, "request": {"method": "PUT", "url": url}})
        })
        .collect();
    json!({"resourceType": "Bundle", "type": "transaction", "entry": entries})
}
