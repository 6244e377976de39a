//! The first bytes of a connection of HTTP/2, which must come in time: whoever opens a connection and never speaks does not keep its place.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

/// `PRI * HTTP/2.0`, and what follows it (RFC 9113, 3.4). After it our side asks whether the other one is there, by itself (keepalive).
const PREFACE_BYTES: usize = 24;

/// A connection from which that many bytes must have come by a time.
pub(super) struct Prefaced<S> {
    stream: S,
    /// Bytes that are still to come.
    left: usize,
    until: Pin<Box<Sleep>>,
}

impl<S> Prefaced<S> {
    pub(super) fn new(stream: S, deadline: Instant) -> Self {
        Self {
            stream,
            left: PREFACE_BYTES,
            until: Box::pin(tokio::time::sleep_until(deadline)),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prefaced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(context, buffer);
        if this.left == 0 {
            return read;
        }
        match read {
            Poll::Ready(read) => {
                this.left = this.left.saturating_sub(buffer.filled().len() - before);
                Poll::Ready(read)
            }
            Poll::Pending => this.until.as_mut().poll(context).map(|()| {
                let why = "the other side does not begin to speak HTTP/2";
                Err(io::Error::new(io::ErrorKind::TimedOut, why))
            }),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prefaced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
