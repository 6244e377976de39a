//! What works for one type: one run at a time, on the interval and when asked to.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;
use view_store::{RunKind, StoreError};

use super::{Inner, Request, RunStatus};
use crate::{
    measures::{ByRun, ByType},
    progress::{Progress, RunPhase},
    run::{RefreshRun, RunError, Step},
};

/// How often watchers hear of a run's progress.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(250);
/// How long to wait for another replica's run before trying again.
const BUSY_PAUSE: Duration = Duration::from_millis(250);
/// How long after a failure the next run comes, doubled with each failure: what fails at once must not be tried all the time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest such pause: a server that returns is noticed within it.
const LONGEST_PAUSE: Duration = Duration::from_secs(16);

/// How long views that could not join are left alone, doubled with each failure: an attempt reads the whole type. A new definition is tried at once.
const FIRST_REST: Duration = Duration::from_secs(5);
/// The longest such rest.
const LONGEST_REST: Duration = Duration::from_mins(10);

/// Views that could not join, and until when they are left alone.
struct Rest {
    views: Vec<(String, String)>,
    until: Instant,
    pause: Duration,
}

/// What works for one type.
pub(super) struct Worker {
    pub(super) inner: Arc<Inner>,
    pub(super) resource_type: String,
    pub(super) current: Arc<Mutex<Option<CancellationToken>>>,
    pub(super) last: Arc<Mutex<Option<RunStatus>>>,
    pub(super) stop: CancellationToken,
}

/// How a run came out.
enum Ended {
    Published(DateTime<Utc>),
    /// Another replica is at it.
    Busy,
    /// Another run is called for: fenced, or HAPI is on another timeline.
    Again,
    Cancelled,
}

