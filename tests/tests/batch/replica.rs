//! A refresher as a replica of the daemon has it, with connections, schedule and metrics of its own, over a played database.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context as _;
use batch_refresher::{
    hapi::Hapi,
    measures::Measures,
    progress::RunPhase,
    refresher::{Refresher, RefresherParts, RunStatus},
    run::{Ranges, RunSettings},
    schedule::{Schedule, Schedules},
};
use chrono::TimeDelta;
use daemon::{Shutdown, metrics::Metrics};
use tokio::sync::mpsc;
use view_store::{RunKind, SlicePlan, StoreSettings, ViewStore};

use crate::played::Played;

/// Nothing that a test waits for takes longer.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

pub(crate) struct Replica {
    pub(crate) refresher: Refresher,
    pub(crate) metrics: Metrics,
    shutdown: Shutdown,
}

fn all(default: Schedule) -> Schedules {
    Schedules {
        default,
        types: BTreeMap::new(),
    }
}

impl Replica {
    /// Starts one. Its log line comes every 100 ms.
    pub(crate) async fn start(
        played: &Played,
        refresh: Schedule,
        reconcile: Schedule,
    ) -> anyhow::Result<Self> {
        Self::start_with(played, refresh, reconcile, 2).await
    }

    /// Starts one that works on so many types at the same time.
    pub(crate) async fn start_with(
        played: &Played,
        refresh: Schedule,
        reconcile: Schedule,
        parallel_types: usize,
    ) -> anyhow::Result<Self> {
        Self::start_as(played, played.hapi().await?, refresh, reconcile, parallel_types).await
    }

    /// Starts one that has HAPI set up otherwise.
    pub(crate) async fn start_as(
        played: &Played,
        hapi: Hapi,
        refresh: Schedule,
        reconcile: Schedule,
        parallel_types: usize,
    ) -> anyhow::Result<Self> {
        let store = ViewStore::connect(StoreSettings {
            url: played.views_url.clone(),
            max_connections: 8,
            skew: TimeDelta::seconds(1),
        })
        .await?;
        let (metrics, shutdown) = (Metrics::new(), Shutdown::new());
        let refresher = Refresher::new(RefresherParts {
            hapi,
            store,
            run: RunSettings {
                ranges: Ranges::Of(200),
                workers: 2,
                resume: true,
                slice: SlicePlan {
                    resources: 500,
                    unchanged_too: false,
                },
            },
            refresh: all(refresh),
            reconcile: all(reconcile),
            log_interval: Some(Duration::from_millis(100)),
            parallel_types,
            measures: Measures::new(&metrics),
            shutdown: shutdown.clone(),
        });
        refresher.follow_registry().await?;
        shutdown.spawn_essential("schedule", refresher.clone().supervise());
        Ok(Self {
            refresher,
            metrics,
            shutdown,
        })
    }

    /// Asks for a run of the patients.
    pub(crate) fn request(&self, kind: RunKind) -> anyhow::Result<mpsc::UnboundedReceiver<RunStatus>> {
        self.refresher
            .request(&["Patient".to_owned()], kind)
            .map_err(anyhow::Error::msg)
    }

    /// Asks for a run of the patients, and waits until it is published.
    pub(crate) async fn run(&self, kind: RunKind) -> anyhow::Result<RunStatus> {
        let last = over(&mut self.request(kind)?).await?;
        anyhow::ensure!(last.figures.phase == RunPhase::Done, "{last:?}");
        Ok(last)
    }

    /// Waits until it has done what was due, if anything was: then it publishes one run more, which is asked for here.
    pub(crate) async fn at_rest(&self) -> anyhow::Result<()> {
        // It shows what it has read about the type before it decides what is due; what is due it does before it listens to anyone.
        e2e::deadline::until("the replica to look at what is due", LIMIT, || async {
            self.metric("researchflow_batch_as_of_seconds{").ok()?
        })
        .await?;
        self.run(RunKind::Incremental).await?;
        Ok(())
    }

    /// A line of the metrics.
    pub(crate) fn metric(&self, name: &str) -> anyhow::Result<Option<String>> {
        let text = self.metrics.encode()?;
        let line = text.lines().find(|line| line.starts_with(name));
        Ok(line.and_then(|line| line.rsplit(' ').next()).map(str::to_owned))
    }

    pub(crate) async fn stop(self) {
        self.shutdown.stop();
        self.shutdown.drain(Duration::from_secs(5)).await;
    }
}

/// The last status of a run.
pub(crate) async fn over(statuses: &mut mpsc::UnboundedReceiver<RunStatus>) -> anyhow::Result<RunStatus> {
    let waiting = async {
        loop {
            let status = statuses.recv().await.context("the run goes on")?;
            if status.is_over() {
                return Ok(status);
            }
        }
    };
    tokio::time::timeout(LIMIT, waiting).await?
}
