//! The services, each with a watch around its methods: what is asked is noted, what is given out is counted. A method that is new in a contract does not compile
//! until it is said here what is noted of it.

mod batch;
mod serving;
mod speed;

use std::pin::Pin;

use futures::{Stream, StreamExt as _};
use tonic::{Response, Status};

use crate::{Call, Question};

/// A service that is watched.
#[derive(Debug, Clone)]
pub struct Audited<S>(pub S);

type Parts<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Answers with a stream, of which each part is seen as it is taken.
async fn stream<T, S>(
    note: impl FnOnce(&mut Question),
    work: impl Future<Output = Result<Response<S>, Status>>,
    see: fn(&Call, &T),
) -> Result<Response<Parts<T>>, Status>
where
    T: 'static,
    S: Stream<Item = Result<T, Status>> + Send + 'static,
{
    let Some(call) = Call::current() else {
        return Ok(work.await?.map(|parts| -> Parts<T> { Box::pin(parts) }));
    };
    call.asks(note);
    let answer = call.runs(work).await?;
    Ok(answer.map(|parts| -> Parts<T> {
        Box::pin(parts.inspect(move |part| {
            if let Ok(part) = part {
                see(&call, part);
            }
        }))
    }))
}

/// Answers with one message.
async fn one<T>(
    note: impl FnOnce(&mut Question),
    work: impl Future<Output = Result<Response<T>, Status>>,
    see: impl FnOnce(&Call, &T),
) -> Result<Response<T>, Status> {
    let Some(call) = Call::current() else {
        return work.await;
    };
    call.asks(note);
    let answer = call.runs(work).await?;
    see(&call, answer.get_ref());
    Ok(answer)
}

/// What is asked is told by the name of the method alone.
fn nothing(_: &mut Question) {}

/// Nothing of a patient is in it.
fn unseen<T>(_: &Call, _: &T) {}

/// A number of messages.
fn count(of: usize) -> u64 {
    of as u64
}

/// Times of requests that cannot be read are refused by the service.
fn since(at: Option<&prost_types::Timestamp>) -> Option<chrono::DateTime<chrono::Utc>> {
    at.and_then(|at| api::time::datetime("since", at).ok())
}

/// 0 stands for none.
fn limit(number: i64) -> Option<i64> {
    (number > 0).then_some(number)
}
