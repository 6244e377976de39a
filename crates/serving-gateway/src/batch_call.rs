//! Calls of `BatchService` for an answer: a service that takes them and says nothing must not keep the caller for ever.

use std::time::Duration;

use api::{Code, ServiceError};
use daemon::grpc::sent;
use tonic::Status;

/// A view that is run, patients' resources that are read: before its answer begins, the service opens a snapshot of HAPI's database, or draws the number of a reading.
pub(crate) const OF_ROWS: Duration = Duration::from_secs(10);

/// Some resources that are looked up by their ids.
pub(crate) const OF_A_LOOK: Duration = Duration::from_secs(3);

/// A call, made again where it was never sent, unless its answer does not begin in time: that is told as if the service were not there. (Between the parts of an answer that has begun, the
/// connection's keepalive notices a service that stands still.)
pub(crate) async fn begins<T, F, Fut>(within: Duration, call: F) -> Result<T, Status>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, Status>>,
{
    tokio::time::timeout(within, sent(call))
        .await
        .unwrap_or_else(|_| {
            let late = "the batch layer's answer has not begun in time";
            Err(ServiceError::new(Code::Unavailable, late).into())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_service_that_says_nothing_is_unavailable() {
        let never = std::future::pending::<Result<(), Status>>;
        let hung = begins(Duration::from_millis(5), never).await;
        assert_eq!(hung.expect_err("late").code(), tonic::Code::Unavailable);
        let refused = begins(OF_A_LOOK, || {
            std::future::ready(Err::<(), _>(Status::cancelled("by a test")))
        })
        .await;
        assert_eq!(refused.expect_err("as it was").code(), tonic::Code::Cancelled);
    }
}
