//! The queue and the thread behind it: operations hand their records over and go on; one thread writes them, many at a time, and tells those who wait.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use daemon::Clock;
use tokio::sync::{mpsc, oneshot};

use crate::{
    log::{Log, LogError},
    metrics::{AuditMetrics, SinkLabel},
    record::Record,
};

/// Records that are written together at most.
const TOGETHER: usize = 512;
/// How soon what has failed is tried again.
const TRY_AGAIN: Duration = Duration::from_millis(250);
/// How often the disk is told, where it is told once a second.
const SYNC: Duration = Duration::from_secs(1);

/// A record on its way.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) record: Record,
    /// Whoever waits until it is safe: told whether it is.
    pub(crate) safe: Option<oneshot::Sender<bool>>,
}

/// Where records are kept.
pub(crate) trait Sink: Send {
    /// As metrics name it.
    fn name(&self) -> &'static str;
    /// Takes all of these, or fails; then they come again.
    fn append(&mut self, lines: &[Arc<str>], now: DateTime<Utc>) -> Result<(), LogError>;
    /// Whether [`Self::sync`] has something to do.
    fn is_unsynced(&self) -> bool;
    fn sync(&mut self) -> Result<(), LogError>;
}

/// The append-only file.
impl Sink for Log {
    fn name(&self) -> &'static str {
        "file"
    }

    fn append(&mut self, lines: &[Arc<str>], now: DateTime<Utc>) -> Result<(), LogError> {
        Self::append(self, lines, now)
    }

    fn is_unsynced(&self) -> bool {
        Self::is_unsynced(self)
    }

    fn sync(&mut self) -> Result<(), LogError> {
        Self::sync(self)
    }
}

struct Kept {
    sink: Box<dyn Sink>,
    /// Not written yet.
    waiting: VecDeque<Arc<str>>,
    failing: bool,
    /// When it was last asked to take what waits.
    tried: Instant,
}

pub(crate) struct Writer {
    kept: Vec<Kept>,
    /// Lines that may wait for a sink that fails.
    most: usize,
    metrics: AuditMetrics,
    clock: Arc<dyn Clock>,
}

impl Writer {
    pub(crate) fn new(
        sinks: Vec<Box<dyn Sink>>,
        most: usize,
        metrics: AuditMetrics,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let begun = |sink: Box<dyn Sink>| {
            metrics.begin(sink.name());
            Kept {
                sink,
                waiting: VecDeque::new(),
                failing: false,
                tried: Instant::now(),
            }
        };
        Self {
            kept: sinks.into_iter().map(begun).collect(),
            most,
            metrics,
            clock,
        }
    }

    /// Starts the thread. It ends once nobody can hand anything over any more, and all is written or cannot be.
    pub(crate) fn spawn(self, from: mpsc::Receiver<Item>) -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()?;
        let name = "audit".to_owned();
        std::thread::Builder::new()
            .name(name)
            .spawn(move || runtime.block_on(self.run(from)))
            .map(drop)
    }

    async fn run(mut self, mut from: mpsc::Receiver<Item>) {
        let mut items = Vec::with_capacity(TOGETHER);
        let mut synced = Instant::now();
        loop {
            let waits = self.kept.iter().any(|kept| !kept.waiting.is_empty());
            let unsynced = self.kept.iter().any(|kept| kept.sink.is_unsynced());
            let patience = match (waits, unsynced) {
                (true, _) => TRY_AGAIN,
                (false, true) => SYNC,
                (false, false) => Duration::from_hours(1),
            };
            let more = tokio::time::timeout(patience, from.recv_many(&mut items, TOGETHER)).await;
            self.take(&mut items);
            let over = more == Ok(0);
            if over || synced.elapsed() >= SYNC {
                self.sync();
                synced = Instant::now();
            }
            if over {
                self.give_up();
                return;
            }
        }
    }

    /// Writes what came, and what waits since before.
    fn take(&mut self, items: &mut Vec<Item>) {
        let mut waiting = Vec::new();
        for Item { record, safe } in items.drain(..) {
            let Ok(line) = serde_json::to_string(&record) else {
                continue; // Of texts and numbers alone: it can be written.
            };
            let line: Arc<str> = line.into();
            for kept in &mut self.kept {
                if kept.waiting.len() >= self.most {
                    self.metrics.lost.get_or_create(&label(kept)).inc();
                } else {
                    kept.waiting.push_back(line.clone());
                }
            }
            waiting.extend(safe);
        }
        let now = self.clock.now();
        let mut all = true;
        for kept in &mut self.kept {
            all &= kept.write(now, &self.metrics);
        }
        for safe in waiting {
            let _gone = safe.send(all);
        }
    }

    fn sync(&mut self) {
        for kept in &mut self.kept {
            if let Err(error) = kept.sink.sync() {
                kept.failed(&error, &self.metrics);
            }
        }
    }

    /// What is lost at the end is told.
    fn give_up(&self) {
        for kept in &self.kept {
            let lost = kept.waiting.len();
            if lost > 0 {
                self.metrics.lost.get_or_create(&label(kept)).inc_by(lost as u64);
                tracing::error!(
                    sink = kept.sink.name(),
                    lost,
                    "records of the audit are lost with this stop"
                );
            }
        }
    }
}

fn label(kept: &Kept) -> SinkLabel {
    SinkLabel {
        sink: kept.sink.name(),
    }
}

impl Kept {
    /// True if nothing waits any more.
    fn write(&mut self, now: DateTime<Utc>, metrics: &AuditMetrics) -> bool {
        // One that fails is not asked again with each record.
        let is_due = !self.failing || self.tried.elapsed() >= TRY_AGAIN;
        if is_due && !self.waiting.is_empty() {
            self.tried = Instant::now();
            let lines = self.waiting.make_contiguous();
            let count = lines.len();
            match self.sink.append(lines, now) {
                Ok(()) => {
                    self.waiting.clear();
                    metrics.records.get_or_create(&label(self)).inc_by(count as u64);
                    if std::mem::take(&mut self.failing) {
                        tracing::info!(sink = self.sink.name(), "the audit is written again");
                    }
                }
                Err(error) => self.failed(&error, metrics),
            }
        }
        let waiting = i64::try_from(self.waiting.len()).unwrap_or(i64::MAX);
        metrics.pending.get_or_create(&label(self)).set(waiting);
        waiting == 0
    }

    fn failed(&mut self, error: &LogError, metrics: &AuditMetrics) {
        metrics.failures.get_or_create(&label(self)).inc();
        // Said once, not at each try.
        if !std::mem::replace(&mut self.failing, true) {
            tracing::error!(sink = self.sink.name(), %error, "the audit cannot be written");
        }
    }
}
