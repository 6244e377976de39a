//! Nobody waits for a server that is known not to answer.

use std::{future::Future, task::Poll, time::Duration};

use api::ServiceError;
use daemon::spans;
use futures::{
    StreamExt as _,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use tokio::sync::watch;
use tracing::{Instrument as _, debug_span};
use view_store::StoreError;

use super::server::{Server, Standing};
use crate::errors::store_error;

/// How long an answer that has begun waits for a server which is lost: a busy one may be heard again.
const STALL: Duration = Duration::from_secs(5);

impl Server {
    /// What comes of asking this server, or that it was lost meanwhile. For what comes before the first row: another server can be asked.
    pub(crate) fn while_it_answers<'a, T: 'a>(
        &'a self,
        asking: impl Future<Output = T> + Send + 'a,
    ) -> BoxFuture<'a, Result<T, ServiceError>> {
        // On the heap: whoever waits for several such would become too large for a stack.
        let asking: BoxFuture<'a, T> = Box::pin(asking);
        Box::pin(async move {
            if !self.watched {
                return Ok(asking.await);
            }
            let mut standing = self.standing.subscribe();
            tokio::select! {
                biased;
                answer = asking => Ok(answer),
                () = until(&mut standing, true) => Err(store_error(silent())),
            }
        })
    }

    /// The same of a statement, as a span of its own. Of what a caller asks nothing is told in it but that it is one.
    pub(crate) async fn selected<T: Send, E: Send>(
        &self,
        asking: impl Future<Output = Result<T, E>> + Send,
    ) -> Result<Result<T, E>, ServiceError> {
        let span = debug_span!(
            "SELECT",
            otel.kind = "client",
            db.system.name = "postgresql",
            db.operation.name = "SELECT"
        );
        let answered = self.while_it_answers(asking).instrument(span.clone()).await;
        if !matches!(answered, Ok(Ok(_))) {
            spans::fail(&span);
        }
        answered
    }

    /// Rows that end with an error where the server is lost for long.
    pub(crate) fn rows<'a, T, E>(&self, mut rows: BoxStream<'a, Result<T, E>>) -> BoxStream<'a, Result<T, E>>
    where
        T: 'a,
        E: From<StoreError> + 'a,
    {
        if !self.watched {
            return rows;
        }
        let mut lost = Box::pin(lost_for_long(self.standing.subscribe()));
        let mut over = false;
        // The server is looked after only where there is no row: a row costs nothing more.
        let guarded = stream::poll_fn(move |context| {
            if over {
                return Poll::Ready(None);
            }
            if let Poll::Ready(next) = rows.poll_next_unpin(context) {
                return Poll::Ready(next);
            }
            lost.as_mut().poll(context).map(|()| {
                over = true;
                Some(Err(silent().into()))
            })
        });
        guarded.boxed()
    }
}

/// Waits until the server is lost, or until it is not.
async fn until(standing: &mut watch::Receiver<Standing>, lost: bool) {
    let as_wanted = |standing: &Standing| (*standing == Standing::Lost) == lost;
    if standing.wait_for(as_wanted).await.is_err() {
        // Nobody looks at it any more.
        std::future::pending::<()>().await;
    }
}

async fn lost_for_long(mut standing: watch::Receiver<Standing>) {
    loop {
        until(&mut standing, true).await;
        if tokio::time::timeout(STALL, until(&mut standing, false))
            .await
            .is_err()
        {
            return;
        }
    }
}

fn silent() -> StoreError {
    StoreError::Database {
        doing: "waiting for an answer",
        reason: "the server does not answer".into(),
        transient: true,
        data: false,
    }
}
