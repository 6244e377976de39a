//! From rows to the client: one part at a time, no faster than the client takes them, and broken off where the answer cannot be finished.
//!
//! The rows are made by a task of their own, which holds the query's connection. It ends, and the query with it, as soon as the client goes, takes
//! nothing for too long, or the gateway stops.

use std::{io, pin::pin, time::Duration};

use api::ServiceError;
use axum::body::{Body, Bytes};
use futures::{StreamExt as _, stream};
use tokio::sync::mpsc;

use super::{Http, encode::Encoder, metrics::HttpMetrics, rows::RowBatches};

/// Parts that are made ahead of the client.
const AHEAD: usize = 2;

/// Why an answer ends before its end.
#[derive(Debug)]
enum Broken {
    Failed(ServiceError),
    Stalled,
    Stopped,
    Gone,
}

struct Pump {
    to: mpsc::Sender<Option<Bytes>>,
    stall: Duration,
    metrics: HttpMetrics,
}

/// The body of an answer.
pub(super) fn body(http: &Http, rows: RowBatches, encoder: Encoder) -> Body {
    let (to, from) = mpsc::channel(AHEAD);
    let pump = Pump {
        to,
        stall: http.config.stall_seconds,
        metrics: http.metrics.clone(),
    };
    let (shutdown, grace) = (http.shutdown.clone(), http.limits.stop_seconds);
    http.shutdown.spawn(async move {
        let metrics = pump.metrics.clone();
        let result = tokio::select! {
            result = pump.run(rows, encoder) => result,
            () = shutdown.stopped_for(grace) => Err(Broken::Stopped),
        };
        match result {
            Ok(()) => {}
            Err(Broken::Failed(error)) => {
                tracing::warn!(code = error.code.name(), reason = %error, "an answer over HTTP was broken off");
                metrics.broken("failed");
            }
            Err(Broken::Stalled) => metrics.broken("stalled"),
            Err(Broken::Stopped) => metrics.broken("stopped"),
            Err(Broken::Gone) => metrics.broken("gone"),
        }
    });
    // `None` is the end of a whole answer; where it does not come, the connection is closed in the middle of the body.
    let parts = stream::unfold(Some(from), |from| async move {
        let mut from = from?;
        match from.recv().await {
            Some(Some(part)) => Some((Ok(part), Some(from))),
            Some(None) => None,
            None => Some((Err(io::Error::other("the answer was broken off")), None)),
        }
    });
    // The compression asks once more at the end.
    Body::from_stream(parts.fuse())
}

impl Pump {
    async fn run(&self, rows: RowBatches, mut encoder: Encoder) -> Result<(), Broken> {
        let mut rows = pin!(rows);
        let mut part = Vec::new();
        encoder.begin(&mut part);
        loop {
            let next = tokio::select! {
                next = rows.next() => next,
                () = self.to.closed() => return Err(Broken::Gone),
            };
            let Some(batch) = next else { break };
            let batch = batch.map_err(Broken::Failed)?;
            let rows = batch
                .rows()
                .map_err(|error| Broken::Failed(ServiceError::internal(&error)))?;
            for row in &rows {
                encoder.row(row, &mut part).map_err(Broken::Failed)?;
            }
            self.metrics.rows(rows.len());
            let size = part.len();
            self.send(Some(
                std::mem::replace(&mut part, Vec::with_capacity(size)).into(),
            ))
            .await?;
        }
        encoder.end(&mut part);
        self.send(Some(part.into())).await?;
        self.send(None).await
    }

    async fn send(&self, part: Option<Bytes>) -> Result<(), Broken> {
        match tokio::time::timeout(self.stall, self.to.send(part)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Broken::Gone),
            Err(_) => Err(Broken::Stalled),
        }
    }
}
