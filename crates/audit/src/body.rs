//! The body of an answer, watched to its end: how much of it went out, and how it ended. Where the end must be safe before the caller has the whole answer, the
//! last part is held back until it is.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::body::{Body, Bytes};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::oneshot;
use tonic::Status;

use crate::{
    call::{CUT, Call, unrecorded},
    outcome,
};

/// Of gRPC, whose answers end with trailers, or of HTTP, whose answers just end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Trailers,
    Plain,
}

pub(crate) struct Watched {
    /// `None`: it has ended.
    body: Option<Body>,
    call: Call,
    ending: Ending,
    held: Option<Held>,
}

/// The last part, which waits for the record.
struct Held {
    frame: Option<Frame<Bytes>>,
    safe: oneshot::Receiver<bool>,
}

impl Watched {
    pub(crate) fn new(body: Body, call: Call, ending: Ending) -> Self {
        Self {
            body: Some(body),
            call,
            ending,
            held: None,
        }
    }

    /// The answer has come to its end: this is its last part.
    fn last(&mut self, outcome: &'static str, frame: Option<Frame<Bytes>>) -> Poll<Part> {
        self.body = None;
        match self.call.end(outcome) {
            None => Poll::Ready(frame.map(Ok)),
            Some(safe) => {
                self.held = Some(Held { frame, safe });
                Poll::Pending
            }
        }
    }

    fn held(&mut self, context: &mut Context<'_>) -> Option<Poll<Part>> {
        let held = self.held.as_mut()?;
        let Poll::Ready(safe) = Pin::new(&mut held.safe).poll(context) else {
            return Some(Poll::Pending);
        };
        let frame = self.held.take().and_then(|held| held.frame);
        if safe == Ok(true) {
            return Some(Poll::Ready(frame.map(Ok)));
        }
        self.call.refused();
        Some(Poll::Ready(Some(match self.ending {
            Ending::Trailers => {
                let mut trailers = axum::http::HeaderMap::new();
                // It is made of texts of ours.
                let _always = Status::from(unrecorded()).add_header(&mut trailers);
                Ok(Frame::trailers(trailers))
            }
            // What has no end is not taken for the whole.
            Ending::Plain => Err(axum::Error::new(unrecorded())),
        })))
    }
}

type Part = Option<Result<Frame<Bytes>, axum::Error>>;

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Part> {
        let this = &mut *self;
        if let Some(held) = this.held(context) {
            return held;
        }
        let Some(body) = &mut this.body else {
            return Poll::Ready(None);
        };
        let polled = match ready!(Pin::new(&mut *body).poll_frame(context)) {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    let bytes = data.len() as u64;
                    this.call.gives(|given| given.bytes += bytes);
                }
                // What knows that it has no more is not asked for more.
                let over = this.ending == Ending::Plain && body.is_end_stream();
                match frame.trailers_ref() {
                    Some(trailers) => {
                        let outcome = outcome::of_headers(trailers).unwrap_or("ok");
                        this.last(outcome, Some(frame))
                    }
                    None if over => this.last("ok", Some(frame)),
                    None => return Poll::Ready(Some(Ok(frame))),
                }
            }
            Some(Err(error)) => {
                // It is broken off already: there is nothing to hold back.
                let _nobody_waits = this.call.end("broken");
                this.body = None;
                return Poll::Ready(Some(Err(error)));
            }
            None => this.last("ok", None),
        };
        match polled {
            Poll::Pending => this.held(context).unwrap_or(Poll::Pending),
            ready @ Poll::Ready(_) => ready,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_none() && self.held.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.body, &self.held) {
            (Some(body), _) => body.size_hint(),
            (None, Some(held)) => {
                let left = held
                    .frame
                    .as_ref()
                    .and_then(Frame::data_ref)
                    .map_or(0, Bytes::len);
                SizeHint::with_exact(left as u64)
            }
            (None, None) => SizeHint::with_exact(0),
        }
    }
}

/// Whoever asked has left, or was too late.
impl Drop for Watched {
    fn drop(&mut self) {
        let _nobody_waits = self.call.end(CUT);
    }
}
