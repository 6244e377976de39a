//! The end of a webhook's trace: the span in which what it told becomes a visible row.
//!
//! An answer of the speed layer holds the changes of many webhooks, and is applied as a whole. So each of their traces gets a span of its own, over the same time, and
//! links say that they were one: without them one trace would show the work, and the others end in the queue.

use std::collections::HashSet;

use api::speed::Preview;
use daemon::spans;
use tracing::{Instrument as _, Span, debug_span};

/// Traces of one answer that get a span at most. More come only from a flood, of which as many tell enough.
const MOST: usize = 64;

/// The spans of an answer's changes, one in each trace.
pub(super) struct Applying(Vec<Span>);

impl Applying {
    /// Of these previews; there is none where no trace is recorded.
    pub(super) fn of(resource_type: &str, previews: &[Preview]) -> Self {
        let mut known = HashSet::new();
        let traces: Vec<_> = previews
            .iter()
            .filter_map(|preview| preview.trace)
            .filter(|trace| trace.sampled && known.insert(*trace))
            .take(MOST)
            .collect();
        let begin = |trace| {
            let span = debug_span!(
                parent: None,
                "apply",
                otel.kind = "consumer",
                db.system.name = "postgresql",
                db.operation.name = "apply",
                fhir.resource_type = resource_type
            );
            spans::set_parent(&span, trace);
            spans::number(&span, "db.operation.batch.size", previews.len());
            span
        };
        let all: Vec<Span> = traces.iter().map(begin).collect();
        if let Some((first, others)) = all.split_first() {
            let place = spans::of(first);
            for (other, trace) in others.iter().zip(&traces[1..]) {
                spans::link(first, trace);
                if let Some(place) = &place {
                    spans::link(other, place);
                }
            }
        }
        Self(all)
    }

    /// Applies, within the first of them.
    pub(super) async fn while_it<T, E>(self, applies: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let first = self.0.first().cloned().unwrap_or_else(Span::none);
        let result = applies.instrument(first).await;
        if result.is_err() {
            self.0.iter().for_each(spans::fail);
        }
        result
    }
}
