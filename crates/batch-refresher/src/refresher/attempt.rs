//! One run of a type, from its lock to what it found.

use std::time::Duration;

use chrono::{DateTime, Utc};
use fhir_core::merge::Position;
use tokio_util::sync::CancellationToken;
use view_store::RunKind;

use super::{
    Inner,
    report::Report,
    worker::{Cause, Ended, Worker},
};
use crate::{
    reconciliation::Differences,
    run::{self, RefreshRun, RunError, Step},
};

/// How often watchers hear of a run's progress.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(250);

/// What stood before a run that compares everything.
struct Before {
    /// HAPI's clock, read before anything else is.
    began: DateTime<Utc>,
    /// What changed since is no surprise.
    watermark: Option<Position>,
}

impl Worker {
    /// One run of that kind; ranges of the run under way if another replica is at one.
    pub(super) async fn once(
        &self,
        report: &mut Report<'_>,
        kind: RunKind,
        cause: &Cause,
        cancel: &CancellationToken,
        resume: bool,
    ) -> Result<Ended, RunError> {
        let Inner {
            hapi,
            store,
            run: settings,
            ..
        } = &*self.inner;
        report.kind = kind;
        let mut settings = settings.clone();
        settings.resume &= resume;
        let workers = settings.workers;
        let started = RefreshRun::start(hapi, store, &self.resource_type, kind, settings);
        let Some(started) = cancel.run_until_cancelled(started).await else {
            return Ok(Ended::Cancelled(None));
        };
        let Some(mut run) = started? else {
            let shared = run::share(hapi, store, &self.resource_type, workers);
            return match cancel.run_until_cancelled(shared).await {
                Some(shared) => shared.map(|()| Ended::Busy),
                None => Ok(Ended::Cancelled(None)),
            };
        };
        // Under the run lock: another replica may have been faster.
        if !self.is_still_due(cause, run.kind()).await? {
            run.end().await?;
            return Ok(Ended::Done);
        }
        report.begin(run.kind(), run.progress());
        let before = match run.kind() {
            RunKind::Incremental => None,
            RunKind::Full | RunKind::Join => Some(Before {
                began: hapi.clock().await?.as_of,
                watermark: store.type_state(&self.resource_type).await?.published,
            }),
        };
        let step = self.steps(&mut run, report, cancel).await;
        self.inner.measures.note_margin(hapi);
        let step = match step {
            Ok(Some(step)) => step,
            Ok(None) => return Ok(Ended::Cancelled(Some(Box::new(run)))),
            Err(error) => {
                run.leave().await;
                return Err(error);
            }
        };
        let as_of = run.position().map(|p| p.as_of).filter(|_| step == Step::Finished);
        let differences = match before {
            Some(before) if as_of.is_some() => self.reconciled(&mut run, before).await,
            _ => None,
        };
        run.end().await?;
        Ok(match as_of {
            Some(as_of) => Ended::Published(as_of, differences),
            None if step == Step::Lost => Ended::Lost,
            None => Ended::Again,
        })
    }

    /// All steps of a run, told to whoever watches; `None` if it was cancelled.
    async fn steps(
        &self,
        run: &mut RefreshRun,
        report: &mut Report<'_>,
        cancel: &CancellationToken,
    ) -> Result<Option<Step>, RunError> {
        let mut tick = tokio::time::interval(PROGRESS_INTERVAL);
        loop {
            let mut step = std::pin::pin!(run.step());
            let step = loop {
                tokio::select! {
                    step = &mut step => break step?,
                    () = cancel.cancelled() => return Ok(None),
                    _ = tick.tick() => report.tick(),
                }
            };
            if step != Step::More {
                return Ok(Some(step));
            }
        }
    }

    /// Whether what a run was begun for is still to be done.
    async fn is_still_due(&self, cause: &Cause, kind: RunKind) -> Result<bool, RunError> {
        let inner = &self.inner;
        Ok(match cause {
            Cause::Waiting if kind == RunKind::Join => inner.store.needs_join(&self.resource_type).await?,
            // What it became: an incremental run in place of a join of views that rest, or a full one since HAPI's database is another one.
            Cause::Asked(_) | Cause::Waiting => true,
            Cause::Due(due) => {
                let behind = inner.store.schedule_state(&self.resource_type).await?;
                let now = inner.hapi.clock().await?.as_of;
                inner.ahead(&self.resource_type, &behind).due(now) == Some(*due)
            }
        })
    }

    /// Notes what a run has found that compared everything. It is published: that this cannot be noted only means that it is due again.
    async fn reconciled(&self, run: &mut RefreshRun, before: Before) -> Option<Differences> {
        let found = match &before.watermark {
            Some(watermark) => run.differences(watermark).await,
            None => Ok(None),
        };
        let differences = found.unwrap_or_else(|error| {
            tracing::warn!(resource_type = %self.resource_type, %error, "differences cannot be counted");
            None
        });
        let noted = self
            .inner
            .store
            .note_reconciled(
                &self.resource_type,
                before.began,
                differences.map(Differences::total),
            )
            .await;
        if let Err(error) = noted {
            tracing::warn!(resource_type = %self.resource_type, %error, "a reconciliation cannot be noted");
        }
        differences
    }
}
