//! An answer in parts as a stream of gRPC's: its first part decides whether there is an answer at all; the rest follows, and ends soon after a stop.

use std::{pin::Pin, time::Duration};

use api::{Code, ServiceError};
use daemon::Shutdown;
use futures::{Stream, StreamExt as _, stream};
use tonic::Status;

/// What a streaming call answers with.
pub(crate) type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Waits for the first part. A stream that is cut at a stop, after `grace`, ends with an error: nobody takes half an answer for a whole one.
pub(crate) async fn begun<T: Send + 'static>(
    mut parts: Pin<Box<dyn Stream<Item = Result<T, ServiceError>> + Send>>,
    shutdown: &Shutdown,
    grace: Duration,
) -> Result<Answers<T>, ServiceError> {
    let first = match shutdown.unless_stopped(parts.next()).await {
        Some(Some(first)) => first?,
        Some(None) => return Err(ServiceError::new(Code::Internal, "no answer was made")),
        None => return Err(ServiceError::stopping()),
    };
    let shutdown = shutdown.clone();
    let cut = async move {
        shutdown.stopping().await;
        tokio::time::sleep(grace).await;
    };
    let rest = parts
        .map(|part| part.map_err(Status::from))
        .take_until(Box::pin(cut));
    let rest = stream::unfold((rest, false), |(mut rest, over)| async move {
        if over {
            return None;
        }
        match rest.next().await {
            Some(part) => {
                let over = part.is_err();
                Some((part, (rest, over)))
            }
            None if rest.is_stopped() && rest.take_result().is_some() => {
                Some((Err(ServiceError::stopping().into()), (rest, true)))
            }
            None => None,
        }
    });
    Ok(Box::pin(stream::once(async { Ok(first) }).chain(rest)))
}
