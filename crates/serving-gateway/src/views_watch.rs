//! Whether the views' database answers, looked at beside everything else: what waits for one that is silent ends, and answers say when it takes no writes.

use std::time::Duration;

use daemon::Shutdown;
use view_store::{ServerState, ViewStore};

use crate::{config::DegradationBounds, metrics::ServingMetrics, sql::Sql};

/// The ways to the views' database.
pub(crate) struct Ways {
    pub(crate) questions: ViewStore,
    pub(crate) merger: ViewStore,
    /// `None`: switched off.
    pub(crate) sql: Option<Sql>,
}

impl Ways {
    /// The same, watched from now on until the stop.
    pub(crate) fn watched(
        self,
        bounds: &DegradationBounds,
        metrics: ServingMetrics,
        shutdown: &Shutdown,
    ) -> Self {
        let questions = self.questions.with_turns_within(bounds.turn_seconds);
        let pulse = questions.pulse().clone();
        shutdown.spawn(watch(
            questions.clone(),
            bounds.silent_seconds,
            metrics,
            shutdown.clone(),
        ));
        Self {
            questions,
            merger: self.merger.watched_by(pulse.clone()),
            sql: self.sql.map(|sql| Sql {
                reader: sql.reader.watched_by(pulse, bounds.turn_seconds),
                ..sql
            }),
        }
    }
}

/// Looks until the stop, and tells in log and metrics what changes.
async fn watch(store: ViewStore, silent_after: Duration, metrics: ServingMetrics, shutdown: Shutdown) {
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
