//! What works for one type: one run at a time, when it is due and when asked to.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use tokio::{
    sync::{Notify, mpsc},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use view_store::{RunKind, StoreError};

use super::{Inner, Request, RunStatus, report::Report};
use crate::{
    measures::{ByRun, ByType, ByView},
    progress::RunPhase,
    reconciliation::Differences,
    run::{RefreshRun, RunError},
    schedule::Due,
};

/// How long to wait for another replica's run before trying again.
const BUSY_PAUSE: Duration = Duration::from_millis(250);
/// The longest such pause of what is only due: each try is a connection.
const LONGEST_BUSY_PAUSE: Duration = Duration::from_secs(4);
/// How long after a failure the next run comes, doubled with each failure: what fails at once must not be tried all the time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest such pause: a server that returns is noticed within it.
const LONGEST_PAUSE: Duration = Duration::from_secs(16);
/// What is due is looked at again within this, however far the schedule's next time lies: its clock may be set, and other replicas run and cancel too.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

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
    pub(super) changed: Arc<Notify>,
    pub(super) current: Arc<Mutex<Option<CancellationToken>>>,
    pub(super) last: Arc<Mutex<Option<RunStatus>>>,
    pub(super) stop: CancellationToken,
}

/// What a run is for.
pub(super) enum Cause {
    /// One run serves all that was asked for before it begins.
    Asked(Vec<Request>),
    /// The schedule.
    Due(Due),
    /// Views wait to join.
    Waiting,
}

impl Cause {
    fn wants(&self) -> RunKind {
        match self {
            Self::Asked(asked) => asked.iter().map(|r| r.kind).fold(RunKind::Incremental, greater),
            Self::Due(Due::Refresh) => RunKind::Incremental,
            Self::Due(Due::Reconciliation) => RunKind::Full,
            Self::Waiting => RunKind::Join,
        }
    }

    fn watchers(&self) -> Vec<mpsc::UnboundedSender<RunStatus>> {
        match self {
            Self::Asked(asked) => asked.iter().filter_map(|r| r.watcher.clone()).collect(),
            Self::Due(_) | Self::Waiting => Vec::new(),
        }
    }

    fn is_asked(&self) -> bool {
        matches!(self, Self::Asked(_))
    }
}

/// How a run came out.
pub(super) enum Ended {
    Published(DateTime<Utc>, Option<Differences>),
    /// Another replica is at it.
    Busy,
    /// Another replica was faster: it is no longer due.
    Done,
    /// Another run has published meanwhile.
    Again,
    /// A full run is called for: it cannot be told what has changed.
    Lost,
    /// With what was under way: it has the type's lock until what was cancelled is noted.
    Cancelled(Option<Box<RefreshRun>>),
}

/// When to look again at what is due, from how the last run came out.
enum Next {
    Now,
    Busy,
    Failed,
}

impl Worker {
    pub(super) async fn work(self, mut requests: mpsc::UnboundedReceiver<Request>) {
        let (mut look_at, mut not_before) = (Instant::now(), Instant::now());
        let (mut pause, mut busy_pause) = (FIRST_PAUSE, BUSY_PAUSE);
        let mut rest: Option<Rest> = None;
        let mut views = Vec::new();
        while let Some(asked) = self.next(&mut requests, look_at, not_before).await {
            let cause = if asked.is_empty() {
                self.look(rest.as_ref()).await
            } else {
                Ok((Some(Cause::Asked(asked)), Duration::ZERO))
            };
            let next = match cause {
                Ok((None, wait)) => {
                    look_at = Instant::now() + wait.min(LOOK_AGAIN);
                    (pause, busy_pause) = (FIRST_PAUSE, BUSY_PAUSE);
                    continue;
                }
                Ok((Some(cause), _)) => self.run(&cause, &mut rest, &mut views).await,
                Err(error) => {
                    let report = Report::new(&self, Vec::new(), RunKind::Incremental);
                    self.say_failed(&report, &error);
                    Next::Failed
                }
            };
            let now = Instant::now();
            (look_at, not_before) = match next {
                Next::Now => {
                    (pause, busy_pause) = (FIRST_PAUSE, BUSY_PAUSE);
                    (now, now)
                }
                Next::Busy => {
                    let until = now + busy_pause;
                    busy_pause = (busy_pause * 2).min(LONGEST_BUSY_PAUSE);
                    (until, now)
                }
                Next::Failed => {
                    let until = now + pause;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    (until, until)
                }
            };
        }
        self.count_errors(&mut views, Vec::new());
    }

