//! Waiting for a condition: polled until it holds or the deadline has passed, never a fixed sleep.

use std::future::Future;
use std::time::{Duration, Instant};

/// Between two looks. Small beside every deadline here, large beside the cost of a look.
const PAUSE: Duration = Duration::from_millis(20);

/// Calls `look` until it answers `Some`. Fails after `limit`, naming `what` was waited for.
pub async fn until<T, F, Fut>(what: &str, limit: Duration, mut look: F) -> anyhow::Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let start = Instant::now();
    loop {
        if let Some(found) = look().await {
            return Ok(found);
        }
        anyhow::ensure!(start.elapsed() < limit, "waited {limit:?} in vain for {what}");
        tokio::time::sleep(PAUSE).await;
    }
}

/// Like [`until`], for a look that fails instead of answering `None`: the last failure is reported.
pub async fn until_ok<T, E, F, Fut>(what: &str, limit: Duration, mut look: F) -> anyhow::Result<T>
where
    E: std::fmt::Display,
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    let start = Instant::now();
    loop {
        match look().await {
            Ok(found) => return Ok(found),
            Err(error) => {
                anyhow::ensure!(
                    start.elapsed() < limit,
                    "waited {limit:?} in vain for {what}: {error}"
                );
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}
