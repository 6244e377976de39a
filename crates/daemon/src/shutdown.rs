//! Two-stage stop: the soft token asks everyone to finish; after the grace period, or a second signal, what is left is cut.

use std::{
    future::Future,
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument as _;

use crate::Incoming;

/// The stop signal and the tasks that heed it. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    soft: CancellationToken,
    hard: CancellationToken,
    failed: CancellationToken,
    tasks: TaskTracker,
    /// When the stop was first asked for.
    asked: Arc<OnceLock<Instant>>,
    /// Of the time until what is open is cut, what calls have.
    for_calls: Duration,
}

impl Shutdown {
    /// A signal that was not given yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, where what is open is cut `grace` after the stop: calls have three quarters of it, so that what they are told at its end still gets through.
    #[must_use]
    pub fn with_grace(self, grace: Duration) -> Self {
        Self {
            for_calls: grace * 3 / 4,
            ..self
        }
    }

    /// Asks everyone to finish.
    pub fn stop(&self) {
        let _first = self.asked.set(Instant::now());
        self.soft.cancel();
    }

    /// Whether a stop was asked for.
    pub fn is_stopping(&self) -> bool {
        self.soft.is_cancelled()
    }

    /// Waits until a stop is asked for.
    pub async fn stopping(&self) {
        self.soft.cancelled().await;
    }

    /// The soft token, owned: for servers and streams.
    pub fn token(&self) -> CancellationToken {
        self.soft.clone()
    }

    /// Runs `work` unless a stop is asked for first.
    pub async fn unless_stopped<F: Future>(&self, work: F) -> Option<F::Output> {
        self.soft.run_until_cancelled(work).await
    }

    /// Waits until `span` has gone by since a stop was asked for.
    pub async fn stopped_for(&self, span: Duration) {
        self.stopping().await;
        let asked = self.asked.get().copied().unwrap_or_else(Instant::now);
        tokio::time::sleep_until(asked + span).await;
    }

    /// Runs a call's `work`, which may go on for `span` after a stop was asked for: who has sent a request in time gets its answer.
    pub async fn unless_stopped_for<F: Future>(&self, span: Duration, work: F) -> Option<F::Output> {
        tokio::select! {
            biased;
            () = self.stopped_for(span) => None,
            done = work => Some(done),
        }
    }

    /// For how long a call may go on after a stop was asked for, where nothing else is configured.
    pub fn time_for_calls(&self) -> Duration {
        self.for_calls
    }

    /// Waits for `span`; false if a stop was asked for meanwhile.
    pub async fn sleep(&self, span: Duration) -> bool {
        self.unless_stopped(tokio::time::sleep(span)).await.is_some()
    }

    /// Starts a task that must not end by itself: if it does, by an error or not, the process stops with exit code 1.
    pub fn spawn_essential<F, E>(&self, name: &'static str, work: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: std::fmt::Display,
    {
        let this = self.clone();
        self.spawn(async move {
            // A panic is noticed by `spawn`.
            let result = work.await;
            if this.is_stopping() {
                return;
            }
            match result {
                Ok(()) => tracing::error!(task = name, "an essential task has ended"),
                Err(error) => tracing::error!(task = name, %error, "an essential task has failed"),
            }
            this.failed.cancel();
            this.stop();
        });
    }

    /// Starts a task that is waited for at the stop, and cut when the grace period is over. It may end; if it panics, the process stops with exit
    /// code 1, rather than go on without it. What it logs is said within the span that it is started in, and what it asks of other services
    /// is asked for the same request: a call's work has the call's id.
    pub fn spawn<F: Future<Output = ()> + Send + 'static>(&self, work: F) {
        let (this, work) = (self.clone(), Incoming::carried(work));
        let task = async move {
            let _guard = StopAtPanic(&this);
            let _cut = this.hard.run_until_cancelled(work).await;
        };
        self.tasks.spawn(task.in_current_span());
    }

    /// After the stop: waits for all tasks, cuts them after `grace`. True unless an essential task has failed; what had to be cut is only
    /// logged.
    pub async fn drain(&self, grace: Duration) -> bool {
        self.tasks.close();
        let in_time = tokio::time::timeout(grace, self.tasks.wait()).await.is_ok();
        if !in_time {
            tracing::warn!(
                open_tasks = self.tasks.len(),
                "grace period is over, open tasks are cut"
            );
            self.hard.cancel();
        }
        !self.failed.is_cancelled()
    }

    /// Stops at SIGTERM or SIGINT; a second signal cuts at once.
    pub(crate) fn listen_to_signals(&self) -> std::io::Result<()> {
        use tokio::signal::unix::{SignalKind, signal};
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let this = self.clone();
        tokio::spawn(async move {
            let mut received = async || tokio::select! { _ = terminate.recv() => "SIGTERM", _ = interrupt.recv() => "SIGINT" };
            let signal = received().await;
            tracing::info!(signal, "stopping");
            this.stop();
            received().await;
            this.hard.cancel();
        });
        Ok(())
    }
}

/// Stops the process when it is dropped by a panic: what stands behind an `await` is skipped by one.
struct StopAtPanic<'a>(&'a Shutdown);

impl Drop for StopAtPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.failed.cancel();
            self.0.stop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn stops_with_a_failure(shutdown: &Shutdown) {
        tokio::time::timeout(Duration::from_secs(10), shutdown.stopping())
            .await
            .expect("a panic is noticed");
        assert!(!shutdown.drain(Duration::from_secs(1)).await);
    }

    fn broken() -> Result<(), String> {
        panic!("as planned")
    }

    #[tokio::test]
    async fn a_task_that_panics_stops_the_daemon() {
        let shutdown = Shutdown::new();
        shutdown.spawn(async { panic!("as planned") });
        stops_with_a_failure(&shutdown).await;
        let shutdown = Shutdown::new();
        shutdown.spawn_essential("of the test", async {
            tokio::task::yield_now().await;
            broken()
        });
        stops_with_a_failure(&shutdown).await;
    }

    #[tokio::test]
    async fn calls_have_three_quarters_of_the_grace_and_end_then() {
        let shutdown = Shutdown::new().with_grace(Duration::from_mins(4));
        assert_eq!(shutdown.time_for_calls(), Duration::from_mins(3));
        shutdown.stop();
        let yielding = async {
            tokio::task::yield_now().await;
            7
        };
        let within = shutdown.unless_stopped_for(shutdown.time_for_calls(), yielding);
        assert_eq!(within.await, Some(7));
        let endless = shutdown.unless_stopped_for(Duration::from_millis(1), std::future::pending::<()>());
        let ended = tokio::time::timeout(Duration::from_secs(20), endless).await;
        assert_eq!(ended, Ok(None));
        // Where no grace is known, a call ends with the stop.
        let shutdown = Shutdown::new();
        shutdown.stop();
        let endless = shutdown.unless_stopped_for(shutdown.time_for_calls(), std::future::pending::<()>());
        assert_eq!(
            tokio::time::timeout(Duration::from_secs(20), endless).await,
            Ok(None)
        );
    }

    #[tokio::test]
    async fn a_task_that_ends_does_not() {
        let shutdown = Shutdown::new();
        shutdown.spawn(async {});
        shutdown.stop();
        assert!(shutdown.drain(Duration::from_secs(10)).await);
    }
}
