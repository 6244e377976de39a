//! Answers as streams, and what a stop does to them.

use std::{pin::Pin, time::Duration};

use api::ServiceError;
use daemon::Shutdown;
use futures::{Stream, StreamExt as _};
use tonic::{Response, Status};

/// A stream of a service's answers.
pub(crate) type Answer<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The same stream, for `span` after a stop: then it ends with UNAVAILABLE, so that nobody takes half of it for the whole, and the caller tries another replica.
pub(crate) fn until_stopped_for<T: Send + 'static>(
    span: Duration,
    shutdown: &Shutdown,
    stream: impl Stream<Item = Result<T, Status>> + Send + 'static,
) -> Response<Answer<T>> {
    let shutdown = shutdown.clone();
    let mut stream = Box::pin(stream);
    let until_stop = async_stream::stream! {
        loop {
            match shutdown.unless_stopped_for(span, stream.next()).await {
                Some(Some(item)) => yield item,
                Some(None) => return,
                None => break,
            }
        }
        yield Err(ServiceError::stopping().into());
    };
    Response::new(Box::pin(until_stop))
}
