//! One refresh by the batch-refresher's own library, in a process of its own, so that the peak of memory is the refresh's alone.

use std::{
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use batch_refresher::{
    hapi::Hapi,
    progress::{Progress, RunPhase},
    run::{RefreshRun, Step},
};
use serde::{Deserialize, Serialize};
use view_store::{RunKind, ViewStore};

use crate::servers::{self, Databases, config};

/// Between two looks at how far the run is: small beside a tenth of any run worth measuring.
const LOOK: Duration = Duration::from_millis(5);

/// What the process is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Order {
    /// HAPI's database.
    source: String,
    /// The views' database.
    views: String,
    resource_type: String,
    /// Resources of the type.
    resources: u64,
}

/// What the process tells.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Refreshed {
    /// From the beginning of the run to the watermark.
    pub(crate) time: Duration,
    /// Until all resources were read and evaluated.
    pub(crate) read: Duration,
    /// What each tenth of the resources took.
    pub(crate) tenths: Vec<Duration>,
    /// Peak of the process's resident memory, in KiB.
    pub(crate) peak: u64,
}

/// Refreshes the views that wait to join a type, in a process of its own.
pub(crate) async fn in_process(
    databases: &Databases,
    resource_type: &str,
    resources: u64,
) -> anyhow::Result<Refreshed> {
    let output = tokio::process::Command::new(std::env::current_exe()?)
        .arg("refresh")
        .args([&databases.source, &databases.views, resource_type])
        .arg(resources.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()?
        .wait_with_output()
        .await?;
    ensure!(output.status.success(), "the refresh failed");
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// That process.
pub(crate) async fn obey(order: &Order) -> anyhow::Result<()> {
    let (hapi, store) = (
        servers::hapi(&order.source).await?,
        servers::store(&order.views).await?,
    );
    let begun = Instant::now();
    let run = start(&hapi, &store, &order.resource_type, RunKind::Join).await?;
    let watch = tokio::spawn(watch(run.progress(), order.resources, begun));
    finish(run).await?;
    let time = begun.elapsed();
    let marks = watch.await?;
    let refreshed = Refreshed {
        time,
        read: marks.last().copied().unwrap_or_default(),
        tenths: marks
            .windows(2)
            .map(|pair| pair[1].saturating_sub(pair[0]))
            .collect(),
        peak: peak_memory()?,
    };
    println!("{}", serde_json::to_string(&refreshed)?);
    Ok(())
}

/// When the first resource was read, and each tenth of them.
async fn watch(progress: Arc<Progress>, resources: u64, begun: Instant) -> Vec<Duration> {
    let mut marks = Vec::new();
    let mut looks = tokio::time::interval(LOOK);
    loop {
        looks.tick().await;
        let done = progress.figures().phase == RunPhase::Done;
        let read = progress.figures().read;
        while marks.len() <= 10 && read > 0 && read >= resources * marks.len() as u64 / 10 {
            marks.push(begun.elapsed());
        }
        if done {
            return marks;
        }
    }
}

/// Begins a run as the daemon does, with the daemon's settings.
pub(crate) async fn start(
    hapi: &Hapi,
    store: &ViewStore,
    resource_type: &str,
    kind: RunKind,
) -> anyhow::Result<RefreshRun> {
    let run = RefreshRun::start(hapi, store, resource_type, kind, config()?.run)
        .await?
        .context("another run of the type is under way")?;
    ensure!(run.kind() == kind, "a run of kind {:?} began", run.kind());
    Ok(run)
}

/// Steps a run to its end.
pub(crate) async fn finish(mut run: RefreshRun) -> anyhow::Result<()> {
    loop {
        match run.step().await? {
            Step::More => {}
            Step::Finished => break,
            other => bail!("the run ended: {other:?}"),
        }
    }
    Ok(run.end().await?)
}

fn peak_memory() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    Ok(peak
        .context("no VmHWM in /proc/self/status")?
        .trim()
        .trim_end_matches(" kB")
        .parse()?)
}
