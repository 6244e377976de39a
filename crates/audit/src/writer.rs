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
    record::{Kind, Record},
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
            let over = more == Ok(0);
            // The stop waits for its record, and hardly for what comes behind it.
            let stops = items.iter().any(|item| item.record.kind == Kind::Stopped);
            self.take(&mut items, over || stops);
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

    /// Writes what came, and what waits since before; a record is safe once it is written everywhere. `is_last`: there may be no other try.
    fn take(&mut self, items: &mut Vec<Item>, is_last: bool) {
        let mut waiting = Vec::new();
        for Item { record, safe } in items.drain(..) {
            let Ok(line) = serde_json::to_string(&record) else {
                continue; // Of texts and numbers alone: it can be written.
            };
            let line: Arc<str> = line.into();
            let mut has_room = true;
            for kept in &mut self.kept {
                if kept.waiting.len() >= self.most {
                    self.metrics.lost.get_or_create(&label(kept)).inc();
                    has_room = false;
                } else {
                    kept.waiting.push_back(line.clone());
                }
            }
            waiting.extend(safe.map(|safe| (safe, has_room)));
        }
        let now = self.clock.now();
        let mut all = true;
        for kept in &mut self.kept {
            all &= kept.write(now, &self.metrics, is_last);
        }
        for (safe, has_room) in waiting {
            let _gone = safe.send(all && has_room);
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
    fn write(&mut self, now: DateTime<Utc>, metrics: &AuditMetrics, is_last: bool) -> bool {
        // One that fails is not asked again with each record.
        let is_due = is_last || !self.failing || self.tried.elapsed() >= TRY_AGAIN;
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use daemon::{SystemClock, metrics::Metrics};

    use super::*;

    /// Takes lines while it is allowed to.
    #[derive(Clone, Default)]
    struct Switched {
        takes: Arc<AtomicBool>,
        lines: Arc<std::sync::Mutex<Vec<Arc<str>>>>,
    }

    /// One over a sink that takes nothing yet.
    fn writer(most: usize) -> (Writer, Switched) {
        let sink = Switched::default();
        let metrics = AuditMetrics::register(&Metrics::default());
        let kept: Box<dyn Sink> = Box::new(sink.clone());
        (
            Writer::new(vec![kept], most, metrics, Arc::new(SystemClock)),
            sink,
        )
    }

    fn record(kind: Kind, id: &str) -> Record {
        Record::new(kind, id.to_owned(), DateTime::UNIX_EPOCH, "test", "k")
    }

    impl Sink for Switched {
        fn name(&self) -> &'static str {
            "file"
        }

        fn append(&mut self, lines: &[Arc<str>], _: DateTime<Utc>) -> Result<(), LogError> {
            if !self.takes.load(Ordering::Relaxed) {
                return Err(LogError::Io {
                    what: "cannot be written",
                    reason: std::io::ErrorKind::StorageFull,
                });
            }
            self.lines.lock().expect("no panic").extend_from_slice(lines);
            Ok(())
        }

        fn is_unsynced(&self) -> bool {
            false
        }

        fn sync(&mut self) -> Result<(), LogError> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn what_waits_is_tried_again_before_a_stop_is_told() {
        let (writer, sink) = writer(10);
        let (queue, from) = mpsc::channel(10);
        tokio::spawn(writer.run(from));
        let hand_over = async |kind| {
            let (safe, told) = oneshot::channel();
            let item = Item {
                record: record(kind, "id"),
                safe: Some(safe),
            };
            queue.send(item).await.expect("it is there");
            told.await.expect("it is told")
        };
        assert!(!hand_over(Kind::Begun).await);
        sink.takes.store(true, Ordering::Relaxed);
        assert!(hand_over(Kind::Stopped).await);
        assert_eq!(sink.lines.lock().expect("no panic").len(), 2);
    }

    #[test]
    fn what_found_no_room_is_not_called_safe_when_what_was_before_it_is_written() {
        let (mut writer, sink) = writer(2);
        let mut take = |ids: &[&str], is_last: bool| -> Vec<bool> {
            let (mut items, mut told) = (Vec::new(), Vec::new());
            for id in ids {
                let (safe, of) = oneshot::channel();
                items.push(Item {
                    record: record(Kind::Begun, id),
                    safe: Some(safe),
                });
                told.push(of);
            }
            writer.take(&mut items, is_last);
            told.into_iter()
                .map(|mut of| of.try_recv().expect("it is told"))
                .collect()
        };
        assert_eq!(take(&["a", "b"], false), [false, false]);
        sink.takes.store(true, Ordering::Relaxed);
        // The last try comes at once; for the third there was no room.
        assert_eq!(take(&["c"], true), [false]);
        assert_eq!(sink.lines.lock().expect("no panic").len(), 2);
        assert_eq!(take(&["d"], false), [true]);
    }
}
