//! Calls that were never sent: the library under our clients had chosen a connection that was ending (the other side restarts, or the connection has come of age), and gives the call back
//! as cancelled; or the other side said as it went (GOAWAY) that it had not taken the call. Nobody has done anything for it, so it is made again, whatever it does; libraries of other languages do that by themselves.

use std::error::Error as _;

use tonic::Status;

/// How often a call is made again. Two connections that end at the same moment are rare; more would hide something else.
const TRIES: usize = 3;

/// Whether a call failed before anything of it was sent, or before the other side took it: it says so as it goes (GOAWAY without an error: RFC 9113, 6.8).
fn never_sent(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if error
            .downcast_ref::<hyper::Error>()
            .is_some_and(hyper::Error::is_canceled)
        {
            return true;
        }
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            return error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR);
        }
        source = error.source();
    }
    false
}

/// Makes a call, and again where it was never sent.
pub async fn sent<T, F, Fut>(mut call: F) -> Result<T, Status>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, Status>>,
{
    for _ in 1..TRIES {
        match call().await {
            Err(status) if never_sent(&status) => {}
            answered => return answered,
        }
    }
    call().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_the_other_side_says_is_not_asked_for_again() {
        let mut calls = 0;
        let refused = sent(|| {
            calls += 1;
            std::future::ready(Err::<(), _>(Status::cancelled("operation was canceled")))
        });
        assert_eq!(
            refused.await.expect_err("as it was").code(),
            tonic::Code::Cancelled
        );
        assert_eq!(calls, 1);
    }
}
