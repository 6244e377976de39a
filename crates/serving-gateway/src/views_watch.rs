//! Whether the views' database answers, looked at beside everything else: what waits for one that is silent ends, and answers say when it takes no writes.

use std::time::Duration;

use daemon::Shutdown;
use view_store::{ServerState, ViewStore};

use crate::metrics::ServingMetrics;

/// Looks until the stop, and tells in log and metrics what changes.
pub(crate) async fn watch(
    store: ViewStore,
    silent_after: Duration,
    metrics: ServingMetrics,
    shutdown: Shutdown,
) {
    let changed = |state| {
        let answers = matches!(state, ServerState::Answers { .. });
        metrics.views_answer.set(i64::from(answers));
        match state {
            ServerState::Unknown => {}
            ServerState::Answers { read_only: false } => tracing::info!("the views' database answers"),
            ServerState::Answers { read_only: true } => {
                tracing::warn!("the views' database takes no writes: live changes wait");
            }
            ServerState::Refuses => tracing::warn!("the views' database refuses connections"),
            ServerState::Silent => {
                let seconds = silent_after.as_secs_f64();
                tracing::warn!(
                    seconds,
                    "the views' database takes connections and says nothing: what waits for it ends"
                );
            }
        }
    };
    let _stopped = shutdown
        .unless_stopped(store.keep_pulse(silent_after, changed))
        .await;
}