impl Worker {
    pub(super) async fn work(self, mut requests: mpsc::UnboundedReceiver<Request>) {
        let interval = self.inner.intervals.of(&self.resource_type);
        // The first run comes at once: the watermark may be old.
        let (mut due, mut not_before) = (interval.map(|_| Instant::now()), Instant::now());
        let mut pause = FIRST_PAUSE;
        let mut rest: Option<Rest> = None;
        while let Some(asked) = self.next(&mut requests, due, not_before).await {
            if self.run(&asked, &mut rest).await {
                (due, not_before) = (interval.map(|interval| Instant::now() + interval), Instant::now());
                due = rest.iter().map(|rest| rest.until).chain(due).min();
                pause = FIRST_PAUSE;
            } else {
                not_before = Instant::now() + pause;
                due = Some(not_before);
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }

    /// Waits until a run is due or asked for; one run serves all that was asked for before it begins. Whoever watches is not kept waiting; a nudge
    /// comes not before `not_before`. `None` at the end.
    async fn next(
        &self,
        requests: &mut mpsc::UnboundedReceiver<Request>,
        due: Option<Instant>,
        not_before: Instant,
    ) -> Option<Vec<Request>> {
        let mut asked: Vec<Request> = Vec::new();
        loop {
            let until = if asked.is_empty() { due } else { Some(not_before) };
            let wait = async move {
                match until {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.stop.cancelled() => return None,
                request = requests.recv() => asked.push(request?),
                () = wait => return Some(asked),
            }
            while let Ok(request) = requests.try_recv() {
                asked.push(request);
            }
            if asked.iter().any(|request| request.watcher.is_some()) {
                return Some(asked);
            }
        }
    }

    /// One run, repeated where another one is called for; false if it failed.
    async fn run(&self, asked: &[Request], rest: &mut Option<Rest>) -> bool {
        let wanted = asked.iter().map(|r| r.kind).fold(RunKind::Incremental, greater);
        let watchers: Vec<_> = asked.iter().filter_map(|r| r.watcher.clone()).collect();
        let cancel = self.stop.child_token();
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(cancel.clone());
        let begun = Instant::now();
        let mut report = Report {
            worker: self,
            watchers,
            begun,
            kind: wanted,
            progress: Arc::default(),
        };
        report.send(RunPhase::Waiting, None, None);
        let result = match cancel.run_until_cancelled(self.inner.slots.acquire()).await {
            Some(Ok(_slot)) => {
                self.repeat(&mut report, wanted, !asked.is_empty(), rest, &cancel)
                    .await
            }
            _ => Ok(Ended::Cancelled),
        };
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let by_run = ByRun {
            r#type: self.resource_type.clone(),
            kind: report.kind.into(),
        };
        let measures = &self.inner.measures;
        match result {
            Ok(Ended::Published(as_of)) => {
                measures
                    .refresh_duration
                    .get_or_create(&by_run)
                    .observe(begun.elapsed().as_secs_f64());
                report.count(as_of);
                report.send(RunPhase::Done, Some(as_of), None);
                true
            }
            // Someone else's run does what this one was for.
            Ok(Ended::Busy) => true,
            Ok(Ended::Again) => {
                report.send(
                    RunPhase::Failed,
                    None,
                    Some(
                        "newer runs went on publishing, or HAPI's database went on changing its timeline"
                            .to_owned(),
                    ),
                );
                false
            }
            Ok(Ended::Cancelled) => {
                report.send(RunPhase::Failed, None, Some("cancelled".to_owned()));
                // Views that wait to join still do, and nothing else may come to ask for it.
                report.kind != RunKind::Join
            }
            Err(error) => {
                measures.refresh_failures.get_or_create(&by_run).inc();
                tracing::warn!(resource_type = %self.resource_type, kind = ?report.kind, %error, "refresh failed; what was shown is still shown");
                report.send(RunPhase::Failed, None, Some(error.to_string()));
                self.remember_failure(&error, report.kind).await;
                false
            }
        }
    }

    async fn repeat(
        &self,
        report: &mut Report<'_>,
        wanted: RunKind,
        asked: bool,
        rest: &mut Option<Rest>,
        cancel: &CancellationToken,
    ) -> Result<Ended, RunError> {
        let store = &self.inner.store;
        let waiting = store.waiting_views(&self.resource_type).await?;
        let watched = !report.watchers.is_empty();
        let resting = rest
            .as_ref()
            .is_some_and(|rest| !watched && rest.views == waiting && Instant::now() < rest.until);
        let mut kind = match wanted {
            RunKind::Incremental if !waiting.is_empty() && !resting => RunKind::Join,
            RunKind::Join if resting => RunKind::Incremental,
            wanted => wanted,
        };
        let mut tries = 0;
        loop {
            let once = Box::pin(self.once(report, kind, cancel)).await;
            if report.kind == RunKind::Join {
                match &once {
                    Ok(Ended::Published(_)) => *rest = None,
                    Err(error) if !is_passing(error) => {
                        let pause = rest.as_ref().map_or(FIRST_REST, |rest| rest.pause * 2);
                        let pause = pause.min(LONGEST_REST);
                        let (views, until) = (waiting, Instant::now() + pause);
                        *rest = Some(Rest { views, until, pause });
                        return self.without_joining(report, once, cancel).await;
                    }
                    _ => {}
                }
            }
            match once? {
                Ended::Busy if asked => {
                    let paused = cancel.run_until_cancelled(tokio::time::sleep(BUSY_PAUSE)).await;
                    if paused.is_none() {
                        return Ok(Ended::Cancelled);
                    }
                }
                // The views that existed were brought onto a new timeline first, or a full run was asked for: now those that wait may join.
                Ended::Published(as_of) if report.kind == RunKind::Full && tries < 3 => {
                    if !self.inner.store.needs_join(&self.resource_type).await? {
                        return Ok(Ended::Published(as_of));
                    }
                    kind = RunKind::Join;
                    tries += 1;
                }
                Ended::Again if tries < 3 => tries += 1,
                ended => return Ok(ended),
            }
        }
    }

    /// Views that cannot join keep no other from what has changed. The failure stays the run's.
    async fn without_joining(
        &self,
        report: &mut Report<'_>,
        failed: Result<Ended, RunError>,
        cancel: &CancellationToken,
    ) -> Result<Ended, RunError> {
        if !self
            .inner
            .store
            .type_views(&self.resource_type)
            .await?
            .views
            .is_empty()
            && let Ended::Published(as_of) = Box::pin(self.once(report, RunKind::Incremental, cancel)).await?
        {
            report.count(as_of);
        }
        report.kind = RunKind::Join;
        failed
    }

    async fn once(
        &self,
        report: &mut Report<'_>,
        kind: RunKind,
        cancel: &CancellationToken,
    ) -> Result<Ended, RunError> {
        let Inner {
            hapi,
            store,
            settings,
            ..
        } = &*self.inner;
        report.kind = kind;
        let started = RefreshRun::start(hapi, store, &self.resource_type, kind, settings.clone());
        let Some(started) = cancel.run_until_cancelled(started).await else {
            return Ok(Ended::Cancelled);
        };
        let Some(mut run) = started? else {
            return Ok(Ended::Busy);
        };
        report.kind = run.kind();
        report.progress = run.progress();
        let mut tick = tokio::time::interval(PROGRESS_INTERVAL);
        let step = loop {
            let mut step = std::pin::pin!(run.step());
            let step = loop {
                tokio::select! {
                    step = &mut step => break step?,
                    () = cancel.cancelled() => return Ok(Ended::Cancelled),
                    _ = tick.tick() => report.send(report.progress.phase(), None, None),
                }
            };
            if step != Step::More {
                break step;
            }
        };
        let as_of = run.position().map(|p| p.as_of);
        run.end().await?;
        if let Some(margin) = hapi.margin_left() {
            self.inner.measures.margin_left.set(margin.as_seconds_f64());
        }
        Ok(match (step, as_of) {
            (Step::Finished, Some(as_of)) => Ended::Published(as_of),
            _ => Ended::Again,
        })
    }

    /// Views that could not join say why in the registry; what is only unreachable is no reason.
    async fn remember_failure(&self, error: &RunError, kind: RunKind) {
        if is_passing(error) || kind != RunKind::Join {
            return;
        }
        let reason = error.to_string();
        if let Err(error) = self.inner.store.fail_joining(&self.resource_type, &reason).await {
            tracing::warn!(resource_type = %self.resource_type, %error, "the failure of a type's views cannot be recorded");
        }
    }
}

/// Whether what failed says nothing about the views: the next run may do better.
fn is_passing(error: &RunError) -> bool {
    match error {
        RunError::Hapi(e) => e.is_transient(),
        RunError::Store(StoreError::Database { transient, .. }) => *transient,
        RunError::Store(StoreError::ViewsChanged { .. }) | RunError::Evaluation | RunError::Ended => true,
        RunError::Store(_) => false,
    }
}

/// What a run does at least of what two requests want.
fn greater(a: RunKind, b: RunKind) -> RunKind {
    let rank = |kind| match kind {
        RunKind::Incremental => 0,
        RunKind::Join => 1,
        RunKind::Full => 2,
    };
    if rank(b) > rank(a) { b } else { a }
}

/// Tells watchers, and the status, how a run goes.
struct Report<'a> {
    worker: &'a Worker,
    watchers: Vec<mpsc::UnboundedSender<RunStatus>>,
    begun: Instant,
    kind: RunKind,
    progress: Arc<Progress>,
}

impl Report<'_> {
    fn send(&self, phase: RunPhase, batch_as_of: Option<DateTime<Utc>>, reason: Option<String>) {
        let status = RunStatus {
            resource_type: self.worker.resource_type.clone(),
            kind: self.kind,
            phase,
            read: self.progress.read(),
            published: self.progress.published(),
            failed: self.progress.failed(),
            elapsed: self.begun.elapsed(),
            batch_as_of,
            reason,
        };
        for watcher in &self.watchers {
            // A watcher who has gone does not end the run.
            let _gone = watcher.send(status.clone());
        }
        if status.is_over() {
            *self.worker.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
        }
    }

    fn count(&self, as_of: DateTime<Utc>) {
        let measures = &self.worker.inner.measures;
        let by_type = ByType {
            r#type: self.worker.resource_type.clone(),
        };
        measures
            .resources_read
            .get_or_create(&by_type)
            .inc_by(self.progress.read());
        measures
            .resources_published
            .get_or_create(&by_type)
            .inc_by(self.progress.published());
        measures
            .resources_failed
            .get_or_create(&by_type)
            .inc_by(self.progress.failed());
        measures
            .batch_as_of
            .get_or_create(&by_type)
            .set((as_of - DateTime::UNIX_EPOCH).as_seconds_f64());
        let elapsed = self.begun.elapsed();
        let (read, published) = (self.progress.read(), self.progress.published());
        let resource_type = &self.worker.resource_type;
        let (kind, failed) = (self.kind, self.progress.failed());
        let duration_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        // A run that found nothing to do comes every interval.
        if self.kind == RunKind::Incremental && published == 0 {
            tracing::debug!(%resource_type, ?kind, read, published, failed, duration_ms, "refreshed");
        } else {
            tracing::info!(%resource_type, ?kind, read, published, failed, duration_ms, "refreshed");
        }
    }
}
