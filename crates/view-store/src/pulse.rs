//! Whether the views' PostgreSQL answers.
//!
//! A server that is down refuses connections, and whoever asks it knows at once. One that hangs (its machine stands still, the network is cut) takes what it is
//! sent and says nothing: a statement would wait until the operating system gives the connection up, a quarter of an hour later. So one small question is asked over and
//! over, over a connection of its own; while it gets no answer, nothing waits for this server any longer.

use std::convert::Infallible;
use std::task::Poll;
use std::time::Duration;

use futures::stream::{self, Stream, StreamExt as _};
use sqlx::PgConnection;
use tokio::sync::watch;

use crate::error::during;
use crate::{StoreError, ViewStore};

/// How often the server is asked.
const EVERY: Duration = Duration::from_millis(500);

/// On for a server that only replicates another one, and for one that an operator, or a full disk, has made read-only.
const QUESTION: &str = "SELECT current_setting('transaction_read_only')::boolean";

/// What is known of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ServerState {
    /// It was not asked yet.
    #[default]
    Unknown,
    /// It answers.
    Answers {
        /// It takes no writes.
        read_only: bool,
    },
    /// It refuses connections, or breaks them off: whoever asks it is told so by itself.
    Refuses,
    /// It takes connections, or did, and says nothing.
    Silent,
}

/// What is known of one server, for all who ask it. Cheap to clone; knows nothing unless [`ViewStore::keep_pulse`] runs.
#[derive(Debug, Clone)]
pub struct Pulse {
    state: watch::Sender<ServerState>,
}

impl Default for Pulse {
    fn default() -> Self {
        Self {
            state: watch::Sender::new(ServerState::Unknown),
        }
    }
}

impl Pulse {
    /// As it was when the server was last asked.
    pub fn state(&self) -> ServerState {
        *self.state.borrow()
    }

    /// Whether what was begun may never end: a connection in the middle of it is of no use to anyone.
    pub(crate) fn is_silent(&self) -> bool {
        self.state() == ServerState::Silent
    }

    /// Does some work that waits for the server, unless the server is silent: then that is its error.
    pub async fn unless_silent<T, E: From<StoreError>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        tokio::select! {
            biased;
            done = work => done,
            () = self.silent() => Err(silence().into()),
        }
    }

    /// The rows of a server, which end with an error if they stop coming because it is silent.
    pub(crate) fn watched<S, T, E>(
        &self,
        mut rows: S,
    ) -> impl Stream<Item = Result<T, E>> + Send + use<S, T, E>
    where
        S: Stream<Item = Result<T, E>> + Send + Unpin,
        E: From<StoreError>,
    {
        let pulse = self.clone();
        let mut silent = Box::pin(async move { pulse.silent().await });
        let mut over = false;
        // Looked at only where no row is there: rows that come cost nothing more.
        stream::poll_fn(move |context| {
            if over {
                return Poll::Ready(None);
            }
            match rows.poll_next_unpin(context) {
                Poll::Pending if silent.as_mut().poll(context).is_ready() => {
                    over = true;
                    Poll::Ready(Some(Err(silence().into())))
                }
                polled => polled,
            }
        })
    }

    /// Waits until the server is silent.
    async fn silent(&self) {
        let mut states = self.state.subscribe();
        // It fails where nobody can tell any more, which is not while `self` is there.
        let _never = states.wait_for(|state| *state == ServerState::Silent).await;
    }

    /// False if that was known.
    fn is_now(&self, state: ServerState) -> bool {
        self.state.send_if_modified(|known| {
            let changed = *known != state;
            *known = state;
            changed
        })
    }
}

impl ViewStore {
    /// What is known of this store's server.
    pub fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// The same store, which heeds what is known of its server from another one.
    #[must_use]
    pub fn watched_by(mut self, pulse: Pulse) -> Self {
        self.pulse = pulse;
        self
    }

    /// Asks the server over and over whether it is there; without an answer within `silent_after` it is silent. Whatever changes is told to `changed`. Never ends: drop
    /// it.
    pub async fn keep_pulse(
        &self,
        silent_after: Duration,
        mut changed: impl FnMut(ServerState),
    ) -> Infallible {
        let mut connection = None;
        loop {
            let state = match tokio::time::timeout(silent_after, self.ask_for_pulse(&mut connection)).await {
                Ok(Ok(read_only)) => ServerState::Answers { read_only },
                Ok(Err(_)) => ServerState::Refuses,
                Err(_) => ServerState::Silent,
            };
            if !matches!(state, ServerState::Answers { .. }) {
                // Its answer may still come, and would be taken for that to the next question.
                connection = None;
            }
            if self.pulse.is_now(state) {
                changed(state);
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    /// Whether the server takes no writes.
    async fn ask_for_pulse(&self, connection: &mut Option<PgConnection>) -> Result<bool, StoreError> {
        let mut asked = match connection.take() {
            Some(open) => open,
            None => self.own_connection("researchflow pulse").await?,
        };
        let read_only = sqlx::query_scalar(QUESTION)
            .fetch_one(&mut asked)
            .await
            .map_err(during("asking whether it is there"))?;
        *connection = Some(asked);
        Ok(read_only)
    }
}

fn silence() -> StoreError {
    StoreError::Database {
        doing: "waiting for its answer",
        reason: "it takes connections and says nothing: does its machine, or the network, stand still?"
            .into(),
        transient: true,
        data: false,
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    type Rows = Result<u32, StoreError>;

    #[tokio::test]
    async fn work_and_rows_that_wait_for_a_silent_server_end_and_others_do_not() {
        let pulse = Pulse::default();
        assert_eq!(pulse.unless_silent(async { Rows::Ok(1) }).await.ok(), Some(1));
        let (sender, waiting) = tokio::sync::oneshot::channel::<u32>();
        let rows = stream::iter([Rows::Ok(1), Rows::Ok(2)]).chain(stream::pending());
        let mut rows = pin!(pulse.watched(Box::pin(rows)));
        assert!(matches!(rows.next().await, Some(Ok(1))));

        pulse.is_now(ServerState::Silent);
        let ended = pulse
            .unless_silent(async { waiting.await.map_err(|_| silence()) })
            .await;
        assert!(
            matches!(ended, Err(StoreError::Database { transient: true, .. })),
            "{ended:?}"
        );
        drop(sender);
        // What is there is given.
        assert_eq!(pulse.unless_silent(async { Rows::Ok(3) }).await.ok(), Some(3));
        assert!(matches!(rows.next().await, Some(Ok(2))));
        assert!(matches!(rows.next().await, Some(Err(_))));
        assert!(rows.next().await.is_none());

        pulse.is_now(ServerState::Answers { read_only: false });
        let slow = async {
            tokio::task::yield_now().await;
            Rows::Ok(4)
        };
        assert_eq!(pulse.unless_silent(slow).await.ok(), Some(4));
    }
}