    /// Waits until it is time to look at what is due, the registry has changed, or a run is asked for. Whoever watches is not kept waiting; a nudge comes not before `not_before`.
    /// `None` at the end.
    async fn next(
        &self,
        requests: &mut mpsc::UnboundedReceiver<Request>,
        look_at: Instant,
        not_before: Instant,
    ) -> Option<Vec<Request>> {
        let mut asked: Vec<Request> = Vec::new();
        loop {
            while let Ok(request) = requests.try_recv() {
                asked.push(request);
            }
            if asked.iter().any(|request| request.watcher.is_some()) {
                return Some(asked);
            }
            let until = if asked.is_empty() { look_at } else { not_before };
            tokio::select! {
                () = self.stop.cancelled() => return None,
                request = requests.recv() => asked.push(request?),
                () = self.changed.notified(), if Instant::now() >= not_before => return Some(asked),
                () = tokio::time::sleep_until(until) => return Some(asked),
            }
        }
    }

    /// What is due now, else how long nothing is. Read from the databases each time: nothing else remembers what was done.
    async fn look(&self, rest: Option<&Rest>) -> Result<(Option<Cause>, Duration), RunError> {
        let store = &self.inner.store;
        let mut wait = LOOK_AGAIN;
        let waiting = store.waiting_views(&self.resource_type).await?;
        if !waiting.is_empty() {
            match rest.filter(|rest| rest.views == waiting) {
                None => return Ok((Some(Cause::Waiting), Duration::ZERO)),
                Some(rest) if rest.until <= Instant::now() => {
                    return Ok((Some(Cause::Waiting), Duration::ZERO));
                }
                Some(rest) => wait = wait.min(rest.until - Instant::now()),
            }
            if store.type_views(&self.resource_type).await?.views.is_empty() {
                // Whatever run came would be a join.
                return Ok((None, wait));
            }
        }
        let behind = store.schedule_state(&self.resource_type).await?;
        // Also what other replicas did, and this one before its start.
        self.inner.measures.show_behind(&self.by_type(), &behind);
        let ahead = self.inner.ahead(&self.resource_type, &behind);
        if ahead.refresh.is_none() && ahead.reconciliation.is_none() {
            return Ok((None, wait));
        }
        // The watermark is of this clock.
        let now = self.inner.hapi.clock().await?.as_of;
        Ok(match ahead.due(now) {
            Some(due) => (Some(Cause::Due(due)), Duration::ZERO),
            None => (None, ahead.wait(now).map_or(wait, |ahead| ahead.min(wait))),
        })
    }

    /// One run, repeated where another one is called for.
    async fn run(&self, cause: &Cause, rest: &mut Option<Rest>, views: &mut Vec<String>) -> Next {
        let cancel = self.stop.child_token();
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(cancel.clone());
        let mut report = Report::new(self, cause.watchers(), cause.wants());
        report.tell(RunPhase::Waiting);
        let result = match cancel.run_until_cancelled(self.inner.slots.acquire()).await {
            Some(Ok(_slot)) => self.repeat(&mut report, cause, rest, &cancel).await,
            _ => Ok(Ended::Cancelled(None)),
        };
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = None;
        match result {
            Ok(Ended::Published(as_of, differences)) => {
                let by_run = self.by_run(report.kind);
                self.inner
                    .measures
                    .refresh_duration
                    .get_or_create(&by_run)
                    .observe(report.elapsed().as_secs_f64());
                report.count(as_of, differences);
                match self.inner.store.evaluation_errors(&self.resource_type).await {
                    Ok(errors) => self.count_errors(views, errors),
                    Err(error) => {
                        tracing::warn!(resource_type = %self.resource_type, %error, "evaluation errors cannot be counted");
                    }
                }
                report.done(as_of, differences);
                Next::Now
            }
            Ok(Ended::Busy) => {
                report.leave();
                Next::Busy
            }
            Ok(Ended::Done) => {
                report.leave();
                Next::Now
            }
            Ok(Ended::Again | Ended::Lost) => {
                report.failed(
                    "newer runs went on publishing, or HAPI's database went on becoming another one"
                        .to_owned(),
                );
                Next::Failed
            }
            Ok(Ended::Cancelled(run)) => {
                report.failed("cancelled".to_owned());
                let is_join = report.kind == RunKind::Join;
                if !is_join && !self.stop.is_cancelled() {
                    self.skip_what_was_cancelled(report.kind).await;
                }
                if let Some(run) = run {
                    run.leave().await;
                }
                // Views that wait to join still do; they are tried again after a pause.
                if is_join { Next::Failed } else { Next::Now }
            }
            Err(error) => {
                self.say_failed(&report, &error);
                self.remember_failure(&error, report.kind).await;
                Next::Failed
            }
        }
    }

