//! The audit of a daemon: what its operations hand their records to.

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use daemon::{Clock, Shutdown, metrics::Metrics, mounted};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::{
    config::{AuditConfig, OnFailure},
    fhir::{self, Hapi, HapiError, SpoolSink},
    keys::{KeyError, KeyRing, Keys},
    log::{Log, LogError},
    metrics::{AuditMetrics, SinkLabel},
    record::{Kind, Record, Who},
    writer::{Item, Sink, Writer},
};

/// How often it is looked whether all is written, at a stop.
const DRAINED: Duration = Duration::from_millis(10);

/// Why an audit that is asked for cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The keys.
    #[error("audit.key_file: {0}")]
    Keys(#[from] KeyError),
    /// The file.
    #[error("audit.file: {0}")]
    File(LogError),
    /// What waits for HAPI.
    #[error("audit.fhir.spool: {0}")]
    Spool(LogError),
    /// HAPI.
    #[error("audit.fhir: {0}")]
    Hapi(#[from] HapiError),
    /// The thread that writes.
    #[error("the audit's thread cannot be started: {0}")]
    Thread(std::io::Error),
    /// A record of the daemon itself.
    #[error("the audit's own record cannot be written: see the log")]
    Mark,
}

/// The audit; nothing where none is asked for. Cheap to clone.
#[derive(Clone, Default)]
pub struct Audit(pub(crate) Option<Arc<Inner>>);

/// What all its operations share.
pub(crate) struct Inner {
    /// The daemon that records.
    pub(crate) daemon: &'static str,
    pub(crate) keys: KeyRing,
    pub(crate) queue: mpsc::Sender<Item>,
    pub(crate) refuses: bool,
    pub(crate) purpose_required: bool,
    pub(crate) patience: Duration,
    pub(crate) metrics: AuditMetrics,
    pub(crate) clock: Arc<dyn Clock>,
    layers: Vec<String>,
    /// Operations that have not ended.
    open: AtomicUsize,
    seed: u64,
    next: AtomicU64,
}

impl Audit {
    /// Opens what is configured, and records that the daemon has started; fails where that cannot be recorded. What an audit needs goes on until the stop, and a
    /// little longer: what ends with it is recorded too.
    pub async fn start(
        config: &AuditConfig,
        daemon: &'static str,
        metrics: &Metrics,
        clock: Arc<dyn Clock>,
        shutdown: &Shutdown,
    ) -> Result<Self, AuditError> {
        if !config.is_on() {
            return Ok(Self::default());
        }
        let read = mounted::read(&config.key_file).map_err(|error| KeyError::Unreadable(error.kind()))?;
        let keys = Keys::parse(&read)?;
        let metrics = AuditMetrics::register(metrics);
        let mut sinks: Vec<Box<dyn Sink>> = Vec::new();
        if let Some(file) = config.file() {
            let log = Log::open(file, config.fsync, config.rotate_bytes).map_err(AuditError::File)?;
            sinks.push(Box::new(log));
        }
        let told = Arc::new(Notify::new());
        if let Some(settings) = config.fhir.settings() {
            let hapi = Hapi::new(&settings)?;
            let (sink, spool) =
                SpoolSink::open(&settings, config.fsync, told.clone()).map_err(AuditError::Spool)?;
            let sender = fhir::Sender::new(hapi, spool, told, metrics.clone());
            sinks.push(Box::new(sink));
            shutdown.spawn(sender.run(shutdown.clone()));
        }
        let (queue, from) = mpsc::channel(config.queue);
        let writer = Writer::new(sinks, config.queue, metrics.clone(), clock.clone());
        writer.spawn(from).map_err(AuditError::Thread)?;
        let ring = KeyRing::new(&keys);
        let inner = Arc::new(Inner {
            daemon,
            keys: ring.clone(),
            queue,
            refuses: config.on_failure == OnFailure::Refuse,
            purpose_required: config.purpose_is_required(),
            patience: config.patience_seconds,
            metrics,
            clock,
            layers: config.layers.clone(),
            open: AtomicUsize::new(0),
            seed: RandomState::new().hash_one(std::process::id()),
            next: AtomicU64::new(0),
        });
        inner.mark(Kind::Started).await?;
        let take = move |bytes: &[u8]| take(&ring, bytes);
        shutdown.spawn(mounted::follow(
            "audit.key_file",
            config.key_file.clone(),
            read,
            take,
            shutdown.clone(),
        ));
        shutdown.spawn(drained(inner.clone(), shutdown.clone()));
        Ok(Self(Some(inner)))
    }
}

impl Inner {
    /// A record of the daemon itself.
    async fn mark(&self, kind: Kind) -> Result<(), AuditError> {
        let record = Record::new(
            kind,
            self.next_id(),
            self.clock.now(),
            self.daemon,
            self.keys.current().id(),
        );
        let (safe, told) = oneshot::channel();
        self.hand_over(Item {
            record,
            safe: Some(safe),
        });
        match told.await {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(AuditError::Mark),
        }
    }

    /// Into the queue; what finds no place is lost, and counted.
    pub(crate) fn hand_over(&self, item: Item) {
        if self.queue.try_send(item).is_err() {
            self.metrics
                .lost
                .get_or_create(&SinkLabel { sink: "queue" })
                .inc();
        }
    }

    /// A layer of this installation, by a name that this installation gives: a certificate's or a static token's. (An issuer may call anybody by any name.)
    pub(crate) fn is_of_a_layer(&self, who: &Who) -> bool {
        matches!(who.proof.as_deref(), Some("certificate" | "token")) && self.layers.contains(&who.name)
    }

    /// Of this process, and of no other one: half of it is random.
    pub(crate) fn next_id(&self) -> String {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        format!("{:016x}{next:016x}", self.seed)
    }

    pub(crate) fn opened(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn closed(&self) {
        self.open.fetch_sub(1, Ordering::Release);
    }
}

/// Keeps the stop waiting until all operations have ended and their records are written, and records that it stops.
async fn drained(inner: Arc<Inner>, shutdown: Shutdown) {
    shutdown.stopping().await;
    while inner.open.load(Ordering::Acquire) > 0 {
        tokio::time::sleep(DRAINED).await;
    }
    // It comes out of the queue behind all others.
    if inner.mark(Kind::Stopped).await.is_err() {
        tracing::error!("the audit's last record cannot be written");
    }
}

/// Goes over to the keys that a changed file holds.
fn take(ring: &KeyRing, bytes: &[u8]) -> Result<(), KeyError> {
    let keys = Keys::parse(bytes)?;
    if ring.replace(&keys) {
        tracing::info!(
            key = keys.current().id(),
            "values in the audit are hashed with another key from now on"
        );
    }
    Ok(())
}