    async fn repeat(
        &self,
        report: &mut Report<'_>,
        cause: &Cause,
        rest: &mut Option<Rest>,
        cancel: &CancellationToken,
    ) -> Result<Ended, RunError> {
        let store = &self.inner.store;
        let waiting = store.waiting_views(&self.resource_type).await?;
        let resting = rest
            .as_ref()
            .is_some_and(|rest| !report.is_watched() && rest.views == waiting && Instant::now() < rest.until);
        let mut kind = match cause.wants() {
            RunKind::Incremental if !waiting.is_empty() && !resting => RunKind::Join,
            RunKind::Join if resting => RunKind::Incremental,
            wanted => wanted,
        };
        let (mut tries, mut resume) = (0, true);
        loop {
            let once = Box::pin(self.once(report, kind, cause, cancel, resume)).await;
            if report.kind == RunKind::Join {
                match &once {
                    Ok(Ended::Published(..)) => *rest = None,
                    Err(error) => {
                        if !is_passing(error) {
                            let pause = rest.as_ref().map_or(FIRST_REST, |rest| rest.pause * 2);
                            let pause = pause.min(LONGEST_REST);
                            let (views, until) = (waiting, Instant::now() + pause);
                            *rest = Some(Rest { views, until, pause });
                        }
                        self.without_joining(report, cause, cancel).await;
                        return once;
                    }
                    _ => {}
                }
            }
            match once? {
                Ended::Busy if cause.is_asked() => {
                    let paused = cancel.run_until_cancelled(tokio::time::sleep(BUSY_PAUSE)).await;
                    if paused.is_none() {
                        return Ok(Ended::Cancelled(None));
                    }
                }
                // The views that existed were brought onto a new timeline first, or a full run was asked for: now those that wait may join.
                Ended::Published(as_of, differences) if report.kind == RunKind::Full && tries < 3 => {
                    if resting || !store.needs_join(&self.resource_type).await? {
                        return Ok(Ended::Published(as_of, differences));
                    }
                    report.count(as_of, differences);
                    kind = RunKind::Join;
                    tries += 1;
                }
                Ended::Again if tries < 3 => tries += 1,
                Ended::Lost if tries < 3 => {
                    // What was loaded before goes on from a position too.
                    (kind, resume) = (RunKind::Full, false);
                    tries += 1;
                }
                ended => return Ok(ended),
            }
        }
    }

    /// Views that cannot join, for whatever reason, keep no other from what has changed. The failure stays the run's.
    async fn without_joining(&self, report: &mut Report<'_>, cause: &Cause, cancel: &CancellationToken) {
        let others = async {
            let views = self.inner.store.type_views(&self.resource_type).await?;
            if views.views.is_empty() {
                return Ok(Ended::Done);
            }
            match Box::pin(self.once(report, RunKind::Incremental, cause, cancel, true)).await {
                Ok(Ended::Lost) => Box::pin(self.once(report, RunKind::Full, cause, cancel, false)).await,
                ended => ended,
            }
        };
        match others.await {
            Ok(Ended::Published(as_of, differences)) => report.count(as_of, differences),
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(resource_type = %self.resource_type, %error, "nor could what has changed be published");
            }
        }
        report.kind = RunKind::Join;
    }

    /// Whoever cancels a run does not want it at once again, from whichever replica: scheduled times up to now are as if done.
    async fn skip_what_was_cancelled(&self, kind: RunKind) {
        let skipped = async {
            let now = self.inner.hapi.clock().await?.as_of;
            self.inner
                .store
                .skip_scheduled(&self.resource_type, now, kind == RunKind::Full)
                .await?;
            Ok::<_, RunError>(())
        };
        if let Err(error) = skipped.await {
            tracing::warn!(resource_type = %self.resource_type, %error, "what was cancelled is tried again: that cannot be noted");
        }
    }

    fn say_failed(&self, report: &Report<'_>, error: &RunError) {
        let failures = &self.inner.measures.refresh_failures;
        failures.get_or_create(&self.by_run(report.kind)).inc();
        tracing::warn!(resource_type = %self.resource_type, kind = ?report.kind, %error, "refresh failed; what was shown is still shown");
        report.failed(error.to_string());
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

    /// Shows how many resources cannot be evaluated, by view; a view that has gone is shown no more.
    fn count_errors(&self, shown: &mut Vec<String>, errors: Vec<(String, i64)>) {
        let gauges = &self.inner.measures.evaluation_errors;
        let by_view = |view: &str| ByView {
            view: view.to_owned(),
            r#type: self.resource_type.clone(),
        };
        for gone in shown.iter().filter(|view| errors.iter().all(|(v, _)| v != *view)) {
            gauges.remove(&by_view(gone));
        }
        for (view, count) in &errors {
            gauges.get_or_create(&by_view(view)).set(*count);
        }
        *shown = errors.into_iter().map(|(view, _)| view).collect();
    }

    pub(super) fn by_type(&self) -> ByType {
        ByType {
            r#type: self.resource_type.clone(),
        }
    }

    fn by_run(&self, kind: RunKind) -> ByRun {
        ByRun {
            r#type: self.resource_type.clone(),
            kind: kind.into(),
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
